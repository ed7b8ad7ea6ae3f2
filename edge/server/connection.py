"""One connection: uvicorn's HTTP/1.1, plus deadlines for who sends slowly or never reads, and errors as JSON."""

import asyncio
import errno
import functools
import logging
import ssl
from collections.abc import Callable
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from edge.chat.reply import refused
from edge.server.access import network
from edge.server.admission import Connections
from edge.server.http import dumped
from edge.server.route import RETRY_AFTER_S
from edge.server.routes import body_without_route

HEADER_S = 10.0
UNREAD_S = 30.0
MAX_CONNECTIONS = 256
MAX_PER_ADDRESS = 64
CROWD = "crowd"  # in a scope's state: why its connection has only a spare place, which is for asking for /health

Factory = Callable[[], asyncio.BaseProtocol]

_GOODBYE_S = 2.0  # for TLS to be closed in order
_LOG = logging.getLogger("edge.server")
_SAID_AGAIN_S = 60.0
_LATER = (f"retry-after: {RETRY_AFTER_S}",)
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Loop(asyncio.SelectorEventLoop):
    """An event loop for servers: it knows its connections, those too whose TLS handshake is not done.

    A lack of descriptors is said once, and costs some that did not ask for anything yet their connection. asyncio stops
    to accept for a second then, but says so for every connection that waits, every second. A server that is closed
    within that second is still asked to accept again, which is no error.
    """

    _next_said_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.connections = Connections(most=lambda: MAX_CONNECTIONS, most_per_address=lambda: MAX_PER_ADDRESS)

    def call_exception_handler(self, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, ValueError) and "._start_serving(" in str(context.get("message")):
            return
        if not isinstance(error, OSError) or error.errno not in _SHORTAGES:
            super().call_exception_handler(context)
            return
        self.connections.relieve()
        if self.time() >= self._next_said_s:
            self._next_said_s = self.time() + _SAID_AGAIN_S
            _LOG.error("no further connection can be accepted: %s", error.strerror)

    async def create_server(self, protocol_factory: Factory, *arguments: object, **named: object) -> asyncio.Server:
        context = named.pop("ssl", None)
        if isinstance(context, ssl.SSLContext):
            protocol_factory = functools.partial(Handshake, self, context, protocol_factory)
        return await super().create_server(protocol_factory, *arguments, **named)  # type: ignore[call-overload,no-any-return]


class Handshake(asyncio.Protocol):
    """A TLS connection until its handshake is done: it holds a place from the first, as one without headers does."""

    def __init__(self, loop: Loop, context: ssl.SSLContext, factory: Factory) -> None:
        self._loop = loop
        self._context = context
        self._factory = factory
        self._came: list[bytes] = []  # right behind the handshake
        self._lost = False
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self.network: str | None = None
        self.waiting_since_s = loop.time()
        self.is_slow = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()  # until somebody is there who understands it
        self.network = _network(get_remote_addr(self._transport))
        self._loop.connections.admit(self)
        if self not in self._loop.connections:
            self._transport.abort()
            return
        self._task = self._loop.create_task(self._shake(self._transport))

    def data_received(self, data: bytes) -> None:
        self._came.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._loop.connections.discard(self)

    def give_way(self, reason: str | None) -> None:
        """Close; before the handshake nothing can be said."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _shake(self, transport: asyncio.Transport) -> None:
        try:
            secure = await self._loop.start_tls(
                transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HEADER_S,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
        except OSError:  # TLS's own errors are among them
            return
        finally:
            self._loop.connections.discard(self)
        if secure is None or self._lost or secure.is_closing():
            return
        connection = self._factory()
        secure.set_protocol(connection)
        connection.connection_made(secure)
        for data in self._came:
            connection.data_received(data)  # type: ignore[attr-defined]


class Connection(H11Protocol):
    """A connection that is closed when its headers take too long or when what was sent to it is not read."""

    network: str | None = None
    _idle_s = 0.0
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    @property
    def waiting_since_s(self) -> float | None:
        """Since when it has had no complete headers: after its last answer, too."""
        return self._idle_s if self.conn.their_state is h11.IDLE else None

    @property
    def is_slow(self) -> bool:
        """Whether a body is on its way, or what was sent is not read."""
        return self.conn.their_state is h11.SEND_BODY or self._read_timer is not None

    def give_way(self, reason: str | None) -> None:
        """Close at once; a client that has sent something, and was sent nothing, is told why."""
        began = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        if reason is not None and began and (self.waiting_since_s is None or self.conn.trailing_data[0]):
            self._say(503, reason, _LATER)
        self.transport.abort()

    def on_response_complete(self) -> None:
        self._idle_s = self.loop.time()
        super().on_response_complete()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # However little stays unsent, it is known: a few bytes that nobody takes hold a connection like many.
        transport.set_write_buffer_limits(high=1, low=0)
        self.network = _network(self.client)
        self._idle_s = self.loop.time()
        crowd = self._all.admit(self)
        if self not in self._all:
            self._say(503, str(crowd), _LATER)
            return
        if crowd is not None:
            self.app_state = {**self.app_state, CROWD: crowd}
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or headers that do not end, with an error of ours."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._say(400, "not a HTTP/1.1 request, or its first line and headers are longer than 40 KiB", ())

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    @property
    def _all(self) -> Connections:
        return cast(Loop, self.loop).connections

    def _watch_head(self) -> None:
        """Give a request's first line and headers their time: from the connection's start, or from their first byte."""
        waits = self.conn.their_state is h11.IDLE and (self.scope is None or self.conn.trailing_data[0])
        if waits and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_S, self._late)
        elif not waits and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        if self.conn.trailing_data[0]:
            self._say(408, f"the headers did not arrive in {HEADER_S:g} seconds", ())
        else:
            self.transport.close()

    def _say(self, status: int, detail: str, headers: tuple[str, ...]) -> None:
        """Answer without a request that could be answered properly, and close."""
        body = dumped(body_without_route(refused(status, detail)))
        lines = ("content-type: application/json", *headers, f"content-length: {len(body)}", "connection: close")
        self.transport.write("\r\n".join([f"HTTP/1.1 {status} Refused", *lines, "", ""]).encode("ascii") + body)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self.transport.close()  # once what was written is sent; the other timer ends that, too

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._read_timer = None


def _network(client: tuple[str, int] | None) -> str | None:
    return None if client is None else network(client[0])
