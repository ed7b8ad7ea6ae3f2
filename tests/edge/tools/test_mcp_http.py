"""Servers at an address: one made with the official SDK, and answers that are too large, compressed or no answers."""

import asyncio
import gzip
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
from starlette.responses import Response
from starlette.routing import Route

from edge.tools.mcp.servers import McpServers
from edge.tools.mcp.servers_file import McpServer
from edge.tools.mcp.stdio import MAX_MESSAGE_BYTES
from edge.tools.toolset import Toolset


@contextmanager
def served(app: object) -> Iterator[str]:
    """Serve an application on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
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
        assert len(it.told) == 1 and it.told[0].startswith("MCP server gone: ")  # type: ignore[attr-defined]


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
