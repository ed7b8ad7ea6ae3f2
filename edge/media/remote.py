"""Media fetched over https, where the owner allowed it: from hosts on a list, within bounds of time, bytes and hops."""

import functools
import re
import ssl
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpcore

from edge.errors import MediaError, ParameterError, shown
from edge.limits import Limits
from edge.media.dial import Connect, Dialler, Refused, Resolve, connect, resolve

_PORT = 443
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?"
_URL = re.compile(rf"https://({_NAME})(?::([0-9]{{1,5}}))?((?:[/?][!-\[\]-~]*)?)", re.IGNORECASE)
_ALLOWED = re.compile(rf"(\*|(?:\*\.)?(?:{_NAME}))(?::([0-9]{{1,5}}))?")
_MAX_URL_CHARS = 8192
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"edge"))
# Everything httpcore raises; a test compares the list with the library's own.
FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)


@dataclass(frozen=True)
class Remote:
    """What may be fetched, and how. Source: limits.md.

    hosts: "example.com", "*.example.com" for the names below it, "*" for all; a port other than 443 is named too
    ("example.com:8443"). resolve, connect: what names and connections are made with.
    Raises: ParameterError for a host that is none.
    """

    hosts: tuple[str, ...]
    redirects: int = Limits.redirects
    connect_s: float = Limits.connect_s
    total_s: float = Limits.fetch_s
    max_bytes: int = Limits.fetch_bytes
    resolve: Resolve = field(default=resolve, repr=False)
    connect: Connect = field(default=connect, repr=False)

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not isinstance(host, str) or not _ALLOWED.fullmatch(host):
                wanted = "expected a host as example.com, *.example.com or example.com:8443"
                raise ParameterError(f"allow_media: {wanted}, got {shown(str(host))}", field="allow_media")

    def allows(self, host: str, port: int) -> bool:
        """Return whether the list has a host and port."""
        return any(_covers(allowed, host, port) for allowed in self.hosts)


@dataclass(frozen=True)
class _Place:
    """A URL taken apart once: what is checked here is what is dialled."""

    host: str
    port: int
    target: str


def read_remote(url: str, remote: Remote) -> bytes:
    """Fetch what an https URL stands for. Raises: MediaError, which shows the URL that was asked for and no address."""
    end_s = time.monotonic() + remote.total_s
    dialler = Dialler(resolve=remote.resolve, connect=remote.connect, connect_s=remote.connect_s, end_s=end_s)
    place = _place(url, remote, url)
    try:
        with httpcore.ConnectionPool(ssl_context=_trusted(), network_backend=dialler, max_connections=1) as pool:
            for _ in range(remote.redirects + 1):
                answer = _ask(pool, place, url, remote)
                if isinstance(answer, bytes):
                    return answer
                place = _place(answer, remote, url)
    except Refused as error:
        raise MediaError(f"{shown(url)}: cannot be fetched: {error}") from error
    except httpcore.TimeoutException as error:
        within = f"{remote.connect_s:g} s to connect, {remote.total_s:g} s in all"
        raise MediaError(f"{shown(url)}: cannot be fetched within {within}") from error
    except FAILURES as error:
        raise MediaError(f"{shown(url)}: cannot be fetched: {_reason(error)}") from error
    raise MediaError(f"{shown(url)}: expected at most {remote.redirects} redirects, got {remote.redirects + 1} or more")


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Return what certificates are checked with; loading the authorities takes a while."""
    return httpcore.default_ssl_context()


def _ask(pool: httpcore.ConnectionPool, place: _Place, url: str, remote: Remote) -> bytes | str:
    """Return the body of an answer, or the URL it redirects to."""
    origin = httpcore.URL(
        scheme=b"https", host=place.host.encode("ascii"), port=place.port, target=place.target.encode("ascii")
    )
    with pool.stream("GET", origin, headers=list(_HEADERS)) as response:
        headers = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in headers:
            here = f"https://{place.host}:{place.port}{place.target}"
            try:
                return urllib.parse.urljoin(here, headers[b"location"].decode("ascii")).partition("#")[0]
            except ValueError as error:  # not ASCII, or a host in odd brackets
                raise MediaError(f"{shown(url)}: redirects to something that is not a URL") from error
        if response.status != 200:
            raise MediaError(f"{shown(url)}: expected status 200, got {response.status}")
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise MediaError(f"{shown(url)}: expected a body that is not compressed")
        return _body(response, headers.get(b"content-length", b""), url, remote.max_bytes)


def _body(response: httpcore.Response, length: bytes, url: str, max_bytes: int) -> bytes:
    """Read a body, counted as it comes."""
    if length.isdigit() and int(length[:20]) > max_bytes:
        told = length[:20].decode("ascii")
        raise MediaError(f"{shown(url)}: expected at most {max_bytes} bytes, got {told}")
    body = bytearray()
    for part in response.iter_stream():
        body += part
        if len(body) > max_bytes:
            raise MediaError(f"{shown(url)}: expected at most {max_bytes} bytes, got {len(body)} or more")
    return bytes(body)


def _place(url: str, remote: Remote, asked: str) -> _Place:
    """Take a URL apart, strictly, and check its host. Raises: MediaError."""
    written = url.partition("#")[0]
    match = _URL.fullmatch(written) if len(written) <= _MAX_URL_CHARS else None
    if match is None:
        to = "" if url == asked else "redirects to another kind of URL: "
        raise MediaError(f"{shown(asked)}: {to}expected an https URL of a host and a path, in plain ASCII")
    host, port = match[1].lower().rstrip("."), int(match[2] or _PORT)
    if not remote.allows(host, port):
        place = host if port == _PORT else f"{host}:{port}"
        what = f"media from {shown(place)} are" if url == asked else "redirects to a host that is"
        name = place if url == asked else "HOST"
        raise MediaError(f"{shown(asked)}: {what} not allowed here: allow_media=[{name!r}] or --allow-media {name}")
    target = match[3]
    return _Place(host, port, target if target.startswith("/") else f"/{target}")


def _covers(allowed: str, host: str, port: int) -> bool:
    match = _ALLOWED.fullmatch(allowed)
    if match is None or port != int(match[2] or _PORT):
        return False
    name = match[1].lower().rstrip(".")
    return name == "*" or name == host or (name.startswith("*.") and host.endswith(name[1:]))


def _reason(error: Exception) -> str:
    """Say why there was no answer; what the libraries say may hold addresses."""
    causes: Sequence[BaseException | None] = (error.__cause__, error.__context__)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return "its certificate is not trusted"
    if isinstance(error, httpcore.ProtocolError):
        return "the answer is not HTTP, or it is cut off"
    return "the connection failed"
