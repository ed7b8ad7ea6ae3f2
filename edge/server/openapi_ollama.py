"""Ollama's routes in the document at /openapi.json: what they accept, and what they answer with.

JSON Schema cannot say: that a model has to reason where thinking is asked for, and what `openapi_requests` says of it.
"""

from collections.abc import Mapping

from edge.chat.tools import MAX_TOOLS
from edge.limits import Limits
from edge.server.ollama import CUTS, DURATION, IMAGE_OUTPUT, LEVELS, OFF
from edge.server.openapi_requests import function, sampling
from edge.server.openapi_shapes import (
    ANY_OBJECT,
    COUNT,
    FILLED,
    MAYBE_BOOLEAN,
    MAYBE_STRING,
    STRING,
    Fields,
    closed,
    either,
    listed,
    maybe,
    one_of_values,
    shape,
)

_NO_CALLS: Fields = maybe({"type": "array", "maxItems": 0})
_OFF: Fields = {"enum": [False, None]}
_TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def chat_request() -> Fields:
    """Return what POST /api/chat accepts."""
    tool = shape({"function": function()}, "function")
    messages = {
        **listed(_message(), most=Limits.messages),
        "description": "System messages come first; they are joined. Without messages the model is loaded.",
    }
    fields = {"messages": maybe(messages), "tools": maybe(listed(tool, most=MAX_TOOLS))}
    return {**shape({**_common(), **fields}, "model"), "allOf": [_needs_logprobs()]}


def generate_request() -> Fields:
    """Return what POST /api/generate accepts."""
    none = {"enum": ["", None]}
    fields: Fields = {
        "prompt": {**MAYBE_STRING, "description": "Without a prompt and images the model is loaded."},
        "system": MAYBE_STRING,
        "images": maybe(listed(STRING)),
        "raw": MAYBE_BOOLEAN,
        "suffix": none,
        "template": none,
        "context": maybe({"type": "array", "maxItems": 0}),
        **dict.fromkeys(IMAGE_OUTPUT, one_of_values((0,))),
    }
    raw = shape({"raw": {"const": True}}, "raw")
    alone = shape({"system": none, "images": maybe({"type": "array", "maxItems": 0})})
    request = shape({**_common(), **fields}, "model")
    return {**request, "allOf": [_needs_logprobs(), {"if": raw, "then": alone}]}


def name_request(further: Mapping[str, object] | None = None) -> Fields:
    """Return what names a model, by either of two fields."""
    by_model = shape({"model": FILLED}, "model")
    by_name = shape({"name": FILLED, "model": {"enum": ["", None]}}, "name")
    return {**either(by_model, by_name), **shape(further or {})}


def pull_request() -> Fields:
    """Return what POST /api/pull accepts."""
    return name_request({"stream": MAYBE_BOOLEAN})


def ollama_schemas(logprobs: Fields) -> Fields:
    """Return what Ollama's routes answer with, by name. logprobs: the probabilities of tokens."""
    call = closed({"index": COUNT, "name": STRING, "arguments": ANY_OBJECT})
    calls = {"tool_calls": listed(closed({"id": STRING, "function": call}))}
    message = closed({"role": {"const": "assistant"}, "content": STRING}, {"thinking": STRING, **calls})
    return {
        "OllamaChat": _answer({"message": message}, {"logprobs": logprobs}),
        "OllamaGenerate": _answer({"response": STRING}, {"thinking": STRING, "logprobs": logprobs}),
        "OllamaModels": closed({"models": listed(closed({**_named(), "modified_at": STRING}))}),
        "OllamaRunning": closed({"models": listed(closed({**_named(), **_running()}))}),
        "OllamaModel": closed(
            {
                **dict.fromkeys(("modelfile", "parameters", "template", "license", "modified_at"), STRING),
                "details": _details(),
                "model_info": ANY_OBJECT,
                "capabilities": listed(STRING),
            }
        ),
    }


def version() -> Fields:
    """Return what GET /api/version answers with."""
    return closed({"version": STRING})


def status() -> Fields:
    """Return what POST /api/pull answers with."""
    return closed({"status": {"const": "success"}})


def _common() -> Fields:
    """Return the fields of both routes."""
    top = {"type": ["integer", "null"], "minimum": 0, "maximum": Limits.top_logprobs}
    return {
        "model": FILLED,
        "stream": {**MAYBE_BOOLEAN, "default": True},
        "options": maybe(_options()),
        "format": either({"enum": ["", "json", None]}, ANY_OBJECT),
        "think": {"enum": [True, False, None, *LEVELS]},
        "keep_alive": either({"type": ["number", "null"]}, {"type": "string", "pattern": DURATION}),
        "logprobs": MAYBE_BOOLEAN,
        "top_logprobs": top,
        **dict.fromkeys(CUTS, _OFF),
    }


def _options() -> Fields:
    """Return the options that mean something; others are ignored."""
    ranges = sampling()
    fields: Fields = {
        "num_predict": either({"enum": [-1, -2]}, ranges["max_tokens"]),
        "top_k": either({"enum": [-1, 0]}, ranges["top_k"]),
        "stop": either({**FILLED, "maxLength": Limits.stop_bytes}, ranges["stop"]),
        **{name: ranges[name] for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")},
        **{name: one_of_values((off,)) for name, off in OFF.items()},
    }
    return shape(fields)


def _needs_logprobs() -> Fields:
    """Say that top_logprobs above 0 stand beside logprobs."""
    wanted = shape({"top_logprobs": {"type": "integer", "minimum": 1}}, "top_logprobs")
    return {"if": wanted, "then": shape({"logprobs": {"const": True}}, "logprobs")}


def _message() -> Fields:
    """Return one message."""
    said = {"content": MAYBE_STRING, "images": maybe(listed(STRING))}
    function = shape({"name": FILLED, "arguments": maybe(either(ANY_OBJECT, STRING))}, "name")
    call = shape({"id": MAYBE_STRING, "function": function}, "function")
    none = {"images": _NO_CALLS, "tool_calls": _NO_CALLS}
    kinds = [
        shape({"role": {"const": "user"}, **said, "tool_calls": _NO_CALLS}, "role"),
        shape({"role": {"const": "assistant"}, **said, "tool_calls": maybe(listed(call))}, "role"),
        shape({"role": {"const": "tool"}, **said, "tool_call_id": MAYBE_STRING}, "role"),
        shape({"role": {"const": "system"}, "content": MAYBE_STRING, **none}, "role"),
    ]
    return either(*kinds)


def _answer(said: Mapping[str, object], further: Mapping[str, object]) -> Fields:
    """Return an answer: a piece of it, all of it with counts and times, or that a model was loaded."""
    head = {"model": STRING, "created_at": STRING, **said}
    counts = dict.fromkeys((*_TIMES, "prompt_eval_count", "eval_count"), COUNT)
    reason = {"done": {"const": True}, "done_reason": {"enum": ["stop", "length"]}}
    loaded = {"done": {"const": True}, "done_reason": {"enum": ["load", "unload"]}}
    return either(
        closed({**head, "done": {"const": False}}, further),
        closed({**head, **reason, **counts}, further),
        closed({**head, **loaded}),
    )


def _named() -> Fields:
    return {"name": STRING, "model": STRING, "digest": STRING, "details": _details(), "size": COUNT}


def _running() -> Fields:
    return {"size_vram": COUNT, "expires_at": STRING, "context_length": COUNT}


def _details() -> Fields:
    texts = ("parent_model", "format", "family", "parameter_size", "quantization_level")
    return closed({**dict.fromkeys(texts, STRING), "families": listed(STRING)})
