"""The worker: nothing that fails, closes or crowds it stops it or changes another answer."""

import contextlib
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.engine.cache import ALIGNED
from edge.engine.decoder import Decoder
from edge.engine.engine import Engine, Handle, Options, Progress
from edge.engine.pieces import Text
from edge.errors import (
    BundleError,
    EdgeError,
    EngineClosed,
    MediaError,
    MemoryExhausted,
    NonFiniteError,
    ParameterError,
    RuntimeFailure,
    TextError,
)
from tests.edge.asking import LONG, answer, ask, eventually, image, options, same_everywhere, slow

F32 = npt.NDArray[np.float32]

# Failures


def _fail_at(monkeypatch: pytest.MonkeyPatch, method: str, n: int, spoil: Callable[[F32], F32]) -> None:
    """Let the n-th call of a decoder's method give spoilt logits (or raise)."""
    original, calls = getattr(Decoder, method), iter(range(1 << 30))

    def spoilt(*arguments: object, **named: object) -> F32:
        logits = original(*arguments, **named)
        return spoil(logits) if next(calls) == n else logits

    monkeypatch.setattr(Decoder, method, spoilt)


def _raising(error: BaseException) -> Callable[[F32], F32]:
    def raise_it(_: F32) -> F32:
        raise error

    return raise_it


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("method", "n", "step"), [("read", 0, "of the prompt"), ("step", 0, "token 2 of"), ("step", 16, "token 18 of")]
)
def test_logits_that_are_not_finite_name_their_step(
    own_engine: Engine, monkeypatch: pytest.MonkeyPatch, bad: float, method: str, n: int, step: str
) -> None:
    def check() -> None:
        with monkeypatch.context() as patch:
            _fail_at(patch, method, n, lambda logits: np.full_like(logits, bad))
            with pytest.raises(NonFiniteError, match=step):
                answer(own_engine, ask(own_engine, "Something else"), options(24))

    same_everywhere(own_engine, check)


@pytest.mark.parametrize("method", ["read", "step"])
@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), MemoryExhausted),
        (RuntimeError("std::bad_alloc"), MemoryExhausted),
        (RuntimeError("Node exploded at /secret/path"), RuntimeFailure),
        (SystemExit(3), RuntimeFailure),
    ],
)
def test_engine_survives_whatever_a_run_raises(
    own_engine: Engine, monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException, wanted: type[EdgeError]
) -> None:
    def check() -> None:
        with monkeypatch.context() as patch:
            _fail_at(patch, method, 1, _raising(error))
            with pytest.raises(wanted) as caught:
                answer(own_engine, ask(own_engine, "Another", LONG), options(24))
            assert "/secret" not in str(caught.value)

    same_everywhere(own_engine, check)


def test_mate_of_a_failed_conversation_goes_on(own_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = answer(own_engine, ask(own_engine, "Steady"), options(30))
    slow(monkeypatch, 0.01)
    step = Decoder.step

    def spoil_two(self: Decoder, slots: Sequence[int], embeddings: F32, **named: object) -> F32:
        logits = step(self, slots, embeddings, **named)  # type: ignore[arg-type]
        if len(set(slots)) == 2:
            logits[1] = np.nan
        return logits

    steady = own_engine.stream(ask(own_engine, "Steady"), options(30))
    next(iter(steady))
    monkeypatch.setattr(Decoder, "step", spoil_two)
    failing = own_engine.stream(ask(own_engine, "Failing"), options(30))
    with pytest.raises(NonFiniteError):
        failing.result()
    assert steady.result() == wanted


def test_embeddings_that_are_not_finite_name_what_they_are_of(
    own_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = own_engine._worker.model.vision
    assert vision is not None
    session = vision.opening.session()

    class Spoilt:
        def run(self, *arguments: object) -> list[F32]:
            (embeddings,) = session.run(*arguments)
            embeddings[0, 0, 0] = np.nan
            return [embeddings]

    def check() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(vision.opening, "session", Spoilt)
            with pytest.raises(NonFiniteError, match="not finite at an image tile"):
                answer(own_engine, ask(own_engine, image(0)), options(1))

    same_everywhere(own_engine, check)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"frequency_penalty": 3.0}, "frequency_penalty"),
        ({"presence_penalty": -3.0}, "presence_penalty"),
        ({"stop": ("",)}, "stop"),
    ],
)
def test_options_out_of_range_are_refused_at_the_door(engine: Engine, change: dict[str, object], field: str) -> None:
    good = options().__dict__
    with pytest.raises(ParameterError) as caught:
        engine.stream(ask(engine, "Hi"), Options(**{**good, **change}))
    assert caught.value.field == field


def test_bad_pieces_are_refused_at_the_door(engine: Engine) -> None:
    with pytest.raises(TextError):
        engine.stream([Text("\ud800")], options())
    with pytest.raises(ParameterError):
        engine.stream([], options())
    with pytest.raises(ParameterError):
        engine.score(ask(engine, "Hi"), [])
    with pytest.raises(ParameterError):
        engine.score(ask(engine, "Hi"), [1 << 20])


def test_image_of_another_size_than_declared_is_an_error(own_engine: Engine) -> None:
    def check() -> None:
        prompt = ask(own_engine, image(0), "Hi")
        for piece in prompt:
            if hasattr(piece, "n_tokens"):
                object.__setattr__(piece, "n_tokens", 7)
        with pytest.raises(MediaError, match="7"):
            answer(own_engine, prompt, options())

    same_everywhere(own_engine, check)


@pytest.mark.parametrize("asked", [{"threads": 0}, {"context": 0}, {"context": 1 << 30}, {"slots": 0}])
def test_engine_is_not_opened_with_impossible_figures(int8_bundle: Path, asked: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match=next(iter(asked))):
        Engine.open(int8_bundle, **asked)


def test_what_is_no_bundle_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Engine.open(tmp_path)


# Closing


def test_closing_ends_every_answer(int8_bundle: Path) -> None:
    engine = Engine.open(int8_bundle, slots=2)
    handles = [engine.stream(ask(engine, LONG, str(n)), options(800)) for n in range(6)]
    next(iter(handles[0]))
    engine.close()
    engine.close()
    for handle in handles:
        with pytest.raises(EngineClosed):
            handle.result()
    for again in (
        lambda: engine.stream(ask(engine, "Hi"), options()),
        engine.stats,
        lambda: engine.score(ask(engine, "Hi"), [1]),
    ):
        with pytest.raises(EngineClosed):
            again()


def test_closing_is_no_failure(int8_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        with Engine.open(int8_bundle) as engine:
            next(iter(engine.stream(ask(engine, LONG), options(800))))
    assert not caplog.records


def test_closing_frees_sessions_and_cache(int8_bundle: Path) -> None:
    engine = Engine.open(int8_bundle)
    answer(engine, ask(engine, image(0), "Hi"), options(3))
    model = weakref.ref(engine._worker.model)
    cache, thread = weakref.ref(engine._worker.model.cache), engine._worker._thread
    engine.close()
    gc.collect()
    assert model() is None and cache() is None and not thread.is_alive()


def test_forgotten_engine_closes_itself(int8_bundle: Path) -> None:
    engine = Engine.open(int8_bundle)
    thread = engine._worker._thread
    answer(engine, ask(engine, "Hi"), options(3))
    del engine
    gc.collect()
    eventually(lambda: not thread.is_alive())


def test_handle_keeps_its_engine_open(int8_bundle: Path) -> None:
    def begin() -> tuple[Handle, threading.Thread]:
        engine = Engine.open(int8_bundle)
        return engine.stream(ask(engine, "Hi"), options(30)), engine._worker._thread

    handle, thread = begin()
    gc.collect()
    assert handle.result().output_tokens == 30
    del handle
    gc.collect()
    eventually(lambda: not thread.is_alive())


def test_closing_at_random_moments(int8_bundle: Path) -> None:
    rng = random.Random(1)
    for n in range(12):
        engine = Engine.open(int8_bundle, slots=2)
        handles = [engine.stream(ask(engine, image(n), LONG), options(300)) for _ in range(3)]
        time.sleep(rng.random() * 0.05)
        if n % 2:
            handles[0].cancel()
        engine.close()
        for handle in handles[1:]:
            with contextlib.suppress(EngineClosed):
                assert handle.result().finish_reason is not None


# Many at once


def test_many_threads_get_what_a_quiet_engine_gives(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, slots=3) as engine:
        requests = [
            (ask(engine, image(n % 2), LONG[: 60 * n]), options(6 + n, temperature=1.0, seed=n)) for n in range(6)
        ]
        quiet = [answer(engine, *request) for request in requests]
        wrong: list[Progress] = []

        def client(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(8):
                n = rng.randrange(6)
                handle = engine.stream(*requests[n])
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.01)
                    handle.cancel()
                got = handle.result()
                if not handle.cancelled and got != quiet[n]:
                    wrong.append(got)

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert not wrong
        worker = engine._worker
        eventually(lambda: not (worker._waiting or worker._reading or worker._running))
        assert not any(slot.busy for slot in worker.model.cache._slots)


def test_who_cancels_and_asks_anew_is_given_the_same_slot(own_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, prompt = own_engine._worker, ask(own_engine, LONG)
    slow(monkeypatch, 0.002)
    first = own_engine.stream(prompt, options(500))
    next(iter(first))
    seen = own_engine.stats().work.n_read
    again: list[Handle] = []

    def cancel_and_ask() -> None:  # between dropping what was cancelled and giving out slots
        if not again:
            first.cancel()
            again.append(own_engine.stream(prompt, options(2)))

    monkeypatch.setattr(worker, "_check", cancel_and_ask)
    eventually(lambda: bool(again))
    again[0].result()
    assert own_engine.stats().work.n_read - seen <= 1 + ALIGNED


def test_memory_of_a_tower_is_given_back_behind_the_last_tile(
    own_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shrunk = own_engine._worker.model, []
    monkeypatch.setattr("edge.engine.model.shrink", lambda _: shrunk.append(model.work.n_tiles))
    answer(own_engine, ask(own_engine, image(1), image(2), "What are they?"), options(2))
    assert model.work.n_tiles > 2 and shrunk == [model.work.n_tiles - 1]
