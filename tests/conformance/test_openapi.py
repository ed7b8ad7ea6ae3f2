"""The document is true: what is made from it gets no 5xx and no status or form it does not name, keyed and not."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import jsonschema
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

from edge.server.routes import ROUTES, document
from export.certificate.speech import sounds
from tests.conformance.conftest import Served, serving
from tests.edge.media.tones import file
from tests.edge.speech.fake_voice import FakeVoices

CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)
SETTINGS = hypothesis.settings(
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate],
)


@pytest.fixture(scope="module")
def keyed(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key="secret") as served:
        yield served


@pytest.fixture(scope="module")
def served(int8_bundle: Path, speech_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, speech=speech_bundle, voices=FakeVoices()) as served:
        yield served


SOUND = file(sounds(1, seconds=1.0)[-1])
OPERATIONS = {
    operation.ok().path: operation.ok() for operation in schemathesis.openapi.from_dict(document()).get_all_operations()
}


def test_every_route_is_in_the_document() -> None:
    assert {path: next(iter(item)).upper() for path, item in document()["paths"].items()} == dict(ROUTES)


@pytest.mark.slow
@pytest.mark.parametrize("path", list(ROUTES))
def test_what_the_document_makes_is_answered_as_it_says(path: str, served: Served) -> None:
    @hypothesis.given(case=OPERATIONS[path].as_strategy())
    @hypothesis.settings(SETTINGS, max_examples=40 if ROUTES[path] == "POST" else 5)
    def answered(case: schemathesis.Case) -> None:
        bounded(case)
        case.call_and_validate(base_url=served.address, checks=list(CHECKS))

    answered()


@pytest.mark.parametrize("path", list(ROUTES))
def test_without_the_key_nothing_else_is_answered(path: str, keyed: Served) -> None:
    @hypothesis.given(case=OPERATIONS[path].as_strategy())
    @hypothesis.settings(SETTINGS, max_examples=4)
    def answered(case: schemathesis.Case) -> None:
        case.headers = {}
        response = case.call(base_url=keyed.address)
        case.validate_response(response, checks=list(CHECKS))
        assert response.status_code == (200 if path in ("/health", "/") else 401)

    answered()


UPLOADS = ["/v1/audio/transcriptions", "/v1/audio/translations"]  # what a form says is text, whatever was meant
SPEECH = "/v1/audio/speech"
POSTS = [path for path, method in ROUTES.items() if method == "POST" and path not in UPLOADS]
FORMS = ("response_format", "structured_outputs", "json_schema", "regex", "guided_json", "guided_json_object",
         "guided_regex", "guided_choice", "text", "format", "images", "output_config", "output_format")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", POSTS)
def test_what_the_document_allows_is_accepted(path: str, served: Served) -> None:
    strategy = OPERATIONS[path].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)

    @hypothesis.given(case=strategy)
    @hypothesis.settings(SETTINGS, max_examples=60)
    def accepted(case: schemathesis.Case) -> None:
        bounded(case)
        case.body = sayable(case.body)
        response = case.call(base_url=served.address)
        is_long = response.status_code == 400 and any(words in response.text for words in ("context", "too long"))
        assert is_long or response.status_code == 200, (case.body, response.text)

    accepted()


@pytest.mark.slow
@pytest.mark.parametrize("path", UPLOADS)
def test_a_form_that_the_document_allows_is_accepted(path: str, served: Served) -> None:
    strategy = OPERATIONS[path].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    fields: set[str] = set()

    @hypothesis.given(case=strategy)
    @hypothesis.settings(SETTINGS, max_examples=30)
    def accepted(case: schemathesis.Case) -> None:
        assert isinstance(case.body, dict)
        fields.update(case.body)
        # What a file holds, and which languages and models there are, is not in the document.
        body = {**case.body, "file": SOUND, "model": "whisper-1", "language": ""}
        case.body = {name: value for name, value in body.items() if encodable(name) and encodable(value)}
        response = case.call(base_url=served.address)
        case.validate_response(response, checks=list(CHECKS))
        assert response.status_code == 200 or "parts in the form" in response.text, (case.body, response.text)

    accepted()
    assert {"stream", "include[]", "timestamp_granularities[]", "prompt", "temperature"} <= fields


STREAMS = [path for path in ROUTES if "event-stream" in str(document()["paths"][path])]  # type: ignore[index]
SHORT: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi", "max_output_tokens": 3},
    SPEECH: {"input": "Good morning. How are you?", "model": "tts-1"},
    **{path: {"file": SOUND, "model": "whisper-1"} for path in UPLOADS},
}
CHAT: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def streaming(path: str) -> dict[str, object]:
    """Return the field that asks for a stream of events."""
    return {"stream_format": "sse"} if path == SPEECH else {"stream": True}


def stream_of(path: str, served: Served) -> tuple[schemathesis.Case, schemathesis.Response]:
    body = {"model": "reka-edge", **SHORT.get(path, CHAT), **streaming(path)}
    kind = "multipart/form-data" if path in UPLOADS else "application/json"
    case = OPERATIONS[path].Case(body=body, media_type=kind)
    response = case.call(base_url=served.address)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == ["text/event-stream"]
    return case, response


@pytest.mark.parametrize("path", STREAMS)
def test_each_event_of_a_stream_is_as_the_document_says(path: str, served: Served) -> None:
    case, response = stream_of(path, served)
    case.validate_response(response, checks=list(CHECKS))
    response.content = b': progress {"stage":"tokens"}\n\n' + response.content  # a comment is not an event
    case.validate_response(response, checks=list(CHECKS))


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("event", [b'data: {"unknown":1}\n\n', b"data: no JSON\n\n", b"event: other\ndata: {}\n\n"])
def test_an_event_that_the_document_does_not_know_is_found(path: str, event: bytes, served: Served) -> None:
    case, response = stream_of(path, served)
    response.content += event
    with pytest.raises(FailureGroup):
        case.validate_response(response, checks=list(CHECKS))


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in STREAMS if path not in UPLOADS])
def test_streams_that_the_document_makes_are_as_it_says(path: str, served: Served) -> None:
    strategy = OPERATIONS[path].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    kinds: set[str] = set()

    @hypothesis.given(case=strategy)
    @hypothesis.settings(SETTINGS, max_examples=20)
    def answered(case: schemathesis.Case) -> None:
        bounded(case)
        case.body = {**sayable(case.body), **streaming(path)}
        response = case.call_and_validate(base_url=served.address, checks=list(CHECKS))
        kinds.update(response.headers["content-type"])

    answered()
    assert "text/event-stream" in kinds


@pytest.mark.slow
@pytest.mark.parametrize("path", POSTS)
def test_what_the_document_forbids_is_refused(path: str, served: Served) -> None:
    strategy = OPERATIONS[path].as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    body = document()["paths"][path]["post"]["requestBody"]  # type: ignore[index]
    (content,) = body["content"].values()
    schema = jsonschema.Draft202012Validator(content["schema"])

    @hypothesis.given(case=strategy)
    @hypothesis.settings(SETTINGS, max_examples=60)
    def refused(case: schemathesis.Case) -> None:
        name = "model_name" if path == "/chat" else "model"
        if isinstance(case.body, dict) and isinstance(case.body.get(name), str) and case.body[name]:
            # Else it would not be known whether the rest was accepted.
            case.body[name] = "tts-1" if path == SPEECH else "reka-edge"
        if schema.is_valid(case.body):
            return  # it was the model's name alone that was wrong
        response = case.call(base_url=served.address)
        assert 400 <= response.status_code < 500, (case.body, response.text)

    refused()


def sayable(body: object) -> dict[str, object]:
    """Return a request without what a JSON Schema cannot say: see edge.server.openapi_requests."""
    assert isinstance(body, dict)
    fields = {name: value for name, value in whole_numbers(body).items() if name not in FORMS}
    if fields.get("max_completion_tokens"):
        fields["max_completion_tokens"] = 3
    if fields.get("tool_choice") not in (None, "auto", "none"):
        fields["tool_choice"] = None  # names a tool, or asks for one whose schema may be any
    names = [tool.get("function", tool)["name"] for tool in fields.get("tools") or ()]
    if len(set(names)) < len(names) or any(name.endswith("\n") for name in names):
        fields["tools"] = None
    if isinstance(fields.get("tokens"), list):
        fields["tokens"] = [int(token) % 256 for token in fields["tokens"]]  # how many there are is the model's
    name = "input" if isinstance(fields.get("input"), list) else "messages"
    messages = fields.get(name) or []
    n_leading = next((i for i, m in enumerate(messages) if m.get("role") not in ("system", "developer")), len(messages))
    later = [message for message in messages[n_leading:] if message.get("role") not in ("system", "developer")]
    fields.update({name: [*messages[:n_leading], *later]} if messages else {})
    if fields.get("think"):
        fields["think"] = None  # the model does not reason
    for holder in (fields, fields.get("options") or {}):
        stop = holder.get("stop") or holder.get("stop_words") or ()
        if any(len(text.encode()) > 256 for text in ([stop] if isinstance(stop, str) else stop)):
            holder.update({name: None for name in ("stop", "stop_words") if name in holder})
    return {name: shown_media(value) if name in ("messages", "conversation_history", "input") else value
            for name, value in fields.items()}  # fmt: skip


def whole_numbers(value: object) -> object:
    """Return JSON whose 5.0 is 5: to a JSON Schema both are integers."""
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e17 else value


def shown_media(value: object) -> object:
    """Return messages whose media are text: what a medium holds is not in the document."""
    if isinstance(value, list):
        return [shown_media(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "human" or value.get("type") == "model":
        return {**value, "media_url": None}
    kinds = ("image_url", "video_url", "audio_url", "pdf_url", "input_image", "input_audio", "file", "input_file")
    if value.get("type") in ("image", "document", "search_result"):
        return {"type": "text", "text": "a medium"}
    if any(name in value for name in ("role", "call_id", "tool_call_id", "tool_use_id")):
        kept = {key: item for key, item in value.items() if key != "images"}
        return {key: shown_media(item) if key in ("content", "output") else item for key, item in kept.items()}
    if value.get("type") in kinds or any(value.get(kind) is not None for kind in kinds[:4]):
        return {"type": "text", "text": "a medium"}
    return value


def encodable(value: object) -> bool:
    """Tell whether a text can be sent in a form."""
    return not isinstance(value, str) or not any(0xD800 <= ord(char) < 0xE000 for char in value)


def bounded(case: schemathesis.Case) -> None:
    """Keep what is generated short: the document's own default is a thousand tokens."""
    if isinstance(case.body, dict) and case.path == SPEECH:
        case.body |= {"model": "tts-1", "language": None}  # which voices and languages there are is not in the document
        case.body |= {"voice": {"id": "alloy"} if isinstance(case.body.get("voice"), dict) else "alloy"}
    elif isinstance(case.body, dict) and case.path not in UPLOADS:
        name = {"/chat": "request_output_len", "/v1/responses": "max_output_tokens"}.get(case.path, "max_tokens")
        if case.path.startswith("/api/"):
            name, options = "num_predict", case.body.get("options")
            holder = case.body["options"] = options if isinstance(options, dict) else {}
        else:
            holder = case.body
        most = holder.get(name)
        holder[name] = min(most, 3) if isinstance(most, int) and most > 0 else 3
        case.body["model" if case.path != "/chat" else "model_name"] = "reka-edge"


SCHEMAS = document()["components"]["schemas"]  # type: ignore[index]
TOOL = {"name": "count", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}
OPENAI_TOOL = {"type": "function", "function": TOOL}
SAY = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 80, "seed": 1}


def check(name: str, value: object) -> None:
    jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document()}).validate(value)


def test_every_answer_with_json_has_a_schema_of_its_fields() -> None:
    for path, item in document()["paths"].items():  # type: ignore[attr-defined]
        (operation,) = item.values()
        for status, response in operation["responses"].items():
            schema = response["content"].get("application/json", {}).get("schema")
            assert schema is None or set(schema) != {"type"}, (path, status)


@pytest.mark.parametrize("more", [{}, {"tools": [TOOL], "tool_choice": "tool"}])
def test_chats_are_as_the_document_says(more: dict[str, object], served: Served) -> None:
    with httpx.Client(base_url=served.address, timeout=60) as client:
        whole = client.post("/v1/chat", json={**SAY, **more}).json()
        check("ChatResponse", whole)
        assert ("tool_calls" in whole["responses"][0]["message"]) == bool(more)
        for line in client.post("/v1/chat", json={**SAY, **more, "stream": True}).text.split("\n\n")[:-1]:
            check("ChatChunk", json.loads(line.removeprefix("data: ")))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tools": [OPENAI_TOOL], "tool_choice": "required"},
        {"logprobs": True, "top_logprobs": 2, "stream_options": {"include_usage": True}},
    ],
)
def test_completions_are_as_the_document_says(more: dict[str, object], served: Served) -> None:
    with httpx.Client(base_url=served.address, timeout=60) as client:
        whole = client.post("/v1/chat/completions", json={**SAY, **more}).json()
        check("Completion", whole)
        assert (whole["choices"][0]["finish_reason"] == "tool_calls") == ("tools" in more)
        fields = {**SAY, **more, "stream": True}
        *events, done, end = client.post("/v1/chat/completions", json=fields).text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        for line in events:
            check("CompletionChunk", json.loads(line.removeprefix("data: ")))


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_what_the_document_does_not_know_is_no_answer(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(name, {"unknown": 1})
