"""The files that a bundle was loaded from, and whether they are still those: a stat of each, no more.

Weights are mapped: where a file is cut, reading it kills the process (SIGBUS), and where it is written to, other
weights are computed with. So this is asked before every step, and what has changed once is not trusted again.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from edge.bundle.packed import Packed
from edge.errors import BundleChanged

Facts = tuple[int, int, int, int]  # device, inode, bytes, time of the last change of the content in ns


class LoadedFiles:
    """A bundle's files as they were when it was loaded, and its packed weights. Any thread may ask.

    packed: closed with this. It may be evicted meanwhile: what is mapped stays, so that its open files are asked.
    """

    def __init__(self, path: Path, names: Iterable[str], packed: Packed | None = None) -> None:
        self._path = path
        self._facts = {name: _facts(path / name) for name in sorted(names)}
        self._packed = packed
        self._packed_facts = _of_packed(packed)
        self._reason: str | None = None

    def changed(self) -> str | None:
        """Return which file is not as it was, and how, in one sentence without a path; None where all are."""
        if self._reason is None:
            for name, before in self._facts.items():
                now = _facts(self._path / name)
                if now != before:
                    self._reason = f"{name} of {self._path.name} {_difference(before, now)} since it was loaded"
                    break
        if self._reason is None and not self._is_packed_as_before():
            self._reason = f"the packed weights of {self._path.name} were written to since they were loaded"
        return self._reason

    def check(self) -> None:
        """Raise where a file has changed. Raises: BundleChanged."""
        reason = self.changed()
        if reason is not None:
            way = "`edge models verify` says what is damaged; install it again to have it loaded"
            raise BundleChanged(f"{reason}: {way}")

    def now(self) -> tuple[Facts | None, ...]:
        """Return the facts of the files as they are at present, to be compared."""
        return (*(_facts(self._path / name) for name in self._facts), *_of_packed(self._packed))

    def close(self) -> None:
        """Let go of the packed weights, once nothing reads them any more; closing twice is fine."""
        packed, self._packed = self._packed, None
        if packed is not None:
            packed.close()

    def _is_packed_as_before(self) -> bool:
        packed = self._packed
        try:
            is_same = _of_packed(packed) == self._packed_facts
        except OSError:
            is_same = False
        return is_same or packed is None or self._packed is not packed  # closed, perhaps meanwhile by another thread


def _of_packed(packed: Packed | None) -> tuple[Facts, ...]:
    descriptors = {} if packed is None else packed.descriptors
    return tuple(_of(os.fstat(descriptor)) for descriptor in descriptors.values())


def _facts(file: Path) -> Facts | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return _of(found)


def _of(found: os.stat_result) -> Facts:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _difference(before: Facts | None, now: Facts | None) -> str:
    if before is None or now is None:
        return "is gone" if now is None else "is new"
    if before[2] != now[2]:
        return f"has {now[2]} bytes, and had {before[2]}"
    return "was written to" if before[:2] == now[:2] else "was replaced"
