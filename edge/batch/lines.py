"""The lines of a batch, in OpenAI's form: what a line asks, what is wrong with it, what is written of its answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge.chat.messages import shown
from edge.limits import Limits
from edge.server.json_body import read_json
from edge.server.route import JSON, ChatRoute
from edge.server.routes import TABLE, path_of
from edge.types import ApiError

URLS = tuple(route.path for route in TABLE if isinstance(route, ChatRoute) and JSON in route.accepts)

_CHOICES = f"one of {', '.join(URLS)}"
_ID_CHARS = 32
_AROUND_BYTES = 64 << 10  # of a line around its body
_AROUND_VALUES = 64


@dataclass(frozen=True)
class Line:
    """A line whose form is right. url: of the table of routes; body: as the route reads it."""

    custom_id: str
    url: str
    body: Mapping[str, object]


@dataclass(frozen=True)
class Settled:
    """What a run settles for each of its lines: model: in place of the one it names; seed: where it has none."""

    model: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Record:
    """What is written of a line.

    id: stands for what was asked, and how; data: as it is written; is_answer: whether the status says that all is well;
    is_asked: whether there was a response at all.
    """

    id: str
    custom_id: str | None
    data: bytes
    is_answer: bool
    is_asked: bool


class LineError(Exception):
    """What is wrong with a line, so that it is not asked.

    code: as OpenAI's batches name it; custom_id: the line's, None where it could not be read.
    """

    def __init__(self, code: str, message: str, custom_id: str | None = None) -> None:
        super().__init__(code, message, custom_id)
        self.code = code
        self.message = message
        self.custom_id = custom_id


def line_bytes(limits: Limits) -> int:
    """Return how many bytes a line may have: those of a body, and what is around it."""
    return limits.body_bytes + _AROUND_BYTES


def read_line(data: bytes, limits: Limits) -> Line:
    """Return what a line asks; JSON is read as a server reads it. Raises: LineError."""
    wider = replace(
        limits,
        body_bytes=line_bytes(limits),
        json_depth=limits.json_depth + 1,
        json_values=limits.json_values + _AROUND_VALUES,
    )
    try:
        fields = read_json(data, wider)
    except ApiError as error:
        detail = error.body.get("detail") if isinstance(error.body, Mapping) else error.body
        raise LineError("invalid_json_line", str(detail).replace("body: ", "", 1)) from error
    custom_id = _text(fields, "custom_id", "a string")
    method = _text(fields, "method", "POST", custom_id)
    if method != "POST":
        raise LineError("invalid_method", f"method: expected POST, got {shown(method)}", custom_id)
    url = path_of(_text(fields, "url", _CHOICES, custom_id))
    if url not in URLS:
        raise LineError("invalid_url", f"url: expected {_CHOICES}, got {shown(url)}", custom_id)
    body = fields.get("body")
    if not isinstance(body, dict):
        raise LineError("invalid_body", f"body: expected an object, got {shown(body)}", custom_id)
    return Line(custom_id, url, body)


def identity(line: Line, settled: Settled) -> str:
    """Return the id of a line: the same for the same question under the same settings, and for no other."""
    asked = [line.custom_id, line.url, line.body, settled.model, settled.seed]
    return _id(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode("ascii"))


def answered(line: Line, settled: Settled, status: int, body: object) -> Record:
    """Return the record of a response, whatever its status."""
    stem = identity(line, settled)
    response = {"status_code": status, "request_id": stem.replace("batch_req", "req", 1), "body": body}
    data = _written(stem, line.custom_id, response, None)
    return Record(stem, line.custom_id, data, is_answer=status < 400, is_asked=True)


def refused(error: LineError, number: int) -> Record:
    """Return the record of a line that is not asked. number: of the line, from 1."""
    about = json.dumps([error.custom_id, number, error.code, error.message]).encode("ascii")
    reason = {"code": error.code, "message": error.message, "line": number}
    stem = _id(about)
    data = _written(stem, error.custom_id, None, reason)
    return Record(stem, error.custom_id, data, is_answer=False, is_asked=False)


def parsed(data: bytes) -> Record | None:
    """Return a record that was written, None for anything else."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.keys() != {"id", "custom_id", "response", "error"}:
        return None
    stem, custom_id, response = fields["id"], fields["custom_id"], fields["response"]
    status = response.get("status_code") if isinstance(response, dict) else None
    if not isinstance(stem, str) or not isinstance(custom_id, str | None):
        return None
    is_answer = isinstance(status, int) and status < 400
    return Record(stem, custom_id, data.rstrip(b"\r\n"), is_answer, response is not None)


def _written(stem: str, custom_id: str | None, response: object, error: object) -> bytes:
    fields = {"id": stem, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _id(data: bytes) -> str:
    return f"batch_req_{hashlib.sha256(data).hexdigest()[:_ID_CHARS]}"


def _text(fields: Mapping[str, object], name: str, expected: str, custom_id: str | None = None) -> str:
    """Return a field that must be there. Raises: LineError."""
    value = fields.get(name)
    if isinstance(value, str) and value:
        return value
    code = "missing_required_parameter" if value is None else f"invalid_{name}"
    raise LineError(code, f"{name}: expected {expected}, got {'none' if value is None else shown(value)}", custom_id)
