"""The workspace of an export: published whole, or gone without a trace."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from export import pack
from export.errors import OutputError

HOLD = """
import sys, time
from pathlib import Path
from export import pack
with pack.workspace(Path(sys.argv[1])) as work:
    (work.bundle / "weights").write_bytes(b"1" * 100)
    print("ready", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def holder(out: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process in the middle of an export to `out`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def fill(work: pack.Workspace) -> None:
    (work.bundle / "manifest.json").write_text("{}")
    (work.scratch / "log").write_text("noise")


def export(out: Path, *, meanwhile: Callable[[], object] = lambda: None) -> None:
    """An export from start to end; meanwhile: what happens before it is published."""
    with pack.workspace(out) as work:
        fill(work)
        meanwhile()
        pack.publish(work)


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_publish_leaves_the_bundle_and_nothing_else(tmp_path: Path) -> None:
    export(tmp_path / "out")
    assert left(tmp_path) == ["out"]
    assert left(tmp_path / "out") == ["manifest.json"]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/manifest.json").stat().st_mode & 0o777 == 0o644


def test_nothing_is_published_without_asking(tmp_path: Path) -> None:
    with pack.workspace(tmp_path / "out") as work:
        fill(work)
    assert left(tmp_path) == []


def test_workspace_is_private_and_no_bundle_id(tmp_path: Path) -> None:
    with pack.workspace(tmp_path / "out") as work:
        assert work.root.stat().st_mode & 0o777 == 0o700
        assert work.root.name.startswith(".")
        assert work.root.parent == tmp_path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_any_error_cleans_up(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        export(tmp_path / "out", meanwhile=failing(error()))
    assert left(tmp_path) == []


def plant(kind: str, out: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
    elif kind == "link":
        out.symlink_to(elsewhere)
    elif kind == "dangling link":
        out.symlink_to(elsewhere / "missing")
    else:
        os.mkfifo(out)


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "fifo"])
def test_taken_destination_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    plant(kind, out, tmp_path / "elsewhere")
    before = out.lstat()
    with pytest.raises(OutputError, match="exists"), pack.workspace(out):
        pass
    assert out.lstat() == before
    assert left(tmp_path / "elsewhere") == ["precious"]


@pytest.mark.parametrize("kind", ["file", "full folder", "link"])
def test_what_appears_meanwhile_wins(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"

    def meanwhile() -> None:
        plant("folder" if kind == "full folder" else kind, out, tmp_path / "elsewhere")
        if kind == "full folder":
            (out / "theirs").write_text("1")

    with pytest.raises(OutputError, match="something else was put there"):
        export(out, meanwhile=meanwhile)
    assert left(tmp_path) == ["elsewhere", "out"]
    assert left(tmp_path / "elsewhere") == ["precious"]


def test_parent_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected a folder"), pack.workspace(tmp_path / "no" / "out"):
        pass


def test_parent_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr(pack.tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match="Permission denied"), pack.workspace(tmp_path / "out"):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_cleans_up(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutputError, match="the disk is full"):
        export(tmp_path / "out", meanwhile=failing(OSError(number, os.strerror(number))))
    assert left(tmp_path) == []


def test_failed_sync_is_a_failed_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        export(tmp_path / "out")
    assert left(tmp_path) == []


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync, rename = os.fsync, Path.rename

    def note(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def move(source: Path, target: Path) -> Path:
        seen.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", move)
    export(tmp_path / "out")
    assert seen == ["manifest.json", "bundle", "rename", tmp_path.name]


def test_too_little_space_is_refused_with_both_numbers(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pack.workspace(tmp_path / "out") as work:
        pack.check_space(work, 1000)
        with pytest.raises(OutputError, match=rf"{int(free * 2 * 1.05)} bytes are needed, \d+ are free"):
            pack.check_space(work, free * 2)


def test_next_export_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    with holder(tmp_path / "out") as process:
        process.kill()
        process.wait()
        assert len(left(tmp_path)) == 1
        with pack.workspace(tmp_path / "other") as work:
            assert left(tmp_path) == [work.root.name]
    assert left(tmp_path) == []


@pytest.mark.parametrize("stage", ["empty", "no lock taken", "lock only"])
def test_workspaces_of_exports_killed_early_or_late_are_swept(tmp_path: Path, stage: str) -> None:
    root = tmp_path / f"{pack.PREFIX}0000"
    root.mkdir()
    if stage != "empty":
        (root / pack.LOCK).write_text("out" if stage == "lock only" else "")
    with pack.workspace(tmp_path / "out") as work:
        assert left(tmp_path) == [work.root.name]


def test_what_is_not_a_workspace_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_text("mine")
    (tmp_path / f"{pack.PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{pack.PREFIX}file").write_text("mine")
    with pack.workspace(tmp_path / "out"):
        pass
    assert left(tmp_path) == [f"{pack.PREFIX}file", f"{pack.PREFIX}link", "elsewhere"]
    assert left(tmp_path / "elsewhere") == ["precious"]


def test_living_export_is_left_alone(tmp_path: Path) -> None:
    with holder(tmp_path / "other"):
        export(tmp_path / "out")
        assert len(left(tmp_path)) == 2


def test_another_user_s_export_counts_as_living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert pack._holder(tmp_path / pack.LOCK) == ""


def test_what_another_user_left_is_neither_gone_on_with_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("mine")
    planted = tmp_path / f"{pack.PREFIX}planted"
    planted.mkdir()
    (planted / pack.LOCK).write_text("out")
    (planted / pack.JOURNAL).write_text("{}\n{}\n")
    (planted / pack.BUNDLE).symlink_to(tmp_path / "own")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pack.workspace(tmp_path / "out") as work:
        assert work.root != planted
        pack.begin_anew(work)
    assert (tmp_path / "own" / "file").read_text() == "mine"
    assert planted.is_dir()


def test_second_export_to_a_name_fails_at_once(tmp_path: Path) -> None:
    with holder(tmp_path / "out"):
        with pytest.raises(OutputError, match="another export to it is running"), pack.workspace(tmp_path / "out"):
            pass
        assert len(left(tmp_path)) == 1


def test_one_of_many_exports_to_a_name_wins(tmp_path: Path) -> None:
    results: list[str] = []
    barrier = threading.Barrier(8)

    def race() -> None:
        barrier.wait()
        try:
            export(tmp_path / "out")
            results.append("won")
        except OutputError as error:
            results.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("won") == 1
    assert all("exists" in result or "running" in result for result in results if result != "won")
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    with holder(tmp_path / "out") as process:
        process.send_signal(number)
        code = process.wait(timeout=30)
    assert left(tmp_path) == []
    assert code == (-signal.SIGINT if number == signal.SIGINT else 128 + number)


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with pack.workspace(tmp_path / "out"):
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(128 + signal.SIGTERM)])
def test_signal_during_an_import_unwinds_as_itself(tmp_path: Path, stop: BaseException) -> None:
    # So a compiled module reports it, and a package may wrap that once more.
    broken = ImportError("numerics cannot be imported")
    broken.__cause__ = ImportError("initialization failed")
    broken.__cause__.__cause__ = stop
    with pytest.raises(type(stop)) as raised:
        export(tmp_path / "bundle", meanwhile=failing(broken))
    assert raised.value is stop
    assert list(tmp_path.iterdir()) == []


def test_missing_library_is_still_that(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError):
        export(tmp_path / "bundle", meanwhile=failing(ModuleNotFoundError("No module named 'gguf'", name="gguf")))
