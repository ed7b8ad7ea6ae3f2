"""What `edge service install` makes of its options: a command line that was checked, and the unit around it."""

import contextlib
import enum
import grp
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from edge.commands.console import fail
from edge.commands.service_kinds import Asked, Parameter, check, uses
from edge.errors import ServiceError
from edge.service import files
from edge.service.hardening import Uses
from edge.service.unit import Kind, Scope, Unit, credential

KEY: Final = "EDGE_API_KEY"
_CARRIED: Final = (
    "EDGE_MODELS", "EDGE_ALIAS", "EDGE_PACKED", "EDGE_DRAFT", "EDGE_MEMORY_CHECK", "EDGE_PROVIDERS", "XDG_CACHE_HOME",
    "PYTHONPATH",
)  # fmt: skip
# Of a system's service, below StateDirectory= and CacheDirectory=.
_OWN_FOLDERS: Final = {"EDGE_MODELS": "/var/lib/edge/models", "XDG_CACHE_HOME": "/var/cache"}
_HIDDEN: Final = tuple(Path(each) for each in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))
_READ_BY_THE_MANAGER: Final = {"api_key_file": "api-key", "tls_cert": "tls-cert", "tls_key": "tls-key"}
_NAMES_OR_PATHS: Final = ("model", "camera", "microphone", "loudspeaker", "speech", "voice", "wake")
_BEGIN_WITH_PATHS: Final = ("run", "tool")
_OF_THE_MANAGER: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "USER", "XDG_RUNTIME_DIR")  # it sets them itself
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")  # in a header of a webhook
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True)
class Plan:
    """A unit, and the secrets that are written beside it; notes: what its owner should know."""

    unit: Unit
    secrets: Mapping[str, str]
    notes: tuple[str, ...]


class Context(Protocol):
    """What a parser found: typer's, or click's below it."""

    params: dict[str, Any]
    args: list[str]

    def get_parameter_source(self, name: str) -> enum.Enum | None:
        """Return where a value comes from."""


class Command(Protocol):
    """A command of the command line, as far as its parser is asked."""

    params: Sequence[Parameter]

    def make_context(self, info_name: str, args: list[str]) -> contextlib.AbstractContextManager[Context]:
        """Parse options."""


def parsed(kind: Kind, command: Command, arguments: Sequence[str]) -> Asked:
    """Have a command's own parser read options; nothing of the command runs. Ends this one where they are wrong."""
    with _environment({}):
        try:
            with command.make_context(f"edge {kind}", list(arguments)) as context:
                left = [*getattr(context, "_protected_args", ()), *context.args]
                if left:
                    fail(f"edge {kind} {left[0]}: expected options of edge {kind} alone (edge {kind} --help)")
                given = (each for each in command.params if _is_given(context, each.name))
                return Asked(kind, _absolute(context.params), tuple(given))
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            fail(f"edge {kind}: {error.format_message()} (edge {kind} --help)")


def arguments_of(asked: Asked) -> tuple[str, ...]:
    """Return options as a unit has them: each in one word with its value, and what is no option at the end."""
    options: list[str] = []
    words: list[str] = []
    for parameter in asked.given:
        value = asked.options[parameter.name]
        values = value if isinstance(value, list | tuple) else [value]
        if not parameter.opts[0].startswith("-"):
            words += [str(each) for each in values]
        elif isinstance(value, bool):
            options.append(max(parameter.opts if value else parameter.secondary_opts, key=len))
        else:
            options += [f"{max(parameter.opts, key=len)}={each}" for each in values]
    return (*options, *(["--", *words] if words else []))


def plan(asked: Asked, *, scope: Scope, systemd: int) -> Plan:
    """Return the unit of a service. Ends the command where an option is wrong. Raises: EdgeError."""
    environment, secrets_file = _carried(scope), files.secrets_path(asked.kind, scope)
    secrets, kept = _secrets(asked, files.read_secrets(secrets_file))
    with _environment({**environment, **kept, **secrets}):
        model = check(asked)
        memory_bytes = _memory_bytes(model, asked)
    needs = uses(asked)
    stored, credentials = _for_the_manager(asked, scope)
    unit = Unit(
        asked.kind,
        scope,
        Path(sys.executable),
        ("-P", "-m", "edge", asked.kind, *arguments_of(stored)),
        needs,
        environment=environment,
        environment_file=secrets_file if asked.kind == "serve" or secrets or kept else None,
        credentials=credentials,
        shown=tuple(_hidden(_python(), _named(stored), model)) if scope == "system" else (),
        groups=_groups(needs) if scope == "system" else (),
        memory_bytes=memory_bytes,
        systemd=systemd,
    )
    notes = tuple(_notes(unit, secrets_file, secrets, kept, model))
    return Plan(unit, {**kept, **secrets} if secrets else {}, notes)


def check_start(unit: Unit) -> None:
    """Start the unit's Python as the unit does, without this shell's variables. Raises: ServiceError."""
    command = [str(unit.program), "-P", "-m", "edge", unit.kind, "--help"]
    bare = {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), **unit.environment}
    try:
        done = subprocess.run(
            command, env=bare, cwd="/", capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{unit.program} cannot be started: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ServiceError(f"a service cannot run {' '.join(command)}: {last[:300]}")


def _is_given(context: Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _absolute(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with paths that do not depend on a folder or a home: those of files, bundles and cameras."""
    return {name: _without_folder(name, value) for name, value in options.items()}


def _without_folder(name: str, value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_folder(name, each) for each in value]
    if isinstance(value, Path):
        return value.expanduser().absolute()
    if isinstance(value, str) and name in _BEGIN_WITH_PATHS:
        path, rest = _begin(name, value)
        return value if path is None else f"{shlex.quote(str(path)) if name == 'run' else path}{rest}"
    if isinstance(value, str) and name in _NAMES_OR_PATHS and _is_path(name, value):
        return str(Path(value).expanduser().absolute())
    return value


def _begin(name: str, value: str) -> tuple[Path | None, str]:
    """Return the absolute path of the file that a value begins with, and the rest; None where it begins with none.

    value: of --run, a command and its arguments; of --tool, FILE.py:NAME.
    """
    if name == "tool":
        place, colon, function = value.rpartition(":")
        return (Path(place).expanduser().absolute(), colon + function) if place.endswith(".py") else (None, value)
    try:
        first, *arguments = shlex.split(value)
    except ValueError:  # told by who checks it
        return None, value
    if "/" not in first:
        return None, value
    return Path(first).absolute(), "".join(f" {shlex.quote(each)}" for each in arguments)


def _is_path(name: str, value: str) -> bool:
    """Return whether a value is that of a file or a folder which is there, and not a name, an id or an address."""
    if value == "-" or "!" in value or "://" in value or not Path(value).expanduser().exists():
        return False
    return name == "camera" or "/" in value or value.startswith((".", "~")) or bool(Path(value).suffix)


def _carried(scope: Scope) -> dict[str, str]:
    """Return the variables of this shell that decide what the service does, and a system service's own folders."""
    here = {name: os.environ[name] for name in _CARRIED if os.environ.get(name)}
    if "PYTHONPATH" in here:
        parts = (str(Path(each).absolute()) for each in here["PYTHONPATH"].split(os.pathsep) if each)
        here["PYTHONPATH"] = os.pathsep.join(parts)
    if scope == "system":
        here.pop("XDG_CACHE_HOME", None)  # this user's
        return {**_OWN_FOLDERS, **here}
    return here


def _secrets(asked: Asked, stored: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what must not be in a unit, which everybody can read: what this shell has of it, and what is kept.

    stored: what an earlier installation wrote.
    """
    if asked.kind == "serve":
        key = asked.options["api_key"] or os.environ.get(KEY)
        wanted = {KEY: key} if asked.options["api_key_file"] is None else {}
    else:
        headers = " ".join(asked.options.get("webhook_header") or ())
        names = [*_VARIABLE.findall(headers), *_variables_of(asked.options.get("mcp"))]
        wanted = {name: os.environ.get(name) for name in names}
    here = {name: value for name, value in wanted.items() if value}
    return here, {name: stored[name] for name in wanted if name in stored and name not in here}


def _variables_of(servers: Path | None) -> list[str]:
    """Return the variables that a file of MCP servers names, none where it cannot be read: that is told elsewhere."""
    if servers is None:
        return []
    from edge.tools.mcp.servers_file import variables

    return [name for name in variables(servers) if name not in _OF_THE_MANAGER]


def _for_the_manager(asked: Asked, scope: Scope) -> tuple[Asked, dict[str, Path]]:
    """Return the options without secrets, and the files that the manager reads for a user that cannot."""
    options, credentials = dict(asked.options), {}
    for name, known_as in _READ_BY_THE_MANAGER.items():
        if scope == "system" and options.get(name) is not None:
            credentials[known_as] = options[name]
            options[name] = credential(asked.kind, known_as)
    given = tuple(each for each in asked.given if each.name != "api_key")
    return replace(asked, options=options, given=given), credentials


def _memory_bytes(model: Path | None, asked: Asked) -> int | None:
    """Return the most memory that a service may take: what is not left to the system; None where that is too little.

    Mapped weights count, so that a tighter limit would have them read again and again. Raises: EdgeError.
    """
    from edge.bundle.bundle import checked
    from edge.bundle.manifest import Manifest
    from edge.bundle.shape import of_manifest
    from edge.engine import fit
    from edge.engine.available import memory
    from edge.engine.footprint import footprint, room
    from edge.engine.packing import is_packed
    from edge.media.sandbox import MEMORY_BYTES
    from edge.server.app import default_slots

    manifest = None if model is None else checked(model)
    if model is None or not isinstance(manifest, Manifest):
        return None
    here, options, folder = memory(), asked.options, model
    slots = (options.get("slots") or default_slots()) if asked.kind == "serve" else 1
    load, _ = fit.choose(
        manifest,
        kv=options.get("kv"),
        context=options.get("context"),
        slots=slots,
        here=here,
        is_packed=lambda kv: is_packed(folder, kv=kv),
    )
    limit = room(here.total)
    needed = footprint(of_manifest(manifest), load).peak_bytes + min(MEMORY_BYTES, here.total // 4)
    return limit if needed <= room(limit) else None


def _python() -> Iterator[Path]:
    """Yield what this Python and its packages are read from: its environment, the one below it, and the path."""
    yield Path(sys.prefix)
    yield Path(sys.base_prefix)
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / link.readlink()
        yield link.parent.parent
    yield Path(__file__).parents[2]
    # Without the folder of whoever types `python -m edge`: the unit does without it, and it may be a home.
    yield from (Path(each) for each in sys.path[0 if sys.flags.safe_path else 1 :] if each)


def _named(asked: Asked) -> Iterator[Path]:
    """Yield the files and folders that the options name."""
    for parameter in asked.given:
        value = asked.options[parameter.name]
        for each in value if isinstance(value, list | tuple) else [value]:
            path = _begin(parameter.name, each)[0] if parameter.name in _BEGIN_WITH_PATHS else each
            if isinstance(path, str | Path):
                yield Path(path)


def _hidden(python: Iterable[Path], named: Iterable[Path], model: Path | None) -> Iterator[Path]:
    """Yield those of some paths that a system's service would not see, none below another."""
    found: list[Path] = []
    for path in (*python, *named, *([] if model is None else [model])):
        is_hidden = path.is_absolute() and any(folder in path.parents for folder in _HIDDEN)
        if is_hidden and path.exists() and path not in found:
            found.append(path)
    yield from (path for path in sorted(found) if not any(other in path.parents for other in found))


def _groups(needs: Uses) -> tuple[str, ...]:
    """Return the groups of devices that this system has, of those that the service needs."""
    wanted = (["video", "render"] if needs.cameras or needs.accelerators else []) + (["audio"] if needs.sound else [])
    here = {group.gr_name for group in grp.getgrall()}
    return tuple(name for name in (*wanted, *(["gpio"] if needs.lines else [])) if name in here)


def _notes(
    unit: Unit, secrets_file: Path, secrets: Mapping[str, str], kept: Mapping[str, str], model: Path | None
) -> Iterator[str]:
    if secrets:
        yield f"{', '.join(secrets)}: in {secrets_file} (mode 0600), not in the unit"
    if kept:
        yield f"{', '.join(kept)}: stays as it is in {secrets_file}"
    if model is None:
        yield "no bundle is installed yet: edge models install DIR"
    elif unit.memory_bytes is None:
        yield f"no limit of memory is set: {model.name} needs about all that this machine has"
    if unit.scope == "system" and model is not None:
        install = f"{unit.program} -m edge models install DIR --no-pack"
        yield f"it uses {model}; bundles for it: sudo EDGE_MODELS={unit.environment['EDGE_MODELS']} {install}"


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have variables as they will be for the service; and as they were, whatever an option sets meanwhile."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
