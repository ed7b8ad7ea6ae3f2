"""Handles: progress as it comes, and cancelling at any moment from any thread."""

import asyncio
import random
import threading
import time
from pathlib import Path

import pytest

from edge.engine.engine import Engine, Progress
from edge.engine.handle import Handle, Times
from tests.edge.asking import LONG, answer, ask, eventually, fresh_answer, image, options, slow


def test_progress_grows_and_only_the_last_has_a_reason(engine: Engine) -> None:
    seen = list(engine.stream(ask(engine, "Tell me"), options()))
    for one, other in zip(seen, seen[1:], strict=False):
        assert other.text.startswith(one.text) and other.output_tokens > one.output_tokens
        assert one.finish_reason is None
    assert seen[-1].finish_reason == "length" and seen[-1].output_tokens == 24


def test_slow_reader_gets_only_the_newest(engine: Engine) -> None:
    handle = engine.stream(ask(engine, "Tell me"), options())
    other = answer(engine, ask(engine, "Tell me"), options())
    while not handle._ended:
        time.sleep(0.001)
    assert list(handle) == [other] and handle.done and list(handle) == []


def test_handle_nobody_reads_holds_nobody_up(own_engine: Engine) -> None:
    for _ in range(5):
        own_engine.stream(ask(own_engine, "Tell me"), options())
    assert answer(own_engine, ask(own_engine, "Hi"), options(3)).output_tokens == 3


def test_subscriber_wakes_an_event_loop(engine: Engine) -> None:
    async def follow() -> Progress | None:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        handle, last = engine.stream(ask(engine, "Tell me"), options()), None
        handle.subscribe(lambda: loop.call_soon_threadsafe(news.set))
        while not handle.done:
            await news.wait()
            news.clear()
            last = handle.poll() or last
        return last

    assert asyncio.run(follow()) == answer(engine, ask(engine, "Tell me"), options())


def test_failing_subscriber_harms_nobody(engine: Engine) -> None:
    def fail() -> None:
        raise ValueError("closed loop")

    handle = engine.stream(ask(engine, "Tell me"), options())
    handle.subscribe(fail)
    assert handle.result().output_tokens == 24


def test_cancelled_handle_ends_at_once(engine: Engine) -> None:
    handle = engine.stream(ask(engine, LONG), options(500))
    next(iter(handle))
    handle.cancel()
    assert list(handle) == [] and handle.cancelled and handle.done
    assert handle.result().finish_reason is None
    handle.cancel()


def test_cancelling_after_the_end_changes_nothing(engine: Engine) -> None:
    handle = engine.stream(ask(engine, "Hi"), options(3))
    last = handle.result()
    handle.cancel()
    assert not handle.cancelled and handle.result() == last


def test_cancelling_from_another_thread_wakes_the_reader(own_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 0.05)
    handle = own_engine.stream(ask(own_engine, "Hi"), options(1000))
    threading.Timer(0.2, handle.cancel).start()
    last = handle.result()
    assert last.finish_reason is None and last.output_tokens < 1000


def test_cancelled_conversations_leave_the_queue_and_their_slots(own_engine: Engine) -> None:
    handles = [own_engine.stream(ask(own_engine, LONG, str(n)), options(500)) for n in range(20)]
    for handle in handles:
        handle.cancel()
    assert answer(own_engine, ask(own_engine, "Hi"), options(2)).output_tokens == 2
    worker = own_engine._worker
    eventually(lambda: not (worker._waiting or worker._reading or worker._running))


def test_cancelling_at_random_moments_leaves_the_next_answer_unharmed(int8_bundle: Path, own_engine: Engine) -> None:
    rng = random.Random(0)
    prompt, how = ask(own_engine, image(9), LONG), options(12, temperature=1.0)
    wanted = fresh_answer(int8_bundle, prompt, how)
    for n in range(60):
        handle = own_engine.stream(ask(own_engine, image(n % 3), LONG, str(n % 5)), options(400))
        time.sleep(rng.random() * 0.03)
        handle.cancel()
        if n % 6 == 0:
            assert answer(own_engine, prompt, how) == wanted


def test_cancelled_reading_keeps_what_was_read(own_engine: Engine) -> None:
    handle = own_engine.stream(ask(own_engine, LONG), options(500))
    next(iter(handle))
    handle.cancel()
    before = own_engine.stats().work.n_read
    answer(own_engine, ask(own_engine, LONG), options(1))
    assert own_engine.stats().work.n_read == before + 2


def test_times_are_those_of_the_first_token_and_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((10.0, 12.0, 15.0))
    monkeypatch.setattr("edge.engine.handle.time.monotonic", lambda: next(clock))
    handle = Handle(Progress("", 3, 0, None), lambda _: None)
    assert handle.times == Times(10.0)
    handle.put(Progress("a", 3, 1, None))
    handle.put(Progress("ab", 3, 2, None))
    assert handle.times == Times(10.0, 12.0)
    handle.put(Progress("abc", 3, 3, "stop"))
    handle.put(Progress("too late", 3, 4, "stop"))
    assert handle.times == Times(10.0, 12.0, 15.0)


def test_an_answer_of_one_token_begins_and_ends_with_it() -> None:
    handle = Handle(Progress("", 3, 0, None), lambda _: None)
    handle.put(Progress("a", 3, 1, "length"))
    assert handle.times.first_s == handle.times.ended_s is not None
