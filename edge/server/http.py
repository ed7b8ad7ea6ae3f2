"""One HTTP exchange without a framework: what was asked, what is answered, and JSON in both."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge.media.pool import Client

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HttpRequest:
    """path: as it was sent, without the query; headers: names in lower case; client: None in process."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | bytearray
    client: Client | None = None


@dataclass(frozen=True)
class HttpResponse:
    """A response that is whole."""

    status: int
    headers: Headers
    body: bytes


def dumped(value: object) -> bytes:
    """Return JSON in ASCII: an unescaped U+2028 would break the lines of readers of streams."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def json_response(value: object, *, status: int = 200, headers: Headers = ()) -> HttpResponse:
    return HttpResponse(status, (("content-type", "application/json"), *headers), dumped(value))


def event(value: object) -> bytes:
    """Return one event of a stream: one data line."""
    return b"data: " + dumped(value) + b"\n\n"


def comment(name: str, value: object) -> bytes:
    """Return a comment of a stream, which its readers skip: a name and JSON."""
    return b": " + name.encode("ascii") + b" " + dumped(value) + b"\n\n"


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their names in lower case; of one that comes twice, all values."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
