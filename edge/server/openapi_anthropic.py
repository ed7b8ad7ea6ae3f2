"""Anthropic's routes in the document at /openapi.json: what they accept, a message, and the events of a stream.

JSON Schema cannot say: what `openapi_requests` says of it, and how many messages of a role in a row are one.
"""

from edge.chat.tools import MAX_TOOLS
from edge.server.anthropic import CHOICES, EMPTY, REFUSED, SWITCHES, THINKING
from edge.server.anthropic_messages import THOUGHTS
from edge.server.openapi_requests import (
    TOOL_NAME,
    looking,
    needs_tools,
    not_there,
    response_format,
    sampling,
    structured,
)
from edge.server.openapi_shapes import (
    ANTHROPIC_ERROR,
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

_OFF: Fields = {"enum": [False, None]}
_ENDS = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded")


def message_request() -> Fields:
    """Return what POST /v1/messages accepts."""
    ranges = sampling()
    json_schema = shape({"type": {"const": "json_schema"}, "schema": {"type": ["object", "boolean"]}}, "type", "schema")
    fields: Fields = {
        "model": FILLED,
        "messages": {
            **listed(_message(), least=1),
            "description": "Messages in a row of one role are one. System messages come first, before all others.",
        },
        "system": maybe(either(STRING, listed(_text()))),
        **ranges,
        "top_k": either({"const": -1}, ranges["top_k"]),
        "stop_sequences": ranges["stop"],
        **looking(),
        "use_search_engine": _OFF,
        "tools": maybe(listed(_tool(), most=MAX_TOOLS)),
        "tool_choice": maybe(_choice()),
        "output_config": maybe(shape({"format": maybe(json_schema)})),
        "output_format": maybe(json_schema),
        "response_format": response_format(),
        **structured(),
        "thinking": maybe(_thinking()),
        "metadata": maybe(ANY_OBJECT),
        "stream": MAYBE_BOOLEAN,
        **not_there(),
        **dict.fromkeys((*SWITCHES, "thread"), _OFF),
        **dict.fromkeys(EMPTY, maybe({"type": "array", "maxItems": 0})),
        **dict.fromkeys(REFUSED, NULL),
    }
    demanding = {"type": "object", "properties": {"type": {"enum": ["any", "tool"]}}, "required": ["type"]}
    return {**shape(fields, "model", "messages"), "allOf": [needs_tools(demanding)]}


def count_request() -> Fields:
    """Return what POST /v1/messages/count_tokens accepts: the same, most of which takes no tokens."""
    return message_request()


def anthropic_schemas() -> Fields:
    """Return what Anthropic's routes answer with, by name."""
    date = {"type": "string", "format": "date-time"}
    named = {"type": {"const": "model"}, "id": STRING, "display_name": STRING, "created_at": date}
    ends = dict.fromkeys(("first_id", "last_id"), MAYBE_STRING)
    models = listed({"$ref": "#/components/schemas/AnthropicModel"})
    return {
        "Message": _whole(),
        "MessageEvent": either(*_events()),
        "AnthropicModel": closed({**named, "lifecycle": {"const": "active"}}),
        "AnthropicModels": closed({"data": models, "has_more": {"const": False}, **ends}),
    }


def _message() -> Fields:
    """Return one message of a request."""
    user = either(*_blocks(), _result())
    said = [
        _text(),
        shape({"type": {"const": "tool_use"}, "id": FILLED, "name": FILLED, "input": ANY_OBJECT},
              "type", "id", "name", "input"),
        shape({"type": {"enum": list(THOUGHTS)}}, "type"),
    ]  # fmt: skip
    return either(
        shape({"role": {"const": "user"}, "content": either(STRING, listed(user))}, "role", "content"),
        shape({"role": {"const": "assistant"}, "content": either(STRING, listed(either(*said)))}, "role", "content"),
        shape({"role": {"const": "system"}, "content": either(STRING, listed(_text()))}, "role", "content"),
    )


def _text() -> Fields:
    return shape({"type": {"const": "text"}, "text": STRING}, "type", "text")


def _image() -> Fields:
    oversized = maybe(shape({"oversized_image": one_of_values(("downsize",))}))
    fields = {"type": {"const": "image"}, "source": either(*_sources()), "transformations": oversized}
    return shape(fields, "type", "source")


def _sources() -> list[Fields]:
    """Return what an image or a PDF may be: its bytes, or where they are."""
    return [
        shape({"type": {"const": "base64"}, "data": STRING}, "type", "data"),
        shape({"type": {"const": "url"}, "url": STRING}, "type", "url"),
    ]


def _blocks() -> list[Fields]:
    """Return the blocks that a user's message and a result have."""
    citations = maybe(shape({"enabled": _OFF}))
    inner = shape({"type": {"const": "content"}, "content": either(STRING, listed(either(_text(), _image())))},
                  "type", "content")  # fmt: skip
    text = shape({"type": {"const": "text"}, "data": STRING}, "type", "data")
    about = {"title": MAYBE_STRING, "context": MAYBE_STRING, "citations": citations}
    document = {"type": {"const": "document"}, "source": either(*_sources(), text, inner), **about}
    found = {"type": {"const": "search_result"}, "title": STRING, "source": STRING, "content": listed(_text())}
    required = ("type", "title", "source", "content")
    return [_text(), _image(), shape(document, "type", "source"), shape({**found, "citations": citations}, *required)]


def _result() -> Fields:
    content = maybe(either(STRING, listed(either(*_blocks()))))
    fields = {"tool_use_id": STRING, "content": content, "is_error": MAYBE_BOOLEAN}
    return shape({"type": {"const": "tool_result"}, **fields}, "type", "tool_use_id")


def _tool() -> Fields:
    schema = maybe(shape({"type": {"const": "object"}}))
    fields = {"type": one_of_values(("custom",)), "description": MAYBE_STRING, "input_schema": schema}
    return shape({"name": TOOL_NAME, **fields}, "name")


def _choice() -> Fields:
    """Return what says which tools are to be called."""
    single = {"disable_parallel_tool_use": MAYBE_BOOLEAN}
    others = {"type": {"enum": [kind for kind in CHOICES if kind != "tool"]}}
    named = shape({"type": {"const": "tool"}, "name": STRING, **single}, "type", "name")
    return either(shape({**others, **single}, "type"), named)


def _thinking() -> Fields:
    display = {"display": one_of_values(("summarized", "omitted"))}
    enabled = {"type": {"const": "enabled"}, "budget_tokens": {"type": "integer", "minimum": 1}, **display}
    others = shape({"type": {"enum": [kind for kind in THINKING if kind != "enabled"]}, **display}, "type")
    return either(shape(enabled, "type", "budget_tokens"), others)


def _whole() -> Fields:
    """Return a message, whole or as it begins."""
    fields: Fields = {
        "id": STRING,
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": STRING,
        "content": listed(either(*_said())),
        "stop_reason": one_of_values(_ENDS),
        "stop_sequence": MAYBE_STRING,
        "usage": _usage(),
    }
    return closed(fields)


def _said() -> list[Fields]:
    """Return the blocks of an answer."""
    return [
        closed({"type": {"const": "text"}, "text": STRING}),
        closed({"type": {"const": "thinking"}, "thinking": STRING, "signature": STRING}),
        closed({"type": {"const": "tool_use"}, "id": STRING, "name": STRING, "input": ANY_OBJECT}),
    ]


def _usage() -> Fields:
    cached: Fields = {f"cache_{kind}_input_tokens": {"const": 0} for kind in ("creation", "read")}
    details = {"output_tokens_details": closed({"thinking_tokens": COUNT})}
    pdfs = {"pdf_text_tokens": COUNT, "pdf_text_cut": COUNT}
    return closed({"input_tokens": COUNT, "output_tokens": COUNT, **cached, **details}, pdfs)


def _events() -> list[Fields]:
    """Return the events of a stream."""
    texts = {"text": "text", "thinking": "thinking", "signature": "signature", "input_json": "partial_json"}
    deltas = [closed({"type": {"const": f"{kind}_delta"}, name: STRING}) for kind, name in texts.items()]
    ended = closed({"stop_reason": {"enum": list(_ENDS)}, "stop_sequence": MAYBE_STRING})
    index: Fields = {"index": COUNT}
    kinds: dict[str, Fields] = {
        "message_start": {"message": {"$ref": "#/components/schemas/Message"}},
        "content_block_start": {**index, "content_block": either(*_said())},
        "ping": {},
        "content_block_delta": {**index, "delta": either(*deltas)},
        "content_block_stop": index,
        "message_delta": {"delta": ended, "usage": _usage()},
        "message_stop": {},
    }
    return [closed({"type": {"const": name}, **fields}) for name, fields in kinds.items()] + [ANTHROPIC_ERROR]
