"""Errors as Anthropic's clients read them: their types, their statuses, and the event that ends a stream."""

from collections.abc import Mapping

from edge.errors import ContextLengthError
from edge.server.http import event
from edge.server.openapi_shapes import ANTHROPIC_ERROR
from edge.server.route import ErrorForm, detail_of
from edge.types import ApiError

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_error(error: ApiError) -> dict[str, object]:
    """Return an error as Anthropic's clients read it: its type and message."""
    status, detail = error.status_code or 500, detail_of(error)
    message = str(detail)
    if isinstance(detail, list):
        message = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in detail)
    if isinstance(error.__cause__, ContextLengthError):
        message = _too_long(error.__cause__)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    code = error.body.get("error_code") if isinstance(error.body, Mapping) else None
    details = {} if code is None else {"details": {"error_code": code}}
    return {"type": "error", "error": {"type": kind, "message": message, **details}}


def unthreaded() -> ApiError:
    """Return the error that has a client send the whole conversation in place of a thread's next turn."""
    detail = "thread: nothing is stored; expected the whole conversation in messages"
    return ApiError(status_code=400, body={"detail": detail, "error_code": "thread_unsupported_request"})


def named_event(value: object) -> bytes:
    """Return one event of a stream, named as its type says."""
    name = value["type"] if isinstance(value, Mapping) else "error"
    return f"event: {name}\n".encode() + event(value)


# What is busy is a 529 there.
ERRORS = ErrorForm(anthropic_error, ANTHROPIC_ERROR, statuses={422: 400, 503: 529}, framed=named_event)


def _too_long(error: ContextLengthError) -> str:
    """Say that a prompt does not fit in the words that Anthropic's clients look for."""
    needed = f"at least {error.needed}" if error.at_least else str(error.needed)
    return f"prompt is too long: {needed} tokens > {error.limit} maximum"
