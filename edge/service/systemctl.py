"""systemctl and journalctl, run for one scope: what a unit does, and errors that say what to do."""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.errors import ServiceError
from edge.service.unit import Kind, Scope, unit_name

_SHOWN: Final = (
    "LoadState", "ActiveState", "SubState", "Result", "StatusText", "NRestarts", "ExecMainCode", "ExecMainStatus",
    "MainPID", "MemoryCurrent", "ActiveEnterTimestamp", "InactiveEnterTimestamp", "UnitFileState", "FragmentPath",
)  # fmt: skip
_BOOTED: Final = Path("/run/systemd/system")  # Source: sd_booted(3)
_NO_NUMBER: Final = "[not set]"
_SIGNALED: Final = ("2", "3")  # ExecMainCode: killed (2) and dumped (3) by a signal
_PATIENCE_S: Final = 60.0
_RESULTS: Final[Mapping[str, str]] = {
    "watchdog": "the watchdog ended it: it had made no progress",
    "timeout": "it took too long to start or to stop",
    "oom-kill": "the system ended it: it took too much memory",
    "start-limit-hit": "it failed too often within ten minutes and is not started again",
    "exec-condition": "a condition of its unit was not met",
    "resources": "the system lacks what its unit asks for",
    "protocol": "it ended without saying that it is ready",
}
_OPTIONS_WRONG: Final = "2"
_START_STATUSES: Final = range(200, 244)  # systemd's own, before the program runs. Source: systemd.exec(5)


@dataclass(frozen=True)
class State:
    """What a service does. since: when that began, as systemd writes it, empty where it did not.

    state: "running", "starting", "stopping", "restarting", "stopped" or "failed". detail: why, or what goes on.
    is_enabled: whether it starts by itself.
    """

    state: str
    detail: str
    since: str
    is_enabled: bool
    pid: int | None
    n_restarts: int
    memory_bytes: int | None
    file: str


@dataclass(frozen=True)
class Systemd:
    """The manager of a scope: the system's, or the user's own."""

    scope: Scope

    def check(self) -> None:
        """Raises: ServiceError where there is no systemd, or it does not answer this user."""
        _found("systemctl")
        self.run("show-environment", say="systemd cannot be asked")

    def run(self, *arguments: str, say: str) -> str:
        """Run systemctl and return what it prints. say: what failed, where it did. Raises: ServiceError."""
        done = self._call(["systemctl", *self._which, *arguments])
        if done.returncode:
            raise ServiceError(f"{say}: {self._reason(done.stderr)}")
        return done.stdout

    def state(self, kind: Kind) -> State | None:
        """Return what a service does, None where it is not installed. Raises: ServiceError."""
        shown = self.run(
            "show", unit_name(kind), f"--property={','.join(_SHOWN)}", say=f"the state of {unit_name(kind)} is unknown"
        )
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        return None if found.get("LoadState") == "not-found" else state_of(found)

    def logs(self, kind: Kind, *, follow: bool, n_lines: int) -> Sequence[str]:
        """Return the command that shows the log of a service. Raises: ServiceError where there is no journal.

        That of a user's service is found in whatever journal this user may read, the system's included.
        """
        program = _found("journalctl")
        which = "--unit" if self.scope == "system" else "--user-unit"
        return [program, f"{which}={unit_name(kind)}", "--lines", str(n_lines), *(["--follow"] if follow else [])]

    def lingers(self) -> bool | None:
        """Return whether this user's services start at boot, before a login; None where nobody says."""
        with contextlib.suppress(ServiceError):
            done = self._call(["loginctl", "show-user", user_name(), "--property=Linger", "--value"])
            # Of who is not logged in nothing is known: then the mark that lingering leaves says it.
            return done.stdout.strip() == "yes" or Path(f"/var/lib/systemd/linger/{user_name()}").exists()
        return None

    @property
    def _which(self) -> list[str]:
        return ["--user"] if self.scope == "user" else []

    def _call(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        program = _found(command[0])
        # In English, for what is read here; and never a question for a password.
        environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
        try:
            return subprocess.run(
                [program, *command[1:]], capture_output=True, text=True, errors="replace", env=environment,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except OSError as error:
            raise ServiceError(f"{command[0]} cannot be run: {error.strerror}") from error

    def _reason(self, said: str) -> str:
        line = " ".join(said.split())[:500] or "systemctl gives no reason"
        if "not been booted with systemd" in line or not _BOOTED.exists():
            return "this system was not booted with systemd, as in most containers: start edge by what starts it there"
        if "connect to bus" in line or "XDG_RUNTIME_DIR" in line or "DBUS_SESSION_BUS_ADDRESS" in line:
            if self.scope == "user":
                return (
                    f"no session of {user_name()} runs (su and sudo begin none): log in as this user, or use --system"
                )
            return f"the system's bus does not answer: {line}"
        return line


def state_of(shown: Mapping[str, str]) -> State:
    """Return a state in plain words from the properties of `systemctl show`."""
    active, sub, result = (shown.get(name, "") for name in ("ActiveState", "SubState", "Result"))
    words = {"active": "running", "activating": "starting", "deactivating": "stopping", "reloading": "running"}
    state = "restarting" if sub == "auto-restart" else words.get(active, "stopped")
    if active == "failed":
        state = "failed"
    has_failed = state == "failed" or (state == "restarting" and result != "success")
    is_there = state in ("running", "starting", "stopping")  # who has ended says nothing any more
    detail = _failure(shown, result) if has_failed else shown.get("StatusText", "") if is_there else ""
    since = shown.get("ActiveEnterTimestamp" if state == "running" else "InactiveEnterTimestamp", "")
    return State(
        state,
        detail,
        since,
        is_enabled=shown.get("UnitFileState") in ("enabled", "enabled-runtime", "linked"),
        pid=_number(shown.get("MainPID")) or None,
        n_restarts=_number(shown.get("NRestarts")) or 0,
        memory_bytes=_number(shown.get("MemoryCurrent")),
        file=shown.get("FragmentPath", ""),
    )


def version() -> int | None:
    """Return the version of systemd, None where there is none."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ServiceError):
        said = subprocess.run(
            [_found("systemctl"), "--version"], capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        )
        found = re.match(r"systemd (\d+)", said.stdout)
        return int(found[1]) if found else None
    return None


def user_name() -> str:
    """Return the name of the user that runs this, its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _failure(shown: Mapping[str, str], result: str) -> str:
    status, code = shown.get("ExecMainStatus", ""), shown.get("ExecMainCode", "")
    if result in _RESULTS:
        return _RESULTS[result]
    if code in _SIGNALED:
        return f"signal {status} ended it"
    if status == _OPTIONS_WRONG:
        return "its options are wrong: install it again"
    if status.isdecimal() and int(status) in _START_STATUSES:
        return f"systemd could not start it (status {status} of systemd.exec): the log says why"
    return f"it ended with status {status}: the log says why"


def _number(value: str | None) -> int | None:
    if value is None or value == _NO_NUMBER or not value.isdecimal() or int(value) >= 1 << 63:
        return None
    return int(value)


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ServiceError(f"{program} is not installed: services need systemd")
    return path
