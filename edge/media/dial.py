"""Dialling servers that untrusted clients name: public addresses only, the one that was checked, never too long."""

import contextlib
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import httpcore

Resolve = Callable[[str, int], Sequence[str]]  # host, port -> addresses; raises OSError
Connect = Callable[[str, int, float], httpcore.NetworkStream]  # address, port, seconds; raises httpcore's errors

_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
# Inside of it: other protocols' (Teredo, ORCHID, documentation), 6to4, more documentation.
_NOT_GLOBAL_6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_RELAYS_4 = ipaddress.IPv4Network("192.88.99.0/24")  # of 6to4


class Refused(Exception):
    """A host has an address that may not be dialled, or none at all; says why without the address."""


def is_public(address: str) -> bool:
    """Return whether an address belongs to a single machine of the public internet, reached without a tunnel."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.scope_id is None and is_public(str(found.ipv4_mapped))
        if found.scope_id is not None or found not in _GLOBAL_6 or any(found in network for network in _NOT_GLOBAL_6):
            return False
    elif found in _RELAYS_4:
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system knows them."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connect(address: str, port: int, limit_s: float) -> httpcore.NetworkStream:
    """Open a TCP connection to an address."""
    return httpcore.SyncBackend().connect_tcp(address, port, timeout=limit_s)


class Dialler(httpcore.NetworkBackend):
    """What httpcore connects with: every name is resolved once, all its addresses checked, one of them dialled.

    end_s: when all is over (time.monotonic()); connect_s: what a connection, its name and its handshake may take.
    """

    def __init__(self, *, resolve: Resolve, connect: Connect, connect_s: float, end_s: float) -> None:
        self._resolve = resolve
        self._connect = connect
        self._connect_s = connect_s
        self._end_s = end_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a host. Raises: Refused, httpcore.ConnectError, httpcore.ConnectTimeout."""
        connected_s = min(self._end_s, time.monotonic() + self._connect_s)
        addresses = self._addresses(host, port, connected_s)
        if not addresses:
            raise Refused("its host has no address")
        # One of several that is not public is one too many: whoever names it chooses which comes first.
        if not all(map(is_public, addresses)):
            raise Refused("expected a host with public addresses only")
        failure: Exception = httpcore.ConnectTimeout()
        for address in dict.fromkeys(addresses):
            left_s = connected_s - time.monotonic()
            if left_s <= 0:
                break
            try:
                return Timed(self._connect(address, port, left_s), self._end_s, connected_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, end_s: float) -> Sequence[str]:
        """Resolve a name within a time, which the system's own resolver does not know."""
        answers: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                answers.put(OSError(str(error)))

        threading.Thread(target=ask, name="edge-resolve", daemon=True).start()
        try:
            answer = answers.get(timeout=max(0.0, end_s - time.monotonic()))
        except queue.Empty as error:
            raise httpcore.ConnectTimeout from error
        if isinstance(answer, OSError):
            raise Refused("its host has no address") from answer
        return answer


class Timed(httpcore.NetworkStream):
    """A connection that no read or write on it outlives its end."""

    def __init__(self, stream: httpcore.NetworkStream, end_s: float, connected_s: float) -> None:
        self._stream = stream
        self._end_s = end_s
        self._connected_s = connected_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read some bytes. Raises: httpcore.ReadTimeout, httpcore.ReadError."""
        return self._stream.read(max_bytes, self._left_s(self._end_s, timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all bytes. Raises: httpcore.WriteTimeout, httpcore.WriteError."""
        self._stream.write(buffer, self._left_s(self._end_s, timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Shake hands, under the name that was asked for. Raises: httpcore.ConnectTimeout, httpcore.ConnectError."""
        left_s = self._left_s(self._connected_s, timeout, httpcore.ConnectTimeout)
        return Timed(self._stream.start_tls(ssl_context, server_hostname, left_s), self._end_s, self._connected_s)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def get_extra_info(self, info: str) -> object:
        """Return what httpcore wants to know of a socket."""
        return self._stream.get_extra_info(info)

    def _left_s(self, end_s: float, timeout: float | None, late: type[httpcore.TimeoutException]) -> float:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise late
        return left_s if timeout is None else min(left_s, timeout)
