"""llama.cpp's /tokenize and /detokenize: a text's tokens, and the text of tokens."""

from collections.abc import Mapping

from edge.chat.messages import Problems, shown
from edge.server.http import HttpRequest, HttpResponse, json_response
from edge.server.json_body import read_json
from edge.server.openapi_shapes import Fields, closed
from edge.server.route import Backend, ErrorForm, detail_of, told
from edge.types import ApiError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}


def _error(error: ApiError) -> Fields:
    """Return an error as llama.cpp's clients read it."""
    status, detail = ERRORS.status(error), detail_of(error)
    message = told(detail) if isinstance(detail, list) else str(detail)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"code": status, "message": message, "type": kind}}


_SCHEMA = closed(
    {"error": closed({"code": {"type": "integer"}, "message": {"type": "string"}, "type": {"type": "string"}})}
)
ERRORS = ErrorForm(_error, _SCHEMA, statuses={422: 400})


def tokenize(backend: Backend, request: HttpRequest) -> HttpResponse:
    """Answer POST /tokenize. Raises: ApiError."""
    chat = backend.chat
    body = read_json(request.body, chat.limits)
    problems = Problems()
    names = ("add_special", "parse_special", "with_pieces")
    add_special, parse_special, with_pieces = (problems.flag(("body", name), body.get(name)) for name in names)
    content = body.get("content")
    if not isinstance(content, str):
        problems.add(("body", "content"), f"expected a text, got {shown(content)}", "string_type")
    elif (n_bytes := len(content.encode())) > chat.limits.tokenized_bytes:
        msg = f"expected at most {chat.limits.tokenized_bytes} bytes, got {n_bytes}"
        problems.add(("body", "content"), msg, "too_long")
    model = _model(body, problems)
    problems.raise_any()
    ids = chat.tokenize(str(content), model, add_special=add_special, parse_special=parse_special)
    if not with_pieces:
        return json_response({"tokens": ids})
    pieces = chat.token_bytes(ids, model)
    return json_response({"tokens": [{"id": i, "piece": _piece(data)} for i, data in zip(ids, pieces, strict=True)]})


def detokenize(backend: Backend, request: HttpRequest) -> HttpResponse:
    """Answer POST /detokenize. Raises: ApiError."""
    body = read_json(request.body, backend.chat.limits)
    problems = Problems()
    tokens = body.get("tokens")
    for i, token in enumerate(tokens if isinstance(tokens, list) else ()):
        if not isinstance(token, int) or isinstance(token, bool):
            problems.add(("body", "tokens", i), f"expected a token's id, got {shown(token)}", "int_type")
            break
    if not isinstance(tokens, list):
        problems.add(("body", "tokens"), f"expected a list of ids, got {shown(tokens)}", "list_type")
    model = _model(body, problems)
    problems.raise_any()
    data = b"".join(backend.chat.token_bytes(tokens if isinstance(tokens, list) else [], model))
    return json_response({"content": data.decode("utf-8", "replace")})


def _model(body: Mapping[str, object], problems: Problems) -> str | None:
    """Return whose tokens are meant, None for those of the default model."""
    model = body.get("model")
    if model is not None and (not isinstance(model, str) or not model):
        problems.add(("body", "model"), f"expected a model's name, got {shown(model)}", "string_type")
        return None
    return model


def _piece(data: bytes) -> str | list[int]:
    """Return the text of a token, or its bytes where they are none by themselves."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return list(data)
