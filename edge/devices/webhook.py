"""A line of JSON sent to an address by POST: tried again when the receiver is away, not when it refuses."""

import ssl
import threading
from collections.abc import Mapping
from functools import cache
from urllib.parse import urlsplit

import httpcore

from edge.devices.deliveries import Fields, Undelivered
from edge.errors import ParameterError
from edge.media.remote import FAILURES
from edge.version import RUNTIME_VERSION

MAX_TRIES = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_TIMEOUT_S = 10.0  # to connect, to send, and for each part of an answer
_AGAIN = (408, 425, 429)
_OF_THE_CLIENT = ("content-length", "transfer-encoding")  # another value than its own would break every request


class _Away(Exception):
    """A receiver that may take the line later. wait_s: the least it asks for, None where it does not."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Webhook:
    """An address that lines are sent to, by POST as application/json.

    url: http or https, its certificate checked; headers: of each request. An answer of 2xx is a delivery. 408, 425,
    429, 5xx and a receiver that cannot be reached are tried again up to six times, after 1, 2, 4 ... seconds or what
    Retry-After asks for, 60 at most. Redirects are not followed: they would carry the headers elsewhere.
    Raises: ParameterError for what is no such address or header.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None) -> None:
        self._url = url
        self.name = f"webhook {_origin(url)}"
        own = {"Content-Type": "application/json", "User-Agent": f"edge/{RUNTIME_VERSION}"}
        given = dict(headers or {})
        lower = {name.lower() for name in given}
        own = {name: value for name, value in own.items() if name.lower() not in lower}
        self._headers = [(_token(name), _value(name, value)) for name, value in {**own, **given}.items()]

    def deliver(self, line: str, _fields: Fields, stop: threading.Event) -> None:
        """Send a line. stop: set when there is no more time. Raises: Undelivered."""
        wait_s = _FIRST_WAIT_S
        for n_tries in range(1, MAX_TRIES + 1):
            try:
                return self._post(line)
            except _Away as away:
                if n_tries == MAX_TRIES:
                    raise Undelivered(f"{away}; given up after {n_tries} tries") from away
                if stop.wait(min(_LONGEST_WAIT_S, max(wait_s, away.wait_s or 0))):
                    raise Undelivered(f"{away}; given up, for the watch ends") from away
                wait_s *= 2

    def _post(self, line: str) -> None:
        """Send a line once. Raises: _Away, Undelivered."""
        limits = dict.fromkeys(("connect", "read", "write", "pool"), _TIMEOUT_S)
        try:
            with (
                httpcore.ConnectionPool(ssl_context=_trusted(), max_connections=1) as pool,
                pool.stream(
                    "POST", self._url, headers=self._headers, content=line.encode(), extensions={"timeout": limits}
                ) as answer,
            ):
                status, headers = answer.status, {name.lower(): value for name, value in answer.headers}
        except (*FAILURES, OSError, ValueError) as error:  # ValueError: an answer that is none
            raise _Away(f"cannot be reached: {type(error).__name__}: {error}") from error
        if 200 <= status < 300:
            return
        if status in _AGAIN or status >= 500:
            raise _Away(f"answered {status}", _seconds(headers.get(b"retry-after", b"")))
        if 300 <= status < 400:
            raise Undelivered(f"answered {status}: redirects are not followed; name the address itself")
        raise Undelivered(f"refused with {status}")


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _origin(url: str) -> str:
    """Return the scheme and host of an address: the rest may be secret. Raises: ParameterError."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:
        raise ParameterError(f"webhook: expected an address, got one that is none: {error}", field="webhook") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError("webhook: expected an address that begins with http:// or https://", field="webhook")
    if parts.username is not None:
        raise ParameterError("webhook: a name in the address is not supported: use a header", field="webhook")
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise ParameterError("webhook: expected an address of ASCII characters without spaces", field="webhook")
    return f"{parts.scheme}://{parts.hostname}{port}"


def _token(name: str) -> bytes:
    if not name or not name.isascii() or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name):
        raise ParameterError(f"webhook header {name!r:.100}: expected NAME: VALUE", field="webhook_header")
    if name.lower() in _OF_THE_CLIENT:
        raise ParameterError(f"webhook header {name}: it is set by what is sent; leave it out", field="webhook_header")
    return name.encode()


def _value(name: str, value: str) -> bytes:
    try:
        data = value.strip().encode("ascii")
    except UnicodeEncodeError as error:
        raise ParameterError(f"webhook header {name}: expected ASCII", field="webhook_header") from error
    if any(c < 0x20 or c == 0x7F for c in data):
        raise ParameterError(f"webhook header {name}: expected no control characters", field="webhook_header")
    return data


def _seconds(after: bytes) -> float | None:
    """Return the seconds of a Retry-After, None for a date or nothing."""
    text = after.decode("latin-1").strip()
    return float(text) if text.isdecimal() and len(text) < 10 else None
