"""Packed weights on the command line: with an installation, when asked, removed with their bundle, read in full."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge.bundle.store import Stored
from edge.cli import app
from edge.commands import planning
from edge.commands.certified import Found
from edge.engine import packing
from edge.engine.available import Memory
from edge.engine.engine import Engine


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("EDGE_PACKED", raising=False)
    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    return tmp_path / "models"


def edge(*words: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, words)])


def entries(models: Path) -> list[Path]:
    folder = models / ".packed"
    return [path for path in folder.iterdir() if path.name != ".lock"] if folder.exists() else []


def test_what_is_installed_is_packed_beside_it(int8_bundle: Path, models: Path) -> None:
    done = edge("install", int8_bundle)
    assert done.exit_code == 0
    assert "reka-edge-random is packed: " in done.stdout
    (entry,) = entries(models)
    assert str(entry) in edge("info", "reka-edge-random").stdout


def test_no_pack_leaves_it(int8_bundle: Path, models: Path) -> None:
    assert edge("install", int8_bundle, "--no-pack").exit_code == 0
    assert entries(models) == []
    assert edge("pack", "reka-edge-random").exit_code == 0
    assert len(entries(models)) == 1


def test_packed_weights_can_be_removed_alone(int8_bundle: Path, models: Path) -> None:
    edge("install", int8_bundle)
    assert edge("pack", "reka-edge-random", "--remove").exit_code == 0
    assert entries(models) == []
    assert edge("verify", "reka-edge-random").exit_code == 0


def test_small_bundles_are_not_packed_unasked(int8_bundle: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MIN_BYTES", 1 << 40)
    assert edge("install", int8_bundle).exit_code == 0
    assert entries(models) == []


def test_removing_a_bundle_removes_its_packed_weights(int8_bundle: Path, models: Path) -> None:
    edge("install", int8_bundle)
    edge("install", int8_bundle, "--id", "other")
    assert len(entries(models)) == 2
    assert edge("remove", "reka-edge-random").exit_code == 0
    assert len(entries(models)) == 1
    assert "other" in (entries(models)[0] / "index.json").read_text()


def test_replacing_a_bundle_replaces_its_packed_weights(int8_bundle: Path, int4_bundle: Path, models: Path) -> None:
    edge("install", int8_bundle)
    (before,) = entries(models)
    assert edge("install", int4_bundle, "--replace").exit_code == 0
    (after,) = entries(models)
    assert before != after


def test_an_installation_that_cannot_be_packed_is_one_all_the_same(
    int8_bundle: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_PACKED", "10")
    done = edge("install", int8_bundle)
    assert done.exit_code == 0
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("edge: reka-edge-random is not packed, and opens more slowly: ")
    assert "EDGE_PACKED=BYTES allows more" in sentence
    assert (models / "reka-edge-random" / "decoder.bin").exists()


def damaged(entry: Path, name: str = "decoder.bin") -> None:
    """Change a byte of the weights, and nothing that a stat shows."""
    file = entry / name
    before = file.stat()
    file.chmod(0o600)
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)[0]
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("command", [("verify", "--deep"), None])
def test_damaged_packed_weights_are_found_by_reading_them_and_removed(
    int8_bundle: Path, models: Path, command: tuple[str, ...] | None
) -> None:
    edge("install", int8_bundle)
    damaged(entries(models)[0])
    assert edge("verify", "reka-edge-random").exit_code == 0  # of the bundle, every byte is right

    def ask() -> Result:
        if command is None:
            return CliRunner().invoke(app, ["doctor", "--model", "reka-edge-random"])
        return edge(*command, "reka-edge-random")

    found = ask()
    assert found.exit_code == 1
    assert "the packed weights are damaged; they are removed: edge models pack reka-edge-random" in found.output
    assert entries(models) == []
    assert ask().exit_code == 0


def test_a_bundle_that_is_packed_already_is_not_packed_again(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge("pack", int8_bundle)
    monkeypatch.setattr(packing, "_packed_by_child", lambda *_: pytest.fail("it is there"))
    assert edge("pack", int8_bundle).exit_code == 0


def test_a_bundle_of_the_package_is_packed_in_the_cache_folder(tmp_path: Path) -> None:
    assert edge("pack", "reka-edge-tiny").exit_code == 0
    assert len([*(tmp_path / "cache" / "edge" / "packed").glob("*/index.json")]) == 1


def test_a_folder_that_cannot_be_written_beside_is_packed_in_the_cache_folder(
    int8_bundle: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge("install", int8_bundle, "--no-pack")
    access: Callable[[Path, int], bool] = lambda path, mode: mode != os.W_OK  # noqa: E731
    monkeypatch.setattr(os, "access", access)
    assert edge("pack", "reka-edge-random").exit_code == 0
    assert entries(models) == []
    assert len([*(tmp_path / "cache" / "edge" / "packed").glob("*/index.json")]) == 1
    shutil.rmtree(tmp_path / "cache")


def kvs(models: Path) -> set[str]:
    """Name the keys and values that weights are packed for."""
    indexes = [json.loads((entry / "index.json").read_text()) for entry in entries(models)]
    return {index["environment"].get("kv", "fp32") for index in indexes}


@pytest.mark.parametrize(("available", "kv"), [(1 << 40, "fp32"), (4096, "int8")])
def test_installing_packs_for_the_keys_and_values_that_memory_allows(
    int8_bundle: Path, models: Path, monkeypatch: pytest.MonkeyPatch, available: int, kv: str
) -> None:
    monkeypatch.setattr(packing, "memory", lambda: Memory(1 << 41, available))
    assert edge("install", int8_bundle).exit_code == 0
    assert kvs(models) == {kv}
    assert edge("pack", "reka-edge-random").exit_code == 0
    assert kvs(models) == {kv}


@pytest.mark.parametrize(("asked", "packed"), [("fp32", {"fp32"}), ("int8", {"int8"}), ("both", {"fp32", "int8"})])
def test_keys_and_values_to_pack_for_can_be_chosen(
    int8_bundle: Path, models: Path, asked: str, packed: set[str]
) -> None:
    edge("install", int8_bundle, "--no-pack")
    done = edge("pack", "reka-edge-random", "--kv", asked)
    assert done.exit_code == 0
    assert kvs(models) == packed
    assert ("int8 keys and values" in done.stdout) == ("int8" in packed)
    assert ("int8 keys and values" in edge("info", "reka-edge-random").stdout) == ("int8" in packed)
    assert edge("pack", "reka-edge-random", "--remove").exit_code == 0
    assert entries(models) == []


def test_other_keys_and_values_are_an_error(int8_bundle: Path) -> None:
    done = edge("pack", int8_bundle, "--kv", "int4")
    assert done.exit_code == 1
    assert "--kv 'int4': expected one of fp32, int8, both" in done.stderr


def test_damaged_weights_of_one_are_removed_and_those_of_the_other_stay(int8_bundle: Path, models: Path) -> None:
    edge("install", int8_bundle, "--no-pack")
    edge("pack", "reka-edge-random", "--kv", "both")
    (entry,) = [entry for entry in entries(models) if (entry / "decoder-kv8.bin").exists()]
    damaged(entry, "decoder-kv8.bin")
    done = edge("verify", "--deep", "reka-edge-random")
    assert done.exit_code == 1
    assert "edge models pack reka-edge-random --kv int8 makes them again" in done.output
    assert kvs(models) == {"fp32"}


def test_plan_knows_which_keys_and_values_are_packed(int8_bundle: Path, models: Path) -> None:
    edge("install", int8_bundle, "--no-pack")
    edge("pack", "reka-edge-random", "--kv", "int8")
    assert planning.target("reka-edge-random", recipe=None).packed == {"int8"}


def test_doctor_computes_golden_tokens_without_the_engine_that_has_8_bits(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def replayed(_: Stored, engine: Engine | None = None) -> Found:
        given.append(engine)
        return Found("computed", is_good=True)

    monkeypatch.setattr("edge.commands.certified.replayed", replayed)
    monkeypatch.setattr("edge.engine.engine.memory", lambda: Memory(1 << 40, 4096))
    monkeypatch.setenv("EDGE_MEMORY_CHECK", "off")
    done = CliRunner().invoke(app, ["doctor", "--model", str(int8_bundle)])
    assert "int8 keys and values" in done.stdout
    assert given == [None]
