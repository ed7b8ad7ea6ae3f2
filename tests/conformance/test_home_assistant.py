"""What Home Assistant's integration Ollama asks for, in its order, through the client that it uses.

Its config flow validates a server by its list of models, and pulls a model that is not in the list. Its coordinator
polls both lists. A conversation is a stream with tools, whose results go back without ids; an AI task has a structure
as `format`, and images as attachments.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import ollama
import pytest

from tests.conformance.conftest import Served, serving
from tests.conformance.scripted import call_of, saying
from tests.conformance.test_ollama_client import IMAGE

KEY = "secret"
TIMEOUT_S = 60
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "HassTurnOn",
            "description": "Turns on/opens/presses a device or entity.",
            "parameters": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "area": {"type": "string"},
                    "domain": {"type": "array", "items": {"type": "string"}},
                    "device_class": {"type": "array", "items": {"type": "string", "enum": ["outlet", "switch"]}},
                },
                "required": [],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "GetLiveContext", "parameters": {"type": "object", "properties": {}, "required": []}},
    },
]
STRUCTURE = {
    "type": "object",
    "properties": {
        "cars": {"type": "integer", "minimum": 0, "maximum": 20, "description": "How many cars there are"},
        "gate_open": {"type": "boolean"},
        "colour": {"type": "string", "enum": ["red", "green", "blue"]},
        "people": {"type": "array", "items": {"type": "string", "enum": ["Ann", "Ben"]}, "maxItems": 2},
    },
    "required": ["cars", "gate_open"],
}


def client_of(url: str, key: str | None) -> ollama.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else None
    return ollama.AsyncClient(host=url, headers=headers, verify=ssl.create_default_context())


async def in_time(client: ollama.AsyncClient) -> ollama.ListResponse:
    async with asyncio.timeout(TIMEOUT_S):
        return await client.list()


async def validated(url: str, key: str | None) -> str | None:
    """The first step of the config flow: what it calls the error of a server, None for none."""
    async with client_of(url, key) as client:
        try:
            await in_time(client)
        except ollama.ResponseError as error:
            return "invalid_auth" if error.status_code in (401, 403) else "unknown"
        except (TimeoutError, ConnectionError):
            return "cannot_connect"
    return None


async def chosen(client: ollama.AsyncClient, model: str | None) -> str:
    """The step that asks for a model (None: the first that is listed), and downloads what is not in the list."""
    listed = {info["model"] for info in (await in_time(client)).get("models", [])}
    model = min(listed) if model is None else model
    listed = {info["model"] for info in (await in_time(client)).get("models", [])}
    if model not in listed:
        await client.pull(model)
    return model


async def deltas(answer: AsyncIterator[ollama.ChatResponse]) -> AsyncIterator[dict[str, object]]:
    """The pieces of an answer as the conversation's log takes them."""
    is_first = True
    async for response in answer:
        message, piece = response["message"], {}
        if is_first:
            is_first, piece["role"] = False, "assistant"
        for theirs, ours in (("tool_calls", "tool_calls"), ("content", "content"), ("thinking", "thinking_content")):
            if (value := message.get(theirs)) is not None:
                piece[ours] = value
        yield piece


async def handled(
    client: ollama.AsyncClient, model: str, history: list[ollama.Message], results: Mapping[str, object], **more: object
) -> str:
    """A conversation's turn: ask, run tools, ask again, at most ten times; the history grows by it."""
    text = ""
    for _ in range(10):
        settings = {"keep_alive": -1, "options": {"num_ctx": 8192.0}, "think": False, "format": None, **more}
        answer = await client.chat(model=model, messages=list(history), stream=True, **settings)  # type: ignore[call-overload]
        pieces = [piece async for piece in deltas(answer)]
        assert [piece.get("role") for piece in pieces] == ["assistant", *[None] * (len(pieces) - 1)]
        text = "".join(str(piece.get("content", "")) for piece in pieces)
        calls = [call for piece in pieces for call in piece.get("tool_calls", ())]  # type: ignore[attr-defined]
        said = [
            ollama.Message.ToolCall(
                function=ollama.Message.ToolCall.Function(
                    name=call["function"]["name"], arguments=call["function"]["arguments"]
                )
            )
            for call in calls
        ]
        history.append(ollama.Message(role="assistant", content=text or None, tool_calls=said or None))
        for call in said:
            content = json.dumps({"data": results[call.function.name], "error": None})
            history.append(ollama.Message(role="tool", content=content))
        if not calls:
            break
    return text


def test_the_flow_finds_the_server_and_its_key(int8_bundle: Path) -> None:
    with serving(int8_bundle, key=KEY) as served:
        assert asyncio.run(validated(served.address, KEY)) is None
        assert asyncio.run(validated(served.address, "wrong")) == "invalid_auth"
        assert asyncio.run(validated(served.address, None)) == "invalid_auth"
    assert asyncio.run(validated(served.address, KEY)) == "cannot_connect"


def test_a_model_is_chosen_from_the_list_or_by_any_name_that_is_known(served: Served) -> None:
    async def flow() -> None:
        async with client_of(served.address, None) as client:
            assert await chosen(client, None) == "reka-edge-random:latest"
            assert await chosen(client, "reka-edge") == "reka-edge"  # not in the list without its tag: pulled
            assert await chosen(client, "reka-edge:latest") == "reka-edge:latest"
            with pytest.raises(ollama.ResponseError, match=r"llama3\.2:latest"):
                await chosen(client, "llama3.2:latest")

    asyncio.run(flow())


def test_the_coordinator_polls_both_lists(served: Served) -> None:
    async def polled() -> tuple[ollama.ListResponse, ollama.ProcessResponse]:
        async with client_of(served.address, None) as client:
            await client.generate(model="reka-edge")
            return await asyncio.gather(client.list(), client.ps())

    installed, loaded = asyncio.run(polled())
    assert "reka-edge-random:latest" in {model.model for model in installed.models}
    assert sorted(str(model.model) for model in loaded.models) == ["reka-edge-random:latest"]
    ((size, in_vram),) = [(model.size, model.size_vram) for model in loaded.models]
    assert (size or 0) > 0 and in_vram == 0


def test_a_conversation_calls_tools_and_reads_their_results() -> None:
    async def talked(url: str) -> list[str]:
        history = [ollama.Message(role="system", content="You are a voice assistant."),
                   ollama.Message(role="user", content="Turn on the lamp")]  # fmt: skip
        results = {"HassTurnOn": {"success": ["light.lamp"]}, "GetLiveContext": {"lamp": "off"}}
        async with client_of(url, KEY) as client:
            texts = [await handled(client, "reka-edge", history, results, tools=TOOLS)]
            history.append(ollama.Message(role="user", content="Thank you"))
            texts.append(await handled(client, "reka-edge", history, results, tools=TOOLS, keep_alive="300s"))
        assert [message.role for message in history[2:]] == ["assistant", "tool", "assistant", "tool", "assistant",
                                                             "user", "assistant"]  # fmt: skip
        return texts

    scripts = (
        call_of("GetLiveContext", "{}"), call_of("HassTurnOn", '{"name": "Lamp", "domain": ["light"]}'),
        ("The lamp", " is on."), ("You are", " welcome."),
    )  # fmt: skip
    with saying(*scripts, key=KEY) as (served, engine):
        assert asyncio.run(talked(served.address)) == ["The lamp is on.", "You are welcome."]
        prompts = [repr(prompt) for prompt, _ in engine.asked]
        assert len(prompts) == 4 and "You are a voice assistant." in prompts[0] and "HassTurnOn" in prompts[0]
        assert all(part in prompts[2] for part in ("lamp", "off", "light.lamp", "Turn on the lamp"))
        assert '{"lamp": "off"}' in prompts[1] and "light.lamp" not in prompts[1]


def test_a_history_that_home_assistant_trimmed_is_answered(served: Served) -> None:
    async def asked() -> str:
        history = [
            ollama.Message(role="system", content="You are a voice assistant."),
            ollama.Message(role="tool", content='{"data": {"lamp": "on"}, "error": null}'),
            ollama.Message(role="assistant", content="The lamp is on."),
            ollama.Message(role="user", content="And now?"),
        ]
        async with client_of(served.address, None) as client:
            return await handled(client, "reka-edge-random:latest", history, {}, tools=TOOLS)

    asyncio.run(asked())


@pytest.mark.parametrize("with_image", [True, False])
def test_an_ai_task_gets_json_of_its_structure(served: Served, tmp_path: Path, with_image: bool) -> None:
    path = tmp_path / "snapshot.jpg"
    path.write_bytes(IMAGE)  # the name of an attachment says nothing of what it holds
    images = [ollama.Image(value=path)] if with_image else None

    async def task() -> str:
        history = [
            ollama.Message(role="system", content="You are a Home Assistant expert."),
            ollama.Message(role="user", content="How many cars are in the drive?", images=images),
        ]
        async with client_of(served.address, None) as client:
            return await handled(client, "reka-edge", history, {}, format=STRUCTURE)

    data = json.loads(asyncio.run(task()))
    assert 0 <= data["cars"] <= 20 and isinstance(data["gate_open"], bool) and set(data) <= set(STRUCTURE["properties"])  # type: ignore[arg-type]


def test_thinking_that_a_model_cannot_do_is_an_error_that_says_so(served: Served) -> None:
    async def asked() -> None:
        async with client_of(served.address, None) as client:
            await handled(client, "reka-edge", [ollama.Message(role="user", content="hi")], {}, think=True)

    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        asyncio.run(asked())
