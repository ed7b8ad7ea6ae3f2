"""A command that is run for each event: no shell, one at a time, a line of JSON on its standard input."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time

from edge.devices.deliveries import Fields, Undelivered
from edge.errors import ParameterError

TIMEOUT_S = 60.0
_POLL_S = 0.1
_TERM_S = 2.0
_MAX_VALUE = 30_000  # characters of a variable
_VARIABLES = {"EDGE_EVENT": "event", "EDGE_ANSWER": "answer", "EDGE_TIME": "time", "EDGE_REASON": "reason"}


class CommandRunner:
    """A command and its arguments, as a shell would split them.

    It gets the line on its standard input, and EDGE_EVENT, EDGE_ANSWER, EDGE_TIME and EDGE_REASON in its environment;
    what it prints goes to stderr. One that takes longer than timeout_s, or still runs when the watch ends, is ended
    with everything it started. Raises: ParameterError for a command that is not there.
    """

    def __init__(self, command: str, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise ParameterError(f"run: {command!r:.200}: {error}", field="run") from error
        if not self._words or shutil.which(self._words[0]) is None:
            named = self._words[0] if self._words else command
            raise ParameterError(f"run: {named!r:.200}: there is no such command; no shell is used", field="run")
        self._timeout_s = timeout_s
        self.name = f"command {self._words[0]}"

    def deliver(self, line: str, fields: Fields, stop: threading.Event) -> None:
        """Run the command once and wait for it. Raises: Undelivered for a status that is not 0."""
        values = {name: fields.get(key) for name, key in _VARIABLES.items()}
        variables = {name: str(value).replace("\0", "")[:_MAX_VALUE] for name, value in values.items() if value}
        clean = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
        try:
            process = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, stdout=2, env=clean | variables, start_new_session=True
            )
        except OSError as error:
            raise Undelivered(f"cannot be run: {error.strerror}") from error
        try:
            self._wait(process, f"{line}\n".encode(), stop)
        finally:
            if process.poll() is None:
                _end(process)
        if process.returncode:
            raise Undelivered(f"ended with {_status(process.returncode)}")

    def _wait(self, process: "subprocess.Popen[bytes]", data: bytes, stop: threading.Event) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        given: bytes | None = data
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(given, timeout=_POLL_S)
                return
            given = None
            if stop.is_set():
                raise Undelivered("ended, for the watch ends")
            if time.monotonic() >= deadline_s:
                raise Undelivered(f"ended, for it took longer than {self._timeout_s:g} s")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and everything in its group, by SIGTERM, then by SIGKILL."""
    for number, wait_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _TERM_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _status(code: int) -> str:
    return f"status {code}" if code > 0 else f"signal {-code}"
