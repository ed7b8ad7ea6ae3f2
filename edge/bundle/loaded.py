"""The files that a bundle was loaded from, and whether they are still those: a stat of each, no more.

Weights are mapped: where a file is cut, reading it kills the process (SIGBUS), and where it is written to, other
weights are computed with. So this is asked before every step, and what has changed once is not trusted again.
"""

from collections.abc import Iterable
from pathlib import Path

from edge.errors import BundleChanged

Facts = tuple[int, int, int, int]  # device, inode, bytes, time of the last change of the content in ns


class LoadedFiles:
    """A bundle's files as they were when it was loaded. Any thread may ask."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self._path = path
        self._facts = {name: _facts(path / name) for name in sorted(names)}
        self._reason: str | None = None

    def changed(self) -> str | None:
        """Return which file is not as it was, and how, in one sentence without a path; None where all are."""
        if self._reason is None:
            for name, before in self._facts.items():
                now = _facts(self._path / name)
                if now != before:
                    self._reason = f"{name} of {self._path.name} {_difference(before, now)} since it was loaded"
                    break
        return self._reason

    def check(self) -> None:
        """Raise where a file has changed. Raises: BundleChanged."""
        reason = self.changed()
        if reason is not None:
            way = "`edge models verify` says what is damaged; install it again to have it loaded"
            raise BundleChanged(f"{reason}: {way}")

    def now(self) -> tuple[Facts | None, ...]:
        """Return the facts of the files as they are at present, to be compared."""
        return tuple(_facts(self._path / name) for name in self._facts)


def _facts(file: Path) -> Facts | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _difference(before: Facts | None, now: Facts | None) -> str:
    if before is None or now is None:
        return "is gone" if now is None else "is new"
    if before[2] != now[2]:
        return f"has {now[2]} bytes, and had {before[2]}"
    return "was written to" if before[:2] == now[:2] else "was replaced"
