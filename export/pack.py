"""Publishing a bundle: a private workspace beside the destination, synced files, one rename.

The workspace is a folder `.edge-export-XXXXXXXX` (no bundle id starts with a dot) with four entries: `lock`, held for
as long as the export lives and naming its destination; `bundle`, the folder to be renamed; `journal`, of what is
finished in it; `scratch`, for what is thrown away. A kill at any moment leaves the destination absent or complete. What
is left is taken over by the next export to the same destination, and swept by any other after a week.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from edge.bundle.manifest import FileEntry
from edge.errors import interruption
from export.errors import OutputError

PREFIX: Final = ".edge-export-"
LOCK: Final = "lock"
BUNDLE: Final = "bundle"
SCRATCH: Final = "scratch"
JOURNAL: Final = "journal"
KEPT_S: Final = 7 * 24 * 3600  # how long an export that was killed can be gone on with
SPARE_SHARE: Final = 1.05  # of the predicted size: folders, journals and the like take room too

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # SIGINT already raises KeyboardInterrupt
_CHUNK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Workspace:
    """Where an export works: `bundle` becomes `out`, `scratch` is deleted."""

    root: Path
    out: Path

    @property
    def bundle(self) -> Path:
        """The folder whose rename publishes it."""
        return self.root / BUNDLE

    @property
    def journal(self) -> Path:
        """The file that notes what is finished in the bundle; while it is empty, nothing is kept."""
        return self.root / JOURNAL

    @property
    def scratch(self) -> Path:
        """A folder for files that are not part of the bundle."""
        return self.root / SCRATCH


@contextlib.contextmanager
def workspace(out: Path) -> Iterator[Workspace]:
    """Make a workspace beside `out`, or take over the one of an export to `out` that was killed.

    It is removed when the block ends, unless a signal or Ctrl-C ends it and the journal has something to go on with.
    Raises: OutputError when `out` exists, its parent is not a folder that can be written, another export to `out` is
    running, or the disk is full; SystemExit (128 + number) on SIGTERM and SIGHUP.
    """
    kept: set[Path] = set()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals_raise())
        try:
            work = _enter(out, stack, kept)
            with _interrupted_imports():
                yield work
        except (KeyboardInterrupt, SystemExit) as error:
            if _has_journal(work.root):
                kept.add(work.root)
                error.add_note(
                    f"stopped; the same command goes on from here (until then {work.root} holds what is done)"
                )
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise OutputError(f"{out.parent}: the disk is full: {error.strerror}") from error
            raise OutputError(f"{error.filename or out}: {error.strerror or error}") from error


def begin_anew(work: Workspace) -> None:
    """Drop what an export that was killed had finished: for exports that keep no journal."""
    work.journal.unlink(missing_ok=True)
    shutil.rmtree(work.bundle)
    work.bundle.mkdir()


def publish(work: Workspace) -> None:
    """Sync every file and the folder, then rename it to its destination; the last rename is the only visible step.

    Raises: OutputError when something appeared at the destination meanwhile.
    """
    for path in sorted(work.bundle.iterdir()):
        path.chmod(0o644)
        _sync(path)
    work.bundle.chmod(0o755)
    _sync(work.bundle)
    try:
        # A rename onto a folder with entries, or onto a file, fails: of two exports to one name one wins.
        work.bundle.rename(work.out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise OutputError(f"{work.out}: something else was put there during the export") from error
        raise
    _sync(work.out.parent)


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Size and sha256 of every file of a folder, by name."""
    return {path.name: file_entry(path) for path in sorted(folder.iterdir())}


def file_entry(path: Path) -> FileEntry:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileEntry(path.stat().st_size, digest.hexdigest())


def check_space(work: Workspace, needed_bytes: int) -> None:
    """Refuse early what cannot fit. Raises: OutputError with both numbers."""
    wanted, free = int(needed_bytes * SPARE_SHARE), free_bytes(work)
    if free < wanted:
        raise OutputError(f"{work.out.parent}: {wanted} bytes are needed, {free} are free")


def free_bytes(work: Workspace) -> int:
    """The free bytes of the disk that a workspace is on."""
    return shutil.disk_usage(work.root).free


def check_out(out: Path) -> None:
    """Refuse a destination that is taken or has no folder. Raises: OutputError."""
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out.absolute().parent}: expected a folder to make {out.name!r} in")
    if os.path.lexists(out):
        raise OutputError(f"{out}: exists; name a bundle folder that is not there yet")


def _enter(out: Path, stack: contextlib.ExitStack, kept: set[Path]) -> Workspace:
    """Sweep what dead exports left, refuse a taken destination, then make a locked workspace."""
    parent = out.parent
    if not parent.is_dir():
        raise OutputError(f"{parent}: expected a folder to make {out.name!r} in")
    with _exclusive(parent) as alone:
        left = _sweep(parent, out.name, alone=alone)
        if os.path.lexists(out):
            raise OutputError(f"{out}: exists; name a bundle folder that is not there yet")
        root = left or Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        stack.callback(_remove, root, kept)
        stack.callback(os.close, _hold(root / LOCK, out.name))
    work = Workspace(root, out)
    shutil.rmtree(work.scratch, ignore_errors=True)
    work.bundle.mkdir(exist_ok=True)
    work.scratch.mkdir()
    return work


def _has_journal(root: Path) -> bool:
    """Whether a workspace has more than the head of a journal."""
    try:
        return (root / JOURNAL).read_bytes().count(b"\n") > 1
    except OSError:
        return False


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[bool]:
    """Hold the folder's own lock for the few milliseconds of a start; False where the file system has none."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _sweep(parent: Path, name: str, *, alone: bool) -> Path | None:
    """Remove workspaces whose export is dead; return one to the same destination that can be gone on with.

    alone: the parent's lock is held, so a workspace without a lock of its own is nobody's. Those to other destinations
    are kept for a week. Raises: OutputError when a living export has the same destination.
    """
    found = None
    for entry in sorted(parent.iterdir()):
        if not entry.name.startswith(PREFIX) or not stat.S_ISDIR(entry.lstat().st_mode):
            continue
        holder = _holder(entry / LOCK)
        if holder == name:
            raise OutputError(f"{parent / name}: another export to it is running")
        if holder is not None or not alone or entry.lstat().st_uid != os.geteuid():
            continue  # what another user left may be full of links: nothing to go on with, or to remove
        if found is None and _destination(entry) == name:
            found = entry
        elif not _may_go_on(entry):
            shutil.rmtree(entry, ignore_errors=True)
    return found


def _destination(root: Path) -> str | None:
    """The destination's name of a dead export that can be gone on with."""
    try:
        return os.fsdecode((root / LOCK).read_bytes()) if _has_journal(root) else None
    except OSError:
        return None


def _may_go_on(root: Path) -> bool:
    name = _destination(root)
    if name is None or os.path.lexists(root.parent / name):
        return False
    return time.time() - (root / JOURNAL).stat().st_mtime < KEPT_S


def _holder(lock: Path) -> str | None:
    """The destination's name of a living export, "" if it is another user's, None if it is dead."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fsdecode(os.read(descriptor, 4096))
    finally:
        os.close(descriptor)
    return None


def _hold(lock: Path, name: str) -> int:
    """Take the lock and write whose it is; closing the descriptor, or dying, gives it back."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, os.fsencode(name))
    return descriptor


def _remove(root: Path, kept: set[Path]) -> None:
    """Delete a workspace undisturbed: a second signal must not stop the cleaning that the first one asked for."""
    with _signals_wait():
        if root not in kept:
            shutil.rmtree(root, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that they unwind like an error; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # One that is ignored (nohup) stays ignored.
    taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interrupted_imports() -> Iterator[None]:
    """Let a signal that came while a library was being loaded unwind as itself."""
    try:
        yield
    except ImportError as error:
        stop = interruption(error)
        if stop is None:
            raise
        raise stop from None


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
