"""Lines at work: several at once, each written as it is answered, and an end in order."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.batch.asker import Asker
from edge.batch.lines import Record
from edge.batch.results import Results
from edge.batch.sources import Entry, Images, LinesFile, Source
from edge.batch.work import LocalWork, Tell, run
from edge.errors import ParameterError
from edge.limits import Limits
from tests.edge.batch.batches import SETTLED, asker, ids, line, write
from tests.edge.fake_engine import FakeEngine, manifest

LEAVES_S = 60.0


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(manifest())
    yield engine
    engine.close()


class Batch:
    """A batch of lines over a fake engine."""

    def __init__(self, folder: Path, engine: FakeEngine, n_lines: int) -> None:
        path = write(folder / "in.jsonl", *(line(f"r{i}") for i in range(n_lines)))
        self.source: Source = LinesFile(str(path), Limits())
        self.out = folder / "out.jsonl"
        self.errors = folder / "err.jsonl"
        self.asker: Asker = asker(engine)
        self.n_signals = 0
        self.seen: list[Record] = []

    def __call__(self, n_threads: int = 3, on_record: Callable[[Record], object] | None = None) -> int | None:
        with Results(self.out, self.errors) as results:
            todo = results.plan(self.source.entries(SETTLED), lambda entry: "", most=None, retry=False).todo
            return run(
                LocalWork(todo, self.source, self.asker, n_threads=n_threads),
                results,
                on_record=lambda record: self._written(record, on_record),
                on_signal=self._signalled,
            )

    def _written(self, record: Record, on_record: Callable[[Record], object] | None) -> None:
        self.seen.append(record)
        if on_record is not None:
            on_record(record)

    def _signalled(self) -> None:
        self.n_signals += 1


def test_every_line_is_answered_once(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 40)
    assert batch() is None
    assert sorted(map(str, ids(batch.out))) == sorted(f"r{i}" for i in range(40)) and len(engine.asked) == 40
    assert len(batch.seen) == 40 and not batch.errors.exists() and engine.closed


def test_as_many_lines_are_asked_at_a_time_as_there_are_threads(tmp_path: Path, engine: FakeEngine) -> None:
    engine.gate.clear()
    batch = Batch(tmp_path, engine, 9)
    stream = engine.stream
    full = threading.Event()

    def counted(*arguments: object) -> object:
        handle = stream(*arguments)  # type: ignore[arg-type]
        if len(engine.asked) == 3:
            full.set()
        return handle

    engine.stream = counted  # type: ignore[method-assign, assignment]
    opener = threading.Thread(target=lambda: (full.wait(LEAVES_S), counts.append(len(engine.asked)), engine.gate.set()))
    counts: list[int] = []
    opener.start()
    batch(n_threads=3)
    opener.join()
    assert counts == [3] and len(ids(batch.out)) == 9


def test_a_signal_waits_for_what_is_being_answered(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 50)
    ended = batch(n_threads=2, on_record=lambda _: len(batch.seen) == 3 and os.kill(os.getpid(), signal.SIGINT))
    assert ended == signal.SIGINT and batch.n_signals == 1
    assert len(ids(batch.out)) == len(engine.asked) < 50  # whatever was asked was written
    batch.asker = asker(FakeEngine(manifest()))
    assert batch() is None and len(ids(batch.out)) == len(set(ids(batch.out))) == 50


def test_a_second_signal_gives_up_what_is_being_answered(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 5)
    engine.n_free = 2  # every answer hangs after two words
    engine.gate.clear()
    begun = engine.stream
    n_asked = []

    def signalling(*arguments: object) -> object:
        handle = begun(*arguments)  # type: ignore[arg-type]
        n_asked.append(1)
        if len(n_asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return handle

    batch._signalled = lambda: os.kill(os.getpid(), signal.SIGINT)  # type: ignore[method-assign]
    engine.stream = signalling  # type: ignore[method-assign, assignment]
    assert batch(n_threads=2) == signal.SIGINT
    assert ids(batch.out) == [] and engine.closed and not batch.errors.exists()


def test_sigterm_ends_at_once(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 50)
    ended = batch(on_record=lambda _: len(batch.seen) == 1 and os.kill(os.getpid(), signal.SIGTERM))
    assert ended == signal.SIGTERM and batch.n_signals == 0 and len(ids(batch.out)) < 50


def test_handlers_of_signals_are_put_back(tmp_path: Path, engine: FakeEngine) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    Batch(tmp_path, engine, 1)()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class Changing(LinesFile):
    """Lines whose file is another one when the second of them is read."""

    def read(self, entry: Entry) -> bytes:
        if entry.number == 2:
            write(Path(self.path), *(line(f"r{i}", "How much?") for i in range(3)))
        return super().read(entry)


class Vanishing(LinesFile):
    """Lines whose file is gone when the second of them is read."""

    def read(self, entry: Entry) -> bytes:
        if entry.number == 2:
            Path(self.path).unlink()
        return super().read(entry)


def test_a_line_that_changes_during_the_run_ends_it(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 3)
    batch.source = Changing(str(tmp_path / "in.jsonl"), Limits())
    with pytest.raises(ParameterError, match="has changed since the run began"):
        batch(n_threads=1)
    assert ids(batch.out) == ["r0"]


def test_an_input_that_goes_away_ends_the_run(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 3)
    batch.source = Vanishing(str(tmp_path / "in.jsonl"), Limits())
    with pytest.raises(FileNotFoundError):
        batch(n_threads=1)
    assert ids(batch.out) == ["r0"]


def test_a_failure_of_the_files_ends_the_run(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 30)
    with pytest.raises(OSError, match="No such file"):
        batch(on_record=lambda _: len(batch.seen) == 2 and batch.out.unlink())
    assert engine.closed


def test_a_file_that_cannot_be_read_is_a_failure(tmp_path: Path, engine: FakeEngine) -> None:
    batch = Batch(tmp_path, engine, 0)
    batch.source = Images(("gone.png",), str(tmp_path), "What?")
    assert batch() is None
    assert ids(batch.errors) == ["gone.png"] and not engine.asked


def test_work_that_ends_early_is_told_of_by_its_error(tmp_path: Path) -> None:
    class Failing:
        closed = False

        def start(self, tell: Tell) -> None:
            tell(MemoryError("no more"))

        def finish(self) -> bool:
            return False

        def close(self) -> None:
            self.closed = True

    work = Failing()
    with Results(tmp_path / "out", tmp_path / "err") as results, pytest.raises(MemoryError):
        run(work, results, on_record=lambda _: None, on_signal=lambda: None)
    assert work.closed


def test_entries_are_small(tmp_path: Path) -> None:
    """A line waits for its turn as its place in the file."""
    path = write(tmp_path / "in.jsonl", line("a", "x" * 100_000))
    (entry,) = LinesFile(str(path), Limits()).entries(SETTLED)
    assert isinstance(entry, Entry) and len(repr(entry)) < 1000
