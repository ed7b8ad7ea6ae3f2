"""How far a batch is, on stderr: a bar on a terminal, lines in a pipe; with its rate and the time left."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_LINE_S = 10.0  # between lines in a pipe


class Pace:
    """Counts lines as they are done. n_lines: of the batch; n_done, n_failed: before this run.

    clock: seconds that never go back. is_terminal: whether a bar can be drawn.
    """

    def __init__(
        self,
        n_lines: int,
        *,
        n_done: int = 0,
        n_failed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        is_terminal: bool | None = None,
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.n_done, self.n_failed = n_done, n_failed
        self.n_here = 0
        self._first_s: float | None = None  # when the first line was done: what is before it is starting
        self._n_lines = n_lines
        self._clock = clock
        self._begun_s = self._told_s = clock()
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        columns = BarColumn(bar_width=None), TextColumn("{task.description}")
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._is_terminal)
        self._task = self._bar.add_task(self.text(), total=n_lines, completed=n_done)

    @property
    def seconds(self) -> float:
        """How long this run has taken so far."""
        return self._clock() - self._begun_s

    def count(self, *, failed: bool) -> None:
        """Count a line that is done."""
        self._first_s = self._clock() if self._first_s is None else self._first_s
        self.n_done += 1
        self.n_here += 1
        self.n_failed += failed
        self._bar.update(self._task, completed=self.n_done, description=self.text())
        now_s = self._clock()
        if not self._is_terminal and now_s - self._told_s >= _LINE_S:
            self._told_s = now_s
            self.tell(self.text())

    def tell(self, text: str) -> None:
        """Print a line, above the bar."""
        if self._is_terminal:
            self._bar.console.print(f"edge: {text}", markup=False, highlight=False, soft_wrap=True)
        else:
            print(f"edge: {text}", file=sys.stderr, flush=True)

    def text(self) -> str:
        """Return how far it is, in one line."""
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        so_far = f"{self.n_done} of {self._n_lines} lines{failed}"
        timed_s = 0.0 if self._first_s is None else self._clock() - self._first_s
        if timed_s <= 0 or self.n_here < 2:
            return so_far
        rate = (self.n_here - 1) / timed_s
        return f"{so_far}, {per_time(rate)}, {duration((self._n_lines - self.n_done) / rate)} left"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def per_time(rate: float) -> str:
    """Return lines a second as people read them."""
    return f"{rate:.1f} lines/s" if rate >= 1 else f"{rate * 60:.1f} lines/min"


def duration(seconds: float) -> str:
    """Return seconds as 42 s, 3:05 min or 2:07 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
