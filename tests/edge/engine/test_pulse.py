"""A pulse: finished units and processor time are life; who rests is not stalled; who only waits is."""

import threading
from pathlib import Path

import pytest

from edge.engine import pulse
from edge.engine.decoder import Decoder
from edge.engine.engine import Engine
from edge.engine.pulse import Pulse
from edge.models import Models
from tests.edge.asking import ask, eventually, options


class Thread:
    """A thread that works, by its clock and its processor time."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.spent_s = 0.0
        self.pulse = Pulse(spent=lambda: self.spent_s, clock=lambda: self.now_s)

    def passes(self, seconds: float, *, computing: float = 0.0) -> float:
        self.now_s += seconds
        self.spent_s += computing
        return self.pulse.stalled_s()


@pytest.fixture
def thread() -> Thread:
    return Thread()


def test_who_has_nothing_to_do_is_not_stalled(thread: Thread) -> None:
    assert thread.passes(1000) == 0.0
    thread.pulse.began()
    assert thread.passes(1) == 0.0
    assert thread.passes(50) == 50.0
    thread.pulse.rests()
    assert thread.passes(1000) == 0.0


def test_a_unit_that_only_waits_is_stalled_since_the_last_look_at_which_it_moved(thread: Thread) -> None:
    thread.pulse.began()
    assert [thread.passes(10, computing=9), thread.passes(10, computing=9)] == [0.0, 0.0]
    assert [thread.passes(10), thread.passes(10), thread.passes(10)] == [10.0, 20.0, 30.0]
    assert thread.passes(10, computing=0.5) == 0.0


def test_each_unit_that_is_finished_is_life(thread: Thread) -> None:
    for _ in range(5):
        thread.pulse.began()
        assert thread.passes(40) == 0.0
    assert thread.passes(40) == 40.0


def test_a_unit_that_computes_for_minutes_is_alive(thread: Thread) -> None:
    thread.pulse.began()
    assert [thread.passes(60, computing=60) for _ in range(20)] == [0.0] * 20


def test_a_unit_that_computes_without_end_is_stalled(thread: Thread) -> None:
    thread.pulse.began()
    found = [thread.passes(60, computing=60) for _ in range(60)]
    assert found[:30] == [0.0] * 30 and found[-1] > 60
    assert found[-1] == pytest.approx(60 * 60 - 1800, abs=120)
    thread.pulse.began()
    assert thread.passes(60) == 0.0


def test_a_unit_that_began_while_nobody_looked_is_not_stalled_since_before(thread: Thread) -> None:
    thread.pulse.began()
    thread.passes(10)
    thread.pulse.rests()
    thread.now_s += 500
    thread.pulse.began()
    assert thread.pulse.stalled_s() == 0.0


def test_processor_time_is_that_of_the_thread_alone() -> None:
    idle, over, ids = threading.Event(), threading.Event(), []

    def rest() -> None:
        ids.append(threading.get_native_id())
        idle.set()
        over.wait()

    resting = threading.Thread(target=rest)
    resting.start()
    idle.wait()
    before, own = pulse.spent_s(ids[0]), pulse.spent_s(threading.get_native_id())
    while pulse.spent_s(threading.get_native_id()) < own + 0.2:
        pass
    assert pulse.spent_s(ids[0]) < before + 0.1
    over.set()
    resting.join()


@pytest.mark.parametrize("thread_id", [0, -1, 1 << 30])
def test_of_a_thread_that_there_is_not_nothing_is_known(thread_id: int) -> None:
    assert pulse.spent_s(thread_id) == 0.0


def test_an_engine_whose_step_hangs_is_stalled_and_recovers(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, step = threading.Event(), Decoder.step

    def hang(*arguments: object, **named: object) -> object:
        hangs.wait()
        return step(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "step", hang)
    models = Models(model=int8_bundle, aliases={}, threads=1, context=None)
    engine: Engine = models.engine(models.ids()[0])
    assert models.stalled_s() == 0.0
    handle = engine.stream(ask(engine, "How many?"), options(4))
    eventually(lambda: models.stalled_s() > 0.05)
    hangs.set()
    handle.result()
    eventually(lambda: models.stalled_s() == 0.0)
    models.close()
    assert engine.stalled_s() == 0.0


def test_a_worker_whose_thread_died_is_stalled_for_ever(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.open(int8_bundle) as engine:
        worker = engine._worker
        monkeypatch.setattr(worker, "_thread", threading.Thread())
        assert engine.stalled_s() == float("inf")
        monkeypatch.undo()
        assert engine.stalled_s() == 0.0
