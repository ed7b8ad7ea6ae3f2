"""Whether a thread that works moves on: by the units that it finishes, and the processor time it takes for one."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A unit may be long: a tile, or a chunk of a prompt, takes a large model a minute on a small board. Who computes, or
# reads weights from a slow disk, spends processor time meanwhile; who waits for what never comes spends none.
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_LONGEST_S: Final = 1800.0  # then a unit counts as one that never ends, whatever it computes


@dataclass(frozen=True)
class _Look:
    """What was found when somebody looked: the unit, the processor time, and since when each is as it is."""

    n_units: int
    spent_s: float
    moved_s: float
    began_s: float


class Pulse:
    """What a thread tells of its work, and what others can tell from it.

    spent: the processor time of the thread so far, in seconds. clock: monotonic.
    """

    def __init__(
        self, *, spent: Callable[[], float] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spent = spent or (lambda: spent_s(self._thread_id))
        self._clock = clock
        self._lock = threading.Lock()
        self._look: _Look | None = None
        self._thread_id = 0
        self._n_units = 0
        self._is_busy = False

    def began(self) -> None:
        """Note, on the thread that works, that it begins with a unit: whatever it did before is done."""
        self._thread_id = threading.get_native_id()
        self._n_units += 1
        self._is_busy = True

    def rests(self) -> None:
        """Note that there is nothing to do."""
        self._is_busy = False

    def stalled_s(self) -> float:
        """Return the seconds since a look found the work moving, 0.0 while it moves or there is none; any thread asks.

        What is not looked at is not noticed: ask several times within the seconds that are to count.
        """
        with self._lock:
            if not self._is_busy:
                self._look = None
                return 0.0
            now_s, n_units, spent = self._clock(), self._n_units, self._spent()
            look = self._look
            if look is None or n_units != look.n_units:
                look = _Look(n_units, spent, now_s, now_s)
            elif spent - look.spent_s >= _TICK_S and now_s - look.began_s < _LONGEST_S:
                look = _Look(n_units, spent, now_s, look.began_s)
            self._look = look
            return now_s - look.moved_s


def spent_s(thread_id: int) -> float:
    """Return the processor time that a thread of this process took so far, in seconds; 0.0 where nobody says.

    thread_id: the system's, not Python's. Source: proc_pid_stat(5), fields 14 and 15.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/self/task/{thread_id}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S
    return 0.0
