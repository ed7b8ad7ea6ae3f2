"""LangChain's `ChatOllama` and `OllamaLLM`, over TCP and in process."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaLLM
from langchain_ollama._utils import validate_model

import edge
from tests.conformance.conftest import Served
from tests.conformance.scripted import call_of, saying
from tests.conformance.test_reka_client import image_url

ASK = "What shapes are there?"
HOW = {"model": "reka-edge", "num_predict": 12, "temperature": 1.0, "seed": 3}


class Counted(pydantic.BaseModel):
    """How many shapes there are."""

    shape: Literal["star", "ring"]
    n: int = pydantic.Field(ge=0, le=9)


@tool
def count(shape: str) -> int:
    """Count the shapes of a kind."""
    return len(shape)


Model = TypeVar("Model", ChatOllama, OllamaLLM)


@contextlib.contextmanager
def opened(model: Model) -> Iterator[Model]:
    """Close a model's connections, which it never does."""
    try:
        yield model
    finally:
        model._client.close()  # type: ignore[union-attr]


@pytest.fixture(params=["tcp", "transport"])
def place(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[dict[str, object]]:
    """Where a chat asks."""
    if request.param == "tcp":
        yield {"base_url": served.address}
    else:
        transport = edge.Transport(model=int8_bundle, threads=1)
        yield {"base_url": "http://edge", "client_kwargs": {"transport": transport}}
        transport.close()


def test_it_asks_and_streams_and_sees_images(place: dict[str, object]) -> None:
    with opened(ChatOllama(**HOW, **place)) as chat, opened(OllamaLLM(**HOW, **place)) as text:  # type: ignore[arg-type]
        whole = chat.invoke(ASK)
        assert whole.text and whole.response_metadata["done_reason"] in ("stop", "length")
        assert whole.usage_metadata["output_tokens"] <= 12 and whole.usage_metadata["input_tokens"] > 0
        assert "".join(chunk.text for chunk in chat.stream(ASK)) == whole.text
        image = {"type": "image_url", "image_url": image_url()}
        seen = chat.invoke([HumanMessage([{"type": "text", "text": ASK}, image])])
        assert seen.usage_metadata["input_tokens"] > whole.usage_metadata["input_tokens"]
        history = [("system", "Be brief."), ("user", ASK), whole, ("user", "And now?")]
        assert chat.invoke(history).usage_metadata["input_tokens"] > whole.usage_metadata["input_tokens"]
        assert text.invoke(ASK) == whole.text == "".join(text.stream(ASK))


def test_a_model_is_looked_for_in_the_list(served: Served) -> None:
    for name, is_there in (("reka-edge", True), ("reka-edge-random:latest", True), ("llama3.2", False)):
        expected = contextlib.nullcontext() if is_there else pytest.raises(ValueError, match="not found")
        with opened(ChatOllama(model=name, base_url=served.address)) as chat, expected:
            validate_model(chat._client, name)  # type: ignore[arg-type]


def test_structured_output_is_an_instance(place: dict[str, object]) -> None:
    with opened(ChatOllama(**{**HOW, "num_predict": 200}, **place)) as chat:  # type: ignore[arg-type]
        assert isinstance(chat.with_structured_output(Counted).invoke("Count."), Counted)
        assert chat.with_structured_output(Counted.model_json_schema()).invoke("Count.")["shape"] in ("star", "ring")


def test_a_tool_is_called_and_its_result_is_read() -> None:
    scripts = (call_of("count", '{"shape": "star"}'), ("Four", "."))
    with saying(*scripts) as (served, engine), opened(ChatOllama(model="reka-edge", base_url=served.address)) as plain:
        chat = plain.bind_tools([count])
        question = HumanMessage(ASK)
        calling = chat.invoke([question])
        assert isinstance(calling, AIMessage) and calling.content == ""
        (call,) = calling.tool_calls
        assert (call["name"], call["args"]) == ("count", {"shape": "star"})
        result = count.invoke(call)
        assert isinstance(result, ToolMessage)
        assert chat.invoke([question, calling, result]).text == "Four."
        prompts = [repr(prompt) for prompt, _ in engine.asked]
        assert "Count the shapes of a kind." in prompts[0] and '"shape": "star"' in prompts[1]


def test_async(served: Served) -> None:
    async def asked() -> tuple[str, str]:
        chat = ChatOllama(**HOW, base_url=served.address)  # type: ignore[arg-type]
        whole = await chat.ainvoke(ASK)
        streamed = "".join([chunk.text async for chunk in chat.astream(ASK)])
        await chat._async_client.close()  # type: ignore[union-attr]
        chat._client.close()  # type: ignore[union-attr]
        return whole.text, streamed

    whole, streamed = asyncio.run(asked())
    assert whole == streamed and whole
