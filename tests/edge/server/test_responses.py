"""OpenAI's responses: items become the prompts of chat completions, and a stream's events come in their order."""

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
from edge.server.app import App
from edge.server.openai import from_openai
from edge.server.responses import from_responses
from edge.server.responses_writer import ResponseWriter
from edge.server.streaming import StreamBroken
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

TOOL = {"type": "function", "name": "count", "parameters": {"type": "object"}}
CALL = f'{OPEN}{{"name": "count", "arguments": {{"n": 1}}}}{CLOSE}'
MESSAGE = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
           "output_item.done"]  # fmt: skip
CALLED = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]


@pytest.fixture
def app() -> Iterator[App]:
    app = App(Chat(OneEngine(FakeEngine(manifest())), Access(), Limits()))  # type: ignore[arg-type]
    yield app
    app.close()


def ask(app: App, **fields: object) -> tuple[int, bytes]:
    body = json.dumps({"model": "a-model", "input": "hi", **fields}).encode()
    status, _, parts = app.respond("POST", "/v1/responses", {"content-type": "application/json"}, body)
    return status, b"".join(parts)


def asked(app: App, **fields: object) -> dict[str, object]:
    status, body = ask(app, **fields)
    assert status == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


def message_of(app: App, **fields: object) -> str:
    status, body = ask(app, **fields)
    error = json.loads(body)["error"]
    assert (status, set(error)) == (400, {"message", "type", "param", "code"})
    return str(error["message"])


def events_of(data: bytes) -> list[dict[str, object]]:
    """Return the events of a stream, which are numbered and named as their types say."""
    *blocks, last = data.decode().removesuffix("\n\n").split("\n\n")
    blocks = blocks if last == "data: [DONE]" else [*blocks, last]
    events = []
    for i, block in enumerate(blocks):
        name, line = block.split("\n")
        value = json.loads(line.removeprefix("data: "))
        assert (name, value["sequence_number"]) == (f"event: {value['type']}", i)
        events.append(value)
    return events


def names(events: list[dict[str, object]]) -> list[str]:
    """Return the types of events, those of increments in a row once."""
    types = [str(each["type"]).removeprefix("response.") for each in events]
    return [name for i, name in enumerate(types) if not (name.endswith(".delta") and i and types[i - 1] == name)]


def written(
    *texts: str, last: FinishReason = "stop", tools: tuple[str, ...] = (), reasons: bool = False, streams: bool = True
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return the events of an answer that grows by these texts, and the response."""
    handle = Handle(Progress("", 1, 0, None), lambda _: None)
    start = "fresh" if reasons else "none"
    reply = Reply("an-id", "m", handle, frozenset(tools), None, start, str.split)  # type: ignore[arg-type]
    writer, text, data = ResponseWriter(streams, {}), "", b""
    for n, part in enumerate(texts, 1):
        text += part
        progress = Progress(text, 1, n, last if n == len(texts) else None)
        if not streams:
            continue
        data += writer.events(reply, progress)
    if not streams:
        return [], writer.whole(reply, progress)  # type: ignore[return-value]
    events = events_of(data)
    return events, events[-1]["response"]  # type: ignore[return-value]


def test_a_response_holds_what_was_asked_and_says_that_nothing_is_stored(app: App) -> None:
    response = asked(app, instructions="Be brief.", max_output_tokens=9, temperature=0.5, metadata={"a": "b"})
    (item,) = response["output"]  # type: ignore[misc]
    assert item["content"] == [{"type": "output_text", "text": "Three red circles.", "annotations": [], "logprobs": []}]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert (response["object"], response["status"], response["store"]) == ("response", "completed", False)
    assert (response["instructions"], response["max_output_tokens"]) == ("Be brief.", 9)
    assert (response["temperature"], response["top_p"], response["metadata"]) == (0.5, 0.95, {"a": "b"})
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]  # type: ignore[index]


def test_a_stream_has_every_event_in_its_order_and_ends_with_the_response(app: App) -> None:
    status, body = ask(app, stream=True)
    events = events_of(body)
    assert status == 200 and body.endswith(b"data: [DONE]\n\n")
    assert names(events) == ["created", "in_progress", *MESSAGE, "completed"]
    text = "".join(str(each["delta"]) for each in events if each["type"] == "response.output_text.delta")
    assert text == "Three red circles."
    whole = asked(app)
    last = events[-1]["response"]
    assert [part["text"] for part in last["output"][0]["content"]] == [text]  # type: ignore[index]
    assert set(last) == set(whole) == set(events[0]["response"])  # type: ignore[arg-type]


def test_an_answer_that_is_cut_is_incomplete(app: App) -> None:
    response = asked(app, max_output_tokens=2)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["output"][0]["status"] == "incomplete"  # type: ignore[index]
    assert names(events_of(ask(app, max_output_tokens=2, stream=True)[1]))[-1] == "incomplete"


@pytest.mark.parametrize("streams", [True, False])
def test_calls_are_items_of_the_output(streams: bool) -> None:
    events, response = written(CALL[:9], CALL[9:], tools=("count",), streams=streams)
    (item,) = response["output"]  # type: ignore[misc]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "count", '{"n": 1}')
    assert item["call_id"].startswith("call_") and item["id"] != item["call_id"]
    assert not streams or names(events) == ["created", "in_progress", *CALLED, "completed"]


def test_text_that_a_stream_showed_before_a_call_is_an_item_before_it() -> None:
    events, response = written("I count. ", CALL, tools=("count",))
    assert names(events) == ["created", "in_progress", *MESSAGE, *CALLED, "completed"]
    assert [item["type"] for item in response["output"]] == ["message", "function_call"]  # type: ignore[attr-defined]
    indexes = [each["output_index"] for each in events if "output_index" in each]
    assert indexes == sorted(indexes) and set(indexes) == {0, 1}


@pytest.mark.parametrize("streams", [True, False])
def test_reasoning_is_an_item_before_the_message(streams: bool) -> None:
    events, response = written(f"{REASONING}one two", f" three{END}", "It is.", reasons=True, streams=streams)
    reasoning, message = response["output"]  # type: ignore[misc]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "one two three"}]
    assert (reasoning["type"], reasoning["summary"], message["content"][0]["text"]) == ("reasoning", [], "It is.")
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}  # type: ignore[index]
    if streams:
        thought = [name.replace("output_text", "reasoning_text") for name in MESSAGE]
        assert names(events) == ["created", "in_progress", *thought, *MESSAGE, "completed"]


def test_reasoning_without_an_end_is_an_item_alone() -> None:
    _, response = written(f"{REASONING}one", " two", last="length", reasons=True)
    assert [(item["type"], item["status"]) for item in response["output"]] == [  # type: ignore[attr-defined]
        ("reasoning", "incomplete")
    ]


@pytest.mark.parametrize("streams", [True, False])
def test_an_empty_answer_is_a_message_without_text(streams: bool) -> None:
    events, response = written("", streams=streams)
    assert [item["content"][0]["text"] for item in response["output"]] == [""]  # type: ignore[attr-defined]
    assert not streams or names(events)[2:-1] == [name for name in MESSAGE if not name.endswith("delta")]


def test_a_stream_that_fails_ends_with_a_failed_response(app: App) -> None:
    engine = app.chat.engine("a-model")
    engine.error = NonFiniteError("logits are not finite")  # type: ignore[attr-defined]
    body = json.dumps({"model": "a-model", "input": "hi", "stream": True}).encode()
    _, _, parts = app.respond("POST", "/v1/responses", {"content-type": "application/json"}, body)
    sent = []
    with pytest.raises(StreamBroken):
        sent.extend(parts)
    last = events_of(b"".join(sent))[-1]
    assert last["type"] == "response.failed"
    response: dict[str, object] = last["response"]  # type: ignore[assignment]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")  # type: ignore[index]
    assert response["output"][0]["status"] == "incomplete"  # type: ignore[index]


def test_an_error_before_the_stream_is_a_status_of_its_own(app: App) -> None:
    assert "prompt" in message_of(app, stream=True, prompt={"id": "x"})
    writer = ResponseWriter(streams=True, said={})
    reply = Reply("an-id", "m", Handle(Progress("", 1, 0, None), lambda _: None))
    (event,) = events_of(writer.broken(reply, Progress("", 1, 0, None), refused(503, "full")))
    assert event["response"]["error"]["message"] == "full"  # type: ignore[index]


ITEMS = [
    {"role": "system", "content": "a"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
    {"type": "function_call", "call_id": "1", "name": "count", "arguments": '{"n": 1}', "id": "fc_1"},
    {"type": "function_call", "call_id": "2", "name": "count", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "2", "output": "two"},
    {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "one"}]},
]


def test_items_are_the_messages_of_a_chat_completion() -> None:
    function = {"name": "count", "arguments": '{"n": 1}'}
    calls = [{"id": "1", "function": function}, {"id": "2", "function": {"name": "count", "arguments": "{}"}}]
    messages = [
        {"role": "system", "content": "z"},
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}], "tool_calls": calls},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "tool", "tool_call_id": "1", "content": "one"},
    ]
    mine = from_responses({"model": "m", "instructions": "z", "input": ITEMS}).fields["messages"]
    assert mine == from_openai({"model": "m", "messages": messages}).fields["messages"]


@pytest.mark.parametrize(
    ("i", "change", "param"),
    [
        (1, {"content": 5}, "input.1.content"),
        (1, {"role": "tool"}, "input.1.role"),
        (1, {"content": [{"type": "input_image", "image_url": 5}]}, "input.1.content.0.image_url"),
        (1, {"content": [{"type": "input_file", "file_id": "x"}]}, "input.1.content.0.file_data"),
        (4, {"arguments": 5}, "input.4.arguments"),
        (4, {"call_id": None}, "input.4.call_id"),
        (5, {"name": ""}, "input.5.name"),
        (6, {"call_id": 5}, "input.6.call_id"),
        (7, {"output": 5}, "input.7.output"),
        (7, {"output": [{"type": "input_text", "text": 5}]}, "input.7.output.0.text"),
        (0, {"type": "web_search_call"}, "input.0.type"),
        (0, {"type": "item_reference", "id": "msg_1"}, "input.0.type"),
    ],
)
def test_a_mistake_is_named_where_it_stands(app: App, i: int, change: dict[str, object], param: str) -> None:
    items = [*ITEMS[:i], {**ITEMS[i], **change}, *ITEMS[i + 1 :]]
    status, body = ask(app, input=items, instructions="x")
    assert (status, json.loads(body)["error"]["param"]) == (400, param)


def test_media_that_cannot_be_read_are_named_where_they_stand(app: App) -> None:
    parts = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]
    assert "input.1.content.1" in message_of(app, input=[ITEMS[0], {"role": "user", "content": parts}])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"store": True}, "store: nothing is stored"),
        ({"previous_response_id": "resp_1"}, "previous_response_id: nothing is stored"),
        ({"conversation": {"id": "x"}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"max_tokens": 3}, "max_output_tokens"),
        ({"messages": []}, "expected input"),
        ({"n": 2}, "n: expected 1"),
        ({"input": None}, "input: expected a string or a list"),
        ({"input": []}, "input: expected a message"),
        ({"input": [ITEMS[2]]}, "input: expected a message"),
        ({"instructions": 5}, "instructions"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type: expected 'function'"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_object"}}, "guided_regex": "a"}, "guided_regex"),
        ({"guided_choice": ["a"], "regex": "b"}, "guided_choice"),
        ({"include": ["all"]}, "include.0"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(app: App, fields: dict[str, object], words: str) -> None:
    assert words in message_of(app, **fields)


def test_fields_that_ask_for_nothing_are_accepted(app: App) -> None:
    fields = {"store": False, "previous_response_id": None, "background": False, "truncation": "disabled", "tools": []}
    more = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"}, "user": "me", "unknown": 1}
    response = asked(app, **fields, **more, stream_options={"include_obfuscation": False}, top_logprobs=0)
    assert (response["store"], response["user"]) == (False, "me")


def test_tools_and_the_form_of_an_answer_are_read_as_chat_completions_reads_them() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    fields = from_responses({"model": "m", "input": "x", "text": {"format": form}, "max_output_tokens": 7}).fields
    assert (fields["max_tokens"], fields["response_format"]["schema"]) == (7, schema)  # type: ignore[index]
    choice = {"type": "function", "name": "count"}
    fields = from_responses({"model": "m", "input": "x", "tools": [TOOL], "tool_choice": choice}).fields
    assert fields["tool_choice"] == "tool"
    assert [tool["name"] for tool in fields["tools"]] == ["count"]  # type: ignore[attr-defined]
    fields = from_responses({"model": "m", "input": "x", "guided_regex": "a+"}).fields
    assert fields["response_format"] == {"type": "regex", "pattern": "a+"}


def test_a_stream_that_is_left_stops_the_answer(app: App) -> None:
    engine = app.chat.engine("a-model")
    engine.gate.clear()  # type: ignore[attr-defined]
    engine.n_free = 1  # type: ignore[attr-defined]
    body = json.dumps({"model": "a-model", "input": "hi", "stream": True}).encode()
    _, _, parts = app.respond("POST", "/v1/responses", {"content-type": "application/json"}, body)
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert engine.cancelled == engine.handles  # type: ignore[attr-defined]


def test_routes_that_need_something_stored_say_what_there_is(app: App) -> None:
    for method, path in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/embeddings"),
    ]:
        status, _, parts = app.respond(method, path, {"content-type": "application/json"}, b"{}")
        error = json.loads(b"".join(parts))["error"]
        assert status == 404 and f"no route '{path}'" in error["message"] and "/v1/responses" in error["message"]
