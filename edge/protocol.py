"""One connection: uvicorn's HTTP/1.1, plus deadlines for who sends slowly or never reads, and errors as JSON."""

import asyncio
import errno
import ipaddress
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.exchange import RETRY_AFTER_S, dumped

HEADER_S = 10.0
UNREAD_S = 30.0
MAX_CONNECTIONS = 256
MAX_PER_ADDRESS = 64

_LOG = logging.getLogger("edge.server")
_SAID_AGAIN_S = 60.0
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Loop(asyncio.SelectorEventLoop):
    """An event loop for servers: TLS handshakes have no more time than headers, and a lack of descriptors is said once.

    asyncio stops to accept for a second then, but says so for every connection that waits, every second. A server that
    is closed within that second is still asked to accept again, which is no error.
    """

    _next_said_s = 0.0

    def call_exception_handler(self, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, ValueError) and "._start_serving(" in str(context.get("message")):
            return
        if not isinstance(error, OSError) or error.errno not in _SHORTAGES:
            super().call_exception_handler(context)
        elif self.time() >= self._next_said_s:
            self._next_said_s = self.time() + _SAID_AGAIN_S
            _LOG.error("no further connection can be taken: %s", error.strerror)

    async def create_server(self, *arguments: object, **named: object) -> asyncio.Server:
        if named.get("ssl") is not None:
            named.setdefault("ssl_handshake_timeout", HEADER_S)
        return await super().create_server(*arguments, **named)  # type: ignore[call-overload,no-any-return]


class Connection(H11Protocol):
    """A connection that is closed when its headers take too long or when what was sent to it is not read."""

    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # However little stays unsent, it is known: a few bytes that nobody takes hold a connection like many.
        transport.set_write_buffer_limits(high=1, low=0)
        crowd = self._crowd()
        if crowd is not None:
            self._say(503, crowd, (f"retry-after: {RETRY_AFTER_S}",))
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
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

    def _crowd(self) -> str | None:
        """Return which number of connections is too large with this one, None when none is."""
        if len(self.connections) > MAX_CONNECTIONS:
            return f"{MAX_CONNECTIONS} connections are open"
        here = _network(self.client)
        others = (other for other in self.connections if isinstance(other, Connection))
        if sum(_network(other.client) == here for other in others) > MAX_PER_ADDRESS:
            return f"{MAX_PER_ADDRESS} connections from one address are open"
        return None

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
        body = dumped({"detail": detail})
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
    """Return what counts as one address: of IPv6 the 64 bits that name a network, whose rest its owner may choose."""
    if client is None:
        return None
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    if address.version == 4 or address.ipv4_mapped is not None:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
