"""The document at /openapi.json: every route, its fields and ranges, and every status it can answer with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge.server import openapi_ollama
from edge.server.multipart import MEDIA_TYPE as FORM
from edge.server.openapi_anthropic import anthropic_schemas, count_request, message_request
from edge.server.openapi_audio import transcript_schemas, transcription_request
from edge.server.openapi_events import event_of
from edge.server.openapi_requests import chat_request, completion_request, continuation_request, legacy_request
from edge.server.openapi_responses import response_request, response_schemas
from edge.server.openapi_shapes import (
    ANTHROPIC_ERROR,
    ANY_OBJECT,
    COUNT,
    FILLED,
    MAYBE_BOOLEAN,
    OPENAI_ERROR,
    REKA_ERROR,
    STRING,
    Fields,
    closed,
    either,
    listed,
    maybe,
    shape,
)
from edge.server.route import JSON, ErrorForm
from edge.version import RUNTIME_VERSION

_REASONED: Fields = {"reasoning_content": STRING}  # of models that reason
_REASONS = ["stop", "length", "tool_calls"]
_FIELD_ERROR: Fields = {
    "type": "object",
    "required": ["loc", "msg", "type"],
    "properties": {
        "loc": {"type": "array", "items": {"anyOf": [STRING, {"type": "integer"}]}},
        "msg": STRING,
        "type": STRING,
    },
}
_STATUSES = {
    400: "not JSON or too deep; media damaged or not supported; a prompt longer than the context; no such feature",
    401: "the key is missing or wrong",
    403: "the Host or Origin is not one of this server's",
    404: "no such model; the text names those there are",
    405: "no such method here",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is not of the media type that the route accepts, or it is compressed",
    422: "a field's type or range",
    429: "the media of this key or address took all of their decoding time: come back after Retry-After",
    431: "too many headers, or too long",
    500: "the bundle or the model failed",
    503: "the queue is full, or memory is short: come back after Retry-After",
    529: "the queue is full, or memory is short: come back after Retry-After",
}
_EVERYWHERE = (401, 403, 405, 431, 500, 503)
_POSTED = (400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 503)


def document(paths: Mapping[str, object]) -> Fields:
    """Return the document. paths: what the routes of each path say of themselves."""
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge", "version": RUNTIME_VERSION, "description": "Reka's chat interface on this device."},
        "paths": dict(paths),
        "components": {"schemas": _answer_schemas(), "securitySchemes": schemes},
        "security": [{"key": []}, {"bearer": []}],
    }


def post(summary: str, request: Fields, ok: Fields, errors: ErrorForm, *, accepts: str = JSON) -> Fields:
    """Return the item of a route with a body. ok: its response 200; accepts: the body's media type."""
    responses: Fields = {"200": ok, **_errors(_POSTED, errors)}
    if 422 not in errors.statuses:
        responses["422"] = _error(422, shape({"detail": listed(_FIELD_ERROR)}, "detail"))
    body = {"required": True, "content": {accepts: _schema(request)}}
    return {"post": {"summary": summary, "requestBody": body, "responses": responses}}


def get(summary: str, content: Mapping[str, object], errors: ErrorForm, *further: int) -> Fields:
    """Return the item of a route without a body. content: of its response 200. further: statuses that not all have."""
    responses = {"200": success(content), **_errors((*_EVERYWHERE, *further), errors)}
    return {"get": {"summary": summary, "responses": responses}}


def chat(errors: ErrorForm) -> Fields:
    """POST /v1/chat."""
    chunk = event_of(_named("ChatChunk"), "each a ChatChunk, whose content is the whole text so far")
    ok = _answers("ChatResponse", chunk)
    return post("A chat, as Reka's SDK asks for it", chat_request(), ok, errors)


def completion(errors: ErrorForm) -> Fields:
    """POST /v1/chat/completions."""
    ok = _answers("Completion", _chunk("CompletionChunk"))
    return post("A chat, as OpenAI's clients ask", completion_request(), ok, errors)


def continuation(errors: ErrorForm) -> Fields:
    """POST /v1/completions."""
    ok = _answers("TextCompletion", _chunk("TextCompletionChunk"))
    return post("A text that is continued, as OpenAI's clients ask", continuation_request(), ok, errors)


def response(errors: ErrorForm) -> Fields:
    """POST /v1/responses."""
    words = "each a ResponseEvent with its type as its name, the last [DONE]"
    ok = _answers("Response", event_of(_named("ResponseEvent"), words, is_named=True, ends=True))
    return post("A response, as OpenAI's clients ask", response_request(), ok, errors)


def message(errors: ErrorForm) -> Fields:
    """POST /v1/messages."""
    words = "each a MessageEvent with its type as its name"
    ok = _answers("Message", event_of(_named("MessageEvent"), words, is_named=True))
    return post("A message, as Anthropic's clients ask", message_request(), ok, errors)


def count(errors: ErrorForm) -> Fields:
    """POST /v1/messages/count_tokens."""
    ok = success({"application/json": _schema(closed({"input_tokens": COUNT}))})
    return post("How many tokens a message's prompt takes", count_request(), ok, errors)


def transcription(errors: ErrorForm) -> Fields:
    """POST /v1/audio/transcriptions."""
    return _audio("What is said in audio, as OpenAI's clients ask", errors)


def translation(errors: ErrorForm) -> Fields:
    """POST /v1/audio/translations."""
    return _audio("What is said in audio, in English, as OpenAI's clients ask", errors)


def tokens(errors: ErrorForm) -> Fields:
    """POST /tokenize."""
    one = closed({"id": COUNT, "piece": either(STRING, listed(COUNT))})
    ok = success({"application/json": _schema(closed({"tokens": either(listed(COUNT), listed(one))}))})
    switches = dict.fromkeys(("add_special", "parse_special", "with_pieces"), MAYBE_BOOLEAN)
    request = shape({"content": STRING, "model": maybe(FILLED), **switches}, "content")
    return post("The tokens of a text, as llama.cpp's server gives them", request, ok, errors)


def text_of_tokens(errors: ErrorForm) -> Fields:
    """POST /detokenize."""
    ok = success({"application/json": _schema(closed({"content": STRING}))})
    request = shape({"tokens": listed(COUNT), "model": maybe(FILLED)}, "tokens")
    return post("The text of tokens, as llama.cpp's server gives it", request, ok, errors)


def turn(errors: ErrorForm) -> Fields:
    """POST /chat."""
    ok = success({"application/json": _schema(closed({"type": {"const": "model"}, "text": STRING}))})
    return post("A chat, as Reka's SDK before 2.0", legacy_request(), ok, errors)


def ollama_chat(errors: ErrorForm) -> Fields:
    """POST /api/chat."""
    return post("A chat, as Ollama's clients ask", openapi_ollama.chat_request(), _lines("OllamaChat"), errors)


def ollama_generate(errors: ErrorForm) -> Fields:
    """POST /api/generate."""
    summary = "An answer to a prompt, as Ollama's clients ask"
    return post(summary, openapi_ollama.generate_request(), _lines("OllamaGenerate"), errors)


def ollama_tags(errors: ErrorForm) -> Fields:
    """GET /api/tags."""
    return get("The models that answer here", {"application/json": _schema(_named("OllamaModels"))}, errors)


def ollama_running(errors: ErrorForm) -> Fields:
    """GET /api/ps."""
    return get("The models that are loaded", {"application/json": _schema(_named("OllamaRunning"))}, errors)


def ollama_show(errors: ErrorForm) -> Fields:
    """POST /api/show."""
    ok = success({"application/json": _schema(_named("OllamaModel"))})
    return post("What a model is and can do", openapi_ollama.name_request(), ok, errors)


def ollama_pull(errors: ErrorForm) -> Fields:
    """POST /api/pull."""
    status = openapi_ollama.status()
    ok = success({"application/json": _schema(status), "application/x-ndjson": _schema(STRING)})
    return post("Whether a model is installed; none is downloaded", openapi_ollama.pull_request(), ok, errors)


def ollama_version(errors: ErrorForm) -> Fields:
    """GET /api/version."""
    content = {"application/json": _schema(openapi_ollama.version())}
    return get("The version of Ollama whose API this is", content, errors)


def models(errors: ErrorForm) -> Fields:
    """GET /v1/models, which every API's clients ask."""
    lists = either(listed(closed({"id": STRING})), _named("OpenaiModels"), _named("AnthropicModels"))
    any_api = replace(errors, schema=either(REKA_ERROR, OPENAI_ERROR, ANTHROPIC_ERROR), statuses={})
    return get("The models that answer here", {"application/json": _schema(lists)}, any_api, 529)


def model(errors: ErrorForm) -> Fields:
    """GET /v1/models/{model}, which OpenAI's and Anthropic's clients ask."""
    item_of = either(_named("OpenaiModel"), _named("AnthropicModel"))
    any_api = replace(errors, schema=either(OPENAI_ERROR, ANTHROPIC_ERROR), statuses={})
    item = get("One model", {"application/json": _schema(item_of)}, any_api, 404, 529)
    name = {"name": "model", "in": "path", "required": True, "schema": FILLED}
    return _with(item, parameters=[name])


def names(errors: ErrorForm) -> Fields:
    """GET /models."""
    return get("Their names", {"application/json": _schema(listed(STRING))}, errors)


def metrics(errors: ErrorForm) -> Fields:
    """GET /metrics."""
    return get("Counters, in Prometheus' text form", {"text/plain": _schema(STRING)}, errors)


def itself(errors: ErrorForm) -> Fields:
    """GET /openapi.json."""
    this = shape({"openapi": {"const": "3.1.0"}, "info": ANY_OBJECT, "paths": ANY_OBJECT}, "openapi", "info", "paths")
    return get("This document", {"application/json": _schema(this)}, errors)


def page(errors: ErrorForm) -> Fields:
    """GET /, which needs no key."""
    content = {"text/html": _schema(STRING), "text/plain": _schema({"const": "Ollama is running"})}
    return _with(get("A page; to Ollama's clients, that the server runs", content, errors), security=[])


def health(errors: ErrorForm) -> Fields:
    """GET /health, which says whether answers can be given, and why not; it needs no key."""
    well, ill = closed({"status": {"const": "ok"}}), closed({"status": {"const": "failing"}, "detail": STRING})
    item = get("Whether the server is ready", {"application/json": _schema(well)}, errors)
    failing = {"description": "A loaded bundle has changed on disk", "content": {"application/json": _schema(ill)}}
    operation = item["get"]
    responses = {**operation["responses"], "503": failing} if isinstance(operation, dict) else {}
    return _with(item, security=[], responses=responses)


def _with(item: Fields, **further: object) -> Fields:
    """Return the item of a GET route with further fields, or others."""
    operation = item["get"]
    return {"get": {**operation, **further}} if isinstance(operation, dict) else item


def _errors(statuses: Sequence[int], errors: ErrorForm) -> Fields:
    """Return the responses of errors, by the statuses that their form has for them."""
    told = (errors.statuses.get(status, status) for status in statuses)
    return {str(status): _error(status, errors.schema) for status in told}


def _answer_schemas() -> Fields:
    """Return what routes answer with, by name."""
    pdfs = {"pdf_text_tokens": COUNT, "pdf_text_cut": COUNT}
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    model = {"id": STRING, "object": {"const": "model"}, "created": COUNT, "owned_by": STRING}
    return {
        "Usage": closed({"input_tokens": COUNT, "output_tokens": COUNT}, pdfs),
        "ChatResponse": _chat("message", is_last=True),
        "ChatChunk": _chat("chunk", is_last=False),
        "CompletionUsage": closed(dict.fromkeys(counts, COUNT), pdfs),
        "Completion": _completion(),
        "CompletionChunk": _completion_chunk(),
        "TextCompletion": _text_completion(is_last=True),
        "TextCompletionChunk": _text_completion(is_last=False),
        **response_schemas(_logprobs_of()),
        **anthropic_schemas(),
        **openapi_ollama.ollama_schemas(_logprobs_of()),
        **transcript_schemas(),
        "OpenaiModel": closed(model),
        "OpenaiModels": closed({"object": {"const": "list"}, "data": listed(_named("OpenaiModel"))}),
    }


def _chat(name: str, *, is_last: bool) -> Fields:
    """Return an answer of /v1/chat, or one chunk of it. name: of what holds the text."""
    call = closed({"id": STRING, "name": STRING, "parameters": {"type": "object"}})
    spoken = closed({"role": {"const": "assistant"}, "content": STRING}, {"tool_calls": listed(call), **_REASONED})
    reason = {"finish_reason": {"enum": ["stop", "length", "context"]}}
    answer = closed({name: spoken, **reason}) if is_last else closed({name: spoken}, reason)
    answers = {**listed(answer), "maxItems": 1}
    # An error after the first chunk is the last event: no responses, and what went wrong.
    error = {} if is_last else {"detail": STRING}
    return closed({"id": STRING, "model": STRING, "responses": answers, "usage": _named("Usage")}, error)


def _completion() -> Fields:
    call = closed({"id": STRING, "type": {"const": "function"}, "function": _function()})
    fields = {"role": {"const": "assistant"}, "content": {"type": ["string", "null"]}, "refusal": {"type": "null"}}
    message = closed(fields, {"tool_calls": listed(call), **_REASONED})
    reason = {"enum": _REASONS}
    choice = closed({"index": {"const": 0}, "message": message, "logprobs": _logprobs(), "finish_reason": reason})
    return closed({**_head("chat.completion"), "choices": listed(choice), "usage": _named("CompletionUsage")})


def _completion_chunk() -> Fields:
    call = closed({"index": COUNT, "id": STRING, "type": {"const": "function"}, "function": _function()})
    said = {"role": {"const": "assistant"}, "content": STRING, "tool_calls": listed(call), **_REASONED}
    delta = closed({}, said)
    reason = {"enum": [*_REASONS, None]}
    choice = {"index": {"const": 0}, "delta": delta, "logprobs": _logprobs(), "finish_reason": reason}
    usage = {"anyOf": [_named("CompletionUsage"), {"type": "null"}]}
    return closed({**_head("chat.completion.chunk"), "choices": listed(closed(choice))}, {"usage": usage})


def _text_completion(*, is_last: bool) -> Fields:
    """Return a text that was continued, or one chunk of it."""
    numbers = listed({"type": "number"})
    tops = listed({"type": "object", "additionalProperties": {"type": "number"}})
    lists = {"tokens": listed(STRING), "token_logprobs": numbers, "top_logprobs": tops, "text_offset": listed(COUNT)}
    scores = {"anyOf": [closed(lists), {"type": "null"}]}
    reason = {"enum": ["stop", "length", *([] if is_last else [None])]}
    choice = closed({"index": {"const": 0}, "text": STRING, "logprobs": scores, "finish_reason": reason})
    fields: Fields = {**_head("text_completion"), "choices": listed(choice)}
    usage = _named("CompletionUsage")
    return (
        closed({**fields, "usage": usage})
        if is_last
        else closed(fields, {"usage": {"anyOf": [usage, {"type": "null"}]}})
    )


def _head(kind: str) -> Fields:
    return {"id": STRING, "object": {"const": kind}, "created": COUNT, "model": STRING}


def _function() -> Fields:
    return closed({"name": STRING, "arguments": STRING})


def _logprobs() -> Fields:
    return {"anyOf": [closed({"content": _logprobs_of(), "refusal": {"type": "null"}}), {"type": "null"}]}


def _logprobs_of() -> Fields:
    """Return the probabilities of tokens."""
    token: Fields = {"token": STRING, "logprob": {"type": "number"}, "bytes": listed(COUNT)}
    candidate = {**token, "bytes": {"anyOf": [listed(COUNT), {"type": "null"}]}}
    return listed(closed({**token, "top_logprobs": listed(closed(candidate))}))


def _answers(name: str, event: Fields) -> Fields:
    """Return the two ways that a chat is answered: at once, or as events."""
    return success({"application/json": _schema(_named(name)), "text/event-stream": _schema(event)})


def _chunk(name: str) -> Fields:
    """Return an event of a stream as OpenAI's: a chunk, [DONE] after the last, or the error that ended it."""
    return event_of(either(_named(name), OPENAI_ERROR), f"each a {name}, or an error at the end", ends=True)


def _lines(name: str) -> Fields:
    """Return the two ways that Ollama's clients are answered: as lines of JSON, or at once."""
    stream = {**STRING, "description": f"Unless `stream` is false: lines of JSON, each a {name}."}
    return success({"application/json": _schema(_named(name)), "application/x-ndjson": _schema(stream)})


def _audio(summary: str, errors: ErrorForm) -> Fields:
    """Return the item of a route that turns an uploaded file into text."""
    stream = event_of(either(_named("TranscriptEvent"), OPENAI_ERROR), "each a TranscriptEvent, or an error at the end")
    content = {
        "application/json": _schema(either(_named("Transcription"), _named("VerboseTranscription"))),
        "text/plain": _schema(STRING),
        "text/event-stream": _schema(stream),
    }
    return post(summary, transcription_request(), success(content), errors, accepts=FORM)


def _named(name: str) -> Fields:
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(schema: Mapping[str, object]) -> Fields:
    return {"schema": dict(schema)}


def success(content: Mapping[str, object]) -> Fields:
    """Return the response 200. content: by media type."""
    return {"description": "The answer", "content": dict(content)}


def _error(status: int, schema: Mapping[str, object]) -> Fields:
    return {"description": _STATUSES[status], "content": {"application/json": _schema(schema)}}
