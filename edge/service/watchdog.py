"""Signs of life that mean something: sent from where the work is done, for as long as that moves on."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from edge.service import notify

_LOOKS: Final = 4  # within the seconds that systemd allows
_UNWATCHED_S: Final = 60.0  # between looks as if so much were allowed: a status is shown where no watchdog is set, too
_MOVED_S: Final = 0.01  # of processor time: who takes less between two looks waits for something
_LOOK_S: Final = 5.0
_MORE_S: Final = 60.0  # asked for at each look at a start that moves


@dataclass(frozen=True)
class Beat:
    """How it goes. stalled_s: seconds in which the work has not moved on; status: what is done, in a line."""

    stalled_s: float
    status: str


class Watchdog:
    """Tells systemd that a service is ready, what it does, and that its work moves on; nothing where nobody asked.

    It has no timer: whoever does the work calls `beat` again and again from where it is done, an event loop or the turn
    of a watch, which must not hang either. clock: monotonic, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_on = notify.is_on()
        limit_s = notify.watchdog_s() or _UNWATCHED_S
        self._every_s = limit_s / _LOOKS
        self._most_s = limit_s / 2  # so that systemd's own seconds begin in time
        self._due_s = clock()
        self._status = ""
        self._is_ready = False

    def beat(self, look: Callable[[], Beat]) -> None:
        """Say what is due. look: asked a few times within the seconds that systemd allows, not at every call."""
        if not self._is_on or self._clock() < self._due_s:
            return
        self._due_s = self._clock() + self._every_s
        beat = look()
        if not self._is_ready:
            self._is_ready = True
            notify.ready()
        if beat.stalled_s < self._most_s:
            notify.watchdog()
            self._tell(beat.status)
        else:
            self._tell(f"{beat.status}; no progress for {beat.stalled_s:.0f} s")

    def _tell(self, status: str) -> None:
        if status != self._status:
            self._status = status
            notify.status(status)


@contextlib.contextmanager
def starting(status: str, *, look_s: float = _LOOK_S) -> Iterator[None]:
    """Show a status while a start goes on, and ask systemd for more time as long as it computes or reads.

    look_s: seconds between two looks.
    """
    if not notify.is_on():
        yield
        return
    notify.status(status)
    over = threading.Event()
    thread = threading.Thread(target=_extend, args=(over, look_s), name="edge-starting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _extend(over: threading.Event, look_s: float) -> None:
    moves = Moves(time.process_time)
    while not over.wait(look_s):
        if moves.again():
            notify.extend(max(_MORE_S, 4 * look_s))


class Moves:
    """Whether something takes processor time between two looks. spent: the seconds that it took so far."""

    def __init__(self, spent: Callable[[], float]) -> None:
        self._spent = spent
        self._last_s = spent()

    def again(self) -> bool:
        """Return whether it has moved since the last look."""
        now_s = self._spent()
        has_moved = now_s - self._last_s >= _MOVED_S
        self._last_s = now_s
        return has_moved
