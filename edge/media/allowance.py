"""The resource limits of the decoding process: set for every job, and never above those it was started with."""

import errno
import os
import resource
import sys
from dataclasses import dataclass

from edge.errors import MemoryExhausted

MAX_FILES = 64
MAX_FILE_BYTES = 64 << 20  # what is sent may have to be written to a file, one without a name
TIGHT_BYTES = 256 << 20  # of memory: with less, a library may call sound data damaged
LEAST_BYTES = 32 << 20

_NAMES = {getattr(resource, name): name for name in ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE",
                                                     "RLIMIT_NOFILE", "RLIMIT_CORE")}  # fmt: skip
_MEMORY = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
# What a system call says when a limit of the process, not the data, is in the way.
_SHORT_OF = {
    errno.ENOMEM: "memory",
    errno.EAGAIN: "threads",
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
    errno.EFBIG: "file size",
    errno.ENOSPC: "room for files",
}
_BY_LIMIT = {"open files": resource.RLIMIT_NOFILE, "file size": resource.RLIMIT_FSIZE}


@dataclass(frozen=True)
class Job:
    """What one job may use. short: the inherited limits that leave it less than was wanted, and how much they leave."""

    short: dict[int, int]
    room_bytes: int

    @property
    def is_tight(self) -> bool:
        """Whether an inherited limit leaves so little memory that a failure may be due to that."""
        return self.room_bytes < TIGHT_BYTES and any(kind in self.short for kind in _MEMORY)

    def said(self) -> str:
        """Name the inherited limits that are in the way: "RLIMIT_AS leaves 1000 bytes"."""
        units = {resource.RLIMIT_CPU: "seconds"}
        return ", ".join(
            f"{_NAMES[kind]} leaves {left} {units.get(kind, 'bytes')}" for kind, left in self.short.items()
        )


class Allowance:
    """The limits this process was started with, and what is set below them."""

    def __init__(self) -> None:
        self._most = {kind: _number(resource.getrlimit(kind)[0]) for kind in _NAMES}

    def confine(self) -> None:
        """Give up large files, many descriptors and dumps of memory for good. Raises: OSError, ValueError."""
        wanted = {resource.RLIMIT_FSIZE: MAX_FILE_BYTES, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: MAX_FILES}
        for kind, value in wanted.items():
            most = min(value, self._most[kind])
            resource.setrlimit(kind, (most, most))

    def begin(self, *, memory_bytes: int, cpu_s: float) -> Job:
        """Allow so much memory and processor time beyond what was used so far, as far as that was inherited.

        Raises: MemoryExhausted when the inherited limits leave next to no memory.
        """
        held_bytes, mapped_bytes = _held()
        wanted = {
            resource.RLIMIT_DATA: (held_bytes, memory_bytes),
            resource.RLIMIT_AS: (mapped_bytes, memory_bytes),
            resource.RLIMIT_CPU: (int(_used_s()) + 1, int(cpu_s) + 1),
        }
        short: dict[int, int] = {}
        for kind, (used, more) in wanted.items():
            most = self._most[kind]
            _, hard = resource.getrlimit(kind)
            if used + more > most:
                short[kind] = max(0, most - used)
            limit = min(used + more, most)
            if kind == resource.RLIMIT_CPU and limit == _number(hard):
                limit = max(1, limit - 1)  # at the hard limit there is no signal that says why
            resource.setrlimit(kind, (limit, hard))
        job = Job(short, min((short[kind] for kind in _MEMORY if kind in short), default=memory_bytes))
        if job.room_bytes < min(LEAST_BYTES, memory_bytes):
            raise MemoryExhausted(f"no memory to decode media: {job.said()} (ulimit, or the service's own limits)")
        return job

    def end(self) -> None:
        """Take the limits of a job away."""
        for kind in (*_MEMORY, resource.RLIMIT_CPU):
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (_limit(min(self._most[kind], _number(hard))), hard))

    def is_spent(self, cpu_s: float) -> bool:
        """Whether this process has too little processor time left for another job: a fresh one has all of it."""
        most = self._most[resource.RLIMIT_CPU]
        return most - _used_s() < min(cpu_s, most / 2)


def shortage(error: BaseException | None) -> str | None:
    """Return what was lacking where a failure is none of the data's, None for any other."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError | MemoryExhausted):
            return "memory"
        if isinstance(error, OSError) and error.errno in _SHORT_OF:
            return _SHORT_OF[error.errno]
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return "threads"
        if type(error).__name__ == "error" and "Insufficient memory" in str(error):  # OpenCV's
            return "memory"
        error = error.__cause__ or error.__context__
    return None


def limit_of(lacking: str) -> str:
    """Name the limit that keeps this process from what it lacks: "RLIMIT_NOFILE is 64"; empty for memory."""
    kind = _BY_LIMIT.get(lacking)
    return "" if kind is None else f"{_NAMES[kind]} is {resource.getrlimit(kind)[0]}"


def inherited() -> str:
    """Name the limits on memory and processor time that this process runs under, for an error; empty without any."""
    found = {kind: resource.getrlimit(kind)[0] for kind in (*_MEMORY, resource.RLIMIT_CPU)}
    return ", ".join(f"{_NAMES[kind]} is {value}" for kind, value in found.items() if value != resource.RLIM_INFINITY)


def _number(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _limit(number: int) -> int:
    return resource.RLIM_INFINITY if number == sys.maxsize else number


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _held() -> tuple[int, int]:
    """Return the bytes of writable memory and of all mappings this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (as small as it gets)
        fields = file.read().split()
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return int(fields[5]) * page_bytes, int(fields[0]) * page_bytes
