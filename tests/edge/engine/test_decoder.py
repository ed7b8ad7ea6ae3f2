"""The decoder: a row's logits are the same bits alone, among others, and among guesses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.engine.decoder import Decoder
from edge.engine.drafting import ROWS
from edge.engine.engine import Engine
from edge.engine.model import Model
from edge.engine.pages import Pages
from edge.errors import MemoryExhausted
from tests.edge.asking import answer, ask, options

F32 = npt.NDArray[np.float32]


@pytest.fixture(params=["int8_bundle", "int4_bundle", "fp32_bundle"])
def bundle(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def read(model: Model, slot: int, n: int) -> None:
    """Read n rows into a slot."""
    rows = model._embedding.rows([(7 * slot + row) % 200 for row in range(n)])
    with model.runs.options(None) as how:
        model._decoder.read(slot, rows, n_logits=1, options=how)
    model.cache.trim(slot, 0)
    model.cache.wrote(slot, [*range(n)])


def one_by_one(model: Model, slot: int, tokens: Sequence[int]) -> list[F32]:
    before = model.cache.length(slot)
    logits = [model.step([slot], [token])[0].copy() for token in tokens]
    model.cache.trim(slot, before)
    return logits


def test_rows_of_one_conversation_are_what_steps_give(bundle: Path) -> None:
    tokens = [3 * n + 1 for n in range(max(ROWS))]

    def check(model: Model) -> None:
        read(model, 1, 37)
        wanted = one_by_one(model, 1, tokens)
        for _, part in model.cache.rows([1]).parts:
            part[:, :, 37:] = np.nan  # what steps wrote before must not be read
        for n in ROWS:
            logits = model.verify(1, tokens[:n])
            assert len(logits) == n and all(np.array_equal(a, b) for a, b in zip(logits, wanted, strict=False)), n
            assert model.cache.length(1) == 37
        assert model.can_verify

    with Engine.open(bundle, slots=3, context=128) as engine:
        engine._worker.call(check)


def test_any_conversations_in_any_order_are_what_each_gives_alone(bundle: Path) -> None:
    def check(model: Model) -> None:
        for slot, n in enumerate((20, 33, 5)):
            read(model, slot, n)
        wanted = {slot: one_by_one(model, slot, [50 + slot])[0] for slot in range(3)}
        for slots in ([0], [2], [0, 2], [2, 0], [1, 2], [2, 1, 0], [0, 1, 2]):
            logits = model.step(slots, [50 + slot for slot in slots])
            assert all(np.array_equal(row, wanted[slot]) for row, slot in zip(logits, slots, strict=True)), slots
            for slot in slots:
                model.cache.trim(slot, model.cache.length(slot) - 1)

    with Engine.open(bundle, slots=3, context=128) as engine:
        engine._worker.call(check)


def test_without_addresses_left_the_same_is_answered_row_by_row(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(model: Model) -> None:
        for slot in (0, 2):
            read(model, slot, 20 + slot)
        wanted = [one_by_one(model, slot, [50 + slot])[0] for slot in (0, 2)]
        monkeypatch.setattr(Pages, "arranged", full)
        assert np.array_equal(model.step([0, 2], [50, 52]), wanted)
        model.cache.trim(0, 20)
        (alone,) = model.verify(0, [50, 1, 2, 3])
        assert np.array_equal(alone, wanted[0])
        assert not model.can_verify

    def full(_self: Pages, _pieces: Sequence[int]) -> npt.NDArray[np.uint8]:
        raise MemoryExhausted("no room for 1 bytes of addresses")

    with Engine.open(int8_bundle, slots=3, context=128) as engine:
        engine._worker.call(check)


def test_no_rows_are_fed_in_vain(own_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    run = Decoder._feed

    def counted(self: Decoder, slots: Sequence[int], *others: object) -> object:
        fed.append(len(self._step(tuple(slots)).slots))
        return run(self, slots, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "_differs_alone", lambda *_: False)
    monkeypatch.setattr(Decoder, "_feed", counted)
    own_engine._worker.call(lambda model: model.step([1], [5]))
    assert fed == [1]


def test_rows_that_differ_alone_are_fed_in_pairs(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.open(int8_bundle, slots=3) as engine:
        wanted = answer(engine, ask(engine, "Tell me"), options(20))
    run, fed = Decoder._feed, []

    def off(self: Decoder, slots: Sequence[int], *others: object) -> F32:
        fed.append(len(slots))
        logits: F32 = run(self, slots, *others)  # type: ignore[arg-type]
        return logits + 1e-6 * (len(slots) % 2)

    monkeypatch.setattr(Decoder, "_feed", off)
    with Engine.open(int8_bundle, slots=3, draft=False) as engine:
        assert answer(engine, ask(engine, "Tell me"), options(20)) == wanted
    assert fed[0] == 1 and {n % 2 for n in fed[1:]} == {0}
