"""What a batch has written is all that a run remembers of those before it: which lines are done, and which failed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.batch.lines import LineError, Record, refused
from edge.batch.record_file import RecordFile, rewrite
from edge.batch.sources import Entry
from edge.errors import ParameterError

Identify = Callable[[Entry], str]


@dataclass(frozen=True)
class Plan:
    """What is left to do. n_lines: of the source; n_answered, n_failed: of those, before this run.

    n_refused: of those, what cannot be asked; n_others: answers to no line of the source, which stay.
    """

    todo: tuple[Entry, ...]
    n_lines: int
    n_answered: int
    n_failed: int
    n_refused: int
    n_others: int


class Results:
    """The two files of a batch: answers, which are only ever added, and failures, of which the last counts.

    errors: is there only while a line has failed. Raises: as RecordFile; ParameterError where another run has them.
    """

    def __init__(self, output: Path, errors: Path) -> None:
        self.output, self.errors = output, errors
        self._answers = RecordFile(output)
        self._failures: RecordFile | None = None
        self._answered: dict[str, str] = {}  # the id by the custom_id
        self._failed: dict[str, Record] = {}  # by the custom_id, of what was not asked by the id
        self._changed = False  # whether the file of failures has more than these
        try:
            self._answers.lock()
            self._load()
        except BaseException:
            self._answers.close()
            raise

    @property
    def torn(self) -> bool:
        """Whether a kill had left a torn line, which is cut away: it is asked again."""
        return self._answers.torn

    def plan(self, entries: Iterable[Entry], identify: Identify, *, most: int | None, retry: bool) -> Plan:
        """Settle what is asked, and write what cannot be.

        identify: the id of a line that has none yet. most: lines from the first on, None for all. retry: ask what
        failed again. Raises: ParameterError where a line's answer is one to another question; OSError.
        """
        planner = _Planner(self._answered, self._failed, identify, most, retry)
        for entry in entries:
            planner.take(entry)
        if planner.changed:
            raise ParameterError(_otherwise(self.output, planner.changed), field="output")
        n_others = len(self._answered.keys() - planner.seen)
        kept = {key: record for key, record in self._failed.items() if record.is_asked and key not in planner.dropped}
        self._failed = {**kept, **planner.refused}
        self._rewrite()
        counts = planner.n_lines, planner.n_answered, planner.n_failed, len(planner.refused)
        return Plan(tuple(planner.todo), *counts, n_others)

    def write(self, record: Record) -> None:
        """Write what a line was answered, or why it failed. Raises: OSError."""
        key = record.custom_id if record.is_asked and record.custom_id is not None else record.id
        if record.is_answer:
            self._answers.append(record.data)
            self._answered[key] = record.id
            self._changed |= self._failed.pop(key, None) is not None
            return
        self._changed |= key in self._failed
        self._failures = self._failures or RecordFile(self.errors)
        self._failures.append(record.data)
        self._failed[key] = record

    def close(self) -> None:
        """Have everything on disk, and give the files up. Raises: OSError."""
        try:
            self._answers.sync()
            if self._failures is not None:
                self._failures.sync()
            if self._changed:
                self._rewrite()
        finally:
            self._answers.close()
            if self._failures is not None:
                self._failures.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self) -> None:
        self._answered = {r.custom_id: r.id for r in self._answers.records() if r.custom_id is not None}
        if not self.errors.exists():
            return
        failures = RecordFile(self.errors)
        try:
            for record in failures.records():
                key = record.custom_id if record.is_asked and record.custom_id is not None else record.id
                self._failed[key] = record
        finally:
            failures.close()

    def _rewrite(self) -> None:
        rewrite(self.errors, (record.data for record in self._failed.values()))
        self._changed = False


class _Planner:
    """Goes over the lines of a source, once."""

    def __init__(
        self, answered: dict[str, str], failed: dict[str, Record], identify: Identify, most: int | None, retry: bool
    ) -> None:
        self._answered, self._failed = answered, failed
        self._identify = identify
        self._most, self._retry = most, retry
        self.todo: list[Entry] = []
        self.refused: dict[str, Record] = {}
        self.seen: set[str] = set()
        self.changed: list[str] = []  # what was answered and is another question now
        self.dropped: set[str] = set()  # failures that are none any more
        self.n_lines = self.n_answered = self.n_failed = 0

    def take(self, entry: Entry) -> None:
        """Settle what becomes of a line."""
        custom_id = entry.custom_id
        is_wanted = self._most is None or self.n_lines < self._most
        self.n_lines += is_wanted
        if entry.error is not None or custom_id is None:
            if entry.error is not None and is_wanted:
                record = refused(entry.error, entry.number)
                self.refused[record.id] = record
            return
        self.seen.add(custom_id)
        if custom_id in self._answered:
            self.dropped.add(custom_id)
            self.n_answered += is_wanted
            if self._id(entry) != self._answered[custom_id]:
                self.changed.append(custom_id)
            return
        failed = self._failed.get(custom_id)
        if failed is not None and failed.id != self._id(entry):  # it was mended
            self.dropped.add(custom_id)
            failed = None
        if not is_wanted:
            return
        if failed is not None and not self._retry:
            self.n_failed += 1
            return
        self.todo.append(entry)

    def _id(self, entry: Entry) -> str | None:
        """Return the id of a line, None where it cannot be read any more."""
        if entry.id is not None:
            return entry.id
        try:
            return self._identify(entry)
        except LineError:
            return None


def _otherwise(output: Path, custom_ids: list[str]) -> str:
    more = f" and {len(custom_ids) - 1} more" if len(custom_ids) > 1 else ""
    what = f"{output} has an answer for {custom_ids[0][:200]!r}{more}, but to another question"
    return f"{what}: the line, --model or --seed has changed: name another output, or remove the file"
