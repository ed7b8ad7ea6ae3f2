"""Bundles installed under another id, and in place of one that is installed."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from edge.bundle import store
from edge.bundle.install import install
from edge.bundle.manifest import CERTIFICATE, MANIFEST, FileEntry, dump_manifest
from edge.errors import BundleError, ParameterError
from tests.edge.bundle.test_store import CONTENT, find, folder, made, manifest, visible

__all__ = ["folder", "made"]  # fixtures


def test_another_id_is_in_the_manifest_of_the_copy_and_the_rest_is_the_same(made: Path, folder: Path) -> None:
    (made / CERTIFICATE).write_text("{}\n")
    first, second = install(made), install(made, id="beside")
    assert visible(folder) == ["beside", "reka-edge-2603"]
    assert (second.id, second.path) == ("beside", folder / "beside")
    assert dataclasses.replace(second.manifest, id=first.id) == first.manifest
    assert (second.path / CERTIFICATE).read_bytes() == (made / CERTIFICATE).read_bytes()
    assert store.verify(second) == ([], True)
    assert {p.stat().st_mode & 0o777 for p in second.path.iterdir()} == {0o444}
    assert find("beside") == "beside"
    assert install(made, id="reka-edge").names == ("reka-edge",)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b", "x" * 101, "é"])
def test_what_is_no_id_is_refused_and_leaves_nothing(name: str, made: Path, folder: Path) -> None:
    with pytest.raises(ParameterError, match="id: expected letters"):
        install(made, id=name)
    assert not folder.exists()


def changed(made: Path) -> Path:
    """The same id with other content."""
    (made / "decoder.bin").write_bytes(bytes(4999) + b"x")
    files = {
        name: FileEntry((made / name).stat().st_size, hashlib.sha256((made / name).read_bytes()).hexdigest())
        for name in CONTENT
    }
    (made / MANIFEST).write_bytes(dump_manifest(dataclasses.replace(manifest("reka-edge-2603"), files=files)))
    return made


@pytest.mark.parametrize("can_exchange", [True, False])
def test_replacing_puts_the_new_one_in_place_of_the_old(
    made: Path, folder: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    install(made, replaces=True)  # nothing is there: it installs
    store.set_default("reka-edge-2603")
    with pytest.raises(BundleError, match="or --replace; or --id NAME"):
        install(changed(made))
    stored = install(made, replaces=True)
    assert (stored.path / "decoder.bin").read_bytes().endswith(b"x")
    assert store.verify(stored) == ([], True) and store.default_id() == "reka-edge-2603"
    assert visible(folder) == ["reka-edge-2603"]


def test_what_cannot_be_verified_replaces_nothing(made: Path, folder: Path) -> None:
    stored = install(made)
    (changed(made) / "decoder.bin").write_bytes(bytes(5000))
    with pytest.raises(BundleError, match="sha256"):
        install(made, replaces=True)
    assert store.verify(stored) == ([], True) and visible(folder) == ["reka-edge-2603"]
