"""LiteLLM by all of its providers that this server speaks to: OpenAI's, Anthropic's and both of Ollama's routes."""

import asyncio
import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.conformance.conftest import Served, serving
from tests.conformance.scripted import call_of, saying
from tests.conformance.test_reka_client import image_url
from tests.edge.media.tones import file, tone

with warnings.catch_warnings(), mock.patch.dict(os.environ, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}):
    warnings.simplefilter("ignore")
    import litellm  # reads its list of prices from its own package then, and not from the network

# It loads parts of itself when they are used, with warnings of pydantic's about its own types.
pytestmark = pytest.mark.filterwarnings("ignore:.*using the `ReadOnly` qualifier:UserWarning")

ASK = [{"role": "user", "content": "What shapes are there?"}]
PATHS = {"openai": "/v1", "anthropic": "", "ollama_chat": "", "ollama": ""}
PROVIDERS = list(PATHS)
TOOL = {
    "type": "function",
    "function": {
        "name": "count",
        "description": "Count the shapes of a kind.",
        "parameters": {"type": "object", "properties": {"shape": {"type": "string"}}, "required": ["shape"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def no_loop_is_left() -> Iterator[None]:
    """Close the event loop that it makes for itself and forgets."""
    yield
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):  # there is none
        warnings.simplefilter("ignore")
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)


def how(provider: str, served: Served, **fields: object) -> dict[str, object]:
    place = {"api_base": f"{served.address}{PATHS[provider]}", "api_key": "local", "num_retries": 0}
    return {"model": f"{provider}/reka-edge", "max_tokens": 12, "temperature": 0, **place, **fields}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_chat_a_stream_and_an_image(served: Served, provider: str) -> None:
    whole = litellm.completion(messages=ASK, **how(provider, served))
    (choice,) = whole.choices
    assert choice.message.content and 0 < whole.usage.completion_tokens <= 12
    chunks = list(litellm.completion(messages=ASK, stream=True, **how(provider, served)))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert chunks[-1].choices[0].finish_reason
    content = [{"type": "text", "text": ASK[0]["content"]}, {"type": "image_url", "image_url": {"url": image_url()}}]
    seen = litellm.completion(messages=[{"role": "user", "content": content}], **how(provider, served))
    assert seen.usage.prompt_tokens > whole.usage.prompt_tokens


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_schema(served: Served, provider: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "counted", "schema": SCHEMA, "strict": True}}
    fields = how(provider, served, max_tokens=200, response_format=wanted)
    assert 0 <= json.loads(litellm.completion(messages=ASK, **fields).choices[0].message.content)["n"] <= 9


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama_chat"])
def test_a_tool_is_called_and_its_result_is_read(provider: str) -> None:
    with saying(call_of("count", '{"shape": "star"}'), ("Four", ".")) as (served, engine):
        first = litellm.completion(messages=ASK, tools=[TOOL], **how(provider, served, max_tokens=100))
        (choice,) = first.choices
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("count", {"shape": "star"})
        assert choice.finish_reason == "tool_calls"
        result = {"role": "tool", "tool_call_id": call.id, "name": "count", "content": "4"}
        history = [*ASK, choice.message.model_dump(), result]
        final = litellm.completion(messages=history, tools=[TOOL], **how(provider, served, max_tokens=100))
        assert final.choices[0].message.content == "Four."
        assert "Count the shapes of a kind." in repr(engine.asked[0][0]) and '"shape": "star"' in repr(
            engine.asked[1][0]
        )


def test_a_tool_by_generate_is_json_that_litellm_asks_for() -> None:
    """Ollama's generate has no tools: LiteLLM describes them in the prompt, and demands JSON."""
    with saying(('{"name": "count", ', '"arguments": {"shape": "star"}}')) as (served, engine):
        answer = litellm.completion(messages=ASK, tools=[TOOL], **how("ollama", served, max_tokens=100))
        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("count", {"shape": "star"})
        ((prompt, options),) = engine.asked
        assert options.form is not None and "count" in repr(prompt)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_errors_are_its_own(served: Served, provider: str) -> None:
    with pytest.raises(litellm.NotFoundError, match="nowhere"):
        litellm.completion(messages=ASK, **how(provider, served, model=f"{provider}/nowhere"))
    with pytest.raises(litellm.BadRequestError, match="context|long"):
        litellm.completion(messages=[{"role": "user", "content": "x " * 9000}], **how(provider, served))


def test_it_learns_what_a_model_can_do(served: Served) -> None:
    with mock.patch.dict(os.environ, {"OLLAMA_API_BASE": served.address}):
        info = litellm.get_model_info("ollama/reka-edge")
    assert info["max_input_tokens"] > 0 and info["supports_function_calling"]


def test_async(served: Served) -> None:
    async def asked() -> None:
        for provider in PROVIDERS:
            whole = await litellm.acompletion(messages=ASK, **how(provider, served))
            stream = await litellm.acompletion(messages=ASK, stream=True, **how(provider, served))
            streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert streamed == whole.choices[0].message.content

    asyncio.run(asked())


def test_a_transcription(int8_bundle: Path, speech_bundle: Path) -> None:
    recording = ("talk.wav", file(tone(2.0)))
    with serving(int8_bundle, speech=speech_bundle) as served:
        fields = {"model": "openai/whisper-1", "api_base": f"{served.address}/v1", "api_key": "local"}
        plain = litellm.transcription(file=recording, **fields)
        verbose = litellm.transcription(file=recording, response_format="verbose_json", **fields)
        subtitles = litellm.transcription(file=recording, response_format="vtt", **fields)
    assert plain.text == verbose.text and verbose.duration == 2
    assert "".join(segment["text"] for segment in verbose.segments).strip() == plain.text
    assert subtitles.text.startswith("WEBVTT")
