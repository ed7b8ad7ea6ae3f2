"""The peak memory of this process, anonymous and mapped apart, watched from a thread."""

import resource
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_STATUS: Final = Path("/proc/self/status")
_INTERVAL_S: Final = 0.02


@dataclass(frozen=True)
class Peak:
    """Bytes: `anonymous` is what the process made itself (swapped out included), `resident` also counts mapped files.

    The pages of a mapped checkpoint are resident while they are read, but the system takes them back when it is short.
    """

    anonymous: int
    resident: int


class PeakMemory:
    """Watches from entry to exit; where the system tells only one figure, both are that one."""

    def __init__(self) -> None:
        self._anonymous = 0
        self._resident = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def peak(self) -> Peak:
        """The largest figures seen since entry, each at its own moment."""
        self._look()
        return Peak(self._anonymous, self._resident)

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        anonymous, resident = _now()
        self._anonymous = max(self._anonymous, anonymous)
        self._resident = max(self._resident, resident)


def _now() -> tuple[int, int]:
    """Anonymous and resident bytes at this moment."""
    if not _STATUS.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return largest, largest
    kib = {}
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "VmSwap", "VmRSS"):
            kib[name] = int(value.split()[0])
    return (kib.get("RssAnon", 0) + kib.get("VmSwap", 0)) * 1024, kib.get("VmRSS", 0) * 1024
