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
from schemathesis.specs.openapi import checks as openapi_checks

from edge.app import ROUTES
from edge.openapi import document
from tests.conformance.conftest import Served, serving

CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)
SETTINGS = hypothesis.settings(
    deadline=None, suppress_health_check=list(hypothesis.HealthCheck), derandomize=True, database=None
)


@pytest.fixture(scope="module")
def keyed(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key="secret") as served:
        yield served


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


def bounded(case: schemathesis.Case) -> None:
    """Keep what is generated short: the document's own default is a thousand tokens."""
    if isinstance(case.body, dict):
        name = "request_output_len" if case.path == "/chat" else "max_tokens"
        case.body[name] = min(case.body.get(name) or 3, 3)
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
