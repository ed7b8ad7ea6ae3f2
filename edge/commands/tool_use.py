"""Tools of the command line: MCP servers, a file's functions, included ones; who allows calls, what is shown."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.commands.console import fail
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.tools.builtin import FrameSource
    from edge.tools.mcp.servers_file import McpServer
    from edge.tools.rounds import Event
    from edge.tools.toolset import Ask, ToolLike, Toolset

Names = list[str] | None

_SHOWN_RESULT = 200  # characters of a failure

McpOption = Annotated[
    Path | None, typer.Option("--mcp", help="A JSON file of MCP servers whose tools the model may call.")
]
ToolsOption = Annotated[
    str | None, typer.Option("--tools", help="Included tools: time, timer, volume, camera; several with commas.")
]
ToolOption = Annotated[
    Names, typer.Option("--tool", help="A Python function: FILE.py:NAME or MODULE:NAME. Repeatable.")
]
AllowTool = Annotated[
    Names, typer.Option("--allow-tool", help="A tool that is called without asking: NAME, or SERVER__*. Repeatable.")
]


@dataclass(frozen=True)
class ToolOptions:
    """What the command line says of tools."""

    mcp: Path | None = None
    tools: str | None = None
    functions: Sequence[str] = ()
    allow: Sequence[str] = ()

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return self.mcp is not None or self.tools is not None or bool(self.functions)


def check_options(options: ToolOptions, *, has_camera: bool) -> None:
    """Check what can be checked before anything is started or loaded. Ends the command where something is wrong.

    Raises: ParameterError for a file of servers that is none.
    """
    if options.allow and not options.any:
        fail("--allow-tool: expected tools beside it: --mcp, --tools or --tool")
    _wanted(options.tools, has_camera=has_camera)
    for name in options.functions:
        place, _ = _place(name)
        if place.endswith(".py") and not Path(place).expanduser().is_file():
            fail(f"--tool {name!r:.200}: there is no file {place}")
    try:
        if options.mcp is not None:
            _servers(options.mcp)
    except ModuleNotFoundError as error:
        fail(str(error))


def opened_tools(
    options: ToolOptions,
    held: ExitStack,
    *,
    camera: "FrameSource | None" = None,
    announce: Callable[[str], object] | None = None,
    can_ask: bool = True,
) -> "Toolset | None":
    """Return the tools that the command line names, None where it names none; what they hold goes to `held`.

    camera: for the tool `camera`; announce: told when a timer is due; can_ask: whether a person may be asked in the
    terminal. Ends the command for what is no tool; servers that do not start are told on stderr.
    """
    if not options.any:
        if options.allow:
            fail("--allow-tool: expected tools beside it: --mcp, --tools or --tool")
        return None
    from edge.tools.toolset import Toolset

    found: list[ToolLike] = [*_included(options.tools, held, camera, announce or _told)]
    found += [_function(name) for name in options.functions]
    try:
        found += _served(options.mcp, held)
        tools = Toolset(found, allow=options.allow, ask=ask_in_terminal() if can_ask else None)
    except EdgeError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        fail(str(error))
    _check_allowed(options.allow, tools.names)
    return tools


def ask_in_terminal() -> "Ask | None":
    """Return what asks a person whether a tool may be called; None where there is no terminal to ask in."""
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    return _ask if is_terminal else None


def tell(event: "Event") -> None:
    """Show a call in one line on stderr, and what failed in another."""
    from edge.tools.output import shown_arguments, visible
    from edge.tools.rounds import RunResponse, ToolEnded, ToolStarted

    if isinstance(event, ToolStarted):
        _say(f"tool: {event.call.name}({shown_arguments(event.call.parameters)})")
    elif isinstance(event, ToolEnded) and event.result.is_error:
        said = visible(event.result.text)
        _say(f"tool: {said if len(said) <= _SHOWN_RESULT else said[:_SHOWN_RESULT] + '...'}")
    elif isinstance(event, RunResponse) and event.finish_reason in _CUT:
        _say(f"edge: {_CUT[str(event.finish_reason)]}")


_CUT = {
    "max_rounds": "the model may not call tools any more: it called them in every round",
    "repeated": "the model may not call tools any more: it repeated one call",
}


def _ask(name: str, arguments: Mapping[str, object]) -> bool | Literal["always"]:
    """Ask whether a tool may be called; what was typed before the question is no answer to it."""
    from edge.tools.output import shown_arguments

    _drop_typed()
    _say(f"Allow {name}({shown_arguments(arguments, n_chars=1000)})?")
    try:
        said = input("[y]es, [a]lways, [N]o: ").strip().lower()
    except (EOFError, UnicodeError):
        return False
    return "always" if said in ("a", "always") else said in ("y", "yes")


def _drop_typed() -> None:
    with suppress(ImportError, OSError, ValueError):
        import termios

        with suppress(termios.error):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _included(
    names: str | None, held: ExitStack, camera: "FrameSource | None", announce: Callable[[str], object]
) -> Iterable["ToolLike"]:
    """Return the included tools of these names."""
    from edge.tools.builtin import Timers, camera_tools, time_tools, volume_tools

    wanted = _wanted(names, has_camera=camera is not None)
    if "time" in wanted:
        yield from time_tools()
    if "timer" in wanted:
        timers = Timers(announce)
        held.callback(timers.close)
        yield from timers.tools()
    if "volume" in wanted:
        yield from volume_tools()
    if "camera" in wanted and camera is not None:
        yield from camera_tools(camera)


def _wanted(names: str | None, *, has_camera: bool) -> list[str]:
    """Return the names of included tools. Ends the command for one that there is not."""
    from edge.tools.builtin import INCLUDED

    wanted = list(dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip()))
    for name in wanted:
        if name not in INCLUDED:
            fail(f"--tools: expected some of {', '.join(INCLUDED)}, got {name!r:.100}")
        if name == "camera" and not has_camera:
            fail("--tools camera: expected --camera beside it")
    return wanted


def _served(file: Path | None, held: ExitStack) -> Iterable["ToolLike"]:
    """Return the tools of the servers in a file, started. Raises: ParameterError, ModuleNotFoundError."""
    if file is None:
        return ()
    servers = _servers(file)
    from edge.tools.mcp.servers import McpServers

    started = held.enter_context(McpServers(servers, tell=lambda text: _say(f"edge: {text}")))
    return started.tools


def _servers(file: Path) -> "list[McpServer]":
    """Return the servers in a file. Raises: ParameterError, ModuleNotFoundError."""
    from edge.extras import check

    check("mcp", need="--mcp")
    from edge.tools.mcp.servers_file import read_servers

    return read_servers(file.expanduser(), lambda text: _say(f"edge: {text}"))


def _function(name: str) -> "ToolLike":
    """Return a function that the command line names. Ends the command where there is none."""
    place, function = _place(name)
    try:
        module = _file(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever a file of the owner's does while it is loaded
        fail(f"--tool {name!r:.200}: {place}: {type(error).__name__}: {error}")
    found = getattr(module, function, None)
    if not callable(found):
        fail(f"--tool {name!r:.200}: {place} has no function {function}")
    return found  # type: ignore[no-any-return]


def _place(name: str) -> tuple[str, str]:
    """Return where a function is, and its name there. Ends the command for what is no such name."""
    place, _, function = name.rpartition(":")
    if not place or not function:
        fail(f"--tool {name!r:.200}: expected FILE.py:NAME or MODULE:NAME")
    return place, function


def _file(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _check_allowed(allow: Sequence[str], names: Sequence[str]) -> None:
    """Tell of names that allow nothing: most likely they are misspelt."""
    from fnmatch import fnmatchcase

    for pattern in allow:
        if not any(fnmatchcase(name, pattern) for name in names):
            _say(f"edge: --allow-tool {pattern}: no tool has that name; the tools are {', '.join(names) or 'none'}")


def _told(text: str) -> None:
    from edge.tools.output import visible

    _say(f"\a{visible(text)}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
