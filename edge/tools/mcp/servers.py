"""Several servers at once, in an event loop of their own, and their tools under names that are distinct and valid."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import threading
import unicodedata
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from edge.chat.tools import MAX_TOOLS
from edge.engine.grammar.format import call_format
from edge.errors import EdgeError, ParameterError, SchemaError
from edge.extras import check
from edge.tools.mcp.servers_file import McpServer
from edge.tools.output import ToolResult, printable, visible
from edge.tools.tool import check_schema

if TYPE_CHECKING:
    from mcp_types import Tool

    from edge.tools.mcp.connection import Connection

T = TypeVar("T")
Tell = Callable[[str], None]

_MAX_NAME = 64
_DESCRIPTION_CHARS = 2000
_SCHEMA_CHARS = 16_000
_GRACE_S = 5.0  # for a call that a server ends at its own limit
_CLOSE_S = 60.0


@dataclass(frozen=True, eq=False)
class McpTool:
    """A tool of a server, as a `Toolset` takes it. server, original: who has it, and its name there."""

    name: str
    description: str
    parameters: Mapping[str, object]
    read_only: bool
    timeout_s: float | None
    server: str
    original: str
    ask: Callable[[str, Mapping[str, object]], ToolResult]

    def checked(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """Return arguments; the server checks the rest. Raises: ValueError for one that is missing."""
        required = self.parameters.get("required")
        missing = [name for name in required if name not in arguments] if isinstance(required, list) else []
        if missing:
            raise ValueError(f"missing: {', '.join(map(str, missing))}")
        return arguments

    def invoke(self, arguments: Mapping[str, object]) -> ToolResult:
        """Call it and wait for its result. Raises: McpError."""
        return self.ask(self.original, arguments)


class McpServers:
    """Servers and their tools; a context manager that ends every process it started.

    servers: as `read_servers` gives them; tell: called with one sentence for each server or tool that cannot be used.
    Those that can are offered as `tools`. logs: a folder for what servers write to stderr, a file each.

        with McpServers(read_servers(path, print), tell=print) as servers:
            tools = Toolset([*servers.tools, weather])

    The list of tools is that of the start: what a server changes later is not believed.
    Raises: ModuleNotFoundError naming the extra `mcp` where it is not installed.
    """

    def __init__(self, servers: Sequence[McpServer], *, tell: Tell, logs: Path | None = None) -> None:
        check("mcp", need="MCP servers")
        self.tools: tuple[McpTool, ...] = ()
        self._servers = servers
        self._tell = tell
        self._logs = logs or log_folder()
        self._connections: list[Connection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge-mcp", daemon=True)

    def __enter__(self) -> Self:
        from edge.tools.mcp.connection import quiet

        quiet()
        self._thread.start()
        try:
            self.tools = tuple(_fitting(self._run(self._start()), self._tell))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all sessions and servers."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                self._run(self._end(), limit_s=_CLOSE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_GRACE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T], *, limit_s: float | None = None) -> T:
        """Do work in the loop and wait for it; what stops the waiting stops the work. Raises: EdgeError when closed."""
        try:
            doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise EdgeError("the MCP servers are closed") from error
        try:
            return doing.result(limit_s)
        except BaseException:
            doing.cancel()
            raise

    async def _start(self) -> list[McpTool]:
        """Start all servers at once; return the tools of those that did, in the order of the servers."""
        from edge.tools.mcp.connection import Connection, McpError

        self._connections = [
            Connection(server, self._logs / f"{i}-{_valid(server.name)[:40]}.log")
            for i, server in enumerate(self._servers)
        ]
        listed = await asyncio.gather(*(each.start() for each in self._connections), return_exceptions=True)
        tools: list[McpTool] = []
        for connection, found in zip(self._connections, listed, strict=True):
            if isinstance(found, McpError):
                log = f"; its stderr is in {connection.log}" if connection.server.command else ""
                self._tell(visible(str(found)) + log)
            elif isinstance(found, BaseException):
                raise found
            else:
                tools += self._offered(connection, found, {tool.name for tool in tools})
        return tools

    async def _end(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections), return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _offered(self, connection: "Connection", listed: Sequence["Tool"], taken: set[str]) -> list[McpTool]:
        """Return the tools of a server that can be offered; tell of those that cannot."""
        server = connection.server
        wanted = [tool for tool in listed if server.tools is None or tool.name in server.tools]
        for name in set(server.tools or ()) - {tool.name for tool in listed}:
            self._tell(f"MCP server {server.name}: it has no tool {name!r:.100}")
        for refused, why in connection.refused:
            self._tell(
                f"MCP server {server.name}: a tool is left out: tool {visible(refused):.100}: {visible(why):.300}"
            )
        offered: list[McpTool] = []
        seen: set[str] = set()
        for tool in wanted:
            if tool.name in seen:
                self._tell(
                    f"MCP server {server.name}: the tool {visible(tool.name):.100} is there twice; the first is used"
                )
                continue
            seen.add(tool.name)
            name = _name(server.name, tool.name, taken)
            made = self._tool(connection, tool, name)
            try:
                check_schema(made)
            except ParameterError as error:
                self._tell(f"MCP server {server.name}: a tool is left out: {visible(str(error)):.400}")
                continue
            taken.add(name)
            offered.append(made)
        return offered

    def _tool(self, connection: "Connection", tool: "Tool", name: str) -> McpTool:
        server = connection.server
        # A server's own word is believed only where the owner says so: the specification calls it an untrusted hint.
        read_only = server.trust and tool.annotations is not None and tool.annotations.read_only_hint is True

        def ask(original: str, arguments: Mapping[str, object]) -> ToolResult:
            return self._run(connection.call(original, arguments))

        limit_s = server.timeout_s + server.start_s + _GRACE_S
        schema = _schema(tool.input_schema)
        return McpTool(name, _described(tool), schema, read_only, limit_s, server.name, tool.name, ask)


def log_folder() -> Path:
    """Return where servers' stderr goes: $XDG_STATE_HOME/edge/mcp, else ~/.local/state/edge/mcp."""
    chosen = os.environ.get("XDG_STATE_HOME", "")
    state = Path(chosen) if Path(chosen).is_absolute() else Path("~/.local/state").expanduser()
    return state / "edge" / "mcp"


def _fitting(tools: Sequence[McpTool], tell: Tell) -> list[McpTool]:
    """Return as many of the first tools as one request may offer."""
    fitting = list(tools)[:MAX_TOOLS]
    while fitting and not _is_within(fitting):
        fitting = fitting[: len(fitting) // 2]
    left_out: dict[str, int] = {}
    for tool in tools[len(fitting) :]:
        left_out[tool.server] = left_out.get(tool.server, 0) + 1
    for server, n in left_out.items():
        tell(
            f"MCP server {server}: {n} of its tools are left out, at most {MAX_TOOLS} are offered in all; "
            'name those that are wanted in the file: "tools": [...]'
        )
    return fitting


def _is_within(tools: Iterable[McpTool]) -> bool:
    """Return whether calls of all tools together can be constrained."""
    try:
        call_format({tool.name: tool.parameters for tool in tools}, field="tools")
    except SchemaError:
        return False
    return True


def _schema(schema: Mapping[str, object]) -> dict[str, object]:
    """Return a schema of arguments; one that would fill the context is refused by what takes its place."""
    size = len(json.dumps(schema, default=str))
    if size > _SCHEMA_CHARS:
        return {"type": f"a schema of {size} characters, at most {_SCHEMA_CHARS} are supported"}
    return {key: value for key, value in schema.items() if key not in ("$schema", "title")}


def _described(tool: "Tool") -> str:
    """Return what a tool does, in text that can be seen: what is hidden is for no person to check."""
    text = printable(tool.description or tool.title or "")
    seen = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cf", "Co", "Cn"))
    return seen if len(seen) <= _DESCRIPTION_CHARS else f"{seen[:_DESCRIPTION_CHARS]}..."


def _name(server: str, tool: str, taken: set[str]) -> str:
    """Return a name for a tool of a server that is valid and not taken."""
    plain = f"{_valid(server)}__{_valid(tool)}"
    said = f"{server}\0{tool}".encode("utf-8", "surrogatepass")
    found, n_tries = plain, 0
    while len(found) > _MAX_NAME or found in taken:  # a server may name a tool as another one would be named
        digest = hashlib.sha256(said + b"\0" * n_tries).hexdigest()[:8]
        found, n_tries = f"{plain[: _MAX_NAME - 9]}_{digest}", n_tries + 1
    return found


def _valid(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name) or "_"
