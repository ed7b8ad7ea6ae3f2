"""A server at an address: the SDK's streamable HTTP, within what an answer may hold."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from edge.tools.mcp.stdio import MAX_MESSAGE_BYTES

Streams = Any  # what the SDK's transports give: a type that it keeps to itself

_CONNECT_S = 10.0
_READ_S = 300.0  # a server may hold a stream open
_SESSION, _FORGOTTEN = "mcp-session-id", 404  # Source: the specification of MCP, Streamable HTTP, Session Management


class _Refused(httpx2.TransportError):
    """An answer that is larger than any may be, or compressed: what that holds is not known before."""


class _Bounded(httpx2.AsyncByteStream):
    """A body of at most so many bytes; streams of events, which never end, have a limit for each event elsewhere."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        n_bytes = 0
        async for chunk in self._inner:
            n_bytes += len(chunk)
            if n_bytes > MAX_MESSAGE_BYTES:
                raise _Refused(f"it sent an answer of more than {MAX_MESSAGE_BYTES >> 20} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedTransport(httpx2.AsyncHTTPTransport):
    """HTTP whose answers are bounded. on_forgotten: called when a server does not know the session any more."""

    def __init__(self, on_forgotten: Callable[[], None]) -> None:
        super().__init__()
        self._on_forgotten = on_forgotten

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.status_code == _FORGOTTEN and _SESSION in request.headers:
            self._on_forgotten()
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise _Refused("it sent a compressed answer, which nobody asked for")
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Bounded(response.stream)
        return response


@asynccontextmanager
async def http_transport(
    url: str, headers: Mapping[str, str], *, on_forgotten: Callable[[], None]
) -> AsyncGenerator[Streams]:
    """Connect to a server at an address. headers: of every request; on_forgotten: called when its session is over."""
    timeout = httpx2.Timeout(_CONNECT_S, read=_READ_S)
    client = httpx2.AsyncClient(
        headers={"Accept-Encoding": "identity", **headers},
        timeout=timeout,
        transport=_BoundedTransport(on_forgotten),
    )
    async with (
        client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams,
    ):
        yield streams
