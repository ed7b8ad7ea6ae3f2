"""The memory that this process may use: the system's, or the least that a control group above it allows."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_PROC = Path("/proc")
_UNLIMITED = 1 << 60  # version 1 says "none" with a number near 2**63


@dataclass(frozen=True)
class Memory:
    """Bytes: all that this process may use together with what shares its limit, and what of them can still be taken.

    limited_by: the folder of the control group that allows least, None where the machine's own memory does.
    """

    total: int
    available: int
    limited_by: str | None = None


def available_bytes() -> int:
    """Return the memory that can still be taken: the system's, or a control group's if that is less."""
    return memory().available


def memory(proc: Path = _PROC) -> Memory:
    """Return the memory of this process. proc: where the system tells of it."""
    total, available = _system(proc)
    least = Memory(total, available)
    for folder, limit, used in _groups(proc):
        if limit < least.total:
            least = Memory(limit, least.available, str(folder))
        least = Memory(least.total, max(0, min(least.available, limit - used)), least.limited_by)
    return least


def _system(proc: Path) -> tuple[int, int]:
    """Return the machine's memory, and what of it is available; half of it where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
        return int(lines["MemTotal"].split()[0]) * 1024, int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total // 2


def _groups(proc: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield (folder, limit, bytes in use) of each control group that limits this process, its own and those above."""
    for top, folder, is_unified in _places(proc):
        names = ("memory.max", "memory.high") if is_unified else ("memory.limit_in_bytes",)
        usage = "memory.current" if is_unified else "memory.usage_in_bytes"
        while True:
            limits = [limit for name in names if (limit := _number(folder / name)) is not None]
            used = _number(folder / usage)
            if limits and min(limits) < _UNLIMITED and used is not None:
                yield folder, min(limits), max(0, used - _reclaimable(folder, is_unified))
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _places(proc: Path) -> Iterator[tuple[Path, Path, bool]]:
    """Yield (mount, folder of this process in it, whether it is of version 2) of each hierarchy that counts memory."""
    own = _own_groups(proc)
    for mount, root, is_unified in _mounts(proc):
        path = own.get(is_unified)
        if path is None:
            continue
        # A container sees its own group as the mount, and may be told the path that it has on the host.
        inside = PurePosixPath(path)
        relative = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
        folder = mount / relative
        yield mount, folder if ".." not in relative.parts and folder.is_dir() else mount, is_unified


def _own_groups(proc: Path) -> dict[bool, str]:
    """Return the paths of this process's groups, by whether they are of version 2."""
    found = {}
    for line in _lines(proc / "self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found[True] = path
        elif "memory" in controllers.split(","):
            found[False] = path
    return found


def _mounts(proc: Path) -> Iterator[tuple[Path, str, bool]]:
    """Yield (where it is mounted, which group that shows, whether it is of version 2) of each such file system."""
    for line in _lines(proc / "self/mountinfo"):
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if len(place) < 5 or not kind:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[-1].split(",")):
            yield Path(place[4]), place[3], kind[0] == "cgroup2"


def _reclaimable(folder: Path, is_unified: bool) -> int:
    """Return the bytes of files that a group counts as used and the system takes back when memory is short."""
    wanted = "inactive_file" if is_unified else "total_inactive_file"
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == wanted and value.strip().isdecimal():
            return int(value)
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """Return the number in a file; None for "max", and where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
