"""Who may ask: the Host and Origin of a request, its key, and the shape of its headers, decided on the raw path."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Sequence

from edge.chat.reply import refused
from edge.limits import Limits
from edge.server.http import HttpResponse, header_map
from edge.server.routes import errors_of, routes_at
from edge.types import ApiError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

RawHeaders = Sequence[tuple[bytes, bytes]]


class Guard:
    """What a server lets in; key: None for a server that asks for none; hosts: names besides the loopback ones."""

    def __init__(self, *, key: str | None, hosts: Iterable[str] = (), limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()
        self._hosts = {host.lower() for host in (*_LOOPBACK, *hosts)}

    @property
    def asks(self) -> bool:
        """Whether a key is asked for."""
        return self._key is not None

    def check(self, method: str, path: str, headers: RawHeaders, *, reached: str | None) -> HttpResponse | None:
        """Return the response for a request that is not let in, None for others.

        reached: the address the connection arrived at, which is a Host of this server too.
        """
        try:
            self._check(method, path, headers, reached)
        except ApiError as error:
            asks = (("www-authenticate", "Bearer"),) if error.status_code == 401 else ()
            return errors_of(path, header_map(headers)).response(error, asks)
        return None

    def _check(self, method: str, path: str, headers: RawHeaders, reached: str | None) -> None:
        n_bytes = sum(len(name) + len(value) + 4 for name, value in headers)
        limits = self._limits
        if len(headers) > limits.headers:
            raise refused(431, f"headers: expected at most {limits.headers}, got {len(headers)}")
        if n_bytes > limits.header_bytes:
            raise refused(431, f"headers: expected at most {limits.header_bytes} bytes, got {n_bytes}")
        fields = header_map(headers)
        if "transfer-encoding" in fields and "content-length" in fields:
            raise refused(400, "headers: expected transfer-encoding or content-length, got both")
        host = fields.get("host", "")
        if not self._is_ours(host, reached):
            raise refused(403, f"host: {host[:200]!r} is not this server; --allowed-host adds a name")
        origin = fields.get("origin")
        if origin is not None and not _same(origin, host):
            raise refused(403, f"origin: {origin[:200]!r} may not ask this server")
        is_open = any(route.is_open and route.supports(method) for route in routes_at(path, fields))
        if self._key is not None and not is_open and not self._knows(fields):
            raise refused(401, "the key is missing or wrong: X-Api-Key, or Authorization: Bearer")

    def _is_ours(self, host: str, reached: str | None) -> bool:
        name = _host_name(host)
        return name is not None and (name in self._hosts or name == reached)

    def _knows(self, fields: dict[str, str]) -> bool:
        scheme, _, token = fields.get("authorization", "").partition(" ")
        given = fields.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        return self._key is not None and hmac.compare_digest(digest, self._key)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def network(host: str) -> str:
    """Return what counts as one address: of IPv6 the 64 bits that name a network, whose rest its owner may choose."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4 or address.ipv4_mapped is not None:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _host_name(host: str) -> str | None:
    """Return the name or address in a Host header, in lower case; None for what is not one."""
    name, port = host, ""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif ":" in host:
        name, _, port = host.partition(":")
    return name.lower() if name and (not port or (port.isascii() and port.isdigit())) else None


def _same(origin: str, host: str) -> bool:
    """Return whether a page's origin is the Host it asks: the server's own page."""
    scheme, separator, place = origin.partition("://")
    return bool(separator) and scheme.lower() in ("http", "https") and place.lower() == host.lower()
