"""The decoding processes of a server, shared fairly: each client has one job at a time, who spent least goes first."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge.errors import EngineClosed, MediaError, MemoryExhausted, RateLimitError
from edge.media.budget import Budget
from edge.media.decoded import Decoded, Options
from edge.media.sandbox import Worker


@dataclass(frozen=True)
class Client:
    """Who asks: payer: whose seconds of decoding are spent, a key or an address; address: whose jobs take turns."""

    payer: str
    address: str


class Decoder(Protocol):
    """What decodes media as edge.media.decoding.decode does, somewhere."""

    def decode(self, kind: str, data: bytes, options: Options) -> Decoded:
        """Decode media. Raises: MediaError, MemoryExhausted, RateLimitError."""

    def close(self) -> None:
        """End what it holds."""


class Share:
    """The pool as one request sees it; stop() ends its waiting and its job, from any thread."""

    def __init__(self, pool: "Pool", client: Client | None) -> None:
        self.client = client
        self.stopped = False
        self.worker: Worker | None = None
        self._pool = pool

    def decode(self, kind: str, data: bytes, options: Options) -> Decoded:
        """Decode when it is this request's turn. Raises: as Pool's; EngineClosed once stopped."""
        return self._pool.run(self, kind, data, options)

    def stop(self) -> None:
        """Have nothing more decoded for this request; what is being decoded ends at once."""
        self._pool.stop(self)

    def close(self) -> None:
        """As stop: the pool itself serves others."""
        self.stop()


class Pool:
    """So many decoding processes, each started when it is needed, and what each client may spend of their time.

    n_processes: how many jobs run at a time. budget: None for no bound. clock: as the budget's.
    """

    def __init__(
        self,
        n_processes: int = 1,
        *,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
        new: Callable[[], Worker] = Worker,
    ) -> None:
        self._workers = tuple(new() for _ in range(n_processes))
        self._free = list(self._workers)
        self._budget = budget
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[Share] = []  # in the order they asked
        self._running: list[_Job] = []
        self._closed = False

    def share(self, client: Client | None = None) -> Share:
        """Return the pool for one request; client: None for who takes no turns and has no bound."""
        return Share(self, client)

    def decode(self, kind: str, data: bytes, options: Options) -> Decoded:
        """Decode for nobody in particular. Raises: MediaError, MemoryExhausted."""
        return self.share().decode(kind, data, options)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of those that run."""
        return tuple(worker.pid for worker in self._workers if worker.pid is not None)

    @property
    def n_waiting(self) -> int:
        """How many jobs wait for a process."""
        return len(self._waiting)

    def close(self) -> None:
        """End the processes; jobs under way fail, and who waits is sent away. Closing twice is fine."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.close()

    def run(self, share: Share, kind: str, data: bytes, options: Options) -> Decoded:
        """Decode for a request.

        Raises: MediaError, MemoryExhausted; RateLimitError where its client has spent its seconds; EngineClosed once
        it was stopped.
        """
        job = self._begun(share, kind)
        began_s = self._clock()
        try:
            return job.worker.decode(kind, data, options, limit_s=job.allowed_s, stopped=lambda: share.stopped)
        except MediaError as error:
            failure = error
        finally:
            took_s = self._clock() - began_s
            self._end(job, took_s)
        if share.stopped:
            raise _left() from failure
        if job.is_short and took_s >= job.allowed_s:
            raise self._refusal(share, kind) from failure
        raise failure

    def stop(self, share: Share) -> None:
        """End a request's waiting, or its job."""
        with self._changed:
            share.stopped = True
            if share.worker is not None:
                share.worker.interrupt()
            self._changed.notify_all()

    def _begun(self, share: Share, kind: str) -> "_Job":
        """Wait for a request's turn, and take a process.

        Raises: EngineClosed once stopped, MemoryExhausted once closed, RateLimitError.
        """
        with self._changed:
            self._waiting.append(share)
            try:
                while True:
                    self._check(share, kind)
                    if self._next() is share:
                        break
                    self._changed.wait()
                worker = self._free.pop()
                limit_s = worker.limit_s(kind)
                job = _Job(share, worker, min(limit_s, self._unreserved_s(share)), limit_s)
                self._running.append(job)
                share.worker = worker
                return job
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()

    def _check(self, share: Share, kind: str) -> None:
        """Raise what ends a request's waiting."""
        if share.stopped:
            raise _left()
        if self._closed:
            raise MemoryExhausted(f"{kind}: the decoder was closed")
        if self._budget is not None and share.client is not None and self._budget.left_s(share.client.payer) <= 0:
            raise self._refusal(share, kind)

    def _refusal(self, share: Share, kind: str) -> RateLimitError:
        budget, client = self._budget, share.client
        if budget is None or client is None:
            return RateLimitError(f"{kind}: there is no time to decode it", retry_s=0.0)
        wait_s = max(1, math.ceil(budget.wait_s(client.payer)))
        used = f"the {budget.seconds:g} seconds of decoding that a client has in any {budget.window_s:g} are used"
        return RateLimitError(f"{kind}: {used}: try again in {wait_s} s", retry_s=wait_s)

    def _next(self) -> Share | None:
        """Return who is served next: of those whose turn it may be, who spent least, then who asked first."""
        due = [share for share in self._waiting if self._is_due(share)]
        return min(due, key=self._spent_s, default=None) if self._free else None

    def _is_due(self, share: Share) -> bool:
        """Return whether a request's address has no job, and its payer time that no other job may still need."""
        if share.client is None:
            return True
        others = [job.share.client for job in self._running if job.share.client is not None]
        if any(other.address == share.client.address for other in others):
            return False
        return self._unreserved_s(share) > 0 or all(other.payer != share.client.payer for other in others)

    def _unreserved_s(self, share: Share) -> float:
        client = share.client
        if self._budget is None or client is None:
            return math.inf
        others = (job for job in self._running if job.share.client and job.share.client.payer == client.payer)
        return self._budget.left_s(client.payer) - sum(job.allowed_s for job in others)

    def _spent_s(self, share: Share) -> float:
        return 0.0 if self._budget is None or share.client is None else self._budget.spent_s(share.client.payer)

    def _end(self, job: "_Job", spent_s: float) -> None:
        with self._changed:
            job.share.worker = None
            self._running.remove(job)
            self._free.append(job.worker)
            if self._budget is not None and job.share.client is not None:
                self._budget.spend(job.share.client.payer, spent_s)
            self._changed.notify_all()


@dataclass(frozen=True, eq=False)
class _Job:
    """A process that works for a request; allowed_s: how long it may, limit_s: how long one may that has the time."""

    share: Share
    worker: Worker
    allowed_s: float
    limit_s: float

    @property
    def is_short(self) -> bool:
        return self.allowed_s < self.limit_s


def _left() -> EngineClosed:
    return EngineClosed("the client left")
