"""pydantic-ai on chat completions, on responses and by its Ollama provider, over TCP and in process."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import httpx
import pydantic
import pytest
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

import edge
from tests.conformance.conftest import Served
from tests.conformance.scripted import call_of, saying
from tests.conformance.test_reka_client import image_url

ASK = "What shapes are there?"
SETTINGS = {"max_tokens": 200, "temperature": 0.0}
KINDS = ("chat", "responses", "ollama")


class Counted(pydantic.BaseModel):
    """How many shapes there are."""

    shape: Literal["star", "ring"]
    n: int = pydantic.Field(ge=0, le=9)


def with_model(kind: str, url: str, act: Callable[[Model], Awaitable[None]], bundle: Path | None = None) -> None:
    """Do something with a model at an address, or (bundle) in process."""

    async def acted() -> None:
        transport = None if bundle is None else edge.Transport(model=bundle, threads=1)
        async with httpx.AsyncClient(transport=transport, timeout=60) as http:
            provider_class = OllamaProvider if kind == "ollama" else OpenAIProvider
            provider = provider_class(base_url=f"{url}/v1", api_key="local", http_client=http)
            model_class = OpenAIResponsesModel if kind == "responses" else OpenAIChatModel
            await act(model_class("reka-edge", provider=provider))

    asyncio.run(acted())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_process", [False, True])
def test_an_agent_asks_streams_and_sees(served: Served, int8_bundle: Path, kind: str, in_process: bool) -> None:
    async def act(model: Model) -> None:
        agent = Agent(model, model_settings={**SETTINGS, "max_tokens": 12})  # type: ignore[typeddict-item]
        whole = await agent.run(ASK)
        assert whole.output and whole.usage.output_tokens <= 12
        async with agent.run_stream(ASK) as streamed:
            assert [text async for text in streamed.stream_text()][-1] == whole.output
        image = BinaryContent(base64.b64decode(image_url().partition(",")[2]), media_type="image/png")
        seen = await agent.run([ASK, image])
        assert seen.usage.input_tokens > whole.usage.input_tokens

    with_model(kind, served.address, act, int8_bundle if in_process else None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_is_an_instance(served: Served, kind: str) -> None:
    async def act(model: Model) -> None:
        for wanted in (NativeOutput(Counted), Counted):  # by a schema, and by a tool that has to be called
            agent = Agent(model, output_type=wanted, model_settings=SETTINGS)  # type: ignore[arg-type]
            assert isinstance((await agent.run("Count.")).output, Counted)

    with_model(kind, served.address, act)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tool_runs_between_two_answers(kind: str) -> None:
    async def act(model: Model) -> None:
        agent = Agent(model)

        @agent.tool_plain
        def count(shape: str) -> int:
            """Count the shapes of a kind."""
            return len(shape)

        assert (await agent.run(ASK)).output == "Four."

    with saying(call_of("count", '{"shape": "star"}'), ("Four", ".")) as (served, engine):
        with_model(kind, served.address, act)
        assert "Count the shapes of a kind." in repr(engine.asked[0][0]) and "star" in repr(engine.asked[1][0])
