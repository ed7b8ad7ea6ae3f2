"""One HTTP exchange without a framework: what was asked, what is answered, and an error in the form of its route."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from edge.chat.reply import Reply
from edge.engine.handle import Progress
from edge.errors import ContextLengthError, RateLimitError, UnknownModelError
from edge.media.pool import Client
from edge.types import ApiError, HttpValidationError

Headers = tuple[tuple[str, str], ...]

MODELS_PATH = "/v1/models"
RETRY_AFTER_S = 5

_REKA_PATH = "/v1/chat"
_SLASHED = ("/chat", "/models")  # API routes outside /v1
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "overloaded"}


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


class Writer(Protocol):
    """How a route writes an answer: at once, or as the events of a stream."""

    @property
    def streams(self) -> bool:
        """Whether the answer is sent while it is made."""

    def whole(self, reply: Reply, last: Progress) -> object:
        """Return the response as what JSON is made of."""

    def events(self, reply: Reply, progress: Progress) -> bytes:
        """Return what is to be sent for some progress; for the last one, the stream's end too."""

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        """Return the last event of a stream that an error ends."""


def dumped(value: object) -> bytes:
    """Return JSON in ASCII: an unescaped U+2028 would break the lines of readers of streams."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def json_response(value: object, *, status: int = 200, headers: Headers = ()) -> HttpResponse:
    return HttpResponse(status, (("content-type", "application/json"), *headers), dumped(value))


def event(value: object) -> bytes:
    """Return one event of a stream: one data line."""
    return b"data: " + dumped(value) + b"\n\n"


def route_path(path: str) -> str:
    """Return a path without the slashes at its end, which make no other route of the API. path: as it was sent."""
    bare = path.rstrip("/")
    return bare if bare.startswith("/v1/") or bare in _SLASHED else path


def is_reka(headers: Mapping[str, str]) -> bool:
    """Tell Reka's own clients, which read another list of models, by the headers that the SDK sends."""
    return "x-api-key" in headers or headers.get("x-fern-sdk-name", "").lower().startswith("reka")


def speaks_openai(path: str, headers: Mapping[str, str]) -> bool:
    """Return whether a request is OpenAI's, as all below /v1 are but Reka's chat and its list of models."""
    path = route_path(path)
    if path == MODELS_PATH:
        return not is_reka(headers)
    return path.startswith("/v1/") and path != _REKA_PATH


def refusal(
    path: str, error: ApiError, *, asked: Mapping[str, str] = MappingProxyType({}), headers: Headers = ()
) -> HttpResponse:
    """Return the response for an error, in the form that the clients of this path read. Source: chat-interface.md, 3.

    asked: the request's headers; on /v1/models they tell whose client it is. headers: further ones of the response.
    """
    status = error.status_code or 500
    if status in (429, 503):
        headers = (("retry-after", str(_retry_after_s(error))), *headers)
    if speaks_openai(path, asked):
        return json_response(openai_error(error), status=400 if status == 422 else status, headers=headers)
    return json_response({"detail": detail_of(error)}, status=status, headers=headers)


def _retry_after_s(error: ApiError) -> int:
    return math.ceil(error.__cause__.retry_s) if isinstance(error.__cause__, RateLimitError) else RETRY_AFTER_S


def detail_of(error: ApiError) -> object:
    """Return an error's detail: a text, for 422 a list of loc, msg and type."""
    body = error.body
    if isinstance(body, HttpValidationError):
        return [problem.dict() for problem in body.detail or ()]
    return body.get("detail") if isinstance(body, Mapping) else str(body)


def openai_error(error: ApiError) -> dict[str, object]:
    """Return an error as OpenAI's clients read it: message, type, param and code."""
    status, detail = error.status_code or 500, detail_of(error)
    param, message = None, str(detail)
    if isinstance(detail, list):
        places = [".".join(map(str, problem["loc"][1:])) for problem in detail]
        param = places[0] if places else None
        message = "; ".join(f"{place}: {problem['msg']}" for place, problem in zip(places, detail, strict=True))
    if isinstance(error.__cause__, ContextLengthError):
        param, message = "messages", _too_long(error.__cause__)
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": _code(error)}}


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their names in lower case; of one that comes twice, all values."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _code(error: ApiError) -> str | None:
    if isinstance(error.__cause__, ContextLengthError):
        return "context_length_exceeded"
    if isinstance(error.__cause__, UnknownModelError):
        return "model_not_found"
    return _CODES.get(error.status_code or 500)


def _too_long(error: ContextLengthError) -> str:
    """Say that a prompt does not fit in the words that OpenAI's clients look for."""
    needed = f"at least {error.needed}" if error.at_least else str(error.needed)
    limit = f"This model's maximum context length is {error.limit} tokens."
    return f"{limit} However, your messages resulted in {needed} tokens: please shorten them."
