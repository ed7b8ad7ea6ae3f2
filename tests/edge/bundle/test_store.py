"""Bundles appear and vanish whole, and a name always finds the bundle that the rules say."""

import dataclasses
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from edge.bundle import store
from edge.bundle.bundle import verify
from edge.bundle.install import install, remove
from edge.bundle.manifest import (
    CERTIFICATE,
    MANIFEST,
    FileEntry,
    Manifest,
    MemorySpec,
    PromptSpec,
    RecipeRecord,
    Source,
    TextSpec,
    dump_manifest,
)
from edge.errors import BundleError, UnknownModelError

CONTENT = {
    "decoder.onnx": b"\x12\x03dec",  # a graph of a producer's name and nothing else
    "decoder.bin": bytes(5000),
    "embedding.bin": bytes(32 * 8 * 4),
    "tokenizer.json": b"{}",
}


def manifest(bundle_id: str, *aliases: str) -> Manifest:
    return Manifest(
        format=1,
        id=bundle_id,
        aliases=aliases,
        family="llama",
        min_runtime="0.1.0",
        source=Source("YasaCausalLM", {}, (), ()),
        recipe=RecipeRecord("fp32", {}),
        text=TextSpec(8, 1, 2, 1, 4, 16, 32, 64, 1.0, 10000.0, 1e-5, 1.0, "fp32"),
        vision=None,
        audio=None,
        prompt=PromptSpec("flash", None, {}, (30,), ()),
        memory=MemorySpec(6000, 32),
        files={name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()},
    )


def write_bundle(path: Path, bundle_id: str, *aliases: str) -> Path:
    path.mkdir(parents=True)
    for name, data in CONTENT.items():
        (path / name).write_bytes(data)
    (path / MANIFEST).write_bytes(dump_manifest(manifest(bundle_id, *aliases)))
    return path


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name not in (".lock", ".default", ".index"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder and a package that carries one embedded bundle."""
    package = tmp_path / "package"
    write_bundle(package / "_embedded" / "reka-edge-tiny", "reka-edge-tiny", "reka-edge")
    monkeypatch.setattr(store, "_PACKAGE", package)
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "made" / "out", "reka-edge-2603", "reka-edge")


def find(name: str, **aliases: str) -> str:
    return store.resolve(name, aliases=aliases, first=None).id


def test_the_folder_is_the_variable_or_below_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.models_folder() == tmp_path / "models"
    monkeypatch.setenv("EDGE_MODELS", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store.models_folder() == tmp_path / "home/.local/share/edge/models"


def test_the_embedded_bundle_is_there_before_anything_is_installed() -> None:
    assert [(s.id, s.embedded) for s in store.bundles()] == [("reka-edge-tiny", True)]
    assert store.broken() == []


def test_a_checkout_reads_its_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "checkout/models/reka-edge-tiny", "reka-edge-tiny")
    monkeypatch.setattr(store, "_PACKAGE", tmp_path / "checkout/edge")
    assert store.bundles() == []
    (tmp_path / "checkout/pyproject.toml").touch()
    assert [s.id for s in store.bundles()] == ["reka-edge-tiny"]


def test_install_copies_verifies_and_makes_files_read_only(made: Path, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    stored = install(made, progress=lambda done, total: seen.append((done, total)))
    assert stored.path == folder / "reka-edge-2603"
    assert verify(stored.path) == []
    assert {p.stat().st_mode & 0o777 for p in stored.path.iterdir()} == {0o444}
    assert seen[-1] == (stored.n_bytes, stored.n_bytes)
    assert visible(folder) == ["reka-edge-2603"]


def test_install_copies_the_certificate(made: Path, folder: Path) -> None:
    (made / CERTIFICATE).write_text("{}")
    install(made)
    assert (folder / "reka-edge-2603" / CERTIFICATE).read_text() == "{}"


def test_install_follows_the_links_of_a_snapshot(made: Path, tmp_path: Path, folder: Path) -> None:
    snapshot = tmp_path / "snapshots/abc"
    snapshot.mkdir(parents=True)
    for name in (*CONTENT, MANIFEST):
        (snapshot / name).symlink_to(made / name)
    (snapshot / ".gitattributes").touch()
    (snapshot / "README.md").touch()
    stored = install(snapshot)
    assert not any(p.is_symlink() for p in stored.path.iterdir())
    assert sorted(p.name for p in stored.path.iterdir()) == sorted([*CONTENT, MANIFEST])


def test_install_does_not_overwrite(made: Path) -> None:
    install(made)
    with pytest.raises(BundleError, match="installed already: edge models remove reka-edge-2603"):
        install(made)


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_flipped_bit_is_refused_and_leaves_nothing(made: Path, folder: Path, name: str) -> None:
    data = bytearray((made / name).read_bytes())
    data[len(data) // 2] ^= 1
    (made / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{made}/{name}: its sha256"):
        install(made)
    assert visible(folder) == []


def test_a_foreign_graph_is_refused_and_leaves_nothing(made: Path, folder: Path) -> None:
    data = b"\xca\x01\x00"  # a model of one empty function
    entries = {**CONTENT, "decoder.onnx": data}
    files = {name: FileEntry(len(each), hashlib.sha256(each).hexdigest()) for name, each in entries.items()}
    (made / "decoder.onnx").write_bytes(data)
    (made / MANIFEST).write_bytes(dump_manifest(dataclasses.replace(manifest("reka-edge-2603"), files=files)))
    with pytest.raises(BundleError, match=f"^{made}/decoder.onnx: functions: expected none$"):
        install(made)
    assert visible(folder) == []


@pytest.mark.parametrize("n_bytes", [0, 4999, 5001])
def test_a_wrong_size_is_refused_and_leaves_nothing(made: Path, folder: Path, n_bytes: int) -> None:
    (made / "decoder.bin").write_bytes(bytes(n_bytes))
    with pytest.raises(BundleError, match=r"decoder\.bin: expected (at most )?5000 bytes"):
        install(made)
    assert visible(folder) == []


def test_an_unknown_file_is_refused(made: Path, folder: Path) -> None:
    (made / "modeling.py").touch()
    with pytest.raises(BundleError, match=r"unknown file 'modeling\.py'"):
        install(made)
    assert visible(folder) == []


def test_a_missing_file_is_refused_and_leaves_nothing(made: Path, folder: Path) -> None:
    (made / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match="No such file"):
        install(made)
    assert visible(folder) == []


def test_a_pipe_in_place_of_a_file_is_refused(made: Path, folder: Path) -> None:
    (made / "decoder.bin").unlink()
    os.mkfifo(made / "decoder.bin")
    with pytest.raises(BundleError, match="not a regular file"):
        install(made)
    assert visible(folder) == []


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json|No such file"):
        install(tmp_path)
    with pytest.raises(BundleError, match="not a bundle"):
        store.at(tmp_path)


def test_too_little_room_is_refused_with_both_numbers(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=17))
    with pytest.raises(BundleError, match=r"needs 6031 bytes, .* has 17 left"):
        install(made)
    assert visible(folder) == []


def test_a_failing_sync_is_a_failed_install(made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BundleError, match="Input/output error"):
        install(made)
    assert visible(folder) == []


def test_everything_is_synced_before_the_rename(made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync, rename = os.fsync, Path.rename

    def note(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition("-")[0])
        sync(descriptor)

    def move(source: Path, target: Path) -> Path:
        seen.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", move)
    install(made)
    assert seen == [MANIFEST, *sorted(CONTENT), ".partial", ".index", "rename", folder.name]


def test_an_interrupt_leaves_nothing(made: Path, folder: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(made, progress=interrupt)
    assert visible(folder) == []


def test_a_killed_install_is_never_a_bundle_and_the_next_one_cleans_up(made: Path, folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from edge.bundle.install import install\n"
        "install(Path(sys.argv[1]), progress=lambda done, total: (print('x', flush=True), time.sleep(60)))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(made)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert [name.startswith(".partial-") for name in visible(folder)] == [True]
    assert [s.id for s in store.bundles()] == ["reka-edge-tiny"]
    install(made)
    assert visible(folder) == ["reka-edge-2603"]


def test_of_eight_installs_at_once_one_wins(made: Path, folder: Path) -> None:
    code = "import sys; from pathlib import Path; from edge.bundle.install import install; install(Path(sys.argv[1]))"
    children = [subprocess.Popen([sys.executable, "-c", code, str(made)], stderr=subprocess.DEVNULL) for _ in range(8)]
    assert sorted(child.wait() for child in children) == [0, 1, 1, 1, 1, 1, 1, 1]
    assert visible(folder) == ["reka-edge-2603"]
    assert verify(folder / "reka-edge-2603") == []


def test_remove_takes_the_bundle_and_its_default_away(made: Path, folder: Path) -> None:
    install(made)
    store.set_default("reka-edge-2603")
    remove("reka-edge-2603")
    assert visible(folder) == []
    assert store.default_id() is None


def test_only_an_installed_id_can_be_removed(made: Path) -> None:
    with pytest.raises(BundleError, match="part of the installation"):
        remove("reka-edge-tiny")
    install(made)
    with pytest.raises(BundleError, match="alias of reka-edge-2603"):
        remove("reka-edge")
    with pytest.raises(UnknownModelError):
        remove("../reka-edge-2603")


def test_an_installed_bundle_wins_over_the_embedded_one(made: Path) -> None:
    assert find("reka-edge") == "reka-edge-tiny"
    install(made)
    assert find("reka-edge") == "reka-edge-2603"
    assert find("reka-edge-tiny") == "reka-edge-tiny"


def test_between_two_the_default_decides(made: Path, tmp_path: Path) -> None:
    install(made)
    install(write_bundle(tmp_path / "other", "reka-edge-2701", "reka-edge"))
    assert find("reka-edge") == "reka-edge-2603"
    store.set_default("reka-edge-2701")
    assert find("reka-edge") == "reka-edge-2701"
    assert store.bundles()[0].id == "reka-edge-2701"
    store.set_default("reka-edge-tiny")
    assert find("reka-edge") == "reka-edge-tiny"


def test_an_unknown_default_is_refused() -> None:
    with pytest.raises(UnknownModelError):
        store.set_default("reka-core")
    assert store.default_id() is None


def test_a_loaded_bundle_wins_the_names_it_shares(made: Path, tmp_path: Path) -> None:
    install(made)
    first = store.at(write_bundle(tmp_path / "mine", "my-edge", "reka-edge"))
    assert store.resolve("reka-edge", aliases={}, first=first) is first
    assert store.resolve("my-edge", aliases={}, first=first) is first
    assert store.resolve("reka-edge-2603", aliases={}, first=first).id == "reka-edge-2603"


@pytest.mark.parametrize("name", ["reka-edge-20240208", "reka-edge-tiny-20261231", "reka-edge-2603"])
def test_dated_and_versioned_ids_resolve(name: str) -> None:
    assert find(name) == "reka-edge-tiny"


@pytest.mark.parametrize("name", ["reka-flash-3", "reka-flash-3.1", "reka-flash-20240226"])
def test_versions_of_flash_are_a_flash_bundle_or_an_alias_of_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        find(name)
    assert find(name, **{"reka-flash": "reka-edge"}) == "reka-edge-tiny"
    first = store.at(write_bundle(tmp_path / "mine", "my-flash", "reka-flash"))
    assert store.resolve(name, aliases={}, first=first) is first


def test_a_bundle_of_that_very_id_comes_before_the_name_without_a_version(made: Path, tmp_path: Path) -> None:
    first = store.at(write_bundle(tmp_path / "mine", "my-edge", "reka-edge"))
    assert store.resolve("reka-edge-2603", aliases={}, first=first) is first
    install(made)
    assert store.resolve("reka-edge-2603", aliases={}, first=first).id == "reka-edge-2603"


@pytest.mark.parametrize(
    "name",
    ["reka-edge-2024020", "reka-edge-202402081", "reka", "", "Reka-Edge", "reka-core", "reka-edge-tiny-2603",
     "reka-edge-3", "reka-flash-3.", "reka-flash-31", "x-reka-edge-2603"],
)  # fmt: skip
def test_other_ids_are_unknown(name: str) -> None:
    with pytest.raises(UnknownModelError):
        find(name)


def test_the_callers_aliases_come_first_dated_or_not() -> None:
    assert find("reka-core", **{"reka-core": "reka-edge"}) == "reka-edge-tiny"
    assert find("reka-core-20240501", **{"reka-core": "reka-edge"}) == "reka-edge-tiny"
    with pytest.raises(UnknownModelError):
        find("reka-edge", **{"reka-edge": "reka-flash"})


def test_the_message_says_what_is_installed_and_the_way_out() -> None:
    with pytest.raises(UnknownModelError) as caught:
        find("reka-core")
    assert str(caught.value) == (
        "model 'reka-core' is not installed; installed: reka-edge-tiny (reka-edge). To answer under that name: "
        'Reka(aliases={"reka-core": "reka-edge"}), edge serve --alias reka-core=reka-edge, '
        "or edge models alias set reka-core=reka-edge"
    )


def test_the_message_cuts_long_names() -> None:
    with pytest.raises(UnknownModelError) as caught:
        find("x" * 5000)
    assert len(str(caught.value)) < 600


def test_a_damaged_bundle_is_named_and_does_not_hide_the_others(made: Path, folder: Path) -> None:
    stored = install(made)
    (stored.path / MANIFEST).chmod(0o644)
    (stored.path / MANIFEST).write_text("{")
    assert [s.id for s in store.bundles()] == ["reka-edge-tiny"]
    assert [(path, "not a JSON document" in why) for path, why in store.broken()] == [(stored.path, True)]
    with pytest.raises(BundleError, match="not a JSON document"):
        store.named("reka-edge-2603")


def test_a_damaged_bundle_can_be_removed_and_installed_again(made: Path, folder: Path) -> None:
    stored = install(made)
    (stored.path / MANIFEST).unlink()
    with pytest.raises(BundleError, match="installed already"):
        install(made)
    remove("reka-edge-2603")
    assert verify(install(made).path) == []


def test_a_renamed_bundle_is_named(made: Path, folder: Path) -> None:
    install(made)
    (folder / "reka-edge-2603").rename(folder / "other")
    assert "expected the folder's name: rename the folder to reka-edge-2603" in store.broken()[0][1]
    assert store.misnamed() == [folder / "other"]
    for name in ("other", "reka-edge-2603"):
        with pytest.raises(BundleError, match="rename the folder to reka-edge-2603"):
            store.named(name)
    assert store.at(folder / "other").id == "reka-edge-2603"


def test_a_damaged_bundle_is_not_a_renamed_one(made: Path, folder: Path) -> None:
    stored = install(made)
    (stored.path / MANIFEST).unlink()
    assert [path for path, _ in store.broken()] == [stored.path]
    assert store.misnamed() == []


def test_a_changed_manifest_is_read_again(made: Path) -> None:
    assert store.at(made).id == "reka-edge-2603"
    time.sleep(0.01)
    (made / MANIFEST).write_bytes(dump_manifest(dataclasses.replace(manifest("x"), id="other")))
    assert store.at(made).id == "other"


# --- the index, and what outlasts a power cut ---------------------------------------------------------------------


def test_a_sync_that_fails_leaves_one_truth_and_a_retry_works(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    sync = os.fsync
    said: set[bool] = set()

    def fail(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    for failing in range(1, 20):
        calls = 0
        monkeypatch.setattr(os, "fsync", fail)
        reason = ""
        try:
            install(made)
        except BundleError as error:
            reason = str(error)
        monkeypatch.setattr(os, "fsync", sync)
        if reason:
            is_there = visible(folder) == ["reka-edge-2603"]
            assert is_there or visible(folder) == []
            truth = "reka-edge-2603 is installed in .*, but a power cut may undo" if is_there else "cannot be installed"
            assert re.search(truth, reason)
            assert "Input/output error" in reason
            said.add(is_there)
            assert store.verify(install(made)) == ([], True)
            with pytest.raises(BundleError, match="installed already"):
                install(made)
        else:
            assert calls < failing
        remove("reka-edge-2603")
    assert said == {False, True}


def test_a_retry_does_not_accept_another_bundle_or_a_damaged_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    sync = os.fsync
    synced: list[str] = []

    def fail(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        if synced[-1] == folder.name:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BundleError, match="is installed in"):
        install(made)
    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(BundleError, match="installed already"):
        install(write_bundle(tmp_path / "other", "reka-edge-2603", "another-alias"))
    weights = folder / "reka-edge-2603" / "decoder.bin"
    weights.chmod(0o644)
    weights.write_bytes(b"x" * 5000)
    with pytest.raises(BundleError, match="installed already"):
        install(made)


def test_a_removal_whose_sync_fails_says_that_it_is_removed(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(made)
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == folder:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BundleError, match="reka-edge-2603 is removed, but a power cut may undo that"):
        remove("reka-edge-2603")
    assert visible(folder) == []
    with pytest.raises(BundleError, match="is written, but a power cut may undo that"):
        store.set_default("reka-edge-tiny")
    assert store.default_id() == "reka-edge-tiny"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Data with one of the faults of storage: a bit, a byte, a block, an end, something more."""
    at = rng.randrange(len(data))
    kind = rng.randrange(6)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + bytes([(data[at] + rng.randrange(1, 256)) % 256]) + data[at + 1 :]
    if kind == 2:
        return data[:at]
    if kind == 3:
        return data + bytes([rng.choice(b"\x00\n x")]) * rng.randrange(1, 9)
    if kind == 4:
        return data[:at] + data[at + 1 :]
    block = bytes(min(64, len(data) - at))
    changed = data[:at] + block + data[at + len(block) :]
    return changed if changed != data else data + b"\x00"


def test_every_mutation_of_any_file_of_an_installed_bundle_is_found(made: Path) -> None:
    (made / CERTIFICATE).write_text('{"kl": 0.25, "level": "full"}\n')
    stored = install(made)
    assert store.verify(stored) == ([], True)
    rng = random.Random(7)
    files = sorted(stored.path.iterdir())
    for path in (stored.path, *files):
        path.chmod(0o755)
    missed = []
    for n in range(600):
        path = files[n % len(files)]
        data = path.read_bytes()
        path.write_bytes(mutated(data, rng))
        try:
            if not store.verify(stored)[0]:
                missed.append((n, path.name))
        finally:
            path.write_bytes(data)
    assert missed == []
    assert store.verify(stored) == ([], True)


def test_a_certificate_that_is_gone_or_new_is_found(made: Path, tmp_path: Path) -> None:
    (made / CERTIFICATE).write_text("{}")
    stored = install(made)
    stored.path.chmod(0o755)
    (stored.path / CERTIFICATE).unlink()
    assert "not as it was installed" in store.verify(stored)[0][0]
    other = install(write_bundle(tmp_path / "other", "reka-edge-2701"))
    other.path.chmod(0o755)
    (other.path / CERTIFICATE).write_text("{}")
    assert "not as it was installed" in store.verify(other)[0][0]


def test_a_folder_and_the_embedded_bundle_are_covered_by_their_manifest_alone(made: Path) -> None:
    assert store.verify(store.at(made)) == ([], False)
    assert store.verify(store.named("reka-edge-tiny")) == ([], False)


def test_an_index_that_is_damaged_is_told_and_begun_anew(made: Path, folder: Path, tmp_path: Path) -> None:
    stored = install(made)
    (folder / ".index").write_text("{")
    assert "not a JSON document" in store.verify(stored)[0][0]
    other = install(write_bundle(tmp_path / "other", "reka-edge-2701"))
    assert store.verify(other) == ([], True)
    assert store.verify(stored) == ([], False)


@pytest.mark.parametrize("names", [("config.json", "model.safetensors"), ("model.safetensors",), ("weights.gguf",)])
def test_a_checkpoint_is_told_from_a_bundle(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    for source in (folder, folder / names[-1]):
        for look in (install, store.at):
            with pytest.raises(BundleError, match=r"is a checkpoint, not a bundle: edge-export"):
                look(source)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_what_is_no_bundle_is_not_called_a_failed_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="not a bundle: expected a folder with manifest.json") as failed:
        install(tmp_path / name)
    assert ("there is no such file or folder" in str(failed.value)) == (name == "missing")
