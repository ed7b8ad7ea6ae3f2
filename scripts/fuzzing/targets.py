"""What is sent: a request for each case, made from a seed alone, and what its answer may be."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jsonschema

from scripts.fuzzing import forms, inputs, mutators
from tests.edge.engine.grammar.schemas import FORMATS, random_schema

Json = object
Check = Callable[[int, bytes], str | None]  # status and body; returns what is wrong with them

ALLOWED = {200, 400, 404, 413, 415, 422}
CHAT, OPENAI, LEGACY = "/v1/chat", "/v1/chat/completions", "/chat"
AUDIO = ("/v1/audio/transcriptions", "/v1/audio/translations")

_MAX_TOKENS = 3
_SCHEMA_TOKENS = 300
_SECRETS = ("Traceback", "/root", "/tmp", "/proc", "/home", "site-packages", "0x7f")
_ODD: tuple[Json, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -0.0, 1e308, "", " ", "\x00", "a" * 5000, "\ud800", "<sep>", [],
    {}, [[]], [{}], {"": None}, "data:", "data:image/png;base64,", "file:///etc/passwd", "https://example.com/x.png",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One request and what is right. body: as it is sent, of a media type; kind: of its content, for the summary."""

    path: str
    body: bytes
    kind: str
    check: Check
    content_type: str = "application/json"


def image(rng: random.Random) -> Case:
    """A mutated image."""
    return _media("image", inputs.images(), rng)


def audio(rng: random.Random) -> Case:
    """A mutated sound file."""
    return _media("audio", inputs.audio(), rng)


def video(rng: random.Random) -> Case:
    """A mutated video; one in four is heard as well."""
    return _media("video", inputs.videos(), rng, video_sound=rng.random() < 0.25)


def pdf(rng: random.Random) -> Case:
    """A mutated PDF."""
    return _media("pdf", inputs.pdfs(), rng)


def schema(rng: random.Random) -> Case:
    """A random JSON schema: a valid instance, or a 400."""
    wanted = random_schema(rng.randrange(2**32))
    checked = wanted
    if rng.random() < 0.3:
        extreme = _extreme(rng)
        # Python's own regular expressions may take for ever; a format that is not supported is an annotation.
        plain = {key: value for key, value in extreme.items() if key not in ("pattern", "format")}
        wanted, checked = _beside(wanted, extreme), _beside(wanted, plain)
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": rng.choice((_SCHEMA_TOKENS, _SCHEMA_TOKENS, 12, 40)),
        "seed": rng.randrange(1000),
        "temperature": rng.choice((0.0, 0.4, 1.5)),
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}},
    }

    def check(status: int, answer: bytes) -> str | None:
        if status != 200:
            return _refused(status, answer)
        choice = json.loads(answer)["choices"][0]
        try:
            instance = json.loads(choice["message"]["content"])
            jsonschema.Draft202012Validator(checked, format_checker=FORMATS).validate(instance)
        except (ValueError, jsonschema.ValidationError) as error:
            return f"no valid instance: {choice!r:.300}: {error!s:.200}"
        return None

    return Case(OPENAI, json.dumps(body).encode(), "schema", check)


def body(rng: random.Random) -> Case:
    """A valid request with values replaced by others, keys dropped or moved, or with mutated bytes."""
    path = rng.choice((CHAT, OPENAI, LEGACY))
    value = _template(path, rng)
    for _ in range(rng.randint(1, 4)):
        value = _replaced(value, rng)
    data = json.dumps(value).encode()
    if rng.random() < 0.3:
        data = mutators.any_bytes(data, rng)
    return Case(path, data, path, _answered)


def form(rng: random.Random) -> Case:
    """An uploaded form, to be transcribed or translated."""
    body, name = forms.form(rng)
    return Case(rng.choice((*AUDIO, AUDIO[0])), body, f"form: {name}", _transcribed, forms.CONTENT_TYPE)


TARGETS: Mapping[str, Callable[[random.Random], Case]] = {
    "images": image,
    "audio": audio,
    "videos": video,
    "pdfs": pdf,
    "schemas": schema,
    "bodies": body,
    "forms": form,
}


def _media(kind: str, known: inputs.Inputs, rng: random.Random, **fields: Json) -> Case:
    name = rng.choice(sorted(known))
    data, mutate = known[name]
    mutated = mutators.mixed(mutate)(data, rng)
    url = "data:application/octet-stream;base64," + base64.b64encode(mutated).decode()
    parts = [{"type": f"{kind}_url", f"{kind}_url": url}, {"type": "text", "text": "?"}]
    request = {
        "model": "default",
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": _MAX_TOKENS,
        **fields,
    }
    return Case(CHAT, json.dumps(request).encode(), f"{kind}: {name}", _answered)


def _answered(status: int, answer: bytes) -> str | None:
    if status not in ALLOWED:
        return f"status {status}: {answer[:300]!r}"
    if status != 200:
        return _refused(status, answer)
    if answer.startswith(b"data: "):
        return None if b"finish_reason" in answer else f"a stream without its end: {answer[-200:]!r}"
    json.loads(answer)
    return None


def _transcribed(status: int, answer: bytes) -> str | None:
    """Return what is wrong with a transcript: half of it, or what is none."""
    if status != 200:
        return _refused(status, answer)
    if answer.startswith(b"data: "):
        is_whole = b'"transcript.text.done"' in answer and answer.endswith(b"\n\n")
        return None if is_whole else f"a stream without its end: {answer[-200:]!r}"
    if answer.startswith(b"{"):
        return None if "text" in json.loads(answer) else f"no transcript: {answer[:300]!r}"
    answer.decode()
    return None if answer.endswith(b"\n") else f"a text without its end: {answer[-200:]!r}"


def _refused(status: int, answer: bytes) -> str | None:
    """Return what is wrong with a refusal: its status, its form, or what it gives away."""
    if status not in ALLOWED:
        return f"status {status}: {answer[:300]!r}"
    value = json.loads(answer)
    if not isinstance(value, dict) or not value.keys() & {"detail", "error"}:
        return f"status {status} without detail or error: {answer[:300]!r}"
    said = answer.decode("utf-8", "replace")
    given_away = [word for word in _SECRETS if word in said]
    return f"status {status} gives away {given_away}: {said[:300]}" if given_away else None


def _template(path: str, rng: random.Random) -> Json:
    if path == LEGACY:
        return {
            "model_name": "default",
            "conversation_history": [{"type": "human", "text": "hello"}],
            "request_output_len": _MAX_TOKENS,
            "random_seed": 1,
        }
    tool: Json = {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    }
    if path == OPENAI:
        tool = {"type": "function", "function": tool}
    png = "data:image/png;base64," + base64.b64encode(inputs.images()["PNG"][0]).decode()
    image = {"type": "image_url", "image_url": {"url": png} if path == OPENAI else png}
    return {
        "model": "default",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hello"}, image]},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "again"},
        ],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 10,
        "seed": 1,
        "stop": ["x"],
        "stream": rng.random() < 0.3,
        "tools": [tool],
        "tool_choice": "none",
    }


def _replaced(value: Json, rng: random.Random) -> Json:
    """Return a value with something in it, at any depth, replaced, dropped or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value, key=str))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: _replaced(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:at] + [value[at]] * rng.choice((0, 2, 40)) + value[at + 1 :]
        return [*value[:at], _replaced(value[at], rng), *value[at + 1 :]]
    return rng.choice(_ODD)


def _beside(one: Mapping[str, Json], other: Mapping[str, Json]) -> dict[str, Json]:
    return {"type": "object", "properties": {"a": one, "b": other}, "required": ["a", "b"]}


def _extreme(rng: random.Random) -> Mapping[str, Json]:
    """Return a schema that would be huge when it is expanded, or that few readers support."""
    n = rng.choice((3, 100, 1000, 10**6, 10**9))
    inner = rng.choice(("a", "[a-z]", "(b|c)", "a?"))
    kinds: tuple[Mapping[str, Json], ...] = (
        {"type": "string", "pattern": f"^({inner}{{{min(n, 5000)}}}){{{min(n, 5000)}}}$"},
        {"type": "string", "pattern": "^" + "a?" * min(n, 3000) + "a" * min(n, 3000) + "$"},
        {"type": "string", "minLength": n},
        {"type": "string", "maxLength": n},
        {"type": "array", "items": {"type": "integer"}, "minItems": n},
        {"type": "array", "items": {"type": "array", "items": {"type": "null"}, "maxItems": n}, "maxItems": n},
        {"type": "integer", "multipleOf": rng.choice((3, 7, 10, 1000, 99991))},
        {"enum": list(range(min(n, 3000)))},
        {"const": 10 ** rng.choice((3, 70, 300))},
        {"type": "string", "format": rng.choice(("password", "regex", "uuid4", "x-unknown"))},
    )
    return rng.choice(kinds)
