"""POST /v1/responses in the document at /openapi.json: what it accepts, a response, and the events of a stream.

JSON Schema cannot say: how many messages the items make, and what `openapi_requests` says of it.
"""

from collections.abc import Mapping

from edge.chat.tools import MAX_TOOLS
from edge.limits import Limits
from edge.server.openapi_requests import (
    completion_media,
    completion_texts,
    function,
    looking,
    needs_tools,
    not_there,
    response_format,
    sampling,
    structured,
    tool_choice,
)
from edge.server.openapi_shapes import (
    ANY_OBJECT,
    COUNT,
    FILLED,
    MAYBE_BOOLEAN,
    MAYBE_STRING,
    NULL,
    STRING,
    Fields,
    closed,
    either,
    listed,
    maybe,
    one_of_values,
    shape,
)
from edge.server.responses import INCLUDED, REFUSED, SWITCHES
from edge.server.responses_input import OUTPUTS

_OFF: Fields = {"enum": [False, None]}
_STATUSES = ("completed", "incomplete", "in_progress", "failed")


def response_request() -> Fields:
    """Return what POST /v1/responses accepts."""
    ranges = sampling()
    tool = {"allOf": [shape({"type": {"const": "function"}}, "type"), function()]}
    top = {"type": ["integer", "null"], "minimum": 0, "maximum": Limits.top_logprobs}
    fields: Fields = {
        "model": FILLED,
        "input": either(STRING, _items()),
        "instructions": MAYBE_STRING,
        **{name: field for name, field in ranges.items() if name != "max_tokens"},
        "top_k": either({"const": -1}, ranges["top_k"]),
        "max_output_tokens": ranges["max_tokens"],
        "stop": either({**FILLED, "maxLength": Limits.stop_bytes}, ranges["stop"]),
        "include": maybe(listed({"enum": list(INCLUDED)})),
        "top_logprobs": top,
        **looking(),
        "use_search_engine": _OFF,
        "tools": maybe(listed(tool, most=MAX_TOOLS)),
        "tool_choice": tool_choice(),
        "text": maybe(shape({"format": _text_format()})),
        "response_format": response_format(),
        **structured(),
        "stream": MAYBE_BOOLEAN,
        "stream_options": maybe(shape({"include_obfuscation": _OFF})),
        "reasoning": maybe(ANY_OBJECT),
        "metadata": maybe({"type": "object", "additionalProperties": STRING}),
        "truncation": one_of_values(("disabled",)),
        **dict.fromkeys(SWITCHES, _OFF),
        **dict.fromkeys(REFUSED, NULL),
        **not_there(),
    }
    return {**shape(fields, "model", "input"), "allOf": [needs_tools({"const": "required"})]}


def response_schemas(logprobs: Fields) -> Fields:
    """Return what POST /v1/responses answers with, by name. logprobs: the probabilities of tokens."""
    text = closed({"type": {"const": "output_text"}, "text": STRING, "annotations": listed({}), "logprobs": logprobs})
    return {
        "Response": _response(text),
        "ResponseEvent": either(*_events(text, logprobs)),
    }


def _items() -> Fields:
    """Return the items of an input: one of them at least is not reasoning, which is left out."""
    text, part = completion_texts(), either(*completion_texts(), *completion_media())
    content = either(STRING, listed(part))
    kind = one_of_values(("message",))
    named = {"call_id": FILLED, "name": FILLED}
    call = {**named, "type": {"const": "function_call"}, "arguments": either(STRING, ANY_OBJECT)}
    custom = {**named, "type": {"const": "custom_tool_call"}, "input": STRING}
    output = {"type": {"enum": list(OUTPUTS)}, "call_id": STRING, "output": maybe(content)}
    kept = [
        shape({"type": kind, "role": {"const": "user"}, "content": content}, "role", "content"),
        shape({"type": kind, "role": {"const": "assistant"}, "content": maybe(content)}, "role"),
        _system(kind, either(STRING, listed(either(*text)))),
        shape(call, "type", "call_id", "name", "arguments"),
        shape(custom, "type", "call_id", "name", "input"),
        shape(output, "type", "call_id", "output"),
    ]
    reasoning = shape({"type": {"const": "reasoning"}}, "type")
    return {
        **listed(either(*kept, reasoning), least=1),
        "contains": {"not": reasoning},
        "description": "System and developer messages come first, before all others; they are joined.",
    }


def _system(kind: Fields, content: Fields) -> Fields:
    return shape({"type": kind, "role": {"enum": ["system", "developer"]}, "content": content}, "role", "content")


def _text_format() -> Fields:
    schema = {"type": ["object", "boolean"]}
    kinds = [
        shape({"type": {"const": "text"}}, "type"),
        shape({"type": {"const": "json_object"}, "schema": maybe(schema)}, "type"),
        shape({"type": {"const": "json_schema"}, "schema": schema}, "type", "schema"),
        shape({"type": {"const": "regex"}, "pattern": STRING}, "type", "pattern"),
    ]
    return maybe(either(*kinds))


def _response(text: Fields) -> Fields:
    """Return a response, whole or as far as it is."""
    error = closed({"code": {"const": "server_error"}, "message": STRING})
    details = closed({"reason": {"const": "max_output_tokens"}})
    effort = closed({"effort": NULL, "summary": NULL})
    ended = {"completed_at": maybe(COUNT), "error": maybe(error), "incomplete_details": maybe(details)}
    numbers = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
    fields: Fields = {
        "id": STRING,
        "object": {"const": "response"},
        "created_at": COUNT,
        "status": {"enum": list(_STATUSES)},
        **ended,
        "model": STRING,
        "output": listed(_item(text)),
        "usage": maybe(_usage()),
        "instructions": MAYBE_STRING,
        "max_output_tokens": maybe(COUNT),
        "max_tool_calls": NULL,
        "metadata": ANY_OBJECT,
        "parallel_tool_calls": {"type": "boolean"},
        **{name: {"type": "number"} for name in numbers},
        "top_logprobs": COUNT,
        "text": closed({"format": ANY_OBJECT}),
        "tool_choice": either(STRING, ANY_OBJECT),
        "tools": listed(ANY_OBJECT),
        "background": {"const": False},
        "previous_response_id": NULL,
        "prompt": NULL,
        "reasoning": effort,
        "service_tier": {"const": "default"},
        "store": {"const": False},
        "truncation": {"const": "disabled"},
        **dict.fromkeys(("user", "safety_identifier", "prompt_cache_key"), MAYBE_STRING),
    }
    return closed(fields)


def _usage() -> Fields:
    pdfs = {"pdf_text_tokens": COUNT, "pdf_text_cut": COUNT}
    counts = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), COUNT)
    cached = closed({"cached_tokens": COUNT, "cache_write_tokens": COUNT})
    reasoned = closed({"reasoning_tokens": COUNT})
    return closed({**counts, "input_tokens_details": cached, "output_tokens_details": reasoned}, pdfs)


def _item(text: Fields) -> Fields:
    """Return one item of an output. text: of a message's parts."""
    head = {"id": STRING, "status": {"enum": list(_STATUSES[:3])}}
    message = {**head, "type": {"const": "message"}, "role": {"const": "assistant"}, "content": listed(text)}
    called = {"call_id": STRING, "name": STRING, "arguments": STRING}
    none = {"type": "array", "maxItems": 0}
    reasoning = {**head, "type": {"const": "reasoning"}, "summary": none, "content": listed(_reasoning_text())}
    return either(closed(message), closed({**head, "type": {"const": "function_call"}, **called}), closed(reasoning))


def _reasoning_text() -> Fields:
    return closed({"type": {"const": "reasoning_text"}, "text": STRING})


def _events(text: Fields, logprobs: Fields) -> list[Fields]:
    """Return the events of a stream."""
    response = {"response": {"$ref": "#/components/schemas/Response"}}
    index: Fields = {"output_index": COUNT}
    place: Fields = {**index, "item_id": STRING}
    inside: Fields = {**place, "content_index": {"const": 0}}
    item: Fields = {**index, "item": _item(text)}
    part: Fields = {**inside, "part": either(text, _reasoning_text())}
    scores: Mapping[str, object] = {"logprobs": logprobs}
    kinds: dict[str, Mapping[str, object]] = {
        **dict.fromkeys(("created", "in_progress", "completed", "incomplete", "failed"), response),
        **dict.fromkeys(("output_item.added", "output_item.done"), item),
        **dict.fromkeys(("content_part.added", "content_part.done"), part),
        "output_text.delta": {**inside, **scores, "delta": STRING},
        "output_text.done": {**inside, **scores, "text": STRING},
        "reasoning_text.delta": {**inside, "delta": STRING},
        "reasoning_text.done": {**inside, "text": STRING},
        "function_call_arguments.delta": {**place, "delta": STRING},
        "function_call_arguments.done": {**place, "name": STRING, "arguments": STRING},
    }
    head = {"sequence_number": COUNT}
    return [closed({"type": {"const": f"response.{name}"}, **head, **fields}) for name, fields in kinds.items()]
