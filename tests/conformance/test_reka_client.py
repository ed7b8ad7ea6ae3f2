"""The real `reka-api` client, sync and async, over TCP and in process: the same answers as edge.Reka's own."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import reka
from PIL import Image
from reka.client import AsyncReka, Reka
from reka.core.api_error import ApiError

import edge
from tests.conformance.conftest import Served, serving

ASK = [reka.ChatMessage(role="user", content="What shapes are there?")]
HOW = {"model": "reka-edge", "max_tokens": 12, "seed": 3, "temperature": 1.0}


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[Reka]:
    if request.param == "tcp":
        with httpx.Client(timeout=60) as carrier:
            yield Reka(api_key="local", base_url=f"{served.address}/v1", httpx_client=carrier)
    else:
        with httpx.Client(transport=edge.Transport(model=int8_bundle, threads=1)) as carrier:
            yield Reka(api_key="local", base_url="http://edge/v1", httpx_client=carrier)


@contextlib.asynccontextmanager
async def opened(kind: str, served: Served, bundle: Path) -> AsyncIterator[AsyncReka]:
    over_tcp = kind == "tcp"
    transport = None if over_tcp else edge.Transport(model=bundle, threads=1)
    async with httpx.AsyncClient(transport=transport, timeout=60) as carrier:
        url = f"{served.address}/v1" if over_tcp else "http://edge/v1"
        yield AsyncReka(api_key="local", base_url=url, httpx_client=carrier)


@pytest.fixture(scope="module")
def expected(int8_bundle: Path) -> str:
    with edge.Reka(model=int8_bundle, threads=1) as ours:
        return str(ours.chat.create(messages=ASK, **HOW).responses[0].message.content)  # type: ignore[arg-type]


def image_url() -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 200, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def failure(client: Reka, **fields: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client.chat.create(**{"messages": ASK, **HOW, **fields})  # type: ignore[arg-type]
    return caught.value


def test_create(client: Reka, expected: str) -> None:
    response = client.chat.create(messages=ASK, **HOW)
    assert isinstance(response, reka.ChatResponse)
    assert response.responses[0].message.content == expected
    assert response.responses[0].message.role == "assistant"
    assert response.responses[0].finish_reason in ("stop", "length")
    assert response.usage.input_tokens > 4 and 1 <= response.usage.output_tokens <= 12


def test_create_stream_gives_the_whole_text_each_time(client: Reka, expected: str) -> None:
    chunks = list(client.chat.create_stream(messages=ASK, **HOW))
    texts = [chunk.responses[0].chunk.content for chunk in chunks]
    assert texts[-1] == expected
    assert all(longer.startswith(shorter) for shorter, longer in zip(texts, texts[1:], strict=False))
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [chunk.responses[0].finish_reason for chunk in chunks]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1])


def test_models_get(client: Reka) -> None:
    assert "reka-edge-random" in [model.id for model in client.models.get()]


def test_images_and_several_turns(client: Reka) -> None:
    content = [
        reka.TypedMediaContent(type="image_url", image_url=image_url()),
        reka.TypedText(type="text", text="And in this?"),
    ]
    said = reka.ChatMessage(role="assistant", content="None.")
    messages = [*ASK, said, reka.ChatMessage(role="user", content=content)]
    with_image = client.chat.create(messages=messages, **HOW)
    without = client.chat.create(messages=[*messages[:2], reka.ChatMessage(role="user", content="And in this?")], **HOW)
    assert with_image.usage.input_tokens > without.usage.input_tokens


def test_a_field_that_is_wrong_is_the_sdks_own_error(client: Reka) -> None:
    error = failure(client, temperature=-1.0)
    assert isinstance(error, reka.UnprocessableEntityError)
    assert error.body.detail[0].loc == ["body", "temperature"]
    with pytest.raises(reka.UnprocessableEntityError):
        next(client.chat.create_stream(messages=[], model="reka-edge"))


def test_a_model_that_is_not_there_is_a_404_with_the_way_out(client: Reka) -> None:
    error = failure(client, model="reka-core")
    assert error.status_code == 404
    assert "reka-edge-random" in error.body["detail"] and "--alias" in error.body["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"type": "image_url", "image_url": "data:image/png;base64,AAAA"}], "image"),
        ([{"type": "image_url", "image_url": "https://example.com/a.png"}], "remote media is off"),
        ([{"type": "image_url", "image_url": "/etc/hostname"}], "local files are not allowed"),
        ([{"type": "video_url", "video_url": "data:video/mp4;base64,AAAA"}], "video"),
        ([{"type": "audio_url", "audio_url": "data:audio/wav;base64,AAAA"}], "audio"),
        ([{"type": "pdf_url", "pdf_url": "data:application/pdf;base64,AAAA"}], "pdf"),
        ("word " * 20000, "positions"),
    ],
)
def test_what_cannot_be_taken_is_a_400_that_names_it(client: Reka, content: object, words: str) -> None:
    error = failure(client, messages=[reka.ChatMessage.construct(role="user", content=content)])
    assert error.status_code == 400
    assert words in error.body["detail"]


def test_searching_is_refused(client: Reka) -> None:
    assert failure(client, use_search_engine=True).status_code == 400


def test_additional_body_parameters_reach_the_server(client: Reka) -> None:
    error = failure(client, request_options={"additional_body_parameters": {"top_k": 0}})
    assert error.status_code == 422


@pytest.mark.parametrize("kind", ["tcp", "transport"])
def test_the_async_client_does_all_of_it_at_once(kind: str, served: Served, int8_bundle: Path, expected: str) -> None:
    async def asked() -> None:
        async with opened(kind, served, int8_bundle) as client:
            answers = [client.chat.create(messages=ASK, **HOW) for _ in range(4)]
            whole = await asyncio.gather(*answers)
            assert {response.responses[0].message.content for response in whole} == {expected}
            chunks = [chunk async for chunk in client.chat.create_stream(messages=ASK, **HOW)]
            assert chunks[-1].responses[0].chunk.content == expected
            assert "reka-edge-random" in [model.id for model in await client.models.get()]
            with pytest.raises(reka.UnprocessableEntityError):
                await client.chat.create(messages=ASK, model="reka-edge", max_tokens=0)
            with pytest.raises(ApiError) as caught:
                await client.chat.create(messages=ASK, model="reka-core")
            assert caught.value.status_code == 404

    asyncio.run(asked())


def test_the_key_is_asked_for(int8_bundle: Path) -> None:
    with serving(int8_bundle, key="secret") as served, httpx.Client() as carrier:
        url = f"{served.address}/v1"
        assert Reka(api_key="secret", base_url=url, httpx_client=carrier).models.get()
        for wrong in ("none", "Secret", "secrets"):
            with pytest.raises(ApiError) as caught:
                Reka(api_key=wrong, base_url=url, httpx_client=carrier).models.get()
            assert caught.value.status_code == 401


CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = reka.Tool(name="weather", description="The weather in a city.", parameters=CITY)
CALLING = {**HOW, "max_tokens": 80, "tools": [WEATHER], "tool_choice": "tool"}


def test_a_tool_is_called_and_answered(client: Reka) -> None:
    response = client.chat.create(messages=ASK, **CALLING)
    answer = response.responses[0]
    assert (answer.finish_reason, answer.message.content) == ("stop", "")
    (call,) = answer.message.tool_calls
    assert isinstance(call, reka.ToolCall) and call.name == "weather" and call.parameters["city"] in ("Rome", "Oslo")
    output = reka.ToolOutput(tool_call_id=call.id, output="Sunny.")
    messages = [*ASK, answer.message, reka.ChatMessage(role="tool_output", content=[output])]
    second = client.chat.create(messages=messages, **{**CALLING, "tool_choice": "auto"})
    assert second.usage.input_tokens > response.usage.input_tokens
    assert second.responses[0].message.content and second.responses[0].message.tool_calls is None


def test_a_streamed_call_comes_at_the_end(client: Reka) -> None:
    chunks = list(client.chat.create_stream(messages=ASK, **CALLING))
    whole = client.chat.create(messages=ASK, **CALLING).responses[0].message.tool_calls[0]
    assert not any(chunk.responses[0].chunk.tool_calls or chunk.responses[0].chunk.content for chunk in chunks[:-1])
    (call,) = chunks[-1].responses[0].chunk.tool_calls
    assert (call.name, call.parameters) == (whole.name, whole.parameters)


@pytest.mark.parametrize(
    ("form", "keys"),
    [({"type": "json_object"}, None), ({"type": "json_schema", "json_schema": {"schema": CITY}}, {"city"})],
)
def test_json_is_asked_for_through_additional_body_parameters(
    client: Reka, form: object, keys: set[str] | None
) -> None:
    options = {"additional_body_parameters": {"response_format": form}}
    how = {**HOW, "max_tokens": 60, "request_options": options}
    text = client.chat.create(messages=ASK, **how).responses[0].message.content
    value = json.loads(str(text))
    assert isinstance(value, dict) and (keys is None or set(value) == keys)
    assert list(client.chat.create_stream(messages=ASK, **how))[-1].responses[0].chunk.content == text


def test_a_schema_that_is_not_covered_is_a_400_that_names_the_keyword(client: Reka) -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "array", "uniqueItems": True}}}
    error = failure(client, request_options={"additional_body_parameters": {"response_format": form}})
    assert error.status_code == 400 and "uniqueItems" in error.body["detail"]


def test_too_few_tokens_for_a_call_are_a_400_that_says_how_many_it_takes(client: Reka) -> None:
    error = failure(client, **{**CALLING, "max_tokens": 3})
    assert error.status_code == 400 and "expected at least" in error.body["detail"]
