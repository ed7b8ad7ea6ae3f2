"""Engine.generate: the decode loop with ids, its slot, and its end."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.engine.answer import Answer
from edge.engine.cache import Cache
from edge.engine.engine import Engine
from edge.engine.model import Model
from edge.engine.pieces import Control, Piece, Text
from edge.engine.sampling import make_sampler
from edge.errors import ContextLengthError, EngineClosed, NonFiniteError, ParameterError
from tests.edge.asking import F32, LONG, answer, ask, image, options


def closed(tokens: Iterator[int]) -> None:
    """Close a generator of ids."""
    close: Callable[[], None] = tokens.close  # type: ignore[attr-defined]
    close()


def ids_of(engine: Engine, prompt: list[Piece]) -> list[int]:
    """The ids of a prompt without media."""
    found: list[int] = []
    for piece in prompt:
        assert isinstance(piece, Text | Control)
        found += engine.tokenizer.encode(piece.text) if isinstance(piece, Text) else piece.ids
    return found


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 24])
def test_ids_are_those_of_a_stream(engine: Engine, n: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    take = Answer.take

    def noted(answer: Answer, logits: F32, *, n_free: int) -> bool:
        goes_on = take(answer, logits, n_free=n_free)
        chosen.append(answer.token)
        return goes_on

    monkeypatch.setattr(Answer, "take", noted)
    prompt, how = ask(engine, LONG, image(0)), options(n, temperature)
    count = answer(engine, prompt, how).output_tokens
    sample = make_sampler(
        temperature=temperature,
        top_p=how.top_p,
        top_k=how.top_k,
        frequency_penalty=0,
        presence_penalty=0,
        seed=how.seed,
    )
    ends = engine.manifest.prompt.stop_ids
    assert len(chosen) == count
    wanted = [token for token in chosen if token not in ends]
    assert list(engine.generate(prompt, max_tokens=n, sample=sample)) == wanted
    if not temperature:
        assert list(engine.generate(prompt, max_tokens=n)) == wanted


def test_ids_and_pieces_of_one_prompt_are_the_same(engine: Engine) -> None:
    prompt = ask(engine, LONG)
    by_pieces = list(engine.generate(prompt, max_tokens=12))
    assert list(engine.generate(ids_of(engine, prompt), max_tokens=12)) == by_pieces
    assert list(engine.generate(np.array(ids_of(engine, prompt)).tolist(), max_tokens=12)) == by_pieces


def test_a_sampler_of_the_callers_chooses(engine: Engine) -> None:
    shapes: list[tuple[int, ...]] = []

    def second(logits: F32) -> int:
        shapes.append(logits.shape)
        return int(np.argsort(logits)[-2])

    given = list(engine.generate(ask(engine, "Hi"), max_tokens=3, sample=second, stop_ids=()))
    assert shapes == [(engine.manifest.text.vocab_size,)] * 3
    assert given[0] != next(engine.generate(ask(engine, "Hi"), max_tokens=1, stop_ids=()))


def test_a_stop_id_ends_it_and_is_not_among_the_ids(engine: Engine) -> None:
    ids = list(engine.generate(ask(engine, "Hi"), max_tokens=8, stop_ids=()))
    assert len(ids) == 8
    end = ids[5]
    assert list(engine.generate(ask(engine, "Hi"), max_tokens=8, stop_ids={end})) == ids[: ids.index(end)]


def test_a_full_context_ends_it(fp32_bundle: Path) -> None:
    with Engine.open(fp32_bundle, context=64) as engine:
        n_read = len(ids_of(engine, ask(engine, "Hi")))
        assert len(list(engine.generate(ask(engine, "Hi"), max_tokens=500, stop_ids=()))) == 64 - n_read + 1


def test_between_ids_others_are_served(fp32_bundle: Path) -> None:
    with Engine.open(fp32_bundle, slots=2) as engine:
        alone = list(engine.generate(ask(engine, "Hi"), max_tokens=6, stop_ids=()))
        other = answer(engine, ask(engine, LONG), options(8))
        shared = []
        for token in engine.generate(ask(engine, "Hi"), max_tokens=6, stop_ids=()):
            shared.append(token)
            assert answer(engine, ask(engine, LONG), options(8)) == other
        assert shared == alone


@pytest.mark.parametrize("n_taken", [0, 1, 3])
def test_closing_it_releases_the_slot(fp32_bundle: Path, n_taken: int) -> None:
    with Engine.open(fp32_bundle, slots=1) as engine:
        wanted = answer(engine, ask(engine, LONG), options(8))
        tokens = engine.generate(ask(engine, "Hi"), max_tokens=100, stop_ids=())
        for _ in range(n_taken):
            next(tokens)
        waiting = engine.stream(ask(engine, LONG), options(8))
        closed(tokens)
        assert waiting.result() == wanted


def test_forgetting_it_releases_the_slot(fp32_bundle: Path) -> None:
    with Engine.open(fp32_bundle, slots=1) as engine:
        next(engine.generate(ask(engine, "Hi"), max_tokens=100, stop_ids=()))
        assert answer(engine, ask(engine, LONG), options(8)).output_tokens == 8


def test_while_it_holds_the_only_slot_a_cancelled_request_is_let_go(fp32_bundle: Path) -> None:
    with Engine.open(fp32_bundle, slots=1) as engine:
        tokens = engine.generate(ask(engine, "Hi"), max_tokens=100, stop_ids=())
        first = next(tokens)
        waiting = engine.stream(ask(engine, LONG), options(8))
        waiting.cancel()
        next(tokens)
        assert not engine._worker._waiting
        closed(tokens)
        assert next(engine.generate(ask(engine, "Hi"), max_tokens=1, stop_ids=())) == first


def test_a_closed_engine_ends_it(fp32_bundle: Path) -> None:
    engine = Engine.open(fp32_bundle)
    tokens = engine.generate(ask(engine, "Hi"), max_tokens=100, stop_ids=())
    next(tokens)
    engine.close()
    with pytest.raises(EngineClosed):
        next(tokens)
    closed(tokens)
    with pytest.raises(EngineClosed):
        next(engine.generate([5, 6], max_tokens=1))


def test_a_failure_is_raised_and_the_engine_serves_on(own_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = list(own_engine.generate(ask(own_engine, LONG), max_tokens=4, stop_ids=()))
    step = Model.step

    def broken(model: Model, slots: list[int], tokens: list[int]) -> F32:
        return np.asarray(step(model, slots, tokens) * math.nan, np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "step", broken)
        with pytest.raises(NonFiniteError, match="token 2 of the answer"):
            list(own_engine.generate(ask(own_engine, LONG), max_tokens=4, stop_ids=()))
    cache: Cache = own_engine._worker.model.cache
    assert cache.has_free_slot() and not cache.used_bytes
    assert list(own_engine.generate(ask(own_engine, LONG), max_tokens=4, stop_ids=())) == wanted


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "field"),
    [([], 1, "messages"), ([-1], 1, "prompt"), ([10**9], 1, "prompt"), ([5], 0, "max_tokens")],
)
def test_what_cannot_be_read_is_refused_before_anything_runs(
    engine: Engine, prompt: list[int], max_tokens: int, field: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        engine.generate(prompt, max_tokens=max_tokens)
    assert caught.value.field == field


def test_ids_beside_pieces_or_bare_text_are_refused(engine: Engine) -> None:
    for prompt in ([5, Text("Hi")], "Hi", ["Hi"]):
        with pytest.raises(ParameterError, match="token ids alone, or pieces alone"):
            engine.generate(prompt, max_tokens=1)  # type: ignore[arg-type]


def test_too_long_a_prompt_says_both_counts(fp32_bundle: Path) -> None:
    with Engine.open(fp32_bundle, context=16) as engine, pytest.raises(ContextLengthError, match=r"17.*16"):
        engine.generate([5] * 17, max_tokens=1)
