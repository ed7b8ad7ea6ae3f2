"""A pseudo-terminal in which a program runs, its keyboard, and what its screen shows."""

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pyte

FAKE = (
    "import sys; from pathlib import Path; from edge import cli, models; from edge.bundle import store\n"
    "from edge.bundle.store import Stored; from tests.edge.fake_engine import FakeEngine, manifest\n"
    "FakeEngine.opened = []; models.Engine = FakeEngine\n"
    "store.bundles = lambda *_: [Stored(Path('m'), manifest('m'), True)]\n"
)
RUN = "try: cli.main()\nexcept SystemExit as end: status = end.code\n"


class Terminal:
    """A terminal of 80 columns with a Python program in it."""

    def __init__(self, code: str, *, rows: int = 24, term: str = "xterm-256color") -> None:
        self.screen = pyte.HistoryScreen(80, rows, history=1000, ratio=0.5)
        self.output = b""
        self._n_answered = 0
        self._stream = pyte.ByteStream(self.screen)
        pid, self._fd = pty.fork()
        if pid == 0:
            environment = {**os.environ, "TERM": term, "COLUMNS": "80", "LINES": str(rows)}
            os.execvpe(sys.executable, [sys.executable, "-c", code], environment)
        self.pid = pid

    def expect(self, text: str, *, times: int = 1, within_s: float = 120) -> None:
        """Wait until the screen shows a text so many times."""
        self._wait(lambda: self.shown().count(text) >= times, text, within_s)

    def prompt(self, *, within_s: float = 120) -> None:
        """Wait until the last line is a prompt that was not answered yet."""
        self._wait(self._asks, "a prompt", within_s)

    def enter(self, *lines: str) -> None:
        """Type lines, each at a prompt."""
        for line in lines:
            self.prompt()
            self._n_answered = self._n_prompts()
            self.send(f"{line}\n")

    @property
    def descriptor(self) -> int:
        """The keyboard's side, to write bytes to."""
        return self._fd

    def drain(self) -> None:
        """Take what is shown by now."""
        self._read(0)

    def answered(self) -> None:
        """Wait for the next prompt, whatever number of lines the one before was answered with."""
        self._wait(lambda: self.screen.display[self.screen.cursor.y].rstrip() == ">", "a prompt", 120)
        self._n_answered = self._n_prompts() - 1

    def send(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def shown(self) -> str:
        """What is on the screen and above it."""
        above = ["".join(line[x].data for x in range(80)).rstrip() for line in self.screen.history.top]
        return "\n".join([*above, *(line.rstrip() for line in self.screen.display)])

    def says(self, text: str) -> bool:
        """Whether a text is on the screen or above it, wherever its lines are broken."""
        return "".join(text.split()) in "".join(self.shown().split())

    def end(self, *, within_s: float = 60) -> int:
        """Wait until the program ends; return its status."""
        deadline_s = time.monotonic() + within_s
        while self._read(0.2) and time.monotonic() < deadline_s:
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def _asks(self) -> bool:
        is_last = self.screen.display[self.screen.cursor.y].rstrip() == ">"
        return is_last and self._n_prompts() > self._n_answered

    def _n_prompts(self) -> int:
        return sum(line.startswith(">") for line in self.shown().splitlines())

    def _wait(self, fact: Callable[[], bool], what: str, within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        while not fact():
            assert time.monotonic() < deadline_s, f"{what} did not come:\n{self.shown()}"
            assert self._read(0.2) or fact(), f"the program ended before {what}:\n{self.shown()}"

    def _read(self, timeout_s: float) -> bool:
        """Take what comes; return False when nothing more will."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.output += data
        self._stream.feed(data)
        return bool(data)
