"""The document at /openapi.json: every route, its fields and ranges, and every status it can answer with."""

import functools
from collections.abc import Mapping

from edge.bundle import RUNTIME_VERSION
from edge.limits import Limits

Fields = dict[str, object]

_ANY: Fields = {"type": "object"}
_STRING: Fields = {"type": "string"}
_NULL: Fields = {"type": "null"}
_COUNT: Fields = {"type": "integer", "minimum": 0}
_REASONED: Fields = {"reasoning_content": _STRING}  # of models that reason
_REASONS = ["stop", "length", "tool_calls"]
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
_EITHER_ERROR: Fields = {"anyOf": [_TEXT_DETAIL, _OPENAI_ERROR]}
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
    429: "the media of this key or address took all of their decoding time: come back after Retry-After",
    431: "too many headers, or too long",
    500: "the bundle or the model failed",
    503: "the queue is full, or memory is short: come back after Retry-After",
}
_EVERYWHERE = (401, 403, 405, 431, 500, 503)
_POSTED = (400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 503)


@functools.cache
def document() -> Fields:
    """Return the document; made once."""
    chat = _answers("ChatResponse", "each `data: ` and a ChatChunk, whose content is the whole text so far")
    completion = _answers("Completion", "each `data: ` and a CompletionChunk, the last `data: [DONE]`")
    turn = _ok({"application/json": _schema(_closed({"type": {"const": "model"}, "text": _STRING}))})
    models = {"anyOf": [_listed(_closed({"id": _STRING})), _named("OpenaiModels")]}
    this = _object({"openapi": {"const": "3.1.0"}, "info": _ANY, "paths": _ANY}, "openapi", "info", "paths")
    paths: dict[str, Fields] = {
        "/v1/chat": _post("A chat, as Reka's SDK asks for it", _chat_request(), chat),
        "/v1/chat/completions": _post("A chat, as OpenAI's clients ask", _completion_request(), completion, True),
        "/chat": _post("A chat, as Reka's SDK before 2.0", _legacy_request(), turn),
        "/v1/models": _get("The models that answer here", {"application/json": _schema(models)}, _EITHER_ERROR),
        "/v1/models/{model}": _model_route(),
        "/models": _get("Their names", {"application/json": _schema(_listed(_STRING))}),
        "/metrics": _get("Counters, in Prometheus' text form", {"text/plain": _schema(_STRING)}),
        "/openapi.json": _get("This document", {"application/json": _schema(this)}),
        "/health": _open(_health_route()),
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
        "components": {"schemas": _answer_schemas(), "securitySchemes": schemes},
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


def _get(summary: str, content: Mapping[str, object], error: Fields = _TEXT_DETAIL) -> Fields:
    errors = {str(status): _error(status, error) for status in _EVERYWHERE}
    return {"get": {"summary": summary, "responses": {"200": _ok(content), **errors}}}


def _model_route() -> Fields:
    """Return the route of one model."""
    statuses = (*_EVERYWHERE, 404)
    responses: Fields = {str(status): _error(status, _OPENAI_ERROR) for status in statuses}
    responses["200"] = _ok({"application/json": _schema(_named("OpenaiModel"))})
    name = {"name": "model", "in": "path", "required": True, "schema": {**_STRING, "minLength": 1}}
    return {"get": {"summary": "One model", "parameters": [name], "responses": responses}}


def _health_route() -> Fields:
    """Return the route that says whether answers can be given, and why not."""
    well, ill = _closed({"status": {"const": "ok"}}), _closed({"status": {"const": "failing"}, "detail": _STRING})
    item = _get("Whether the server is ready", {"application/json": _schema(well)})
    failing = {"description": "A loaded bundle has changed on disk", "content": {"application/json": _schema(ill)}}
    operation = item["get"]
    if not isinstance(operation, dict):
        return item
    return {"get": {**operation, "responses": {**operation["responses"], "503": failing}}}


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
        "response_format": _response_format(),
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
        "response_format": _response_format(),
        **_structured(),
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
    }
    return _object(fields, "model", "messages")


def _response_format() -> Fields:
    """Return what an answer may have to be: free text, JSON of a schema, or what a regular expression matches."""
    schema = {"type": ["object", "boolean"]}
    optional = {"anyOf": [schema, _NULL]}
    named = _object({"schema": schema}, "schema")
    kinds = [
        _object({"type": {"const": "text"}}, "type"),
        _object({"type": {"const": "json_object"}, "schema": optional}, "type"),
        _object({"type": {"const": "json_schema"}, "json_schema": named}, "type", "json_schema"),
        _object({"type": {"const": "json_schema"}, "json_schema": _NULL, "schema": schema}, "type", "schema"),
        _object({"type": {"const": "regex"}, "pattern": _STRING}, "type", "pattern"),
    ]
    return {"anyOf": [*kinds, _NULL]}


def _structured() -> Fields:
    """Return what other servers call a response_format; at most one of all is accepted."""
    schema = {"type": ["object", "boolean", "string", "null"]}
    pattern = {"type": ["string", "null"]}
    choices = {"anyOf": [{**_listed({**_STRING, "minLength": 1}), "minItems": 1}, _NULL]}
    is_object = {"type": ["boolean", "null"]}
    nested = {"json": schema, "json_object": is_object, "regex": pattern, "choice": choices, "grammar": _NULL}
    return {
        "guided_json": schema,
        "guided_json_object": is_object,
        "guided_regex": pattern,
        "guided_choice": choices,
        "structured_outputs": {"type": ["object", "null"], "properties": nested, "minProperties": 1},
        "json_schema": schema,
        "regex": pattern,
        **{name: {"enum": ["", None]} for name in ("grammar", "guided_grammar", "ebnf")},
    }


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
        "video_frames": {"type": ["integer", "null"], "minimum": 1, "maximum": Limits.video_frames},
        "video_sound": {"type": ["boolean", "null"]},
    }


def _answer_schemas() -> Fields:
    """Return what routes answer with, by name."""
    papers = {"pdf_text_tokens": _COUNT, "pdf_text_cut": _COUNT}
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    model = {"id": _STRING, "object": {"const": "model"}, "created": _COUNT, "owned_by": _STRING}
    return {
        "Usage": _closed({"input_tokens": _COUNT, "output_tokens": _COUNT}, papers),
        "ChatResponse": _chat("message", is_last=True),
        "ChatChunk": _chat("chunk", is_last=False),
        "CompletionUsage": _closed(dict.fromkeys(counts, _COUNT), papers),
        "Completion": _completion(),
        "CompletionChunk": _completion_chunk(),
        "OpenaiModel": _closed(model),
        "OpenaiModels": _closed({"object": {"const": "list"}, "data": _listed(_named("OpenaiModel"))}),
    }


def _chat(name: str, *, is_last: bool) -> Fields:
    """Return an answer of /v1/chat, or one chunk of it. name: of what holds the text."""
    call = _closed({"id": _STRING, "name": _STRING, "parameters": {"type": "object"}})
    spoken = _closed({"role": {"const": "assistant"}, "content": _STRING}, {"tool_calls": _listed(call), **_REASONED})
    reason = {"finish_reason": {"enum": ["stop", "length", "context"]}}
    answer = _closed({name: spoken, **reason}) if is_last else _closed({name: spoken}, reason)
    answers = {**_listed(answer), "maxItems": 1}
    # An error after the first chunk is the last event: no responses, and what went wrong.
    error = {} if is_last else {"detail": _STRING}
    return _closed({"id": _STRING, "model": _STRING, "responses": answers, "usage": _named("Usage")}, error)


def _completion() -> Fields:
    call = _closed({"id": _STRING, "type": {"const": "function"}, "function": _function()})
    fields = {"role": {"const": "assistant"}, "content": {"type": ["string", "null"]}, "refusal": {"type": "null"}}
    message = _closed(fields, {"tool_calls": _listed(call), **_REASONED})
    reason = {"enum": _REASONS}
    choice = _closed({"index": {"const": 0}, "message": message, "logprobs": _logprobs(), "finish_reason": reason})
    return _closed({**_head("chat.completion"), "choices": _listed(choice), "usage": _named("CompletionUsage")})


def _completion_chunk() -> Fields:
    call = _closed({"index": _COUNT, "id": _STRING, "type": {"const": "function"}, "function": _function()})
    said = {"role": {"const": "assistant"}, "content": _STRING, "tool_calls": _listed(call), **_REASONED}
    delta = _closed({}, said)
    reason = {"enum": [*_REASONS, None]}
    choice = {"index": {"const": 0}, "delta": delta, "logprobs": _logprobs(), "finish_reason": reason}
    usage = {"anyOf": [_named("CompletionUsage"), {"type": "null"}]}
    return _closed({**_head("chat.completion.chunk"), "choices": _listed(_closed(choice))}, {"usage": usage})


def _head(kind: str) -> Fields:
    return {"id": _STRING, "object": {"const": kind}, "created": _COUNT, "model": _STRING}


def _function() -> Fields:
    return _closed({"name": _STRING, "arguments": _STRING})


def _logprobs() -> Fields:
    token: Fields = {"token": _STRING, "logprob": {"type": "number"}, "bytes": _listed(_COUNT)}
    candidate = {**token, "bytes": {"anyOf": [_listed(_COUNT), {"type": "null"}]}}
    score = _closed({**token, "top_logprobs": _listed(_closed(candidate))})
    return {"anyOf": [_closed({"content": _listed(score), "refusal": {"type": "null"}}), {"type": "null"}]}


def _answers(name: str, events: str) -> Fields:
    """Return the two ways that a chat is answered: at once, or as events."""
    stream = {**_STRING, "description": f"With `stream`: server-sent events, {events}."}
    return _ok({"application/json": _schema(_named(name)), "text/event-stream": _schema(stream)})


def _named(name: str) -> Fields:
    return {"$ref": f"#/components/schemas/{name}"}


def _closed(properties: Mapping[str, object], optional: Mapping[str, object] | None = None) -> Fields:
    """Return an object of ours: these fields, perhaps the optional ones, and no others."""
    return {**_object({**properties, **(optional or {})}, *properties), "additionalProperties": False}


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
