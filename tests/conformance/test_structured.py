"""The fields that other servers constrain an answer by: the same as response_format, or refused by name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

import edge

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "maximum": 14}},
    "required": ["city", "days"],
}
CHOICES = ["yes", "no way", "a|b", "tab\tand\nline", "neither / nor?"]


@pytest.fixture(scope="module")
def client(int8_bundle: Path) -> Iterator[httpx.Client]:
    with httpx.Client(transport=edge.Transport(model=int8_bundle, threads=1), base_url="http://edge") as client:
        yield client


def ask(client: httpx.Client, **fields: object) -> httpx.Response:
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "reka-edge", "messages": messages, "max_tokens": 100, "seed": 1, "temperature": 1.0, **fields}
    return client.post("/v1/chat/completions", json=body)


def text(client: httpx.Client, **fields: object) -> str:
    answer = ask(client, **fields)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    return str(choice["message"]["content"])


def refusal(client: httpx.Client, **fields: object) -> str:
    answer = ask(client, **fields)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


SCHEMAS: list[dict[str, Any]] = [
    {"response_format": {"type": "json_object", "schema": SCHEMA}},
    {"response_format": {"type": "json_schema", "schema": SCHEMA}},
    {"guided_json": SCHEMA},
    {"guided_json": json.dumps(SCHEMA)},
    {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
    {"structured_outputs": {"json": json.dumps(SCHEMA)}},
    {"json_schema": SCHEMA},
    {"guided_json": SCHEMA, "response_format": {"type": "text"}, "guided_regex": None, "grammar": ""},
]


@pytest.mark.parametrize("fields", SCHEMAS)
def test_a_schema_is_honoured_by_every_name(client: httpx.Client, fields: dict[str, object]) -> None:
    jsonschema.validate(json.loads(text(client, **fields)), {**SCHEMA, "additionalProperties": False})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fields", [{"guided_choice": CHOICES}, {"structured_outputs": {"choice": CHOICES}}])
def test_a_choice_is_one_of_those_on_offer(client: httpx.Client, fields: dict[str, object], seed: int) -> None:
    assert text(client, **fields, seed=seed) in CHOICES


@pytest.mark.parametrize("max_tokens", [1, 2, 5, 100])
@pytest.mark.parametrize(
    "pattern", ["(yes|no)", "[0-9]{2,6}", "^\\w+@\\w+\\.com$", "a*", "(é|ü){3}", "[^a-z]{2} /", "(?i)abc", "[01]+2"]
)
def test_a_pattern_is_matched_as_a_whole(client: httpx.Client, pattern: str, max_tokens: int) -> None:
    for fields in ({"guided_regex": pattern}, {"structured_outputs": {"regex": pattern}}, {"regex": pattern},
                   {"response_format": {"type": "regex", "pattern": pattern}}):  # fmt: skip
        answer = ask(client, **fields, max_tokens=max_tokens)
        if answer.status_code == 400:
            assert "expected at least" in answer.json()["error"]["message"] and max_tokens < 100
        else:
            written = answer.json()["choices"][0]["message"]["content"]
            assert re.fullmatch(pattern, written), written


@pytest.mark.parametrize("fields", [{"guided_json_object": True}, {"structured_outputs": {"json_object": True}}])
def test_any_object_by_every_name(client: httpx.Client, fields: dict[str, object]) -> None:
    assert isinstance(json.loads(text(client, **fields)), dict)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"guided_grammar": "root ::= x"}, "guided_grammar"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"ebnf": "root ::= x"}, "ebnf"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    ],
)
def test_a_grammar_is_refused_with_what_to_use(client: httpx.Client, fields: dict[str, object], field: str) -> None:
    said = refusal(client, **fields)
    assert said.startswith(f"{field}: a grammar is not supported") and "response_format" in said


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": 5}, "guided_json"),
        ({"guided_json": {"type": "text"}}, "guided_json"),
        ({"json_schema": [1]}, "json_schema"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", 5]}, "guided_choice"),
        ({"guided_regex": 5}, "guided_regex"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": "(?=a)"}, "guided_regex"),
        ({"structured_outputs": "json"}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "(a{1000}){1000}"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"json": {"not": {}}}}, "structured_outputs.json"),
        ({"response_format": {"type": "json_object", "schema": 5}}, "response_format"),
        ({"response_format": {"type": "regex"}}, "response_format"),
    ],
)
def test_what_is_wrong_is_named_by_the_request_s_own_field(
    client: httpx.Client, fields: dict[str, object], field: str
) -> None:
    assert refusal(client, **fields).startswith(field)


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": SCHEMA, "guided_regex": "a"},
        {"guided_json": SCHEMA, "response_format": {"type": "json_object"}},
        {"structured_outputs": {"json": SCHEMA, "regex": "a"}},
        {"json_schema": SCHEMA, "structured_outputs": {"choice": ["a"]}},
    ],
)
def test_two_of_them_are_refused_with_both_names(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert "expected one field that says what the answer is" in refusal(client, **fields)


def test_fields_that_constrain_nothing_are_ignored(client: httpx.Client) -> None:
    free = ask(client, max_tokens=8).json()["choices"][0]["message"]["content"]
    for fields in ({"guided_decoding_backend": "outlines"}, {"guided_json": None}, {"guided_json_object": False}):
        assert ask(client, **fields, max_tokens=8).json()["choices"][0]["message"]["content"] == free
