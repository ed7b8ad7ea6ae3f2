"""How many bytes packed weights may take, and which make room: those used least lately, none in use."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from edge.errors import BundleError, ParameterError

VARIABLE: Final = "EDGE_PACKED"  # the most bytes of packed weights in a folder; off: none are written or read
INDEX: Final = "index.json"  # of an entry; who uses the entry holds it locked, and its time is that of the last use
PARTIAL: Final = ".partial-"

_UNITS: Mapping[str, int] = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SHARE = 2  # unless EDGE_PACKED says otherwise, packed weights take at most one part in so many of what is free
_SPARE_BYTES = 256 << 20  # left on every disk


def limit() -> int | None:
    """Return the bytes that EDGE_PACKED allows, 0 for off, None where it is not set. Raises: ParameterError."""
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return None
    if value.lower() == "off":
        return 0
    number, unit = (value, "") if value[-1].isdigit() else (value[:-1], value[-1].upper())
    if not (number.isascii() and number.isdigit() and len(number) < 16 and unit in _UNITS):
        raise ParameterError(f"{VARIABLE}: expected bytes such as 20G, or off; got {value!r:.100}", field=VARIABLE)
    return int(number) * _UNITS[unit]


def make_room(folder: Path, n_needed: int) -> None:
    """Evict entries, those used least lately first, until one more has room. Raises: BundleError where it has none."""
    by_use = sorted(entries(folder), key=lambda entry: entry[1])
    n_used, n_free = _used_and_free(folder)
    most_bytes = limit()
    most = (n_free + n_used) // _SHARE if most_bytes is None else most_bytes
    n_left = max(0, min(most, n_free + n_used))
    if n_needed > n_left:
        found = f"packed weights may take {n_needed / 1e6:.0f} MB, and {n_left / 1e6:.0f} MB are left for them"
        raise BundleError(f"{folder}: {found}; {VARIABLE}=BYTES allows more where the disk has it")
    for entry, _, _ in by_use:
        if n_used + n_needed <= most and n_needed <= n_free:
            return
        evict(entry)
        n_used, n_free = _used_and_free(folder)  # counted anew: entries may have files in common
    if n_used + n_needed > most or n_needed > n_free:
        raise BundleError(f"{folder}: no room for packed weights of {n_needed / 1e6:.0f} MB beside those in use")


def _used_and_free(folder: Path) -> tuple[int, int]:
    n_used = sum(n_bytes for _, _, n_bytes in entries(folder))
    return n_used, shutil.disk_usage(folder).free - _SPARE_BYTES


def entries(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield (folder, when it was last used, bytes) of every entry; of a file that several have, each has its share."""
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            if not entry.name.startswith("."):
                used = (entry / INDEX).stat().st_mtime_ns if (entry / INDEX).exists() else 0
                yield entry, used, sum(_share(path.lstat()) for path in entry.iterdir())


def _share(found: os.stat_result) -> int:
    return found.st_size // max(1, found.st_nlink)


def evict(entry: Path) -> bool:
    """Remove an entry unless somebody uses it; return whether it is gone."""
    try:
        descriptor = os.open(entry / INDEX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return remove(entry)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return remove(entry)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def remove(entry: Path) -> bool:
    """Remove an entry, by a rename first: nobody finds half of it."""
    doomed = entry.with_name(f"{PARTIAL}{secrets.token_hex(4)}")
    try:
        entry.rename(doomed)
    except OSError:
        return False
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def drop_partials(folder: Path) -> None:
    """Remove what was left by whoever was killed; the caller holds the lock, so nobody is writing it."""
    for path in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)
