"""How long media may be decoded for one client: so many seconds in any so many, counted by the clock."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_N_SPANS = 100  # a window's times are counted in so many spans: a client costs no more memory than these
_N_CLIENTS = 4096
_LEAST = 1 / 60  # of the seconds: with less left nothing is begun


@dataclass
class _Span:
    """Seconds spent from begin_s to end_s."""

    begin_s: float
    end_s: float
    seconds: float


class Budget:
    """Seconds that each client may spend in any window; any thread may ask it.

    seconds: the most in any window_s; clock: seconds that never go back.
    """

    def __init__(self, seconds: float, window_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: dict[str, deque[_Span]] = {}

    def spent_s(self, client: str) -> float:
        """Return the seconds that a client spent in the window that ends now."""
        with self._lock:
            return sum(span.seconds for span in self._recent(client))

    def left_s(self, client: str) -> float:
        """Return the seconds that a client may spend now, 0 where they are too few to begin anything."""
        left_s = self.seconds - self.spent_s(client)
        return left_s if left_s >= self.seconds * _LEAST else 0.0

    def wait_s(self, client: str) -> float:
        """Return after how many seconds left_s is not 0 any more; the whole window where that is never."""
        with self._lock:
            spans = list(self._recent(client))
            over_s = sum(span.seconds for span in spans) - self.seconds * (1 - _LEAST)
            if over_s <= 0 and self.seconds > 0:
                return 0.0
            for span in spans:
                over_s -= span.seconds
                if over_s <= 0 and self.seconds > 0:
                    return span.end_s + self.window_s - self._clock()
            return self.window_s

    def spend(self, client: str, seconds: float) -> None:
        """Count seconds that end now."""
        with self._lock:
            now_s = self._clock()
            spans = self._spent[client] = self._recent(client)
            if spans and now_s - spans[-1].begin_s < self.window_s / _N_SPANS:
                spans[-1].end_s, spans[-1].seconds = now_s, spans[-1].seconds + seconds
            else:
                spans.append(_Span(now_s, now_s, seconds))
            if len(self._spent) > _N_CLIENTS:
                self._forget()

    def _recent(self, client: str) -> deque[_Span]:
        spans = self._spent.get(client, deque())
        while spans and spans[0].end_s <= self._clock() - self.window_s:
            spans.popleft()
        if not spans:
            self._spent.pop(client, None)
        return spans

    def _forget(self) -> None:
        """Forget who has spent nothing lately, or else who has spent least."""
        spent = {name: sum(span.seconds for span in self._recent(name)) for name in list(self._spent)}
        if len(self._spent) > _N_CLIENTS:
            del self._spent[min(spent, key=spent.__getitem__)]
