"""A tool called and answered, through the clients: the call comes out whole, the output goes in, the answer follows."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge
from edge import models
from edge.bundle import store
from edge.bundle.store import Stored
from edge.engine.pieces import Control, Text
from tests.edge.fake_engine import FakeEngine, manifest

TOOL = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = ("Let me", " look.\n<tool", '_call>\n{"name": "weather", ', '"arguments": {"city": "Rome"}}\n</', "tool_call>")
ASK = [edge.ChatMessage(role="user", content="How is the weather in Rome?")]
HOW = {"model": "reka-edge", "tools": [TOOL]}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine that calls the tool, then says what the weather is."""
    FakeEngine.opened = []
    there = [Stored(Path("/models/reka-edge-tiny"), manifest("reka-edge-tiny", "reka-edge"), True)]
    monkeypatch.setattr(store, "bundles", lambda *_: there)
    monkeypatch.setattr(models, "Engine", FakeEngine)
    only = FakeEngine(there[0].manifest, words=CALL)
    monkeypatch.setattr(FakeEngine, "open", classmethod(lambda *_, **__: only))
    yield only
    only.close()


def texts(engine: FakeEngine) -> str:
    """What the engine was asked last, control tokens by name."""
    names = {token: name for name, token in engine.manifest.prompt.control.items()}
    said = []
    for piece in engine.asked[-1][0]:
        assert isinstance(piece, Text | Control)
        said.append(piece.text if isinstance(piece, Text) else "".join(names[token] for token in piece.ids))
    return "".join(said)


def after(message: edge.ChatMessage) -> list[object]:
    """The conversation with the tool's output behind the call."""
    (call,) = message.tool_calls or ()
    output = {"tool_call_id": call.id, "output": json.dumps({"sky": "clear"})}
    return [*ASK, message, edge.ChatMessage(role="tool_output", content=[output])]


def check_call(response: edge.ChatResponse) -> edge.ChatMessage:
    answer = response.responses[0]
    assert (answer.finish_reason, answer.message.content) == ("stop", "")
    (call,) = answer.message.tool_calls or ()
    assert (call.name, call.parameters) == ("weather", {"city": "Rome"}) and call.id
    return answer.message


def check_second(engine: FakeEngine, response: edge.ChatResponse) -> None:
    assert response.responses[0].message.content == "It is sunny."
    assert response.responses[0].message.tool_calls is None
    asked = texts(engine)
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>' in asked
    assert '<tool_response>\n{"sky": "clear"}\n</tool_response>' in asked
    assert asked.index("<tools>") < asked.index("Rome?") < asked.index("<tool_response>")


def test_a_round_trip(engine: FakeEngine) -> None:
    with edge.Reka() as client:
        message = check_call(client.chat.create(messages=ASK, **HOW))
        assert json.dumps(TOOL["parameters"]) in texts(engine)
        engine.words = ("It is", " sunny.")
        check_second(engine, client.chat.create(messages=after(message), **HOW))  # type: ignore[arg-type]


def test_a_round_trip_of_plain_dicts(engine: FakeEngine) -> None:
    with edge.Reka() as client:
        message = check_call(client.chat.create(messages=[ASK[0].dict()], **HOW))
        engine.words = ("It is", " sunny.")
        history = [each if isinstance(each, dict) else each.dict() for each in after(message)]
        check_second(engine, client.chat.create(messages=history, **HOW))


def test_a_streamed_call_shows_nothing_of_itself(engine: FakeEngine) -> None:
    engine.n_free = 0
    with edge.Reka() as client:
        chunks = list(client.chat.create_stream(messages=ASK, **HOW))
    last = chunks[-1].responses[0]
    assert (last.finish_reason, last.chunk.content) == ("stop", "")
    assert [call.name for call in last.chunk.tool_calls or ()] == ["weather"]
    for chunk in chunks[:-1]:
        assert chunk.responses[0].chunk.content in ("Let me", "Let me look.")
        assert chunk.responses[0].chunk.tool_calls is None


def test_an_async_round_trip(engine: FakeEngine) -> None:
    async def asked() -> None:
        async with edge.AsyncReka() as client:
            message = check_call(await client.chat.create(messages=ASK, **HOW))
            engine.words = ("It is", " sunny.")
            check_second(engine, await client.chat.create(messages=after(message), **HOW))  # type: ignore[arg-type]

    asyncio.run(asked())


def test_without_the_tool_on_offer_the_same_words_are_text(engine: FakeEngine) -> None:
    with edge.Reka() as client:
        for how in ({"model": "reka-edge"}, {**HOW, "tool_choice": "none"}):
            message = client.chat.create(messages=ASK, **how).responses[0].message
            assert message.content == "".join(CALL) and message.tool_calls is None
            assert "<tools>" not in texts(engine)


def test_a_call_of_another_tool_is_text(engine: FakeEngine) -> None:
    with edge.Reka() as client:
        other = {**HOW, "tools": [{**TOOL, "name": "traffic"}]}
        message = client.chat.create(messages=ASK, **other).responses[0].message
        assert message.tool_calls is None and "weather" in str(message.content) and "<tool_call>" not in message.content


def test_what_an_auto_call_says_is_not_held_to_the_schema(engine: FakeEngine) -> None:
    engine.words = ('<tool_call>{"name": "weather", "arguments": {"town": 5}}</tool_call>',)
    with edge.Reka() as client:
        (call,) = client.chat.create(messages=ASK, **HOW).responses[0].message.tool_calls or ()
        assert call.parameters == {"town": 5}
