"""edge service: the assistant, the server or the watch as a service of systemd, from boot on."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.commands.console import AsJson, fail
from edge.errors import ServiceError
from edge.service import files, systemctl
from edge.service.systemctl import State, Systemd
from edge.service.unit import KINDS, Kind, Scope, text, unit_name

if TYPE_CHECKING:
    from edge.commands.installing import Plan

_OLDEST = 247  # of systemd, for which a unit is made where none is installed
_STOPPED, _ABSENT = 3, 4  # exit statuses of `edge service status`, as systemctl has them
_LAST_LINES = 15

KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help="assistant, serve or watch.", autocompletion=lambda: list(KINDS))
]
KindOrOnly = Annotated[
    str | None,
    typer.Argument(
        metavar="[KIND]",
        help="assistant, serve or watch. Default: the installed one.",
        autocompletion=lambda: list(KINDS),
    ),
]
OfSystem = Annotated[bool, typer.Option("--system", help="A service of the system, not of this user.")]

service = typer.Typer(no_args_is_help=True, help="Run the assistant, the server or the watch as a systemd service.")


@service.command()
def install(
    context: typer.Context,
    kind: KindArgument,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="Options of that command, behind --.")
    ] = None,
    system: OfSystem = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the unit, and change nothing.")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start it now, too.")] = True,
) -> None:
    """Install a service that starts by itself, or replace it: edge service install serve -- --port 9000

    Its options are checked first. A service of the user starts at the login, or at boot with loginctl enable-linger.
    """
    from edge.commands import installing

    known, scope = _kind(kind), _scope(system)
    if not dry_run:
        _check_rights(scope, "install")
    asked = installing.parsed(known, _command(context, known), options or [])
    made = installing.plan(asked, scope=scope, systemd=systemctl.version() or _OLDEST)
    if dry_run:
        print(text(made.unit), end="")
        _tell(*made.notes)
        return
    manager = Systemd(scope)
    _check_place(manager, known)
    installing.check_start(made.unit)
    _write(made)
    _tell(f"{files.unit_path(known, scope)} is written", *made.notes)
    manager.run("daemon-reload", say="the unit is written, and systemd cannot read it")
    manager.run("enable", unit_name(known), say="it will not start by itself")
    if start:
        _start(manager, known)
    if scope == "user" and manager.lingers() is False:
        _tell(f"it starts when you log in; to start it at boot: sudo loginctl enable-linger {systemctl.user_name()}")


@service.command()
def status(kind: KindOrOnly = None, system: OfSystem = False, as_json: AsJson = False) -> None:
    """Tell what a service does. Status 0: it runs or starts; 3: it does not; 4: it is not installed."""
    manager = Systemd(_scope(system))
    known = None if kind is None else _kind(kind)
    found = {each: manager.state(each) for each in ([known] if known else KINDS)}
    there = {each: state for each, state in found.items() if state is not None}
    if as_json:
        print(json.dumps([{"service": each, **asdict(state)} for each, state in there.items()], indent=1))
    else:
        for each, state in there.items():
            print(_line(each, state))
    if not there:
        _tell(f"{'no service is' if known is None else f'{known} is not'} installed: edge service install KIND")
        raise typer.Exit(_ABSENT)
    if any(state.state in ("stopped", "failed", "stopping") for state in there.values()):
        raise typer.Exit(_STOPPED)


@service.command()
def logs(
    kind: KindOrOnly = None,
    system: OfSystem = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    n_lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Newest lines that are shown first.")] = 50,
) -> None:
    """Show the log of a service, which journald keeps."""
    manager = Systemd(_scope(system))
    command = manager.logs(_one(manager, kind), follow=follow, n_lines=n_lines)
    sys.stdout.flush()
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@service.command()
def remove(kind: KindOrOnly = None, system: OfSystem = False) -> None:
    """Stop a service and remove its unit and its secrets. Bundles, packed weights and logs stay."""
    scope = _scope(system)
    manager = Systemd(scope)
    known = _one(manager, kind)
    _check_rights(scope, "remove")
    unit, secrets = files.unit_path(known, scope), files.secrets_path(known, scope)
    files.check_ours(unit)
    if not unit.exists():
        fail(f"{known} is not installed: there is no {unit}")
    manager.run("disable", "--now", unit_name(known), say=f"{known} cannot be stopped")
    with contextlib.suppress(ServiceError):  # nothing failed
        manager.run("reset-failed", unit_name(known), say="")
    files.remove(unit)
    files.remove(secrets)
    manager.run("daemon-reload", say="the unit is removed, and systemd does not know it yet")
    _tell(f"{known} is stopped, and {unit} removed")


def _kind(name: str) -> Kind:
    known = next((each for each in KINDS if each == name), None)
    if known is None:
        fail(f"{name!r:.60} cannot be a service: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return known


def _scope(system: bool) -> Scope:
    return "system" if system else "user"


def _one(manager: Systemd, kind: str | None) -> Kind:
    """Return the service that is meant: the one that is named, else the only one that is installed."""
    if kind is not None:
        return _kind(kind)
    there = [each for each in KINDS if files.unit_path(each, manager.scope).exists()]
    if len(there) != 1:
        fail(f"{'no service is installed' if not there else f'name one: {chr(44).join(there)}'} (edge service status)")
    return there[0]


def _command(context: typer.Context, kind: Kind) -> Any:  # noqa: ANN401 - typer's or click's
    """Return the command that the service is to run, as the command line has it."""
    found = getattr(context.find_root().command, "commands", {}).get(kind)
    if found is None:
        fail(f"this version has no edge {kind}")
    return found


def _check_rights(scope: Scope, word: str) -> None:
    """Refuse what this user may not do, and systems without systemd, before anything is written."""
    if scope == "system" and os.geteuid() != 0:
        fail(f"a service of the system is root's to {word}: sudo {sys.executable} -m edge service {word} ... --system")
    Systemd(scope).check()


def _check_place(manager: Systemd, kind: Kind) -> None:
    """Refuse to stand in for a unit of the same name that somebody else installed."""
    path = files.unit_path(kind, manager.scope)
    files.check_ours(path)
    state = manager.state(kind)
    if state is not None and state.file and Path(state.file).resolve() != path.resolve():
        raise ServiceError(f"{state.file} has this name already: it is left as it is, and nothing is installed")


def _write(made: "Plan") -> None:
    unit = made.unit
    content = text(unit)
    if made.secrets:
        files.write(files.secrets_path(unit.kind, unit.scope), files.secrets_text(made.secrets), mode=0o600)
    files.write(files.unit_path(unit.kind, unit.scope), content, mode=0o644)


def _start(manager: Systemd, kind: Kind) -> None:
    """Start a service, anew where it runs, and wait until it is ready or has failed."""
    _tell(f"starting {unit_name(kind)}: the model is loaded (Ctrl-C: systemd goes on)")
    try:
        manager.run("restart", unit_name(kind), say=f"{kind} is installed, and did not start")
    except ServiceError as error:
        command = manager.logs(kind, follow=False, n_lines=_LAST_LINES)
        subprocess.run(command, check=False, stdout=sys.stderr)
        state = manager.state(kind)
        scope = " --system" if manager.scope == "system" else ""
        fail(f"{error}{f'; {state.detail}' if state is not None else ''} (edge service logs {kind}{scope})")
    state = manager.state(kind)
    if state is not None:
        _tell(_line(kind, state))


def _line(kind: Kind, state: State) -> str:
    """Return a state as a line."""
    parts = [f"{kind}: {state.state}", *([state.detail] if state.detail else [])]
    if state.since and state.state in ("running", "failed", "stopped"):
        parts.append(f"since {state.since}")
    if state.n_restarts:
        parts.append(f"started again {state.n_restarts} time{'s' * (state.n_restarts > 1)}")
    if state.memory_bytes is not None and state.pid is not None:
        parts.append(f"{state.memory_bytes / 1e6:.0f} MB")
    parts.append("starts by itself" if state.is_enabled else "does not start by itself")
    return "; ".join(parts)


def _tell(*lines: str) -> None:
    for line in lines:
        print(f"edge: {line}", file=sys.stderr)
