"""The document and the server say the same of requests that were changed at random in one to three places."""

import copy
import random
from collections.abc import Iterator

import jsonschema
import pytest

from edge.chat import Chat, read_continuation, read_request
from edge.chat.attachments import Access
from edge.limits import Limits
from edge.server.anthropic import from_anthropic
from edge.server.completions import from_completion
from edge.server.multipart import Form
from edge.server.ollama import read_chat, read_generate
from edge.server.openai import from_openai
from edge.server.reka import from_legacy, legacy_place, read_stream
from edge.server.responses import from_responses
from edge.server.routes import document
from edge.server.speech import from_speech
from edge.server.transcriptions import from_form
from edge.types import ApiError, HttpValidationError
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

LIMITS = Limits()
N_CHANGES = 1500
TEXT = {"type": "text", "text": "a"}
SAMPLING: dict[str, object] = {
    "temperature": 1, "top_p": 1, "top_k": 5, "seed": 1, "stop": ["a"], "max_tokens": 3, "frequency_penalty": 0,
    "presence_penalty": 0, "logprobs": True, "top_logprobs": 2, "video_frames": 3, "video_sound": False,
    "use_search_engine": False, "stream": False, "detail": "low", "max_tiles": 2,
}  # fmt: skip
SPOKEN = [
    {"role": "system", "content": "a"},
    {
        "role": "user",
        "content": [
            TEXT, {"type": "image_url", "image_url": {"url": "data:", "detail": "high", "max_tiles": 3}},
            {"type": "input_image", "image_url": "x", "detail": "auto", "max_tiles": None},
            {"type": "input_audio", "input_audio": {"data": "a", "format": "wav"}}, {"type": "refusal", "refusal": "x"},
            {"type": "file", "file": {"file_data": "a", "detail": "low"}}, {"type": "input_file", "file_data": "x"},
            "x", {"type": "video_url", "video_url": {"url": "x", "detail": "x"}, "max_tiles": 0},
        ],
    },
    {
        "role": "assistant", "content": None, "refusal": None, "audio": None, "function_call": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": "x"}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "x"},
    {"role": "tool", "tool_call_id": "b", "content": [TEXT]},
    {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "function", "name": "f", "content": "x"},
    {"role": "user", "content": "x", "tool_calls": []},
]  # fmt: skip
ITEMS = [
    {"role": "system", "content": "x"},
    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "x"}]},
    {
        "type": "message", "role": "user",
        "content": [
            {"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "x", "detail": "original"},
            {"type": "input_file", "file_data": "x", "max_tiles": 1}, {"type": "input_file", "file_url": "x"},
            {"type": "input_audio", "input_audio": {"data": "a", "format": "wav"}},
        ],
    },
    {"type": "reasoning", "id": "r", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]},
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
    {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "x"},
    {"type": "function_call_output", "call_id": "a", "output": "x"},
    {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "x"}]},
    {"role": "user", "content": "x"},
]  # fmt: skip
DATA = {"type": "base64", "media_type": "image/png", "data": "a"}
WORDS = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}, "citations": None}
DOCUMENTS = [
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "a"}, "title": "x"},
    {"type": "document", "source": {"type": "url", "url": "x"}, "context": "x", "citations": {"enabled": False}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    {"type": "document", "source": {"type": "content", "content": [WORDS, {"type": "image", "source": DATA}]}},
    {"type": "search_result", "title": "x", "source": "x", "content": [WORDS]},
]
BLOCKS = [
    {"role": "system", "content": "x"},
    {"role": "user", "content": [WORDS, {"type": "image", "source": DATA, "transformations": {}}, *DOCUMENTS]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "x", "signature": ""}, {"type": "redacted_thinking", "data": "x"}, WORDS,
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [WORDS, {"type": "image", "source": DATA}]},
            {"type": "tool_result", "tool_use_id": "b", "content": "x", "is_error": True}, WORDS,
        ],
    },
    {"role": "assistant", "content": "x"},
]  # fmt: skip
MESSAGE = {
    "model": "m", "system": [WORDS], "messages": BLOCKS, "stop_sequences": ["x"], "metadata": {"user_id": "x"},
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "type": "custom"}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}, "thread": None,
    "thinking": {"type": "enabled", "budget_tokens": 5, "display": "omitted"}, "output_config": {"effort": "low"},
    "mcp_servers": [], "container": None,
}  # fmt: skip
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
ALLOWED = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}
OLLAMA: dict[str, object] = {
    "stream": False, "format": "json", "think": False, "keep_alive": "5m", "logprobs": True, "top_logprobs": 2,
    "truncate": False, "shift": None,
    "options": {
        "num_predict": -1, "top_k": 0, "top_p": 1, "temperature": 0, "seed": -1, "stop": ["a"], "frequency_penalty": 0,
        "presence_penalty": 0, "repeat_penalty": 1, "min_p": 0, "mirostat": 0, "num_ctx": 5,
    },
}  # fmt: skip
REQUESTS: dict[str, dict[str, object]] = {
    "/v1/chat": {
        "model": "m",
        "messages": [
            {"role": "system", "content": [TEXT]},
            {
                "role": "user",
                "content": [
                    TEXT, {"image_url": "x", "text": None, "detail": "low", "max_tiles": 2},
                    {"pdf_url": "x", "type": "pdf_url", "detail": "auto"}, {"video_url": "x", "detail": 5},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "name": "f", "parameters": {}}]},
            {"role": "tool_output", "content": [{"tool_call_id": "a", "output": "x"}]},
            {"role": "tool_output", "content": [{"tool_call_id": "a", "output": [TEXT]}]},
            {"role": "assistant", "content": "x", "tool_calls": None},
        ],
        "tools": [FUNCTION], "tool_choice": "auto", **SAMPLING,
    },
    "/v1/chat/completions": {
        "model": "m", "messages": SPOKEN, "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED}, **SAMPLING, "top_k": -1,
        "max_completion_tokens": 3, "n": 1, "stream_options": {"include_usage": True}, "logit_bias": {},
        "modalities": ["text"], "audio": None, "functions": [], "function_call": "none",
    },
    "/v1/completions": {
        "model": "m", "prompt": ["a"], **SAMPLING, "logprobs": 2, "top_logprobs": None, "top_k": -1, "echo": False,
        "suffix": None, "best_of": 1, "n": 1, "stream_options": {"include_usage": True}, "logit_bias": {},
    },
    "/v1/responses": {
        "model": "m", "instructions": "x", "input": ITEMS, "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": {"type": "allowed_tools", **ALLOWED}, **SAMPLING, "logprobs": None, "max_output_tokens": 3,
        "max_tokens": None, "messages": None, "include": ["message.output_text.logprobs"], "store": False,
        "background": False, "previous_response_id": None, "truncation": "disabled", "metadata": {"a": "b"},
        "reasoning": {"effort": "low"}, "stream_options": {"include_obfuscation": False}, "text": {"format": None},
        "n": 1, "logit_bias": {}, "modalities": ["text"], "audio": None, "functions": [], "function_call": "none",
    },
    "/v1/messages": {**SAMPLING, **MESSAGE, "stop": None, "logprobs": False, "top_logprobs": None},
    "/v1/messages/count_tokens": MESSAGE,
    "/api/chat": {
        "model": "m", "tools": [{"type": "function", "function": FUNCTION}], **OLLAMA,
        "messages": [
            {"role": "system", "content": "x"}, {"role": "user", "content": "x", "images": ["x"]},
            {
                "role": "assistant", "thinking": "x",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}, {"function": {"name": "g"}}],
            },
            {"role": "tool", "content": "x", "tool_call_id": "a"}, {"role": "tool", "tool_name": "g", "images": ["x"]},
            {"role": "user", "images": None, "tool_calls": []},
        ],
    },
    "/api/generate": {
        "model": "m", "prompt": "x", "system": "x", "images": ["x"], "raw": False, "suffix": "", "template": "",
        "context": [], "width": 0, "height": None, **OLLAMA,
    },
    "/v1/audio/speech": {
        "model": "m", "input": "x", "voice": {"id": "alloy"}, "instructions": "x", "response_format": "wav",
        "speed": 1.5, "stream_format": "sse", "language": "en", "stream": True,
    },
    "/chat": {
        "model_name": "m",
        "conversation_history": [{"type": "human", "text": "a", "media_url": "x"}, {"type": "model", "text": "b"}],
        "request_output_len": 3, "random_seed": 1, "runtime_top_k": 3, "runtime_top_p": 1, "stop_words": ["x"],
        "length_penalty": 1, "retrieval_dataset": None, "use_search_engine": False, "stream": False, "temperature": 1,
        "detail": "low", "max_tiles": 2,
    },
}  # fmt: skip
VALUES: list[object] = [
    None, True, False, 0, 1, -1, 2, 5, 257, 1.5, "", "a", "none", "auto", "required", "tool", "text", "user",
    "assistant", "system", "tool_output", "low", [], ["a"], [1], [None], {}, {"a": 1}, TEXT, {"url": "x"}, "x" * 300,
    {"type": "object"}, {"type": "string"}, {"type": "any"},
]  # fmt: skip
# What a JSON Schema cannot say: see edge.server.openapi_requests.
UNSAID = (
    "expected another name", "one of the tools", "a system message only first", "does not support thinking",
    "format: type: expected one or more of",
)  # fmt: skip
OLLAMAS = Chat(OneEngine(FakeEngine(manifest())), Access(), LIMITS)  # type: ignore[arg-type]


def places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def changed(request: dict[str, object], luck: random.Random) -> dict[str, object]:
    """Return a request with one to three values left out, doubled or replaced."""
    request = copy.deepcopy(request)
    for _ in range(luck.choice((1, 1, 1, 2, 3))):
        *way, last = luck.choice(list(places(request)))
        holder: object = request
        for key in way:
            holder = holder[key]  # type: ignore[index]
        act = luck.random()
        if act < 0.25:
            del holder[last]  # type: ignore[attr-defined]
        elif act < 0.35 and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(luck.choice(holder)))  # type: ignore[arg-type]
        else:
            holder[last] = copy.deepcopy(luck.choice(VALUES))  # type: ignore[index]
    return request


def refusal(path: str, body: dict[str, object]) -> str | None:
    """Return why a request is refused before a model is looked for, None where it is accepted."""
    try:
        if path == "/v1/chat":
            read_stream(body)
            read_request(body, limits=LIMITS)
        elif path == "/chat":
            read_request(from_legacy(body), limits=LIMITS, place=legacy_place)
        elif path.startswith("/v1/messages"):
            message = from_anthropic(body)
            read_request(message.fields, limits=LIMITS, place=message.place)
        elif path.startswith("/api/"):
            (read_chat if path == "/api/chat" else read_generate)(OLLAMAS, body)
        elif path == "/v1/audio/speech":
            from_speech(body, most_chars=LIMITS.speech_chars)
        elif path == "/v1/completions":
            continuation = from_completion(body)
            read_continuation(continuation.text, continuation.fields, limits=LIMITS, place=continuation.place)
        else:
            asked = (from_responses if path == "/v1/responses" else from_openai)(body)
            read_request(asked.fields, limits=LIMITS, place=asked.place)
    except ApiError as error:
        return str(error.body.detail if isinstance(error.body, HttpValidationError) else error.body)
    return None


@pytest.mark.parametrize("path", list(REQUESTS))
def test_document_and_server_allow_the_same(path: str) -> None:
    body = document()["paths"][path]["post"]["requestBody"]  # type: ignore[index]
    schema = jsonschema.Draft202012Validator(body["content"]["application/json"]["schema"])
    assert schema.is_valid(REQUESTS[path]) and refusal(path, REQUESTS[path]) is None
    luck, n_allowed = random.Random(1), 0
    for _ in range(N_CHANGES):
        request = changed(REQUESTS[path], luck)
        why, allowed = refusal(path, request), schema.is_valid(request)
        n_allowed += allowed
        if allowed:
            assert why is None or any(words in why for words in UNSAID), request
        else:
            assert why is not None, request
    assert 0 < n_allowed < N_CHANGES


UPLOAD = [
    ("model", "m"), ("language", "en"), ("prompt", "x"), ("response_format", "verbose_json"), ("temperature", "0.5"),
    ("seed", "1"), ("stream", "false"), ("timestamp_granularities[]", "segment"), ("chunking_strategy", "auto"),
]  # fmt: skip
TEXTS = (
    "", "true", "false", "yes", "0", "1", "-1", "1.5", "0.25", "1e400", "nan", "json", "text", "srt", "vtt", "auto",
    "verbose_json", "diarized_json", "segment", "word", "logprobs", "server_vad", "en", "x" * 300,
)  # fmt: skip
NAMES = ("include[]", "known_speaker_names[]", "keywords[]", "languages[]", "hotwords", *(name for name, _ in UPLOAD))


def typed(fields: list[tuple[str, str]], properties: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return a form's texts as the document's types: an empty one is absent, what is no number is a text."""
    found: dict[str, object] = {"file": "x"}
    for name, text in fields:
        kind, value = properties.get(name, {}).get("type"), text
        if kind in ("number", "integer") and text.replace(".", "", 1).lstrip("-").isdigit():
            value = float(text) if "." in text else int(text)  # type: ignore[assignment]
        if kind == "boolean" and text in ("true", "false"):
            value = text == "true"  # type: ignore[assignment]
        if text and kind == "array":
            found.setdefault(name, []).append(value)  # type: ignore[attr-defined]
        elif text:
            found[name] = value if name not in found else [found[name], value]
    return found


@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_document_and_server_allow_the_same_forms(task: str) -> None:
    path = {"transcribe": "/v1/audio/transcriptions", "translate": "/v1/audio/translations"}[task]
    (content,) = document()["paths"][path]["post"]["requestBody"]["content"].values()  # type: ignore[index]
    schema, properties = jsonschema.Draft202012Validator(content["schema"]), content["schema"]["properties"]
    luck, n_allowed = random.Random(1), 0
    for _ in range(N_CHANGES):
        fields = list(UPLOAD)
        for _ in range(luck.choice((1, 1, 1, 2, 3))):
            act, at = luck.random(), luck.randrange(len(fields))
            if act < 0.25 and len(fields) > 1:
                del fields[at]
            elif act < 0.4:
                fields.append((luck.choice(NAMES), luck.choice(TEXTS)))
            else:
                fields[at] = (fields[at][0], luck.choice(TEXTS))
        texts = {name: tuple(text for other, text in fields if other == name) for name, _ in fields}
        try:
            from_form(Form(texts, {"file": b"x"}), task)
            why = None
        except ApiError as error:
            why = str(error.body.detail if isinstance(error.body, HttpValidationError) else error.body)
        allowed = schema.is_valid(typed(fields, properties))
        # A list of one value may be there twice.
        is_twice = any(len(values) > 1 for name, values in texts.items() if name.endswith("[]"))
        n_allowed += allowed
        assert allowed == (why is None) or is_twice, (fields, why)
    assert 0 < n_allowed < N_CHANGES
