"""A connection to a server: it is started within its time, asked within its time, and started again when it ended."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp import Client, MCPError
from mcp_types import Implementation

from edge.errors import EdgeError
from edge.tools.mcp.http import http_transport
from edge.tools.mcp.listing import listed, mended
from edge.tools.mcp.results import result_of_call
from edge.tools.mcp.servers_file import McpServer
from edge.tools.mcp.stdio import StdioTransport
from edge.tools.output import ToolResult, printable, reason_of
from edge.version import RUNTIME_VERSION

if TYPE_CHECKING:
    from mcp_types import Tool

_RESTART_S = 10.0  # from one start to the next
_CLOSE_S = 10.0
_LOG = logging.getLogger("edge.tools.mcp")


class McpError(EdgeError):
    """A server that did not start, ended, or does what none may; the text names it and says why."""


class Connection:
    """A server and its session, all in one event loop. log: the file for what it writes to stderr."""

    def __init__(self, server: McpServer, log: Path) -> None:
        self.server = server
        self.log = log
        self.refused: list[tuple[str, str]] = []  # tools of its list that are none, and why
        self._client: Client | None = None
        self._stdio: StdioTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._starting = asyncio.Lock()
        self._started_s = float("-inf")
        self._is_closed = False
        self._is_forgotten = False  # the session, by a server at an address

    async def start(self) -> Sequence["Tool"]:
        """Start the server and return its tools. Raises: McpError."""
        self._started_s = time.monotonic()
        self._ending, self._is_forgotten = asyncio.Event(), False
        ready: asyncio.Future[Sequence[Tool]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve(ready))
        try:
            async with asyncio.timeout(self.server.start_s):
                return await asyncio.shield(ready)
        except TimeoutError as error:
            await self._end()
            raise self._error(f"it did not start within {self.server.start_s:g} s") from error

    async def call(self, name: str, arguments: Mapping[str, object]) -> ToolResult:
        """Call a tool of the server, which is started again when it ended since. Raises: McpError."""
        async with self._starting:
            if self._client is None or self._is_forgotten or self._why() is not None:
                await self._restart()
        if self._client is None:
            raise self._error(self._why() or "it is closed")
        try:
            async with asyncio.timeout(self.server.timeout_s):
                return result_of_call(await self._client.call_tool(name, dict(arguments)))
        except TimeoutError as error:
            raise self._error(f"{name} gave no result within {self.server.timeout_s:g} s") from error
        except MCPError as error:
            await asyncio.sleep(0)  # why the connection ended is known by now
            raise self._error(self._why() or f"{name}: {printable(str(error)):.300}") from error
        except Exception as error:  # whatever the SDK meets in an answer that is none
            raise self._error(self._why() or f"{name}: {reason_of(error)}") from error

    async def close(self) -> None:
        """End the session and the server for good."""
        self._is_closed = True
        await self._end()

    async def _end(self) -> None:
        """End the session and the server."""
        self._ending.set()
        if self._task is None:
            return
        if self._client is None:  # it is still starting, and would not look
            self._task.cancel()
        await asyncio.wait([self._task], timeout=_CLOSE_S)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CLOSE_S)

    async def _restart(self) -> None:
        if self._is_closed:
            raise self._error("it is closed")
        why = self._why() or "its session ended"
        if time.monotonic() - self._started_s < _RESTART_S:
            raise self._error(why)
        _LOG.info("MCP server %s is started again: %s", self.server.name, why)
        await self._end()
        await self.start()

    async def _serve(self, ready: "asyncio.Future[Sequence[Tool]]") -> None:
        """Hold the session from its start to its end: both in one task, as the SDK wants it."""
        try:
            async with self._session() as client:
                tools = await listed(client)
                self._client = client
                if not ready.done():
                    ready.set_result(tools)
                await self._ending.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(self._error(self._why() or _reason(error)))
                ready.exception()  # also where nobody waits for it any more
            if not isinstance(error, Exception | BaseExceptionGroup):
                raise
        finally:
            self._client = None

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Client]:
        server = self.server
        transport: Any
        if server.url is None:
            self._stdio = transport = StdioTransport(server.command, env=server.env, cwd=server.cwd, log=self.log)
        else:
            transport = http_transport(server.url, server.headers, on_forgotten=self._forgotten)
        transport = mended(transport, lambda name, why: self.refused.append((name, why)))
        me = Implementation(name="edge", version=RUNTIME_VERSION)
        async with Client(transport, client_info=me, read_timeout_seconds=server.timeout_s, cache=None) as client:
            watching = asyncio.create_task(self._watch())
            try:
                yield client
            finally:
                watching.cancel()

    async def _watch(self) -> None:
        """End the session when the server ended, so that no process of its stays."""
        while self._why() is None:
            await asyncio.sleep(0.2)
        self._ending.set()

    def _forgotten(self) -> None:
        self._is_forgotten = True

    def _why(self) -> str | None:
        """Return why the server cannot be asked, None while it can."""
        if self._stdio is not None and self._stdio.why is not None:
            return self._stdio.why
        return None

    def _error(self, why: str) -> McpError:
        return McpError(f"MCP server {self.server.name}: {why}")


def _reason(error: BaseException) -> str:
    """Return why a server did not start, in its own words where it has some."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"the command is not found: {error.filename}"
    if isinstance(error, MCPError):
        return printable(str(error))[:300]
    return reason_of(error)


def quiet() -> None:
    """Keep the SDK's log off the screen where the program has set up none."""
    for name in ("mcp", "client", "httpx2", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())
