"""What is told of a watch, delivered one by one by a thread: whoever watches never waits for it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self

MAX_WAITING = 64
_LAST_S = 5.0  # for what still waits at the end
_JOIN_S = 5.0

Fields = Mapping[str, object]
Deliver = Callable[[str, Fields, threading.Event], None]

_LOG = logging.getLogger("edge.deliveries")


class Undelivered(Exception):
    """Something that could not be delivered, and will not be tried again; the text says why."""


class Deliveries:
    """Lines on their way to one receiver, in order; a context manager.

    name: of the receiver, for messages; deliver: called with a line, its fields and an event that is set when there is
    no more time. When more than `MAX_WAITING` wait, the oldest is dropped, and that is logged (`edge.deliveries`).
    """

    def __init__(self, name: str, deliver: Deliver) -> None:
        self._name = name
        self._deliver = deliver
        self._waiting: deque[tuple[str, Fields]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-deliveries", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, line: str, fields: Fields) -> None:
        """Have a line delivered; never waits."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                _LOG.warning("%s: too slow: the oldest of %d waiting events is dropped", self._name, MAX_WAITING)
            self._waiting.append((line, fields))
            self._changed.notify_all()

    def close(self, *, last_s: float = _LAST_S) -> None:
        """Deliver what still waits, for at most so many seconds, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(last_s)
        self._stop.set()
        self._thread.join(_JOIN_S)
        if self._waiting:
            _LOG.warning("%s: %d events were not delivered", self._name, len(self._waiting))

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._deliver(*item, self._stop)
            except Undelivered as error:
                _LOG.warning("%s: %s", self._name, error)
            except Exception:  # whatever a receiver does: the next one is delivered
                _LOG.exception("%s failed", self._name)

    def _next(self) -> tuple[str, Fields] | None:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting or self._stop.is_set():
                return None
            return self._waiting.popleft()
