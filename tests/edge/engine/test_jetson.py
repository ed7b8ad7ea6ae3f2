"""Which board this is, as its files tell it."""

from pathlib import Path

import pytest

from edge.engine.jetson import Jetson, found

R36 = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8 2025\n"


def look(folder: Path, model: bytes | None, release: str | None) -> Jetson | None:
    if model is not None:
        (folder / "model").write_bytes(model)
    if release is not None:
        (folder / "release").write_text(release)
    return found(model=folder / "model", release=folder / "release")


@pytest.mark.parametrize(
    ("release", "number", "jetpack", "cuda"),
    [
        (R36, "36.4.3", "6", "12.6"),
        ("# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n", "38.2.0", "7", "13.0"),
        ("# R35 (release), REVISION: 4.1, GCID: 1\n", "35.4.1", "5", "11.4"),
        ("# R99 (release), REVISION: 1.0, GCID: 1\n", "99.1.0", None, None),
    ],
)
def test_release_tells_jetpack_and_cuda(
    tmp_path: Path, release: str, number: str, jetpack: str | None, cuda: str | None
) -> None:
    board = look(tmp_path, b"NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0", release)
    assert board == Jetson("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", number)
    assert board.jetpack == jetpack and (board.cuda or "").startswith(cuda or "")


def test_a_board_without_a_release_is_known_by_its_model(tmp_path: Path) -> None:
    board = look(tmp_path, b"NVIDIA Jetson AGX Thor\0", None)
    assert board == Jetson("NVIDIA Jetson AGX Thor", None) and board.jetpack is None


@pytest.mark.parametrize("model", [None, b"Raspberry Pi 5 Model B Rev 1.0\0", b"\xff\xfe"])
def test_other_machines_are_none(tmp_path: Path, model: bytes | None) -> None:
    assert look(tmp_path, model, None) is None
    assert look(tmp_path, model, "something else\n") is None
