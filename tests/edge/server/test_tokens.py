"""llama.cpp's /tokenize and /detokenize on a real tokenizer: no text becomes a control token unless it is asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.limits import Limits
from edge.models import Models
from edge.server.app import App

Fields = dict[str, object]


@pytest.fixture(scope="module")
def app(int8_bundle: Path) -> Iterator[App]:
    models = Models(model=int8_bundle, aliases={}, threads=1, context=None)
    app = App(Chat(models, Access(), Limits(tokenized_bytes=2000)))
    yield app
    app.close()


def ask(app: App, route: str, body: object) -> tuple[int, Fields]:
    status, _, parts = app.respond("POST", route, {"content-type": "application/json"}, json.dumps(body).encode())
    return status, json.loads(b"".join(parts))


def tokens(app: App, text: str, **fields: object) -> list[object]:
    status, answer = ask(app, "/tokenize", {"content": text, **fields})
    assert status == 200, answer
    return answer["tokens"]  # type: ignore[return-value]


@pytest.mark.parametrize("text", ["", "Hello, Größe \U0001f600!", "a<sep>b</image> <|endoftext|>", "\x00\n\t"])
def test_a_text_comes_back(app: App, text: str) -> None:
    ids = tokens(app, text)
    assert ask(app, "/detokenize", {"tokens": ids}) == (200, {"content": text})
    assert tokens(app, text, model="reka-edge") == ids


def test_no_text_becomes_a_control_token_unless_it_is_asked_for(app: App) -> None:
    control = app.chat.engine("reka-edge").tokenizer.control
    text = "a".join(control)
    for off in ({}, {"parse_special": False}, {"parse_special": None}):
        assert not set(control.values()) & set(tokens(app, text, **off))
    parsed = tokens(app, text, parse_special=True)
    assert [token for token in parsed if token in control.values()] == list(control.values())
    assert ask(app, "/detokenize", {"tokens": parsed}) == (200, {"content": text})


def test_special_tokens_are_those_that_prompts_begin_with(app: App) -> None:
    first = list(app.chat.engine("reka-edge").manifest.prompt.start_ids)
    assert tokens(app, "Hello", add_special=True) == first + tokens(app, "Hello")


def test_pieces_join_to_the_text(app: App) -> None:
    text = "Größe \U0001f600"
    pieces = tokens(app, text, with_pieces=True)
    data = b"".join(p.encode() if isinstance(p := each["piece"], str) else bytes(p) for each in pieces)  # type: ignore[index]
    assert data.decode() == text and [each["id"] for each in pieces] == tokens(app, text)  # type: ignore[index]
    assert any(isinstance(each["piece"], list) for each in pieces)  # type: ignore[index]


def test_bytes_that_are_no_text_are_replaced(app: App) -> None:
    first, *_ = tokens(app, "\U0001f600")
    assert ask(app, "/detokenize", {"tokens": [first]}) == (200, {"content": "\ufffd"})


REFUSED: list[tuple[str, object, int, str]] = [
    ("/tokenize", {}, 400, "content: expected a text, got None"),
    ("/tokenize", {"content": ["a"]}, 400, "content: expected a text, got list"),
    ("/tokenize", {"content": "a", "with_pieces": 1}, 400, "with_pieces: expected true or false, got 1"),
    ("/tokenize", {"content": "a" * 2001}, 400, "content: expected at most 2000 bytes, got 2001"),
    ("/tokenize", {"content": "a", "model": ""}, 400, "model: expected a model's name, got ''"),
    ("/tokenize", {"content": "a", "model": "no-model"}, 404, "model 'no-model' is not installed"),
    ("/detokenize", {}, 400, "tokens: expected a list of ids, got None"),
    ("/detokenize", {"tokens": [1, "2"]}, 400, "tokens.1: expected a token's id, got '2'"),
    ("/detokenize", {"tokens": [True]}, 400, "tokens.0: expected a token's id, got True"),
    ("/detokenize", {"tokens": [1 << 40]}, 400, "tokens: expected an id below"),
    ("/detokenize", {"tokens": [-1]}, 400, "tokens: expected an id below"),
    ("/detokenize", [], 400, "expected a JSON object"),
]


@pytest.mark.parametrize(("route", "body", "status", "words"), REFUSED)
def test_what_is_wrong_is_named(app: App, route: str, body: object, status: int, words: str) -> None:
    got, answer = ask(app, route, body)
    error = answer["error"]
    assert isinstance(error, dict) and set(error) == {"code", "message", "type"}
    assert got == error["code"] == status and words in error["message"]
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_a_text_of_the_most_bytes_is_accepted(app: App) -> None:
    assert tokens(app, "ä" * 1000)
