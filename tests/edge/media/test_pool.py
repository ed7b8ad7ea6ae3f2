"""The pool of decoding processes: turns, times, and leaving, each with processes that do what the test says."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from edge.errors import EngineClosed, MediaError, MemoryExhausted, RateLimitError
from edge.media.budget import Budget
from edge.media.decoded import Decoded, Options
from edge.media.pool import Client, Pool, Share
from edge.media.sandbox import Worker
from tests.edge.asking import eventually

DONE = Decoded((), {})


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Work(Worker):
    """A decoding process without one: a job ends when it is told to, with what it is told."""

    log: "list[tuple[bytes, float]]"

    def __init__(self) -> None:
        super().__init__()
        self.job: bytes | None = None
        self.ends: Future[Decoded] = Future()
        self.closed = False

    def decode(
        self,
        kind: str,
        data: bytes,
        options: Options,
        *,
        limit_s: float = 60.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Decoded:
        self.ends = Future()
        if stopped():
            raise MediaError("given up")
        self.log.append((data, limit_s))
        self.job = data
        try:
            return self.ends.result(60)
        finally:
            self.job = None

    @property
    def runs(self) -> bool:
        """Whether a job runs that was not told to end."""
        return self.job is not None and not self.ends.done()

    def interrupt(self) -> None:
        if not self.ends.done():
            self.ends.set_exception(MediaError("the process ended"))

    def close(self) -> None:
        self.interrupt()


class Desk:
    """A pool, its clock, and threads that ask it."""

    def __init__(self, threads: ThreadPoolExecutor, n_processes: int, seconds: float = 60.0) -> None:
        self.log: list[tuple[bytes, float]] = []
        self.clock = Clock()
        self.workers: list[Work] = []
        self.budget = Budget(seconds, 600, clock=self.clock)
        self.pool = Pool(n_processes, budget=self.budget, clock=self.clock, new=self._new)
        self._threads = threads

    def _new(self) -> Work:
        work = Work()
        work.log = self.log
        self.workers.append(work)
        return work

    def ask(self, data: bytes, share: Share, kind: str = "pdf") -> "Future[Decoded]":
        """Ask for a job; it runs or waits when this returns, or has failed."""
        n_before = len(self.log) + self.pool.n_waiting
        asked = self._threads.submit(share.decode, kind, data, {})
        eventually(lambda: asked.done() or len(self.log) + self.pool.n_waiting > n_before)
        return asked

    def client(self, address: str, payer: str | None = None) -> Share:
        return self.pool.share(Client(payer or address, address))

    def running(self) -> list[bytes]:
        return sorted(work.job for work in self.workers if work.runs and work.job is not None)

    def end(self, data: bytes, took_s: float = 1.0) -> None:
        """Have a job end, and wait until what follows it runs."""
        self.clock.now_s += took_s
        work = next(work for work in self.workers if work.runs and work.job == data)
        work.ends.set_result(DONE)


@contextmanager
def desk(n_processes: int, seconds: float = 60.0) -> Iterator[Desk]:
    with ThreadPoolExecutor(16) as threads:
        found = Desk(threads, n_processes, seconds)
        try:
            yield found
        finally:
            found.pool.close()


def runs(found: Desk, *jobs: bytes) -> None:
    eventually(lambda: found.running() == sorted(jobs))


def test_a_client_has_one_job_at_a_time_and_others_have_theirs() -> None:
    with desk(2) as found:
        first = [found.ask(data, found.client("a")) for data in (b"a1", b"a2", b"a3")]
        runs(found, b"a1")
        other = found.ask(b"b1", found.client("b"))
        runs(found, b"a1", b"b1")
        found.end(b"b1")
        assert other.result(60) is DONE and not any(each.done() for each in first)
        for data in (b"a1", b"a2", b"a3"):
            runs(found, data)
            found.end(data)
        assert [each.result(60) for each in first] == [DONE] * 3


def test_with_one_process_who_spent_least_is_next() -> None:
    with desk(1) as found:
        for data in (b"a1", b"a2", b"a3"):
            found.ask(data, found.client("a"))
        found.ask(b"b1", found.client("b"))
        found.ask(b"c1", found.client("c"))
        for data in (b"a1", b"b1", b"c1", b"a2", b"a3"):
            runs(found, data)
            found.end(data, 3.0)


def test_requests_without_a_client_share_all_processes_and_have_no_bound() -> None:
    with desk(2, seconds=1.0) as found:
        asked = [found.ask(data, found.pool.share()) for data in (b"1", b"2", b"3")]
        eventually(lambda: len(found.running()) == 2)
        for data in (b"1", b"2", b"3"):
            eventually(lambda data=data: data in found.running())  # type: ignore[misc]
            found.end(data, 50.0)
        assert [each.result(60) for each in asked] == [DONE] * 3


def test_a_client_that_has_spent_its_seconds_is_refused_and_others_are_not() -> None:
    with desk(2) as found:
        asked = found.ask(b"a1", found.client("a"))
        runs(found, b"a1")
        found.end(b"a1", 59.5)
        assert asked.result(60) is DONE
        with pytest.raises(
            RateLimitError, match="pdf: the 60 seconds of decoding .* any 600 are used: try again in 600"
        ) as caught:
            found.client("a").decode("pdf", b"a2", {})
        assert caught.value.retry_s == 600
        found.ask(b"b1", found.client("b"))
        runs(found, b"b1")


def test_the_seconds_left_are_what_a_job_may_take() -> None:
    with desk(1) as found:
        found.ask(b"a1", found.client("a"))
        runs(found, b"a1")
        found.end(b"a1", 50.0)
        asked = found.ask(b"a2", found.client("a"))
        runs(found, b"a2")
        assert found.log == [(b"a1", 20.0), (b"a2", 10.0)]
        found.clock.now_s += 10.0
        found.workers[0].interrupt()  # as the process is ended at its limit
        with pytest.raises(RateLimitError):
            asked.result(60)


def test_a_job_that_fails_earlier_is_what_it_is() -> None:
    with desk(1) as found:
        found.ask(b"a1", found.client("a"))
        runs(found, b"a1")
        found.end(b"a1", 50.0)
        asked = found.ask(b"a2", found.client("a"))
        runs(found, b"a2")
        found.clock.now_s += 5.0
        found.workers[0].interrupt()
        with pytest.raises(MediaError, match="the process ended"):
            asked.result(60)
        assert found.budget.spent_s("a") == 55


def test_addresses_with_one_key_never_spend_more_than_it_has() -> None:
    with desk(2, seconds=30.0) as found:
        for data in (b"a1", b"b1", b"c1"):
            found.ask(data, found.client(data.decode()[0], "the key"))
        runs(found, b"a1", b"b1")
        assert found.log == [(b"a1", 20.0), (b"b1", 10.0)]
        found.ask(b"d1", found.client("d"))
        found.end(b"a1", 2.0)
        runs(found, b"b1", b"d1")
        found.end(b"d1", 1.0)
        runs(found, b"b1", b"c1")
        assert found.log[-1] == (b"c1", 18.0)


@pytest.mark.parametrize("waits", [True, False])
def test_who_leaves_waits_no_more_and_its_job_ends(waits: bool) -> None:
    with desk(1) as found:
        first, second = found.client("a"), found.client("b")
        asked = [found.ask(b"a1", first), found.ask(b"b1", second)]
        third = found.ask(b"c1", found.client("c"))
        runs(found, b"a1")
        (second if waits else first).stop()
        with pytest.raises(EngineClosed):
            asked[waits].result(60)
        if waits:
            runs(found, b"a1")
            found.end(b"a1")
        else:
            runs(found, b"b1")
            found.end(b"b1")
        runs(found, b"c1")
        found.end(b"c1")
        assert third.result(60) is DONE


def test_nothing_is_decoded_for_who_has_left() -> None:
    with desk(1) as found:
        share = found.client("a")
        share.stop()
        with pytest.raises(EngineClosed):
            share.decode("pdf", b"a1", {})
        assert not found.log


def test_closing_sends_away_who_waits() -> None:
    with desk(1) as found:
        asked = [found.ask(b"a1", found.client("a")), found.ask(b"b1", found.client("b"))]
        found.pool.close()
        with pytest.raises(MediaError):
            asked[0].result(60)
        with pytest.raises(MemoryExhausted):
            asked[1].result(60)


def test_a_real_job_ends_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    pool = Pool(1, new=Worker)
    share, started = pool.share(), threading.Event()
    run = Worker._ready

    def ready(self: Worker) -> object:
        child = run(self)
        child._process.send_signal(signal.SIGSTOP)  # it never answers
        started.set()
        return child

    monkeypatch.setattr(Worker, "_ready", ready)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(share.decode, "image", b"nothing", {"max_px": 1})
        assert started.wait(60)
        share.stop()
        with pytest.raises(EngineClosed):
            asked.result(60)
    pool.close()
