"""The text of a systemd unit, made from plain data: what runs, what it may touch, and when it is started again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from edge.service import hardening, quoting

Kind = Literal["assistant", "serve", "watch"]
Scope = Literal["user", "system"]

KINDS: Final[tuple[Kind, ...]] = ("assistant", "serve", "watch")
MARK: Final = "# Made by edge service install, and made anew by the next one. Changes of your own: systemctl edit"

WATCHDOG_S: Final = 60
START_S: Final = 180  # without any sign that it moves on
STOP_S: Final = 30  # a server gives those whom it answers ten of them
_STEPS_SINCE: Final = 254  # of systemd: RestartSteps=
_DESCRIPTIONS: Final[Mapping[Kind, str]] = {
    "assistant": "Voice assistant on this device",
    "serve": "Chat interface over HTTP on this device",
    "watch": "Question asked of a camera over and over",
}
_STATE: Final = "edge"  # below /var/lib and /var/cache


@dataclass(frozen=True)
class Unit:
    """What a unit is made of.

    program, arguments: the command line. environment: variables; environment_file: one with secrets. credentials: files
    that only the manager can read, by the names under which the service finds them. shown: files and folders that are
    seen though what is around them is not. groups: of devices. memory_bytes: the most that it may take, None for no
    limit. uses: what it needs besides the processor. systemd: the version that the unit is for.
    """

    kind: Kind
    scope: Scope
    program: Path
    arguments: tuple[str, ...]
    uses: hardening.Uses
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_file: Path | None = None
    credentials: Mapping[str, Path] = field(default_factory=dict)
    shown: tuple[Path, ...] = ()
    groups: tuple[str, ...] = ()
    memory_bytes: int | None = None
    systemd: int = 247

    @property
    def name(self) -> str:
        """The name of the unit."""
        return unit_name(self.kind)


def unit_name(kind: Kind) -> str:
    """Return the name of the unit of a kind."""
    return f"edge-{kind}.service"


def credential(kind: Kind, name: str) -> Path:
    """Return where a system unit finds a credential. Source: systemd.exec(5), LoadCredential=."""
    return Path("/run/credentials") / unit_name(kind) / name


def text(unit: Unit) -> str:
    """Return the unit file. Raises: ParameterError for an argument or a path that no unit can hold."""
    sections = {"Unit": _unit(unit), "Service": _service(unit), "Install": _install(unit)}
    parts = [MARK, *(f"\n[{name}]\n" + "\n".join(lines) for name, lines in sections.items())]
    return "\n".join(parts) + "\n"


def is_ours(found: str) -> bool:
    """Return whether the text of a file was made here."""
    return found.startswith(MARK)


def _unit(unit: Unit) -> Iterator[str]:
    yield f"Description={_DESCRIPTIONS[unit.kind]}"
    after = []
    if unit.scope == "system":
        after.append("network-online.target" if unit.uses.network_online else "network.target")
        after += ["sound.target"] if unit.uses.sound else []
        if unit.uses.network_online:
            yield "Wants=network-online.target"
    elif unit.uses.sound:
        after += ["pipewire.service", "pipewire-pulse.service", "wireplumber.service", "pulseaudio.service"]
    if after:
        yield f"After={' '.join(after)}"
    # Six failures within ten minutes: then it stays down, and edge service status says why.
    yield "StartLimitIntervalSec=10min"
    yield "StartLimitBurst=6"


def _service(unit: Unit) -> Iterator[str]:
    yield "Type=notify"
    yield f"ExecStart={quoting.command(unit.program, unit.arguments)}"
    for name, value in unit.environment.items():
        yield f"Environment={quoting.assignment(name, value)}"
    if unit.environment_file is not None:
        yield f"EnvironmentFile=-{quoting.path(unit.environment_file)}"
    for name, file in unit.credentials.items():
        yield f"LoadCredential={name}:{quoting.path(file)}"
    yield from _restarts(unit)
    yield f"SyslogIdentifier=edge-{unit.kind}"
    yield from _limits(unit)
    if unit.scope == "system":
        yield from _own_user(unit)
    yield from hardening.lines(unit.uses, is_system=unit.scope == "system")


def _restarts(unit: Unit) -> Iterator[str]:
    yield f"WatchdogSec={WATCHDOG_S}"
    yield f"TimeoutStartSec={START_S}"
    yield f"TimeoutStopSec={STOP_S}"
    yield "KillMode=mixed"  # the decoding process ends with the service, not before it
    yield "Restart=on-failure"
    yield "RestartPreventExitStatus=2"  # options that are wrong stay wrong
    yield "RestartSec=5"
    if unit.systemd >= _STEPS_SINCE:
        yield "RestartSteps=5"
        yield "RestartMaxDelaySec=2min"


def _limits(unit: Unit) -> Iterator[str]:
    if unit.memory_bytes is not None:
        yield f"MemoryMax={unit.memory_bytes >> 20}M"
    yield "OOMPolicy=continue"  # a decoding process that is ended costs one request, not the service
    yield "OOMScoreAdjust=300"
    yield "TasksMax=512"
    yield "LimitCORE=0"  # a core would hold what was said


def _own_user(unit: Unit) -> Iterator[str]:
    yield "DynamicUser=yes"
    yield f"StateDirectory={_STATE}"
    yield f"CacheDirectory={_STATE}"
    if unit.kind == "assistant":  # the socket that a button's script tells it by
        yield f"RuntimeDirectory={unit_name(unit.kind).removesuffix('.service')}"
    yield "WorkingDirectory=/"
    if unit.groups:
        yield f"SupplementaryGroups={' '.join(unit.groups)}"
    for each in unit.shown:
        yield f"BindReadOnlyPaths={quoting.word(str(each))}"


def _install(unit: Unit) -> Iterator[str]:
    yield f"WantedBy={'multi-user.target' if unit.scope == 'system' else 'default.target'}"
