"""Guesses: what is guessed, when it pays, and that no answer is another one for it."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.engine.answer import Options
from edge.engine.decoder import Decoder
from edge.engine.drafting import ROWS, Draft, Drafting, Pace
from edge.engine.engine import Engine
from edge.engine.grammar.format import schema_format
from edge.engine.model import Model
from edge.errors import ParameterError
from tests.edge.asking import LONG, answer, ask, eventually, image, options, slow

SCHEMA = {"type": "array", "items": {"enum": ["red green blue", "no"]}, "minItems": 3, "maxItems": 3}
PHRASE = [11, 12, 13, 14, 15, 16, 17, 18]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every guess that can be made is made, whatever the steps of this machine take."""
    monkeypatch.setattr(Pace, "best", lambda _self, n_guesses, _right: max(n for n in (1, *ROWS) if n <= 1 + n_guesses))


def begun(prompt: list[object], answered: list[int]) -> Draft:
    draft = Drafting().begin(prompt)  # type: ignore[arg-type]
    for token in answered:
        draft.took(token)
    return draft


# What is guessed


@pytest.mark.usefixtures("eager")
def test_what_followed_the_last_time_is_guessed() -> None:
    assert begun([*PHRASE, 5, 6], PHRASE[:4]).guess(15) == [15, 16, 17, 18, 5, 6, 11]  # a step of eight rows
    assert begun([*PHRASE, 5, 6], PHRASE[:4]).guess(4) == [15, 16, 17]
    assert begun([5, 6], [*PHRASE, 7, *PHRASE[:4]]).guess(3) == [15, 16, 17]


@pytest.mark.usefixtures("eager")
def test_the_newest_place_and_the_longest_match_win() -> None:
    assert begun([1, 2, 3, 1, 2, 4], [1, 2]).guess(1) == [4]
    assert begun([9, 8, 1, 2, 3, 7, 7, 1, 2, 4], [9, 8, 1, 2]).guess(1) == [3]


@pytest.mark.usefixtures("eager")
def test_where_nothing_was_said_before_nothing_is_guessed() -> None:
    assert begun([1, 2, 3], [4, 5]).guess(15) == []
    assert begun([], []).guess(15) == []
    assert begun([*PHRASE], PHRASE[:4]).guess(0) == []


@pytest.mark.usefixtures("eager")
def test_rows_of_media_are_neither_guessed_nor_bridged() -> None:
    prompt = [1, 2, 3, 4, ("image", 0), ("image", 1), 5, 6]
    assert begun(prompt, [1, 2]).guess(15) == [3]  # a step has an even number of rows
    assert begun(prompt, [3, 4]).guess(15) == []


@pytest.mark.usefixtures("eager")
def test_earlier_answers_are_guessed_again() -> None:
    drafting = Drafting()
    first = drafting.begin([1, 2])
    for token in PHRASE:
        first.took(token)
    first.end()
    second = drafting.begin([3])
    for token in PHRASE[:4]:
        second.took(token)
    assert second.guess(3) == PHRASE[4:7]
    for _ in range(2000):
        drafting.remember(range(20, 30))
    assert len(drafting.begin([])._ids) < 10_000


# When it pays


def paced(seconds: dict[int, float]) -> Pace:
    pace = Pace()
    for n_rows, each in seconds.items():
        pace.took(n_rows, 100.0)  # the first binds memory
        pace.took(n_rows, each)
    return pace


@pytest.mark.parametrize(
    ("seconds", "right", "rows"),
    [
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.8, 16: 2.5}, 1.0, 16),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.8, 16: 2.5}, 0.6, 4),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.8, 16: 2.5}, 0.05, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 16.0}, 0.99, 1),
        ({}, 0.9, 8),
    ],
)
def test_the_most_tokens_a_second_are_chosen(seconds: dict[int, float], right: float, rows: int) -> None:
    assert paced(seconds).best(15, right) == rows


def test_no_more_rows_than_can_be_guessed() -> None:
    pace = paced({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0, 16: 1.0})
    assert [pace.best(n, 1.0) for n in (0, 1, 2, 3, 7, 15)] == [1, 2, 2, 4, 8, 16]


def test_wrong_guesses_end_and_are_tried_again_after_a_while() -> None:
    drafting = Drafting()
    drafting.pace = paced({1: 1.0, 2: 1.3, 4: 1.6, 8: 2.2, 16: 3.5})
    draft = drafting.begin([*PHRASE, 5, 6])
    for token in PHRASE[:4]:
        draft.took(token)
    n_guessed = 0
    while guesses := draft.guess(15):
        draft.checked(len(guesses), 0)
        n_guessed += 1
    assert 1 <= n_guessed < 20
    n_waited = 0
    while not draft.guess(15):
        n_waited += 1
    assert 1 <= n_waited < 1000


# Answers


@pytest.fixture(params=["int8_bundle", "int4_bundle", "text_bundle"])
def bundle(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def asked(engine: Engine) -> Iterator[tuple[object, Options]]:
    """Questions of every kind, and how to answer them."""
    prompt = ask(engine, LONG[:300], "Again: " + LONG[:300])
    yield prompt, options(60)
    for seed in range(6):
        yield prompt, replace(options(60, temperature=1.0), seed=seed)
    yield prompt, replace(options(60, temperature=0.7), seed=3, frequency_penalty=0.5, top_logprobs=3)
    yield prompt, replace(options(60, temperature=1.0), seed=4, stop=("e",))
    yield prompt, replace(options(40, temperature=1.0), seed=5, form=schema_format(SCHEMA, field="response_format"))
    yield ask(engine, "Hi"), options(500)


@pytest.mark.usefixtures("eager")
def test_answers_are_the_same_with_guesses_and_without(bundle: Path) -> None:
    with Engine.open(bundle, draft=False, slots=2, context=600) as plain:
        wanted = [answer(plain, prompt, how) for prompt, how in asked(plain)]
    with Engine.open(bundle, slots=2, context=600) as guessing:
        for _ in range(2):  # the second time what was answered is guessed
            assert [answer(guessing, prompt, how) for prompt, how in asked(guessing)] == wanted
        work = guessing.stats().work
    assert work.n_accepted > 50 and work.n_drafted > work.n_accepted


def test_wrong_guesses_change_nothing(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    with Engine.open(int8_bundle, draft=False) as plain:
        prompt, how = ask(plain, image(2), LONG), options(80, temperature=1.0)
        wanted = answer(plain, prompt, how)
    guess = lambda _self, n_most: [rng.randrange(400) for _ in range(min(n_most, rng.choice(ROWS) - 1))]  # noqa: E731
    monkeypatch.setattr(Draft, "guess", guess)
    with Engine.open(int8_bundle) as guessing:
        assert answer(guessing, prompt, how) == wanted
        assert answer(guessing, prompt, how) == wanted


@pytest.mark.usefixtures("eager")
def test_an_answer_that_fills_the_context_is_the_same(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, draft=False, context=256) as plain:
        prompt, how = ask(plain, LONG[:80]), replace(options(1000, temperature=1.0), seed=1)
        wanted = answer(plain, prompt, how)
    with Engine.open(int8_bundle, context=256) as guessing:
        assert [answer(guessing, prompt, how) for _ in range(3)] == [wanted] * 3


@pytest.mark.usefixtures("eager")
def test_cancelling_amid_guesses_leaves_the_next_answer_unharmed(int8_bundle: Path) -> None:
    rng = random.Random(0)
    with Engine.open(int8_bundle) as engine:
        prompt, how = ask(engine, LONG[:300]), replace(options(60, temperature=1.0), seed=1)
        wanted = answer(engine, prompt, how)
        for _ in range(40):
            handle = engine.stream(prompt, how)
            for _ in range(rng.randrange(1, 6)):
                next(iter(handle), None)
            handle.cancel()
            assert answer(engine, prompt, how) == wanted
        eventually(lambda: not any(slot.busy for slot in engine._worker.model.cache._slots))


def test_where_rows_together_give_other_bits_nothing_is_guessed(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.open(int8_bundle, draft=False) as plain:
        prompt, how = ask(plain, LONG[:300]), replace(options(60, temperature=1.0), seed=1)
        wanted = answer(plain, prompt, how)
    feed = Decoder._feed

    def off(self: Decoder, slots: list[int], *others: object) -> object:
        logits = feed(self, slots, *others)  # type: ignore[arg-type]
        return logits + 0.25 if len(slots) == 4 else logits

    monkeypatch.setattr(Decoder, "_feed", off)
    monkeypatch.setattr(Draft, "guess", lambda _self, _n_most: [1, 2, 3])
    with Engine.open(int8_bundle) as engine:
        assert [answer(engine, prompt, how) for _ in range(3)] == [wanted] * 3
        work = engine.stats().work
        assert not engine._worker.model.can_verify
        answer(engine, prompt, how)
        assert engine.stats().work.n_drafted == work.n_drafted


def test_two_at_a_time_are_not_guessed(own_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 0.002)
    n_rows: list[int] = []
    verify = Model.verify
    monkeypatch.setattr(Draft, "guess", lambda _self, _n_most: [1])

    def counted(self: Model, slot: int, tokens: list[int]) -> object:
        n_rows.append(len(own_engine._worker._running))
        return verify(self, slot, tokens)

    monkeypatch.setattr(Model, "verify", counted)
    handles = [own_engine.stream(ask(own_engine, text), options(40)) for text in ("One", "Two")]
    for handle in handles:
        handle.result()
    assert set(n_rows) <= {1}


def test_the_environment_switches_guesses_off(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_DRAFT", "off")
    with Engine.open(int8_bundle) as engine:
        answer(engine, ask(engine, LONG[:300], "Again: " + LONG[:300]), options(60))
        assert engine.stats().work.n_drafted == 0
    monkeypatch.setenv("EDGE_DRAFT", "no")
    with pytest.raises(ParameterError, match="EDGE_DRAFT is 'no': expected on or off"):
        Engine.open(int8_bundle)
