"""The document at /openapi.json: every route, its fields and ranges, and every status it can answer with."""

import functools
from collections.abc import Mapping

from edge.bundle import RUNTIME_VERSION
from edge.chat import MAX_VIDEO_FRAMES

Fields = dict[str, object]

_STRING: Fields = {"type": "string"}
_TEXT_DETAIL: Fields = {"type": "object", "required": ["detail"], "properties": {"detail": _STRING}}
_FIELD_ERROR: Fields = {
    "type": "object",
    "required": ["loc", "msg", "type"],
    "properties": {
        "loc": {"type": "array", "items": {"anyOf": [_STRING, {"type": "integer"}]}},
        "msg": _STRING,
        "type": _STRING,
    },
}
_OPENAI_ERROR: Fields = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _STRING,
                "type": _STRING,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_STATUSES = {
    400: "not JSON or too deep; media that cannot be read or taken; a prompt longer than the context; no such feature",
    401: "the key is missing or wrong",
    403: "the Host or Origin is not one of this server's",
    404: "no such model; the text names those there are",
    405: "no such method here",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is not application/json",
    422: "a field's type or range",
    431: "too many headers, or too long",
    500: "the bundle or the model failed",
    503: "the queue is full, or memory is short: come back after Retry-After",
}
_EVERYWHERE = (401, 403, 405, 431, 500, 503)
_POSTED = (400, 401, 403, 404, 405, 408, 413, 415, 431, 500, 503)

_USAGE: Fields = {
    "type": "object",
    "required": ["input_tokens", "output_tokens"],
    "properties": {"input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"}},
}


@functools.cache
def document() -> Fields:
    """Return the document; made once."""
    chat = _ok({"application/json": _schema(_chat_response()), "text/event-stream": _schema(_STRING)})
    completion = _ok({"application/json": _schema({"type": "object"}), "text/event-stream": _schema(_STRING)})
    turn = {"type": "object", "required": ["type", "text"], "properties": {"type": {"const": "model"}, "text": _STRING}}
    models = {"anyOf": [_listed(_object({"id": _STRING}, "id")), _object({"object": {"const": "list"}}, "data")]}
    paths = {
        "/v1/chat": _post("A chat, as Reka's SDK asks for it", _chat_request(), chat),
        "/v1/chat/completions": _post("A chat, as OpenAI's clients ask", _completion_request(), completion, True),
        "/chat": _post("A chat, as Reka's SDK before 2.0", _legacy_request(), _ok({"application/json": _schema(turn)})),
        "/v1/models": _get("The models that answer here", {"application/json": _schema(models)}),
        "/models": _get("Their names", {"application/json": _schema(_listed(_STRING))}),
        "/metrics": _get("Counters, in Prometheus' text form", {"text/plain": _schema(_STRING)}),
        "/openapi.json": _get("This document", {"application/json": _schema({"type": "object"})}),
        "/health": _open(_get("Whether the server is ready", {"application/json": _schema({"type": "object"})})),
        "/": _open(_get("A page", {"text/html": _schema(_STRING)})),
    }
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge", "version": RUNTIME_VERSION, "description": "Reka's chat interface on this device."},
        "paths": paths,
        "components": {"securitySchemes": schemes},
        "security": [{"key": []}, {"bearer": []}],
    }


def _post(summary: str, request: Fields, ok: Fields, openai: bool = False) -> Fields:
    responses: Fields = {"200": ok}
    for status in _POSTED:
        responses[str(status)] = _error(status, _OPENAI_ERROR if openai else _TEXT_DETAIL)
    if not openai:
        responses["422"] = _error(422, _object({"detail": _listed(_FIELD_ERROR)}, "detail"))
    body = {"required": True, "content": {"application/json": _schema(request)}}
    return {"post": {"summary": summary, "requestBody": body, "responses": responses}}


def _get(summary: str, content: Mapping[str, object]) -> Fields:
    errors = {str(status): _error(status, _TEXT_DETAIL) for status in _EVERYWHERE}
    return {"get": {"summary": summary, "responses": {"200": _ok(content), **errors}}}


def _open(item: Fields) -> Fields:
    """Return a route that needs no key."""
    operation = item["get"]
    return {"get": {**operation, "security": []}} if isinstance(operation, dict) else item


def _chat_request() -> Fields:
    media = {kind: {"type": ["string", "null"]} for kind in ("image_url", "video_url", "audio_url", "pdf_url")}
    text = _object({"type": {"const": "text"}, "text": _STRING}, "type", "text")
    part = {"anyOf": [text, _object({"type": {"enum": list(media)}, **media}, "type")]}
    output = _object({"tool_call_id": _STRING, "output": _STRING}, "tool_call_id", "output")
    content = {"anyOf": [_STRING, _listed(part), _listed(output), {"type": "null"}]}
    roles = {"enum": ["user", "assistant", "system", "tool_output"]}
    call = _object({"id": _STRING, "name": _STRING, "parameters": {"type": "object"}}, "id", "name", "parameters")
    calls = {"anyOf": [_listed(call), {"type": "null"}]}
    message = _object({"role": roles, "content": content, "tool_calls": calls}, "role")
    described = {"name": _STRING, "description": {"type": ["string", "null"]}, "parameters": {"type": "object"}}
    tool = _object(described, "name")
    fields: Fields = {
        "model": _STRING,
        "messages": {**_listed(message), "minItems": 1, "maxItems": 256},
        **_sampling(),
        "tools": {"anyOf": [_listed(tool), {"type": "null"}]},
        "tool_choice": {"enum": ["auto", "none", "tool", None]},
        **_films(),
        "use_search_engine": {"type": ["boolean", "null"]},
        "response_format": {"type": ["object", "null"]},
        "stream": {"type": ["boolean", "null"]},
    }
    return _object(fields, "model", "messages")


def _completion_request() -> Fields:
    message = _object({"role": {"enum": ["system", "developer", "user", "assistant", "tool"]}}, "role")
    stop = {"anyOf": [_STRING, _listed(_STRING), {"type": "null"}]}
    fields: Fields = {
        "model": _STRING,
        "messages": {**_listed(message), "minItems": 1, "maxItems": 256},
        **_sampling(),
        "stop": stop,
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        **_films(),
        "n": {"enum": [1, None]},
        "tools": {"type": ["array", "null"]},
        "tool_choice": {"anyOf": [_STRING, {"type": ["object", "null"]}]},
        "response_format": {"type": ["object", "null"]},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
    }
    return _object(fields, "model", "messages")


def _legacy_request() -> Fields:
    turn = _object({"type": {"enum": ["human", "model"]}, "text": _STRING, "media_url": _STRING}, "type", "text")
    ranges = _sampling()
    fields: Fields = {
        "model_name": _STRING,
        "conversation_history": {**_listed(turn), "minItems": 1, "maxItems": 256},
        "request_output_len": ranges["max_tokens"],
        "random_seed": ranges["seed"],
        "runtime_top_k": ranges["top_k"],
        "runtime_top_p": ranges["top_p"],
        "stop_words": ranges["stop"],
        "length_penalty": {"enum": [1, None]},
        **{name: ranges[name] for name in ("temperature", "frequency_penalty", "presence_penalty")},
    }
    return _object(fields, "model_name", "conversation_history")


def _sampling() -> Fields:
    penalty = {"type": ["number", "null"], "minimum": -2, "maximum": 2}
    stop = {"type": "array", "items": {**_STRING, "minLength": 1}, "maxItems": 16}
    return {
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "temperature": {"type": ["number", "null"], "minimum": 0},
        "top_p": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
        "top_k": {"type": ["integer", "null"], "minimum": 1},
        "frequency_penalty": penalty,
        "presence_penalty": penalty,
        "seed": {"type": ["integer", "null"]},
        "stop": {"anyOf": [stop, {"type": "null"}]},
    }


def _films() -> Fields:
    return {
        "video_frames": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_VIDEO_FRAMES},
        "video_sound": {"type": ["boolean", "null"]},
    }


def _chat_response() -> Fields:
    message = _object({"role": {"const": "assistant"}, "content": _STRING}, "role", "content")
    reasons = {"enum": ["stop", "length", "context"]}
    answer = _object({"finish_reason": reasons, "message": message}, "finish_reason", "message")
    fields: Fields = {"id": _STRING, "model": _STRING, "responses": _listed(answer), "usage": _USAGE}
    return _object(fields, *fields)


def _object(properties: Mapping[str, object], *required: str) -> Fields:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _listed(item: Mapping[str, object]) -> Fields:
    return {"type": "array", "items": dict(item)}


def _schema(schema: Mapping[str, object]) -> Fields:
    return {"schema": dict(schema)}


def _ok(content: Mapping[str, object]) -> Fields:
    return {"description": "The answer", "content": dict(content)}


def _error(status: int, schema: Mapping[str, object]) -> Fields:
    return {"description": _STATUSES[status], "content": {"application/json": _schema(schema)}}
