"""Who may use the engine now: so many at a time, a few more waiting for a while, everybody else sent away."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator

from edge.exchange import refused
from edge.limits import Limits


class Queue:
    """Places for conversations, in the order they asked; for one event loop."""

    def __init__(self, n_places: int, *, max_waiting: int = Limits.waiting, max_wait_s: float = Limits.wait_s) -> None:
        self._n_places = n_places
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._n_running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @property
    def n_places(self) -> int:
        return self._n_places

    @property
    def n_running(self) -> int:
        return self._n_running

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncGenerator[None, None]:
        """Hold a place. Raises: ApiError 503 when the queue is full, the wait was too long, or the server ends."""
        await self._take()
        try:
            yield
        finally:
            self._give()

    def close(self) -> None:
        """Send away everybody who waits, and everybody who comes."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(refused(503, "the server is ending"))

    async def _take(self) -> None:
        if self._closed:
            raise refused(503, "the server is ending")
        if self._n_running < self._n_places:
            self._n_running += 1
            return
        if len(self._waiting) >= self._max_waiting:
            raise refused(503, f"{self._n_running} requests run and {len(self._waiting)} wait: the queue is full")
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter
        except TimeoutError as error:
            self._forget(waiter)
            raise refused(503, f"waited {self._max_wait_s:g} seconds in the queue") from error
        except BaseException:
            self._forget(waiter)
            raise

    def _forget(self, waiter: "asyncio.Future[None]") -> None:
        """Take a waiter out; a place that it was just given goes to the next."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._give()

    def _give(self) -> None:
        """Hand a place to whoever waits longest; it stays taken then."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._n_running -= 1
