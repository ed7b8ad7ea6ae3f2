"""Servers at an address: one made with the official SDK, and answers that are too large, compressed or no answers."""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.tools.mcp.servers import McpServers
from edge.tools.mcp.servers_file import McpServer
from edge.tools.mcp.stdio import MAX_MESSAGE_BYTES
from edge.tools.toolset import Toolset


@contextmanager
def served(app: object, port: int = 0) -> Iterator[str]:
    """Serve an application. port: 0 for one of its own."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def offered(tmp_path: Path, *servers: McpServer) -> McpServers:
    told: list[str] = []
    made = McpServers(servers, tell=told.append, logs=tmp_path)
    made.told = told  # type: ignore[attr-defined]
    return made


def test_a_server_of_the_sdk_is_asked_over_http(tmp_path: Path) -> None:
    official = MCPServer("official")

    @official.tool()
    def add(a: int, b: int) -> int:
        """Add numbers."""
        return a + b

    with (
        served(official.streamable_http_app()) as address,
        offered(
            tmp_path, McpServer("sum", url=f"{address}/mcp"), McpServer("gone", url="http://127.0.0.1:9/mcp")
        ) as it,
    ):
        assert [(tool.name, tool.description) for tool in it.tools] == [("sum__add", "Add numbers.")]
        assert Toolset(it.tools, allow=["*"]).call("sum__add", {"a": 2, "b": 3}) == "5"
        (told,) = it.told  # type: ignore[attr-defined]
        assert told.startswith("MCP server gone: ") and "stderr" not in told  # an address has none


def answering(calls: list[str]) -> Starlette:
    """A server with sessions of its own: the first is forgotten before its first call, as by one that restarted."""

    async def answer(request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        message = json.loads(await request.body())
        session = request.headers.get("mcp-session-id")
        if message["method"] == "initialize":
            calls.append("initialize")
            info = {"serverInfo": {"name": "x", "version": "1"}, "capabilities": {"tools": {}}}
            result: object = {"protocolVersion": "2025-06-18", **info}
            return JSONResponse(
                {"jsonrpc": "2.0", "id": message["id"], "result": result},
                headers={"mcp-session-id": f"session-{calls.count('initialize')}"},
            )
        if "id" not in message:
            return Response(status_code=202)
        if message["method"] == "tools/list":
            result = {"tools": [{"name": "add", "inputSchema": {"type": "object", "properties": {}}}]}
        elif session == "session-1":
            error = {"code": -32001, "message": "Session not found"}
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=404)
        else:
            result = {"content": [{"type": "text", "text": f"added in {session}"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    return Starlette(routes=[Route("/mcp", answer, methods=["POST", "GET", "DELETE"])])


def test_a_session_that_a_server_forgot_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.tools.mcp.connection._RESTART_S", 0.0)
    calls: list[str] = []
    with served(answering(calls)) as address, offered(tmp_path, McpServer("home", url=f"{address}/mcp")) as it:
        tools = Toolset(it.tools, allow=["*"])
        assert tools.call("home__add").startswith("Error: McpError: MCP server home: ")
        assert [tools.call("home__add") for _ in range(2)] == ["added in session-2"] * 2
    assert calls == ["initialize"] * 2


def test_a_server_that_was_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.tools.mcp.connection._RESTART_S", 0.0)

    def app() -> Starlette:
        official = MCPServer("official")
        official.tool()(add)
        return official.streamable_http_app()

    def add(a: int, b: int) -> int:
        """Add numbers."""
        return a + b

    with served(app()) as address:
        it = offered(tmp_path, McpServer("sum", url=f"{address}/mcp"))
        it.__enter__()
    tools, sums = Toolset(it.tools, allow=["*"]), {"a": 2, "b": 3}
    try:
        assert all(tools.call("sum__add", sums).startswith("Error: McpError: MCP server sum: ") for _ in range(2))
        with served(app(), int(address.rpartition(":")[2])):
            assert tools.call("sum__add", sums) == "5"
    finally:
        it.close()
    assert tools.call("sum__add", sums) == "Error: EdgeError: the MCP servers are closed"


@pytest.mark.parametrize("kind", ["large", "compressed", "page", "refused", "elsewhere"])
def test_an_answer_that_is_none_is_told(tmp_path: Path, kind: str) -> None:
    async def answer(request: Request) -> Response:
        headers = {"content-type": "application/json"}
        if kind == "large":
            return Response(b'"' + b"x" * (MAX_MESSAGE_BYTES + 10) + b'"', headers=headers)
        if kind == "compressed":
            return Response(gzip.compress(b"x" * 1000), headers={**headers, "content-encoding": "gzip"})
        if kind == "page":
            return Response("<html>", media_type="text/html")
        if kind == "elsewhere":
            return Response(status_code=307, headers={"location": "http://127.0.0.1:9/mcp"})
        return Response(status_code=401)

    app = Starlette(routes=[Route("/mcp", answer, methods=["POST", "GET", "DELETE"])])
    with served(app) as address, offered(tmp_path, McpServer("bad", url=f"{address}/mcp", start_s=20)) as it:
        assert it.tools == () and len(it.told) == 1 and it.told[0].startswith("MCP server bad: ")  # type: ignore[attr-defined]
