"""Who may use the engine now: so many at a time, a few more waiting for a while, everybody else sent away."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from edge.chat.reply import refused
from edge.limits import Limits


@dataclass(frozen=True, eq=False)
class _Waiter:
    client: str | None
    turn: "asyncio.Future[None]"


class Queue:
    """Places for conversations, in the order they asked; for one event loop.

    Of clients that wait, the one that holds fewest places is next; one that would find the queue full has the newest
    of the client that waits most often sent away, where that waits more often. most: places one client may hold.
    """

    def __init__(
        self,
        n_places: int,
        *,
        max_waiting: int = Limits.waiting,
        max_wait_s: float = Limits.wait_s,
        most: int | None = None,
    ) -> None:
        self._n_places = n_places
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._most = most or n_places
        self._running: Counter[str | None] = Counter()
        self._waiting: list[_Waiter] = []
        self._closed = False

    @property
    def n_places(self) -> int:
        return self._n_places

    @property
    def n_running(self) -> int:
        return self._running.total()

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def place(self, client: str | None = None) -> AsyncGenerator[None, None]:
        """Hold a place. Raises: ApiError 503 when the queue is full, the wait was too long, or the server ends."""
        await self._take(client)
        try:
            yield
        finally:
            self._give(client)

    def check(self, client: str | None = None) -> None:
        """Refuse who would find no place to wait now. Raises: ApiError 503."""
        if self._closed:
            raise refused(503, "the server is shutting down")
        if self._has_place(client) or len(self._waiting) < self._max_waiting or self._crowding(client) is not None:
            return
        raise refused(503, f"{self.n_running} requests run and {len(self._waiting)} wait: the queue is full")

    def close(self) -> None:
        """Send away everybody who waits, and everybody who comes."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.turn.done():
                waiter.turn.set_exception(refused(503, "the server is shutting down"))

    async def _take(self, client: str | None) -> None:
        self.check(client)
        if self._has_place(client):
            self._running[client] += 1
            return
        crowding = self._crowding(client) if len(self._waiting) >= self._max_waiting else None
        if crowding is not None:
            self._waiting.remove(crowding)
            crowding.turn.set_exception(refused(503, "the queue is full, and others wait who wait less often"))
        waiter = _Waiter(client, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter.turn
        except TimeoutError as error:
            self._forget(waiter)
            raise refused(503, f"waited {self._max_wait_s:g} seconds in the queue") from error
        except BaseException:
            self._forget(waiter)
            raise

    def _has_place(self, client: str | None) -> bool:
        return self.n_running < self._n_places and self._running[client] < self._most

    def _crowding(self, client: str | None) -> _Waiter | None:
        """Return the newest waiter of the client that waits most often, None where `client` would wait as often."""
        counts = Counter(waiter.client for waiter in self._waiting)
        found, n_waiting = counts.most_common(1)[0] if counts else (None, 0)
        if n_waiting <= counts[client] + 1:
            return None
        waiting = (waiter for waiter in reversed(self._waiting) if waiter.client == found and not waiter.turn.done())
        return next(waiting, None)

    def _forget(self, waiter: _Waiter) -> None:
        """Take a waiter out; a place that it was just given goes to the next."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        turn = waiter.turn
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._give(waiter.client)

    def _give(self, client: str | None) -> None:
        """Hand places to those whose turn it is."""
        self._running[client] -= 1
        self._running += Counter()  # without those that hold none
        while (waiter := self._next()) is not None:
            self._waiting.remove(waiter)
            self._running[waiter.client] += 1
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        due = (each for each in self._waiting if not each.turn.done() and self._has_place(each.client))
        return min(due, key=lambda waiter: self._running[waiter.client], default=None)
