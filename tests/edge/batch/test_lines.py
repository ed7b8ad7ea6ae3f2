"""Batch lines: what may be asked, what is refused and why, and ids that stand for what was asked."""

import json

import pytest

from edge.batch.lines import URLS, LineError, Settled, answered, identity, parsed, read_line, refused
from edge.limits import Limits
from edge.server.route import ChatRoute
from edge.server.routes import TABLE
from tests.edge.batch.batches import SETTLED, asking, line


def read(data: bytes) -> LineError:
    with pytest.raises(LineError) as caught:
        read_line(data, Limits())
    return caught.value


def test_a_line_asks_a_route() -> None:
    asked = read_line(line("a", "Hello", max_tokens=3), Limits())
    assert (asked.custom_id, asked.url) == ("a", "/v1/chat/completions")
    assert asked.body == {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}


def test_every_route_that_the_model_answers_may_be_asked() -> None:
    answering = {route.path for route in TABLE if isinstance(route, ChatRoute) and "application/json" in route.accepts}
    assert set(URLS) == answering and {"/v1/chat/completions", "/v1/completions", "/v1/responses"} <= answering
    for url in URLS:
        assert read_line(asking("a", f"{url}/"), Limits()).url == url


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"{", "invalid_json_line", "expected JSON"),
        (b'["a"]', "invalid_json_line", "expected a JSON object, got list"),
        (b"\xff\xfe{", "invalid_json_line", "expected UTF-8"),
        (b'{"custom_id": NaN}', "invalid_json_line", "expected JSON, got NaN"),
        (b'{"custom_id": "a", "custom_id": "b"}', "invalid_json_line", "expected each key once"),
        (b"{}", "missing_required_parameter", "custom_id: expected a string, got none"),
        (b'{"custom_id": 7}', "invalid_custom_id", "custom_id: expected a string, got 7"),
        (b'{"custom_id": ""}', "invalid_custom_id", "custom_id: expected a string, got ''"),
        (b'{"custom_id": "a"}', "missing_required_parameter", "method: expected POST, got none"),
        (b'{"custom_id": "a", "method": "GET"}', "invalid_method", "method: expected POST, got 'GET'"),
        (b'{"custom_id": "a", "method": "POST"}', "missing_required_parameter", "url: expected one of /v1/chat"),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings"}', "invalid_url", "got '/v1/embeddings'"),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1/models"}', "invalid_url", "got '/v1/models'"),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1/chat"}', "invalid_body", "expected an object, got None"),
        (b'{"custom_id": "a", "method": "POST", "url": "/chat", "body": "x"}', "invalid_body", "got 'x'"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(data: bytes, code: str, words: str) -> None:
    error = read(data)
    assert error.code == code and words in error.message
    assert error.custom_id == ("a" if b'"method"' in data or data == b'{"custom_id": "a"}' else None)


def test_a_body_may_be_as_deep_as_a_server_accepts() -> None:
    limits = Limits(json_depth=6)
    deep = line("a", deep=[[[[[1]]]]])
    assert read_line(deep, limits).custom_id == "a"
    with pytest.raises(LineError, match="at most 7 levels"):
        read_line(line("a", deep=[[[[[[1]]]]]]), limits)


def test_an_id_stands_for_the_question_and_its_settings() -> None:
    asked = read_line(line("a", seed=1, max_tokens=3), Limits())
    again = read_line(line("a", max_tokens=3, seed=1), Limits())
    assert identity(asked, SETTLED) == identity(again, SETTLED)
    others = [
        identity(read_line(line("b", seed=1, max_tokens=3), Limits()), SETTLED),
        identity(read_line(line("a", seed=2, max_tokens=3), Limits()), SETTLED),
        identity(asked, Settled("a-model")),
        identity(asked, Settled(seed=3)),
    ]
    assert len({identity(asked, SETTLED), *others}) == 5


def test_a_response_is_written_as_openai_writes_it() -> None:
    asked = read_line(line("a"), Limits())
    record = answered(asked, SETTLED, 200, {"text": "Drei\u2028 Kreise"})
    assert record.is_answer and record.is_asked and record.data.isascii() and b"\n" not in record.data
    written = json.loads(record.data)
    assert list(written) == ["id", "custom_id", "response", "error"] and written["error"] is None
    assert written["id"] == record.id == identity(asked, SETTLED) and written["id"].startswith("batch_req_")
    assert written["response"] == {
        "status_code": 200, "request_id": record.id.replace("batch_", ""), "body": {"text": "Drei\u2028 Kreise"},
    }  # fmt: skip
    assert not answered(asked, SETTLED, 400, {}).is_answer


def test_what_is_not_asked_is_written_with_its_line_and_reason() -> None:
    record = refused(LineError("invalid_url", "url: no", "a"), 7)
    assert not record.is_answer and not record.is_asked
    assert json.loads(record.data) == {
        "id": record.id, "custom_id": "a", "response": None,
        "error": {"code": "invalid_url", "message": "url: no", "line": 7},
    }  # fmt: skip
    assert refused(LineError("invalid_url", "url: no", "a"), 8).id != record.id


def test_records_are_read_as_they_were_written() -> None:
    asked = read_line(line("a"), Limits())
    failure = LineError("duplicate_custom_id", "twice", None)
    for record in (answered(asked, SETTLED, 200, {}), answered(asked, SETTLED, 503, {}), refused(failure, 2)):
        assert parsed(record.data + b"\n") == record


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"id": 1}', line("a"), b"\0" * 9, b"[" * 100_000])
def test_nothing_else_is_a_record(data: bytes) -> None:
    assert parsed(data) is None
