"""Timers that a model sets, lists and cancels; when one is due, somebody is told."""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

import pydantic

from edge.tools.tool import ToolFunction

MAX_TIMERS = 32
MAX_S = 7 * 24 * 3600
_LABEL_CHARS = 100

_LOG = logging.getLogger("edge.tools")

Seconds = Annotated[float, pydantic.Field(gt=0, le=MAX_S, description="From now; 5 minutes are 300")]


class Clock(Protocol):
    """A monotonic clock that can be waited with."""

    def now(self) -> float:
        """Return its time in seconds."""

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        """Wait for news, at most timeout_s; the lock is held."""


class MonotonicClock:
    """The machine's own."""

    def now(self) -> float:
        """Return time.monotonic()."""
        return time.monotonic()

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        """Wait for news, at most timeout_s."""
        news.wait(timeout_s)


@dataclass(frozen=True)
class Timer:
    """A timer that runs. due_s: of the monotonic clock."""

    number: int
    label: str
    due_s: float


class Timers:
    """Timers of this program; they end with it.

    announce: called with a sentence, in a thread of the timers, when one is due. A timer changes nothing outside of the
    program, so its tools count as read-only.
    """

    def __init__(self, announce: Callable[[str], object], *, clock: Clock | None = None) -> None:
        self._announce = announce
        self._clock = clock or MonotonicClock()
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._running: dict[int, Timer] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def tools(self) -> list[ToolFunction[..., object]]:
        """Return the tools set_timer, list_timers and cancel_timer."""
        made = (self.set_timer, self.list_timers, self.cancel_timer)
        return [ToolFunction(function, read_only=True) for function in made]

    def set_timer(
        self, seconds: Seconds, label: Annotated[str, "What it is for, in a word or two"] = ""
    ) -> dict[str, object]:
        """Set a timer; the user is told when it is due."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the timers are closed")
            if len(self._running) >= MAX_TIMERS:
                raise ValueError(f"{MAX_TIMERS} timers are set already; cancel one first")
            timer = Timer(next(self._numbers), label[:_LABEL_CHARS], self._clock.now() + seconds)
            self._running[timer.number] = timer
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="edge-timers", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return self._shown(timer)

    def list_timers(self) -> list[dict[str, object]]:
        """List the timers that are set, the next one first."""
        with self._changed:
            return [self._shown(timer) for timer in sorted(self._running.values(), key=lambda timer: timer.due_s)]

    def cancel_timer(self, number: Annotated[int, "As set_timer and list_timers tell it"]) -> str:
        """Cancel a timer."""
        with self._changed:
            if self._running.pop(number, None) is None:
                known = ", ".join(map(str, self._running)) or "none"
                raise ValueError(f"there is no timer {number}; the timers are {known}")
            self._changed.notify_all()
            return f"timer {number} is cancelled"

    def close(self) -> None:
        """Cancel all timers."""
        with self._changed:
            self._closed = True
            self._running.clear()
            self._changed.notify_all()

    def _shown(self, timer: Timer) -> dict[str, object]:
        left_s = max(0.0, timer.due_s - self._clock.now())
        return {"number": timer.number, "label": timer.label, "seconds_left": round(left_s)}

    def _run(self) -> None:
        while (due := self._next()) is not None:
            try:
                self._announce(f"timer {due.number} is due{': ' + due.label if due.label else ''}")
            except Exception:  # whatever is told: the other timers go on
                _LOG.exception("a timer could not be announced")

    def _next(self) -> Timer | None:
        """Wait for the next timer that is due; None when the timers are closed."""
        with self._changed:
            while not self._closed:
                timer = min(self._running.values(), key=lambda timer: timer.due_s, default=None)
                left_s = None if timer is None else timer.due_s - self._clock.now()
                if timer is not None and left_s is not None and left_s <= 0:
                    return self._running.pop(timer.number)
                self._clock.wait(self._changed, left_s)
            return None
