"""What can be a service: how its options are checked beyond their parser, and what it needs of the machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from edge.commands.choosing import Ability, chosen
from edge.commands.console import fail
from edge.service.hardening import Uses
from edge.service.unit import Kind

_LOW_PORT: Final = 1024
_ANYWHERE: Final = ("0.0.0.0", "::", "")
_RUN_APART: Final = ("csi", "pi")  # cameras of GStreamer and libcamera


class Parameter(Protocol):
    """What is read of a parameter of a command."""

    name: str
    opts: Sequence[str]
    secondary_opts: Sequence[str]


@dataclass(frozen=True)
class Asked:
    """What a service is asked for.

    options: as they come out of the command's own parser; given: the parameters that were given, in its order.
    """

    kind: Kind
    options: Mapping[str, Any]
    given: tuple[Parameter, ...]


def check(asked: Asked) -> Path | None:
    """Check what the command would check when it starts; return the folder of the bundle that it will use, if known.

    Ends this command where something is wrong. Raises: EdgeError.
    """
    return _CHECKS[asked.kind](asked.options)


def uses(asked: Asked) -> Uses:
    """Return what the service needs of the machine besides the processor and its model."""
    return _USES[asked.kind](asked.options)


def _check_serve(options: Mapping[str, Any]) -> Path | None:
    from edge.bundle import store
    from edge.commands.serve import settings_of
    from edge.extras import missing
    from edge.models import find

    try:
        from edge.server import server
    except ModuleNotFoundError as error:
        fail(missing(error.name, need="edge serve"))
    settings = settings_of(**{name: value for name, value in options.items() if not name.startswith("_")})
    server.check(settings)
    if settings.model is not None:
        return find(settings.model, settings.aliases).path
    stored = next(iter(store.bundles()), None)
    return None if stored is None else stored.path


def _check_watch(options: Mapping[str, Any]) -> Path | None:
    from edge.commands.watch import header_of, intervals
    from edge.devices.command_runner import CommandRunner
    from edge.devices.webhook import Webhook

    intervals(every=options["every"], heartbeat=options["heartbeat"], refresh=options["refresh"])
    headers = dict(header_of(text) for text in options["webhook_header"] or ())
    if headers and options["webhook"] is None:
        fail("--webhook-header: expected --webhook beside it")
    if options["webhook"] is not None:
        Webhook(options["webhook"], headers=headers)
    if options["run"] is not None:
        CommandRunner(options["run"])
    if options["camera"] == "-":
        fail("--camera -: a service has no standard input")
    return chosen(options["model"], ["images"]).path


def _check_assistant(options: Mapping[str, Any]) -> Path | None:
    from edge.assistant.settings import Settings
    from edge.commands.assistant import wake_words
    from edge.commands.tool_use import ToolOptions, check_options
    from edge.speech import wake_word

    for name, value in options.items():
        if value == "-":
            fail(f"--{name} -: a service has no standard input or output")
    if options["once"]:
        fail("--once: a service goes on")
    Settings(
        wake=wake_words(options["wake"]),
        **{name: options[name] for name in ("wake_threshold", "vad", "look", "language", "max_tokens", "temperature")},
        follow_up_s=options["follow_up"],
        listen_s=options["listen"],
        silence_s=options["silence"],
        history_turns=options["turns"],
        history_minutes=options["minutes"],
    )
    asked = ToolOptions(options["mcp"], options["tools"], options["tool"] or (), options["allow_tool"] or ())
    check_options(asked, has_camera=options["camera"] is not None)
    for name in options["wake"] or ():
        if name != "none":
            wake_word.load(name).close()
    needs: set[Ability] = {"images"} if options["camera"] is not None else set()
    return chosen(options["model"], needs if options["speech"] is not None else {"audio", *needs}).path


def _uses_of_serve(options: Mapping[str, Any]) -> Uses:
    from edge.server.access import is_loopback

    host = options["host"]
    is_here = is_loopback(host)
    return Uses(
        accelerators=_computes_elsewhere(options),
        low_port=0 < options["port"] < _LOW_PORT,
        network_online=not is_here and host not in _ANYWHERE,
        loopback=is_here and not options["allow_media"],
    )


def _uses_of_watch(options: Mapping[str, Any]) -> Uses:
    camera = options["camera"]
    is_file = not camera.startswith("/dev/") and Path(camera).expanduser().exists()
    is_remote = "://" in camera or "rtsp" in camera
    runs_apart = "!" in camera or camera.partition(":")[0] in _RUN_APART
    return Uses(
        accelerators=_computes_elsewhere(options),
        cameras=not is_file and (runs_apart or not is_remote),
        network_online=is_remote,
    )


def _uses_of_assistant(options: Mapping[str, Any]) -> Uses:
    accelerators, cameras = _computes_elsewhere(options), options["camera"] is not None
    return Uses(cameras=cameras, sound=True, lines=True, accelerators=accelerators)


def _computes_elsewhere(options: Mapping[str, Any]) -> bool:
    """Return whether something else than the CPU computes, whose drivers open devices of their own."""
    from edge.engine.providers import DEFAULT, chosen

    return chosen(options["_providers"]) != DEFAULT


_CHECKS: Final[Mapping[Kind, Callable[[Mapping[str, Any]], Path | None]]] = {
    "assistant": _check_assistant, "serve": _check_serve, "watch": _check_watch,
}  # fmt: skip
_USES: Final[Mapping[Kind, Callable[[Mapping[str, Any]], Uses]]] = {
    "assistant": _uses_of_assistant, "serve": _uses_of_serve, "watch": _uses_of_watch,
}  # fmt: skip
