"""Cancelling at any moment: the work stops within one unit, and no other answer is another one for it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge.engine.layout
from edge.engine.engine import Engine, Handle
from tests.edge.asking import LONG, answer, ask, eventually, image, options
from tests.edge.devices.units import Units

N_MOMENTS = 200
CHUNK = 32  # so that a prompt has many


@pytest.fixture
def crowded(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(edge.engine.layout, "MAX_CHUNK", CHUNK)
    with Engine.open(int8_bundle, slots=2, threads=1, draft=False) as engine:  # units are counted
        yield engine


def idle(engine: Engine) -> bool:
    worker = engine._worker
    return not (worker._reading or worker._running or worker._waiting)


@pytest.mark.parametrize("has_mate", [False, True])
def test_at_two_hundred_moments(crowded: Engine, monkeypatch: pytest.MonkeyPatch, has_mate: bool) -> None:
    engine, units, rng = crowded, Units(monkeypatch), random.Random(has_mate)
    long, short = ask(engine, image(0), LONG), ask(engine, LONG[:200], "And?")
    how = options(12, temperature=1.0, seed=5)
    units.arm(0, lambda: None, is_before=True)
    quiet = answer(engine, long, how)
    n_units = units.disarm()
    quiet_short = answer(engine, short, how)
    assert n_units > 5 + len(LONG) // CHUNK // 4 + 5  # tiles, chunks, tokens
    for moment in range(N_MOMENTS // 2):
        engine._worker.call(lambda model: model.forget())  # what was read before would leave no prompt to stop in
        handles: list[Handle] = []
        at = rng.randint(1, n_units)
        units.arm(at, lambda: handles[0].cancel(), is_before=rng.random() < 0.5)  # noqa: B023
        engine._worker.call(lambda _: handles.append(engine.stream(long, how)))  # noqa: B023
        mate = engine.stream(short, how) if has_mate else None
        last = handles[0].result()
        if mate is None:
            eventually(lambda: idle(engine))
            # The unit in which it was cancelled, begun or not, is the last one.
            assert units.disarm() == at
            assert last.finish_reason is None and handles[0].cancelled
            assert engine.stats().cache_used_bytes <= at * CHUNK * engine.manifest.memory.cache_bytes_per_token
        else:
            assert mate.result() == quiet_short
        units.disarm()
        assert answer(engine, *((long, how) if moment % 2 else (short, how))) == (quiet if moment % 2 else quiet_short)
    assert answer(engine, long, how) == quiet
    assert not any(slot.busy for slot in engine._worker.model.cache._slots)
