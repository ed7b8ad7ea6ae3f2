"""Anthropic's messages: blocks become the messages of /v1/chat, and a stream's events come in their order."""

import json
from collections.abc import Iterator

import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.reasoning import CLOSE as END
from edge.chat.reasoning import OPEN as REASONING
from edge.chat.reply import Reply, refused
from edge.chat.tool_calls import CLOSE, OPEN
from edge.engine.handle import FinishReason, Handle, Progress
from edge.errors import NonFiniteError
from edge.limits import Limits
from edge.server.anthropic import ERRORS, from_anthropic
from edge.server.anthropic_writer import MessageWriter
from edge.server.app import App
from edge.server.streaming import StreamBroken
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

KIND = {"content-type": "application/json"}
TOOL = {"name": "count", "input_schema": {"type": "object"}}
CALL = f'{OPEN}{{"name": "count", "arguments": {{"n": 1}}}}{CLOSE}'
BLOCK = ["content_block_start", "content_block_delta", "content_block_stop"]
FIRST = [BLOCK[0], "ping", *BLOCK[1:]]
END_OF = ["message_delta", "message_stop"]
BAD_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


@pytest.fixture
def app() -> Iterator[App]:
    app = App(Chat(OneEngine(FakeEngine(manifest())), Access(), Limits()))  # type: ignore[arg-type]
    yield app
    app.close()


def ask(app: App, path: str = "/v1/messages", **fields: object) -> tuple[int, bytes]:
    body = {"model": "a-model", "messages": [{"role": "user", "content": "hi"}], **fields}
    status, _, parts = app.respond("POST", path, KIND, json.dumps(body).encode())
    return status, b"".join(parts)


def asked(app: App, **fields: object) -> dict[str, object]:
    status, body = ask(app, **fields)
    assert status == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


def message_of(app: App, **fields: object) -> str:
    status, body = ask(app, **fields)
    error = json.loads(body)
    assert (status, error["type"], error["error"]["type"]) == (400, "error", "invalid_request_error")
    return str(error["error"]["message"])


def events_of(data: bytes) -> list[dict[str, object]]:
    """Return the events of a stream, which are named as their types say."""
    events = []
    for block in data.decode().removesuffix("\n\n").split("\n\n"):
        name, line = block.split("\n")
        value = json.loads(line.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        events.append(value)
    return events


def names(events: list[dict[str, object]]) -> list[str]:
    """Return the types of events, those of increments in a row once."""
    types = [str(each["type"]) for each in events]
    return [name for i, name in enumerate(types) if not (name == BLOCK[1] and i and types[i - 1] == name)]


def written(
    *texts: str,
    last: FinishReason = "stop",
    stop: str | None = None,
    reasons: bool = False,
    streams: bool = True,
    **options: object,
) -> tuple[list[dict[str, object]], list[dict[str, object]], dict[str, object]]:
    """Return the events of an answer that grows by these texts, its content, and how it ended."""
    handle = Handle(Progress("", 1, 0, None), lambda _: None)
    start = "fresh" if reasons else "none"
    reply = Reply("an-id", "m", handle, frozenset({"count"}), None, start, str.split)  # type: ignore[arg-type]
    writer, text, data = MessageWriter(streams, **options), "", b""  # type: ignore[arg-type]
    for n, part in enumerate(texts, 1):
        text += part
        is_last = n == len(texts)
        progress = Progress(text, 1, n, last if is_last else None, (), stop if is_last else None)
        data += writer.events(reply, progress) if streams else b""
    if not streams:
        message = writer.whole(reply, progress)
        return [], message["content"], message  # type: ignore[index, return-value]
    events = events_of(data)
    return events, joined(events), {**events[-2], **events[-2]["delta"]}  # type: ignore[dict-item]


def joined(events: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the content that events add up to, as a client reads them."""
    content: list[dict[str, object]] = []
    for event in events:
        if event["type"] == BLOCK[0]:
            assert event["index"] == len(content)
            content.append(dict(event["content_block"]))  # type: ignore[call-overload]
        if event["type"] == BLOCK[1]:
            delta: dict[str, str] = event["delta"]  # type: ignore[assignment]
            block = content[event["index"]]  # type: ignore[index]
            if delta["type"] == "input_json_delta":
                block["input"] = json.loads(delta["partial_json"])
            else:
                name = delta["type"].removesuffix("_delta")
                block[name] = str(block[name]) + delta[name]
    return content


def test_a_message_says_what_was_said_and_why_it_ended(app: App) -> None:
    message = asked(app)
    assert message["content"] == [{"type": "text", "text": "Three red circles."}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "a-model")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert asked(app, max_tokens=2)["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 4  # type: ignore[index]


def test_a_stream_has_every_event_in_its_order_and_adds_up_to_the_message(app: App) -> None:
    status, body = ask(app, stream=True)
    events = events_of(body)
    assert status == 200 and names(events) == ["message_start", *FIRST, *END_OF]
    whole = asked(app)
    assert joined(events) == whole["content"]
    assert events[-2]["usage"] == whole["usage"]
    first: dict[str, object] = events[0]["message"]  # type: ignore[assignment]
    assert (first["content"], first["stop_reason"], set(first)) == ([], None, set(whole))


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    ("last", "stop", "reason"),
    [
        ("stop", None, "end_turn"),
        ("stop", "END", "stop_sequence"),
        ("length", None, "max_tokens"),
        ("context", None, "model_context_window_exceeded"),
    ],
)
def test_why_an_answer_ended_has_the_apis_word(
    last: FinishReason, stop: str | None, reason: str, streams: bool
) -> None:
    _, _, ended = written("a", "b", last=last, stop=stop, streams=streams)
    assert (ended["stop_reason"], ended["stop_sequence"]) == (reason, stop)


@pytest.mark.parametrize("streams", [True, False])
def test_calls_are_blocks_whose_input_is_an_object(streams: bool) -> None:
    events, content, ended = written(CALL[:9], CALL[9:], CALL, streams=streams)
    assert [(block["type"], block["name"], block["input"]) for block in content] == [
        ("tool_use", "count", {"n": 1})
    ] * 2
    assert len({block["id"] for block in content}) == 2 and str(content[0]["id"]).startswith("toolu_")
    assert ended["stop_reason"] == "tool_use"
    assert not streams or names(events) == ["message_start", *FIRST, *BLOCK, *END_OF]
    _, single, _ = written(CALL, CALL, streams=streams, most_calls=1)
    assert len(single) == 1


def test_text_that_a_stream_showed_before_a_call_is_a_block_before_it() -> None:
    events, content, _ = written("I count. ", CALL)
    assert names(events) == ["message_start", *FIRST, *BLOCK, *END_OF]
    assert [block["type"] for block in content] == ["text", "tool_use"]


@pytest.mark.parametrize("streams", [True, False])
def test_reasoning_is_a_block_before_the_text(streams: bool) -> None:
    texts = (f"{REASONING}one two", f" three{END}", "It is.")
    events, content, ended = written(*texts, reasons=True, streams=streams)
    thinking = {"type": "thinking", "thinking": "one two three", "signature": ""}
    assert content == [thinking, {"type": "text", "text": "It is."}]
    assert ended["usage"]["output_tokens_details"] == {"thinking_tokens": 3}  # type: ignore[index]
    assert not streams or names(events) == ["message_start", *FIRST, *BLOCK, *END_OF]
    _, unshown, _ = written(*texts, reasons=True, streams=streams, thoughts=False)
    assert unshown == content[1:]


@pytest.mark.parametrize("streams", [True, False])
def test_an_empty_answer_is_a_block_without_text(streams: bool) -> None:
    events, content, _ = written("", streams=streams)
    assert content == [{"type": "text", "text": ""}]
    assert not streams or names(events) == ["message_start", BLOCK[0], "ping", BLOCK[2], *END_OF]
    _, cut, _ = written(f"{REASONING}one", last="length", reasons=True, streams=streams)
    assert [block["type"] for block in cut] == ["thinking"]


@pytest.mark.parametrize(
    ("thinking", "shows"),
    [
        (None, True),
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "adaptive"}, True),
        ({"type": "adaptive", "display": "summarized"}, True),
        ({"type": "adaptive", "display": "omitted"}, False),
        ({"type": "disabled"}, False),
        ({"type": "between_tools"}, False),
    ],
)
def test_thinking_says_whether_reasoning_is_shown(thinking: object, shows: bool) -> None:
    assert from_anthropic({"model": "m", "messages": [], "thinking": thinking}).writer.thoughts is shows


def test_a_stream_that_fails_ends_with_an_error_event(app: App) -> None:
    app.chat.engine("a-model").error = NonFiniteError("logits are not finite")  # type: ignore[attr-defined]
    body = {"model": "a-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    _, _, parts = app.respond("POST", "/v1/messages", KIND, json.dumps(body).encode())
    sent = []
    with pytest.raises(StreamBroken):
        sent.extend(parts)
    last = events_of(b"".join(sent))[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")  # type: ignore[index]


@pytest.mark.parametrize(
    ("status", "theirs", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (403, 403, "permission_error"),
        (404, 404, "not_found_error"),
        (405, 405, "invalid_request_error"),
        (408, 408, "timeout_error"),
        (413, 413, "request_too_large"),
        (422, 400, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (500, 500, "api_error"),
        (503, 529, "overloaded_error"),
    ],
)
def test_errors_have_the_apis_statuses_and_types(status: int, theirs: int, kind: str) -> None:
    response = ERRORS.response(refused(status, "why"))
    assert response.status == theirs
    assert json.loads(response.body) == {"type": "error", "error": {"type": kind, "message": "why"}}
    assert ("retry-after" in dict(response.headers)) == (status in (429, 503))


def test_tokens_are_counted_and_nothing_is_generated(app: App) -> None:
    status, body = ask(app, "/v1/messages/count_tokens", max_tokens=5, stream=True)
    assert (status, json.loads(body)) == (200, {"input_tokens": 3})
    assert not app.chat.engine("a-model").asked  # type: ignore[attr-defined]
    assert "edge_generations_total{" not in app.metrics.text()
    words = "messages.0.content.0.source.data: image"
    assert words in message_of(app, path="/v1/messages/count_tokens", messages=[user(BAD_IMAGE)])


def user(*blocks: object) -> dict[str, object]:
    return {"role": "user", "content": list(blocks)}


def said(*blocks: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


def use(call_id: object, **more: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call_id, "name": "count", "input": {"n": 1}, **more}


def result(call_id: object, content: object = None, **more: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def read(*messages: object, **fields: object) -> object:
    return from_anthropic({"model": "m", "messages": list(messages), **fields}).fields["messages"]


def test_a_conversation_becomes_messages() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}
    call = {"id": "1", "name": "count", "parameters": {"n": 1}}
    messages = read(
        {"role": "system", "content": [text("b"), text("c")]},
        {"role": "user", "content": "one"},
        user(text("two"), image),
        said({"type": "thinking", "thinking": "hm", "signature": ""}, text("I count."), use("1")),
        said(use("2")),
        user(result("1", "3"), result("2", [text("4"), text("5")]), text("And?")),
        said(text("Yes")),
        system="a",
    )
    assert messages == [
        {"role": "system", "content": [text("a\n\nb c")]},
        user(text("one"), text("two"), {"type": "image_url", "image_url": "https://a/b.png"}),
        {**said(text("I count.")), "tool_calls": [call, {**call, "id": "2"}]},
        {
            "role": "tool_output",
            "content": [{"tool_call_id": "1", "output": "3"}, {"tool_call_id": "2", "output": "45"}],
        },
        user(text("And?")),
        said(text("Yes")),
    ]


@pytest.mark.parametrize("last", [said(), {"role": "assistant", "content": ""}, said(text(""))])
def test_an_empty_answer_at_the_end_is_nothing_to_continue(last: object) -> None:
    assert read(user(text("a")), last) == [user(text("a"))]


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("no such city", "Error: no such city"),
        ("Error: no", "Error: no"),
        ([text("no"), text(" city")], "Error: no city"),
        (None, "Error"),
        ([], "Error"),
    ],
)
def test_a_result_that_is_an_error_says_so_to_the_model(content: object, output: str) -> None:
    _, _, results = read(user(text("a")), said(use("1")), user(result("1", content, is_error=True)))  # type: ignore[misc]
    assert results["content"] == [{"tool_call_id": "1", "output": output}]


def test_a_result_may_hold_images() -> None:
    (results,) = read(user(result("1", [text("Here:"), BAD_IMAGE], is_error=True)))  # type: ignore[misc]
    image = {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}
    assert results["content"] == [{"tool_call_id": "1", "output": [text("Error: Here:"), image]}]


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
         [{"type": "pdf_url", "pdf_url": "data:application/pdf;base64,AAAA"}]),
        ({"source": {"type": "url", "url": "https://a/b.pdf"}}, [{"type": "pdf_url", "pdf_url": "https://a/b.pdf"}]),
        ({"source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t", "context": "c"},
         [text("t"), text("c"), text("x")]),
        ({"source": {"type": "content", "content": "x"}}, [text("x")]),
        ({"source": {"type": "content", "content": [text("x"), BAD_IMAGE]}},
         [text("x"), {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}]),
        ({"type": "search_result", "title": "t", "source": "s", "content": [text("x")]},
         [text("t"), text("s"), text("x")]),
    ],
)  # fmt: skip
def test_documents_become_parts(block: dict[str, object], parts: object) -> None:
    assert read(user({"type": "document", **block})) == [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([user({"type": "audio"})], "messages.0.content.0.type: expected one of text, image, document"),
        ([user("x")], "messages.0.content.0.type"),
        ([user(text("a")), said(BAD_IMAGE)], "messages.1.content.0.type: expected text, tool_use"),
        ([user(text("a"), {"type": "text", "text": 5})], "messages.0.content.1.text"),
        ([user({"type": "image", "source": {"type": "file"}})], "content.0.source.type: there are no stored files"),
        ([user({"type": "image", "source": "x"})], "messages.0.content.0.source.type"),
        ([user({"type": "image", "source": {"type": "base64", "data": 5}})], "messages.0.content.0.source.data"),
        ([user({"type": "document", "source": {"type": "url"}})], "messages.0.content.0.source.url"),
        ([user({"type": "document", "source": {"type": "text", "data": "x"}, "citations": {"enabled": True}})],
         "messages.0.content.0.citations.enabled: citations are not supported"),
        ([user({**BAD_IMAGE, "transformations": {"oversized_image": "error"}})], "transformations.oversized_image"),
        ([user(text("a")), said(use(""))], "messages.1.content.0.id"),
        ([user(text("a")), said(text("b"), use("1", name=5))], "messages.1.content.1.name"),
        ([user(text("a")), said(use("1", input="x"))], "messages.1.content.0.input"),
        ([user(text("a")), said(use("1")), user(result(5, "x"))], "messages.2.content.0.tool_use_id"),
        ([user(result("1", 5))], "messages.0.content.0.content"),
        ([user(result("1", [text("x"), {"type": "tool_reference"}]))], "messages.0.content.0.content.1.type"),
        ([user(result("1", "x", is_error="no"))], "messages.0.content.0.is_error"),
        ([user(text("a")), {"role": "system", "content": "b"}], "messages.1.role: expected a system message only"),
        ([{"role": "developer", "content": "b"}], "messages.0.role"),
        ([{"role": "user", "content": 5}], "messages.0.content"),
        (["x"], "messages.0: expected a message"),
        ([], "messages: expected 1 to"),
        ("x", "messages: expected a list"),
        ([user(*[BAD_IMAGE] * 5), user(*[BAD_IMAGE] * 5)], "messages.0.content: expected at most 6 images"),
        ([user(text("a"), BAD_IMAGE)], "messages.0.content.1.source.data: image"),
        ([user(text("a")), said(use("1")), user(result("1", [text("a"), BAD_IMAGE]))],
         "messages.2.content.0.content.1.source.data: image"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_where_it_stands(app: App, messages: object, words: str) -> None:
    assert words in message_of(app, messages=messages)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"system": 5}, "system: expected a string"),
        ({"system": [BAD_IMAGE]}, "system.0.type: expected text"),
        ({"max_tokens": 0}, "max_tokens: expected an integer >= 1"),
        ({"stop_sequences": "x"}, "stop_sequences: expected a list"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
        ({"tools": [{**TOOL, "type": "bash_20250124"}]}, "tools.0.type: expected a tool of type custom"),
        ({"tools": [{**TOOL, "input_schema": {"type": "array"}}]}, "tools.0.input_schema.type"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice: expected tools to choose from"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "display": "all"}}, "thinking.display"),
        ({"metadata": "x"}, "metadata: expected an object"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type: expected type json_schema"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ({"output_format": {"type": "json_schema", "schema": {}}, "guided_regex": "a"}, "guided_regex"),
        ({"thread": {"type": "create"}}, "thread: nothing is stored"),
        ({"container": "c"}, "container"),
        ({"context_management": {"edits": []}}, "context_management"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"stop": ["x"]}, "stop: expected stop_sequences"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(app: App, fields: dict[str, object], words: str) -> None:
    assert words in message_of(app, **fields)


def test_a_thread_is_refused_so_that_clients_send_the_whole_conversation(app: App) -> None:
    _, body = ask(app, thread={"type": "create"})
    assert json.loads(body)["error"]["details"] == {"error_code": "thread_unsupported_request"}


def test_fields_that_say_nothing_of_an_answer_are_accepted(app: App) -> None:
    fields = {"metadata": {"user_id": "u"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}, "tools": []}
    config = {"output_config": {"effort": "low"}, "mcp_servers": [], "container": None, "thread": False, "unknown": 1}
    assert asked(app, **fields, **config, thinking={"type": "enabled", "budget_tokens": 50})["type"] == "message"


@pytest.mark.parametrize(
    ("choice", "ours", "n_tools", "most"),
    [
        (None, None, 2, None),
        ({"type": "auto"}, "auto", 2, None),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", 2, 1),
        ({"type": "any"}, "tool", 2, None),
        ({"type": "tool", "name": "count"}, "tool", 1, None),
        ({"type": "none"}, "none", 2, None),
    ],
)
def test_a_choice_of_tools_is_read_as_chat_reads_it(choice: object, ours: str, n_tools: int, most: int | None) -> None:
    tools = [TOOL, {**TOOL, "name": "other"}]
    read = from_anthropic({"model": "m", "messages": [], "tools": tools, "tool_choice": choice})
    assert (read.fields["tool_choice"], read.writer.most_calls) == (ours, most)
    assert len(read.fields["tools"]) == n_tools  # type: ignore[arg-type]
    assert read.fields["tools"][0]["parameters"] == {"type": "object"}  # type: ignore[index]


def test_a_stream_that_is_left_stops_the_answer(app: App) -> None:
    engine = app.chat.engine("a-model")
    engine.gate.clear()  # type: ignore[attr-defined]
    engine.n_free = 1  # type: ignore[attr-defined]
    body = {"model": "a-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    _, _, parts = app.respond("POST", "/v1/messages", KIND, json.dumps(body).encode())
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert engine.cancelled == engine.handles  # type: ignore[attr-defined]
