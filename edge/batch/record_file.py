"""A file of records that grows by whole lines: torn lines are cut away, and a write that fails leaves nothing."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge.batch.lines import Record, parsed
from edge.bundle.choices import sync_folder
from edge.errors import ParameterError

_SYNC_S = 1.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class RecordFile:
    """A file of records, open to read all of it and to append to it.

    Raises: OSError that names the file; ParameterError where it is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = False  # whether a last line was cut away
        self._synced_s = time.monotonic()
        with naming(path):
            if path.exists() and not path.is_file():
                raise ParameterError(f"{path}: expected a file", field="output")
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def lock(self) -> None:
        """Keep other runs away until the file is closed. Raises: ParameterError where there is one."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:  # some network file systems have none
                return
            raise ParameterError(f"{self.path}: another edge batch is writing to it", field="output") from error

    def records(self) -> Iterator[Record]:
        """Yield the records that are there. Raises: OSError, ParameterError for a line that is none."""
        with naming(self.path), self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                record = parsed(line)
                is_torn = not line.endswith(b"\n")
                if is_torn:
                    self._mend(file.tell() - len(line), is_whole=record is not None)
                elif record is None:
                    what = f"line {number}: expected one that edge batch wrote: name another file, or remove the line"
                    raise ParameterError(f"{self.path}, {what}", field="output")
                if record is not None:
                    yield record
                if is_torn:
                    return  # what ends the line now is no line

    def append(self, data: bytes) -> None:
        """Write a line. Raises: OSError; then the file is as it was."""
        with naming(self.path):
            if not os.path.samestat(self.path.stat(), os.fstat(self._descriptor)):
                raise OSError(errno.ESTALE, "the file was replaced while it was written")
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            try:
                _write(self._descriptor, data + b"\n")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, end)
                raise
        if time.monotonic() - self._synced_s >= _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Have what was written outlast a loss of power. Raises: OSError."""
        with naming(self.path):
            os.fsync(self._descriptor)
        self._synced_s = time.monotonic()

    def close(self) -> None:
        """Give the file and its lock up."""
        os.close(self._descriptor)

    def _mend(self, offset: int, *, is_whole: bool) -> None:
        """End a last line that lacks its end, or cut away what a kill has left of it."""
        if is_whole:
            os.lseek(self._descriptor, 0, os.SEEK_END)
            _write(self._descriptor, b"\n")
        else:
            self.torn = True
            os.ftruncate(self._descriptor, offset)


def rewrite(path: Path, lines: Iterable[bytes]) -> None:
    """Put other lines in the place of a file's, in one step; without any, there is no file. Raises: OSError."""
    with naming(path):
        data = b"".join(line + b"\n" for line in lines)
        if not data:
            path.unlink(missing_ok=True)
            return
        other = path.with_name(f".{path.name}.new")
        descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _write(descriptor, data)
            os.fsync(descriptor)
            other.replace(path)
        except BaseException:
            other.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        sync_folder(path.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in what the system refuses. Raises: OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
