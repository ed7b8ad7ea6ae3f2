"""What is kept of a device's start: bounded, and for this bundle, device and onnxruntime alone."""

import os
from pathlib import Path

import pytest

from edge.engine import built
from edge.engine.built import key_of, make_room
from edge.engine.jetson import Jetson


def folders(root: Path, n: int, n_bytes: int = 10) -> list[Path]:
    """Folders, the first used least lately."""
    made = []
    for at in range(n):
        folder = root / f"{at}"
        folder.mkdir()
        (folder / "engine").write_bytes(bytes(n_bytes))
        os.utime(folder, (1000 + at, 1000 + at))
        made.append(folder)
    return made


def test_those_used_least_lately_make_room(tmp_path: Path) -> None:
    made = folders(tmp_path, 5)
    make_room(tmp_path, made[0].name, most=3)  # in use, however old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "4"]


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    made = folders(tmp_path, 4, n_bytes=100)
    make_room(tmp_path, made[3].name, most_bytes=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_another_bundle_board_or_onnxruntime_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text("one")
    keys = [key_of(tmp_path)]
    (tmp_path / "manifest.json").write_text("two")
    keys.append(key_of(tmp_path))
    monkeypatch.setattr(built.jetson, "found", lambda: Jetson("NVIDIA Jetson Orin", "36.4.3"))
    keys.append(key_of(tmp_path))
    monkeypatch.setattr(built, "build", lambda: "onnxruntime of tomorrow")
    keys.append(key_of(tmp_path))
    assert len(set(keys)) == 4
    assert key_of(tmp_path) == keys[-1]
