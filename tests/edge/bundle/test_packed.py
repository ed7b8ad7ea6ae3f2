"""Entries of packed weights: found when whole, private and for here; removed when damaged; evicted by a cap."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.bundle import packed, packed_room
from edge.errors import BundleError, ParameterError

EMBEDDED = Path(__file__).parents[3] / "models" / "reka-edge-tiny"
HERE = {"processor": "one", "onnxruntime": "1"}
NAMES = ["decoder.bin", "decoder.onnx"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("EDGE_PACKED", raising=False)
    return tmp_path / "cache" / "edge" / "packed"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy(tmp_path, "a")


def copy(tmp_path: Path, name: str) -> Path:
    """A bundle of another manifest; only that is looked at here."""
    folder = tmp_path / name
    folder.mkdir()
    data = (EMBEDDED / "manifest.json").read_text()
    (folder / "manifest.json").write_text(data.replace("reka-edge-tiny", name))
    return folder


def two_files(folder: Path) -> list[str]:
    (folder / "decoder.onnx").write_bytes(b"graph")
    (folder / "decoder.bin").write_bytes(bytes(1000))
    (folder / "left").write_bytes(b"not kept")
    return NAMES


def write(
    bundle: Path,
    make: Callable[[Path], list[str]] = two_files,
    n_needed: int = 1000,
    waiting: Callable[[], None] = lambda: None,
) -> bool:
    return packed.write(bundle, bundle.name, HERE, n_needed, make, waiting=waiting)


def is_found(bundle: Path) -> bool:
    there = packed.find(bundle, HERE)
    if there is not None:
        there.close()
    return there is not None


def entry(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if not path.name.startswith("."))
    return folder


def test_an_entry_holds_what_was_kept_and_is_private(bundle: Path, cache: Path) -> None:
    assert not is_found(bundle)
    assert write(bundle)
    there = packed.find(bundle, HERE)
    assert there is not None
    assert there.graph("decoder.onnx") == there.folder / "decoder.onnx"
    assert there.graph("vision.onnx") is None
    assert there.n_bytes == 1005
    assert there.problems() == []
    there.close()
    assert sorted(path.name for path in entry(cache).iterdir()) == [*NAMES, "index.json"]
    for folder in (cache, entry(cache)):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_it_is_not_written_twice(bundle: Path) -> None:
    assert write(bundle)
    assert write(bundle, make=lambda _: pytest.fail("it is there"))


def test_nothing_is_kept_where_packing_gains_nothing(bundle: Path, cache: Path) -> None:
    assert not write(bundle, make=lambda _: [])
    assert [path.name for path in cache.iterdir()] == [".lock"]


def put_back(path: Path, data: bytes) -> None:
    """Change a file and make it look as old as it was."""
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before = path.stat()
    fresh = path.with_name("fresh")
    shutil.copy2(path, fresh)
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


def written_to(path: Path) -> None:
    path.chmod(0o600)
    os.utime(path)


def linked(path: Path) -> None:
    shutil.move(path, path.with_name("real"))
    path.symlink_to("real")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "weights cut": lambda folder: put_back(folder / "decoder.bin", bytes(999)),
    "weights written to": lambda folder: written_to(folder / "decoder.bin"),
    "weights replaced": lambda folder: replaced(folder / "decoder.bin"),
    "weights gone": lambda folder: (folder / "decoder.bin").unlink(),
    "weights a link": lambda folder: linked(folder / "decoder.bin"),
    "graph changed": lambda folder: put_back(folder / "decoder.onnx", b"GRAPH"),
    "index cut": lambda folder: os.truncate(folder / "index.json", 20),
    "index of another format": lambda folder: rewrite(folder, '"format": 1', '"format": 2'),
    "index of another processor": lambda folder: rewrite(folder, '"one"', '"two"'),
    "index with a name outside": lambda folder: rewrite(folder, '"decoder.bin"', '"../decoder.bin"'),
    "index with an unknown key": lambda folder: rewrite(folder, '"format"', '"more": 1, "format"'),
}


def rewrite(folder: Path, old: str, new: str) -> None:
    text = (folder / "index.json").read_text()
    assert old in text
    (folder / "index.json").write_text(text.replace(old, new))


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_removed_and_can_be_made_again(bundle: Path, cache: Path, damage: str) -> None:
    write(bundle)
    DAMAGE[damage](entry(cache))
    assert not is_found(bundle)
    assert [path.name for path in cache.iterdir()] == [".lock"]
    assert write(bundle)
    assert is_found(bundle)


def test_a_changed_byte_of_the_weights_is_found_by_reading_them_all(bundle: Path, cache: Path) -> None:
    write(bundle)
    put_back(entry(cache) / "decoder.bin", bytes(999) + b"1")
    there = packed.find(bundle, HERE)
    assert there is not None
    (problem,) = there.problems()
    there.close()
    assert "decoder.bin: its sha256" in problem


def test_another_processor_or_library_finds_nothing(bundle: Path) -> None:
    write(bundle)
    for other in ({**HERE, "processor": "two"}, {**HERE, "onnxruntime": "2"}):
        assert packed.find(bundle, other) is None
    assert is_found(bundle)


def test_another_bundle_finds_nothing(bundle: Path, tmp_path: Path) -> None:
    write(bundle)
    assert not is_found(copy(tmp_path, "b"))


@pytest.mark.parametrize("which", ["all entries", "entry"])
def test_a_folder_that_others_may_enter_is_not_trusted_nor_removed(bundle: Path, cache: Path, which: str) -> None:
    write(bundle)
    folder = cache if which == "all entries" else entry(cache)
    folder.chmod(0o755)
    assert not is_found(bundle)
    assert entry(cache).is_dir()
    folder.chmod(0o700)
    assert is_found(bundle)


def test_nothing_is_written_where_others_may_enter(bundle: Path, cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o755)
    with pytest.raises(BundleError, match="nobody else may enter"):
        write(bundle)


def test_a_link_in_the_place_of_the_folder_is_not_followed(bundle: Path, cache: Path, tmp_path: Path) -> None:
    write(bundle)
    shutil.move(cache, tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    assert not is_found(bundle)
    assert entry(tmp_path / "elsewhere").is_dir()


def test_entries_of_another_user_are_not_trusted_nor_removed(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bundle)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_found(bundle)
    assert entry(cache).is_dir()


def test_a_failure_leaves_nothing(bundle: Path, cache: Path) -> None:
    def fail(folder: Path) -> list[str]:
        two_files(folder)
        raise BundleError("the disk is full")

    with pytest.raises(BundleError, match="full"):
        write(bundle, fail)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_not_used_and_goes(bundle: Path, cache: Path) -> None:
    write(bundle)
    partial = cache / ".partial-1234"
    shutil.move(entry(cache), partial)
    assert not is_found(bundle)
    write(bundle)
    assert not partial.exists()


def test_two_at_once_write_one_entry(bundle: Path) -> None:
    began, waits, made = threading.Event(), threading.Event(), []

    def slowly(folder: Path) -> list[str]:
        made.append(folder)
        began.set()
        assert waits.wait(60), "the other one is not told that it waits"
        return two_files(folder)

    first = threading.Thread(target=write, args=(bundle, slowly))
    other = threading.Thread(target=lambda: began.wait() and write(bundle, slowly, waiting=waits.set))
    other.start()
    first.start()
    first.join()
    other.join()
    assert len(made) == 1
    assert is_found(bundle)


def test_a_disk_that_cannot_be_written_is_one_sentence(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BundleError, match="cannot be written: Not a directory"):
        write(bundle)
    assert not is_found(bundle)


class Usage(NamedTuple):
    free: int


def test_a_full_disk_is_one_sentence(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(300 << 20))
    with pytest.raises(BundleError, match="packed weights may take 1000 MB, and 23 MB are left"):
        write(bundle, n_needed=1_000_000_000)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_half_of_what_is_free_is_the_most_unless_set(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage((256 << 20) + 3000))
    with pytest.raises(BundleError, match="EDGE_PACKED"):
        write(bundle, n_needed=2000)
    monkeypatch.setenv("EDGE_PACKED", "2K")
    assert write(bundle, n_needed=2000)


def test_the_entry_used_least_lately_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_PACKED", "7000")
    a, b, c = (copy(tmp_path, name) for name in "abc")
    for number, each in enumerate((a, b)):
        write(each)
        os.utime(entry_of(each) / "index.json", (number, number))
    assert is_found(a)  # used after b
    write(c, n_needed=4500)
    assert [is_found(each) for each in (a, b, c)] == [True, False, True]


def entry_of(bundle: Path) -> Path:
    there = packed.find(bundle, HERE)
    assert there is not None
    there.close()
    return there.folder


def test_an_entry_in_use_is_not_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_PACKED", "3000")
    a, b = (copy(tmp_path, name) for name in "ab")
    write(a)
    there = packed.find(a, HERE)
    with pytest.raises(BundleError, match="beside those in use"):
        write(b, n_needed=2500)
    assert there is not None
    there.close()
    assert write(b, n_needed=2500)
    assert not is_found(a)


def test_what_other_software_packed_for_this_processor_goes(bundle: Path, cache: Path) -> None:
    newer = {**HERE, "onnxruntime": "2"}
    write(bundle)
    packed.write(bundle, "a", {**HERE, "processor": "two"}, 1000, two_files)
    packed.write(bundle, "a", newer, 1000, two_files)
    assert not is_found(bundle)
    assert sum(not path.name.startswith(".") for path in cache.iterdir()) == 2


def test_forgotten_weights_are_gone_for_every_processor(bundle: Path, cache: Path, tmp_path: Path) -> None:
    other = copy(tmp_path, "b")
    write(bundle)
    write(other)
    packed.write(bundle, "a", {**HERE, "processor": "two"}, 1000, two_files)
    packed.forget(bundle)
    assert not is_found(bundle)
    assert is_found(other)
    assert sum(not path.name.startswith(".") for path in cache.iterdir()) == 1


def test_installed_bundles_have_theirs_beside_them(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    installed = copy(tmp_path / "models", "a")
    assert packed.home(installed) == tmp_path / "models" / ".packed"
    write(installed)
    (installed / "manifest.json").write_text("damaged")
    packed.forget(installed)
    assert [path.name for path in (tmp_path / "models" / ".packed").iterdir()] == [".lock"]


def test_installed_bundles_have_one_home_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to("disk")
    copy(tmp_path / "disk", "a")
    assert packed.home(tmp_path / "models" / "a") == packed.home(tmp_path / "disk" / "a")
    write(tmp_path / "disk" / "a")
    assert is_found(tmp_path / "models" / "a")


def test_what_a_killed_packing_left_goes_with_a_bundle(bundle: Path, cache: Path) -> None:
    write(bundle)
    (cache / ".partial-0123abcd").mkdir()
    (cache / ".partial-0123abcd" / "decoder.bin").write_text("half")
    packed.forget(bundle)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_bundles_elsewhere_have_theirs_in_the_cache_folder(
    bundle: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packed.home(bundle) == packed.home(EMBEDDED) == cache
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification has it ignored
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packed.home(bundle) == tmp_path / ".cache" / "edge" / "packed"


@pytest.mark.parametrize("value", ["20", "20M", "7g", "off", "OFF", " 0 "])
def test_limits_that_are_read(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_PACKED", value)
    assert packed.is_on() is (value not in ("off", "OFF", " 0 "))


@pytest.mark.parametrize("value", ["many", "-1", "1.5G", "G", "1GB", "٣"])
def test_limits_that_are_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_PACKED", value)
    with pytest.raises(ParameterError, match="EDGE_PACKED: expected bytes such as 20G, or off"):
        packed.is_on()


def linking(bundle: Path) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        there = packed.find(bundle, HERE)
        assert there is not None
        try:
            return packed.link(there, ["decoder.onnx", "vision.onnx"], folder)
        finally:
            there.close()

    return make


def test_both_graphs_of_a_bundle_stay_and_have_files_in_common_counted_once(bundle: Path, cache: Path) -> None:
    write(bundle)
    alone = sum(n_bytes for _, _, n_bytes in packed_room.entries(cache))
    assert packed.write(bundle, "a", {**HERE, "kv": "int8"}, 1000, linking(bundle))
    assert is_found(bundle)
    both = [*packed_room.entries(cache)]
    indexes = sum((entry / "index.json").stat().st_size for entry, _, _ in both)
    assert len(both) == 2
    assert sum(n_bytes for _, _, n_bytes in both) - indexes <= 1005 < alone


def test_evicting_one_graph_frees_its_own_files_alone(bundle: Path, cache: Path) -> None:
    write(bundle)
    packed.write(bundle, "a", {**HERE, "kv": "int8"}, 1000, linking(bundle))
    assert packed_room.evict(entry_of(bundle))
    there = packed.find(bundle, {**HERE, "kv": "int8"})
    assert there is not None
    assert there.problems() == []
    there.close()


def test_other_graph_that_other_software_packed_goes(bundle: Path, cache: Path) -> None:
    packed.write(bundle, "a", {**HERE, "kv": "int8"}, 1000, two_files)
    packed.write(bundle, "a", {**HERE, "onnxruntime": "2"}, 1000, two_files)
    assert sum(not path.name.startswith(".") for path in cache.iterdir()) == 1
