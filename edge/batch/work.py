"""The lines of a batch at work: what is asked is written as it is answered, until all is done or somebody stops it."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType
from typing import Protocol

from edge.batch.asker import Asker
from edge.batch.lines import LineError, Record, refused
from edge.batch.results import Results
from edge.batch.sources import Entry, Source
from edge.errors import ParameterError

_LEAVE_S = 5.0


@dataclass(frozen=True)
class Signalled:
    """Somebody wants the run to end. number: of the signal."""

    number: int


# What arrives: a line's record, what ends the run, a signal, or None once nothing more comes.
News = tuple[Entry, Record] | Exception | Signalled | None
Tell = Callable[[News], None]


class Work(Protocol):
    """What asks lines, somewhere, and tells what became of each."""

    def start(self, tell: Tell) -> None:
        """Begin; tell: called from other threads, at last with None."""

    def finish(self) -> bool:
        """Take no further line; return whether those that are being answered come to their end."""

    def close(self) -> None:
        """End at once, and give up what is held."""


class LocalWork:
    """Lines asked in this process, several at a time. n_threads: as many as are opened or answered at a time."""

    def __init__(self, entries: Sequence[Entry], source: Source, asker: Asker, *, n_threads: int) -> None:
        self._left = iter(entries)
        self._source = source
        self._asker = asker
        self._taking = threading.Lock()
        self._finishing = False
        self._n_running = n_threads
        self._threads: list[threading.Thread] = []

    def start(self, tell: Tell) -> None:
        """Begin, on threads of their own."""
        for i in range(self._n_running):
            thread = threading.Thread(target=self._work, args=(tell,), name=f"edge-batch-{i}", daemon=True)
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    def finish(self) -> bool:
        """Take no further line; those that are being answered come to their end."""
        self._finishing = True
        return True

    def close(self) -> None:
        """End what is being answered, and give the engine up."""
        self._finishing = True
        self._asker.close()
        for thread in self._threads:
            thread.join(_LEAVE_S)

    def _work(self, tell: Tell) -> None:
        while (entry := self._next()) is not None:
            try:
                tell((entry, self._record(entry)))
            except Exception as error:  # it ends the run, and is raised there
                self._finishing = True
                tell(error)
        with self._taking:
            self._n_running -= 1
            is_last = self._n_running == 0
        if is_last:
            tell(None)

    def _next(self) -> Entry | None:
        with self._taking:
            return None if self._finishing else next(self._left, None)

    def _record(self, entry: Entry) -> Record:
        try:
            data = self._source.read(entry)
        except LineError as error:
            return refused(error, entry.number)
        return self._asker.record(entry.number, data)


def run(
    work: Work,
    results: Results,
    *,
    on_record: Callable[[Record], None],
    on_signal: Callable[[], None],
) -> int | None:
    """Have all lines asked, and write what becomes of them; return the signal that ended it early, None at its end.

    on_record: told each record once it is written. on_signal: told that no further line is asked, and that those being
    answered are waited for; a second signal, or SIGTERM, gives them up.
    Raises: OSError, EdgeError: what was written stays.
    """
    queue: SimpleQueue[News] = SimpleQueue()
    ended: int | None = None
    with _signals(queue.put):
        work.start(queue.put)
        try:
            while (news := queue.get()) is not None:
                if isinstance(news, Exception):
                    raise news
                if isinstance(news, Signalled):
                    is_second, ended = ended is not None, news.number
                    if is_second or ended == signal.SIGTERM or not work.finish():
                        break
                    on_signal()
                    continue
                _write(results, *news)
                on_record(news[1])
        finally:
            work.close()
    return ended


def _write(results: Results, entry: Entry, record: Record) -> None:
    """Write a record. Raises: OSError; ParameterError where its line is not what it was when the run began."""
    if entry.id is not None and record.id != entry.id:
        raise ParameterError(f"line {entry.number} has changed since the run began: run it again", field="input")
    results.write(record)


@contextmanager
def _signals(tell: Tell) -> Iterator[None]:
    """Tell of SIGINT and SIGTERM in place of what they do, where they are not ignored."""

    def handle(number: int, _: FrameType | None) -> None:
        tell(Signalled(number))  # a SimpleQueue may be put to wherever the handler comes in between

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
