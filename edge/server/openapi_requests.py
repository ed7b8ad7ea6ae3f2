"""What the routes accept, for the document at /openapi.json: as strict as the server wherever JSON Schema can say it.

It cannot say: that system messages come first, that names are distinct and known, that bytes are counted and not
characters, that 5.0 is no integer, which constraints exclude each other, and what a constraint or a medium holds.
"""

import math
from collections.abc import Mapping

from edge.chat.messages import LEVELS
from edge.chat.request import NUMBERS, Number
from edge.chat.tools import MAX_TOOLS
from edge.limits import Limits
from edge.server.openapi_shapes import (
    ANY_OBJECT,
    FILLED,
    MAYBE_BOOLEAN,
    MAYBE_STRING,
    NULL,
    STRING,
    Fields,
    either,
    listed,
    maybe,
    one_of_values,
    shape,
)

_MEDIA = ("image_url", "video_url", "audio_url", "pdf_url")
_TEXTS = ("text", "input_text", "output_text")
_NO_CALLS: Fields = {"anyOf": [{"type": "array", "maxItems": 0}, NULL]}
TOOL_NAME: Fields = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "minLength": 1, "maxLength": 64}


def chat_request() -> Fields:
    """Return what POST /v1/chat accepts."""
    fields: Fields = {
        "model": FILLED,
        "messages": _after_first(_chat_message(is_first=True), _chat_message(is_first=False)),
        **sampling(),
        **_scores(),
        "tools": maybe(listed(function(), most=MAX_TOOLS)),
        "tool_choice": one_of_values(("auto", "none", "tool")),
        **looking(),
        "use_search_engine": {"enum": [False, None]},
        "response_format": response_format(),
        "stream": MAYBE_BOOLEAN,
    }
    return {**shape(fields, "model", "messages"), "allOf": [needs_tools({"const": "tool"}), _needs_logprobs()]}


def completion_request() -> Fields:
    """Return what POST /v1/chat/completions accepts."""
    ranges = sampling()
    tool = shape({"function": function()}, "function")
    fields: Fields = {
        "model": FILLED,
        "messages": {
            **listed(_completion_message(), least=1, most=Limits.messages),
            "description": "System and developer messages come first, before all others; they are joined.",
        },
        **ranges,
        "top_k": either({"const": -1}, ranges["top_k"]),
        "stop": either(_stop_string(), ranges["stop"]),
        "max_completion_tokens": ranges["max_tokens"],
        **_scores(),
        **looking(),
        "use_search_engine": {"enum": [False, None]},
        "tools": maybe(listed(tool, most=MAX_TOOLS)),
        "tool_choice": tool_choice(),
        "response_format": response_format(),
        **structured(),
        "stream": MAYBE_BOOLEAN,
        "stream_options": maybe(shape({"include_usage": MAYBE_BOOLEAN})),
        **not_there(),
    }
    return {**shape(fields, "model", "messages"), "allOf": [needs_tools({"const": "required"}), _needs_logprobs()]}


def continuation_request() -> Fields:
    """Return what POST /v1/completions accepts."""
    ranges = sampling()
    top = {"type": ["integer", "null"], "minimum": 0, "maximum": Limits.top_logprobs}
    fields: Fields = {
        "model": FILLED,
        "prompt": either(FILLED, listed(FILLED, least=1, most=1)),
        **ranges,
        "top_k": either({"const": -1}, ranges["top_k"]),
        "stop": either(_stop_string(), ranges["stop"]),
        "logprobs": top,
        "echo": MAYBE_BOOLEAN,
        **looking(),
        "use_search_engine": {"enum": [False, None]},
        "response_format": response_format(),
        **structured(),
        "stream": MAYBE_BOOLEAN,
        "stream_options": maybe(shape({"include_usage": MAYBE_BOOLEAN})),
        **{name: one_of_values(("",)) for name in ("suffix", "messages", "prompt_logprobs")},
        "best_of": one_of_values((1,)),
        **not_there(),
    }
    echoed = shape({"echo": {"const": True}}, "echo")
    return {**shape(fields, "model", "prompt"), "if": echoed, "then": shape({"logprobs": NULL})}


def not_there() -> Fields:
    """Return the fields of OpenAI's that may be there without asking for anything."""
    return {
        "n": one_of_values((1,)),
        "logit_bias": maybe({"type": "object", "maxProperties": 0}),
        "modalities": maybe(listed({"const": "text"})),
        "audio": NULL,
        "functions": maybe({"type": "array", "maxItems": 0}),
        "function_call": one_of_values(("none",)),
    }


def legacy_request() -> Fields:
    """Return what POST /chat accepts."""
    turn = shape({"type": {"enum": ["human", "model"]}, "text": STRING, "media_url": MAYBE_STRING}, "type", "text")
    ranges = sampling()
    fields: Fields = {
        "model_name": FILLED,
        "conversation_history": listed(turn, least=1, most=Limits.messages),
        "request_output_len": ranges["max_tokens"],
        "random_seed": ranges["seed"],
        "runtime_top_k": ranges["top_k"],
        "runtime_top_p": ranges["top_p"],
        "stop_words": ranges["stop"],
        "length_penalty": one_of_values((1,)),
        "retrieval_dataset": NULL,
        "use_search_engine": {"enum": [False, None]},
        "stream": {"enum": [False, None]},
        **{name: ranges[name] for name in ("temperature", "frequency_penalty", "presence_penalty")},
        **detail(),
    }
    return shape(fields, "model_name", "conversation_history")


def _after_first(first: Fields, later: Fields) -> Fields:
    """Return a list of messages of which the first may be another than those that follow."""
    return {"type": "array", "prefixItems": [first], "items": later, "minItems": 1, "maxItems": Limits.messages}


def _chat_message(*, is_first: bool) -> Fields:
    """Return one message of /v1/chat."""
    content = either(STRING, listed(either(_text_part(), *map(_media_part, _MEDIA))))
    outputs = listed(shape({"tool_call_id": STRING, "output": content}, "tool_call_id", "output"), least=1)
    call = shape({"id": FILLED, "name": FILLED, "parameters": ANY_OBJECT}, "id", "name", "parameters")
    kinds = [
        _message(("user",), content),
        *_assistants(content, call),
        _message(("tool_output",), outputs),
        *([_message(("system",), either(STRING, listed(_text_part())))] if is_first else []),
    ]
    return either(*kinds)


def _assistants(content: Fields, call: Fields) -> list[Fields]:
    """Return an assistant's message: with content, or with calls and perhaps without it."""
    role = {"const": "assistant"}
    said = {"role": role, "content": content, "tool_calls": maybe(listed(call))}
    calling = {"role": role, "content": maybe(content), "tool_calls": listed(call, least=1)}
    return [shape(said, "role", "content"), shape(calling, "role", "tool_calls")]


def _message(roles: tuple[str, ...], content: Fields) -> Fields:
    """Return a message that holds no calls."""
    return shape({"role": {"enum": list(roles)}, "content": content, "tool_calls": _NO_CALLS}, "role", "content")


def _text_part() -> Fields:
    others = dict.fromkeys((*_MEDIA, "image", "video", "audio"), NULL)
    return shape({"type": one_of_values(("text",)), "text": STRING, **others}, "text")


def _media_part(kind: str) -> Fields:
    others = dict.fromkeys((*_MEDIA, "text", "image", "video", "audio"), NULL)
    further = detail() if kind in ("image_url", "pdf_url") else {}
    return shape({**others, "type": one_of_values((kind,)), kind: STRING, **further}, kind)


def _completion_message() -> Fields:
    """Return one message of /v1/chat/completions."""
    text, part = completion_texts(), either(*completion_texts(), *completion_media())
    content = either(STRING, listed(part))
    system = _message(("system", "developer"), either(STRING, listed(either(*text))))
    result = {"role": {"const": "tool"}, "tool_call_id": STRING, "content": maybe(content)}
    old_result = {"role": {"const": "function"}, "name": STRING, "content": maybe(content)}
    kinds = [
        _message(("user",), content),
        _completion_assistant(content),
        shape(result, "role", "tool_call_id", "content"),
        shape(old_result, "role", "name", "content"),
    ]
    return either(system, *kinds)


def _completion_assistant(content: Fields) -> Fields:
    function = shape({"name": FILLED, "arguments": either(STRING, ANY_OBJECT)}, "name", "arguments")
    custom = shape({"name": FILLED, "input": STRING}, "name", "input")
    called = shape({"id": FILLED, "custom": NULL, "function": function}, "id", "function")
    call = either(called, shape({"id": FILLED, "custom": custom}, "id", "custom"))
    fields = {
        "role": {"const": "assistant"},
        "content": maybe(content),
        "refusal": MAYBE_STRING,
        "audio": NULL,
        "tool_calls": maybe(listed(call)),
        "function_call": maybe(function),
    }
    return shape(fields, "role")


def completion_texts() -> list[Fields]:
    """Return the parts that are text."""
    typed = shape({"type": {"enum": list(_TEXTS)}, "text": STRING}, "type", "text")
    return [STRING, typed, shape({"type": {"const": "refusal"}, "refusal": STRING}, "type", "refusal")]


def completion_media() -> list[Fields]:
    """Return the parts that are media."""
    url, image = (either(STRING, shape({"url": STRING, **further}, "url")) for further in ({}, detail()))
    audio = shape({"data": STRING, "format": STRING}, "data", "format")
    data = shape({"file_data": STRING, **detail()}, "file_data")
    file = either(data, shape({"file_data": NULL, "file_url": STRING, **detail()}, "file_url"))
    return [
        *(shape({"type": {"const": kind}, kind: url}, "type", kind) for kind in ("video_url", "audio_url")),
        shape({"type": {"enum": ["image_url", "input_image"]}, "image_url": image, **detail()}, "type", "image_url"),
        shape({"type": {"const": "input_audio"}, "input_audio": audio}, "type", "input_audio"),
        shape({"type": {"const": "file"}, "file": file}, "type", "file"),
        {"allOf": [shape({"type": {"const": "input_file"}}, "type"), file]},
    ]


def function() -> Fields:
    """Return a function on offer."""
    schema = shape({"type": {"const": "object"}})
    return shape({"name": TOOL_NAME, "description": MAYBE_STRING, "parameters": maybe(schema)}, "name")


def tool_choice() -> Fields:
    """Return what says which tools are to be called, as OpenAI's clients say it."""
    name = {"function": shape({"name": TOOL_NAME}, "name")}
    function = either(shape(name, "function"), shape({"name": TOOL_NAME, "function": NULL}, "name"))
    named = {"allOf": [shape({"type": {"const": "function"}}, "type"), function]}
    inner = {"mode": {"enum": ["auto", "required"]}, "tools": listed(function, least=1)}
    kind = {"type": {"const": "allowed_tools"}}
    allowed = shape({**kind, "allowed_tools": shape(inner, "mode", "tools")}, "type", "allowed_tools")
    flat = shape({**kind, "allowed_tools": NULL, **inner}, "type", "mode", "tools")
    return either({"enum": ["auto", "none", "required", None]}, named, allowed, flat)


def needs_tools(demand: Mapping[str, object]) -> Fields:
    """Say that who demands a call offers tools. demand: the tool_choice that does."""
    demands = shape({"tool_choice": demand}, "tool_choice")
    return {"if": demands, "then": shape({"tools": {"type": "array", "minItems": 1}}, "tools")}


def _needs_logprobs() -> Fields:
    """Say that top_logprobs stand beside logprobs."""
    wanted = shape({"top_logprobs": {"type": "integer"}}, "top_logprobs")
    return {"if": wanted, "then": shape({"logprobs": {"const": True}}, "logprobs")}


def _scores() -> Fields:
    top = {"type": ["integer", "null"], "minimum": 0, "maximum": Limits.top_logprobs}
    return {"logprobs": MAYBE_BOOLEAN, "top_logprobs": top}


def sampling() -> dict[str, Fields]:
    """Return the fields that say how tokens are chosen, and when an answer ends."""
    return {
        **{name: _range(number) for name, number in NUMBERS.items()},
        "seed": {"type": ["integer", "null"]},
        "stop": maybe(listed(_stop_string(), most=Limits.stop)),
    }


def _range(number: Number) -> Fields:
    """Return what a numeric field accepts; null is its default."""
    bounds = {"minimum": number.low, "exclusiveMinimum": number.above, "maximum": number.high}
    kind = "integer" if number.whole else "number"
    return {"type": [kind, "null"], **{name: bound for name, bound in bounds.items() if math.isfinite(bound)}}


def _stop_string() -> Fields:
    return {**FILLED, "maxLength": Limits.stop_bytes}


def looking() -> Fields:
    """Return the fields that say how images, PDFs and videos are looked at."""
    return {
        **detail(),
        "video_frames": {"type": ["integer", "null"], "minimum": 1, "maximum": Limits.video_frames},
        "video_sound": MAYBE_BOOLEAN,
    }


def detail() -> dict[str, Fields]:
    """Return the fields that say how finely an image is looked at: of a request, and of a part."""
    return {"detail": one_of_values(tuple(LEVELS)), "max_tiles": {"type": ["integer", "null"], "minimum": 1}}


def response_format() -> Fields:
    """Return what an answer may have to be: free text, JSON of a schema, or what a regular expression matches."""
    schema = {"type": ["object", "boolean"]}
    optional = {"anyOf": [schema, NULL]}
    named = shape({"schema": schema}, "schema")
    kinds = [
        shape({"type": {"const": "text"}}, "type"),
        shape({"type": {"const": "json_object"}, "schema": optional}, "type"),
        shape({"type": {"const": "json_schema"}, "json_schema": named}, "type", "json_schema"),
        shape({"type": {"const": "json_schema"}, "json_schema": NULL, "schema": schema}, "type", "schema"),
        shape({"type": {"const": "regex"}, "pattern": STRING}, "type", "pattern"),
    ]
    return {"anyOf": [*kinds, NULL]}


def structured() -> Fields:
    """Return what other servers call a response_format; at most one of all is accepted."""
    schema: Fields = {"type": ["object", "boolean", "string", "null"]}
    pattern: Fields = {"type": ["string", "null"]}
    choices: Fields = {"anyOf": [{**listed(FILLED), "minItems": 1}, NULL]}
    is_object: Fields = {"type": ["boolean", "null"]}
    absent = {"enum": ["", False]}
    kinds = {"json": schema, "json_object": is_object, "regex": pattern, "choice": choices}
    nested: Fields = {**kinds, "grammar": NULL}
    return {
        "guided_json": schema,
        "guided_json_object": either(is_object, absent),
        "guided_regex": either(pattern, absent),
        "guided_choice": either(choices, absent),
        "structured_outputs": maybe({**shape(nested), "anyOf": [_given(name, kind) for name, kind in kinds.items()]}),
        "json_schema": schema,
        "regex": either(pattern, absent),
        **{name: {"enum": ["", False, None]} for name in ("grammar", "guided_grammar", "ebnf")},
    }


def _given(name: str, kind: Fields) -> Fields:
    """Say that a constraint is there: neither null nor, for a switch, off."""
    return shape({name: {"allOf": [dict(kind), {"not": {"enum": [None, False]}}]}}, name)
