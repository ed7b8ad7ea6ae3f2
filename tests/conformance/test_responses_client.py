"""The real `openai` client on responses, over TCP and in process, and LangChain on top of it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import langchain_openai
import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

import edge
from tests.conformance.conftest import Served
from tests.conformance.test_openapi import check
from tests.conformance.test_reka_client import image_url

HOW = {"model": "reka-edge", "max_output_tokens": 12, "temperature": 1.0, "extra_body": {"seed": 3}}
ASK = [{"role": "user", "content": "What shapes are there?"}]
EVENT: pydantic.TypeAdapter[object] = pydantic.TypeAdapter(ResponseStreamEvent)
TOOL = {
    "type": "function",
    "name": "count",
    "description": "Counts.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"shape": {"enum": ["star", "ring"]}},
        "required": ["shape"],
        "additionalProperties": False,
    },
}


class Counted(pydantic.BaseModel):
    """What an answer must be."""

    shape: Literal["star", "ring"]
    n: int = pydantic.Field(ge=0, le=9)


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[openai.OpenAI]:
    over_tcp = request.param == "tcp"
    transport = None if over_tcp else edge.Transport(model=int8_bundle, threads=1)
    with httpx.Client(transport=transport, timeout=60) as carrier:
        url = f"{served.address}/v1" if over_tcp else "http://edge/v1"
        yield openai.OpenAI(api_key="local", base_url=url, http_client=carrier, max_retries=0)


def answered(client: openai.OpenAI, given: object = ASK, **fields: object) -> Response:
    response: Response = client.responses.create(input=given, **{**HOW, **fields})  # type: ignore[call-overload]
    Response.model_validate(response.to_dict())
    check("Response", response.to_dict())
    return response


def test_a_response(client: openai.OpenAI) -> None:
    response = answered(client, "What shapes are there?", instructions="Be brief.")
    assert response.output_text and response.model == "reka-edge-random"
    cut = answered(client, max_output_tokens=1)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert cut.usage.output_tokens == 1 and response.usage.input_tokens > cut.usage.input_tokens


def test_a_stream_adds_up_to_the_response(client: openai.OpenAI) -> None:
    events = list(client.responses.create(input=ASK, stream=True, **HOW))  # type: ignore[call-overload]
    for event in events:
        EVENT.validate_python(event.to_dict())
        check("ResponseEvent", event.to_dict())
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == answered(client).output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_the_clients_own_stream_parses_the_answer(client: openai.OpenAI) -> None:
    fields = {**HOW, "max_output_tokens": 80}
    with client.responses.stream(input=ASK, text_format=Counted, **fields) as stream:  # type: ignore[arg-type]
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, Counted) and "".join(deltas) == final.output_text
    whole = client.responses.parse(input=ASK, text_format=Counted, **fields)  # type: ignore[arg-type]
    assert whole.output_parsed == final.output_parsed


def test_json_of_any_kind(client: openai.OpenAI) -> None:
    json.loads(answered(client, text={"format": {"type": "json_object"}}, max_output_tokens=80).output_text)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "count"}])
def test_a_tool_is_called_and_its_output_is_read(client: openai.OpenAI, choice: object) -> None:
    fields = {"tools": [TOOL], "tool_choice": choice, "max_output_tokens": 80}
    response = answered(client, **fields)
    (call,) = response.output
    assert call.type == "function_call" and json.loads(call.arguments)["shape"] in ("star", "ring")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    assert answered(client, [*ASK, *(item.to_dict() for item in response.output), result]).output_text
    with client.responses.stream(input=ASK, **{**HOW, **fields}) as stream:
        (streamed,) = stream.get_final_response().output
    assert (streamed.name, streamed.arguments) == (call.name, call.arguments)
    assert streamed.parsed_arguments == json.loads(call.arguments)


def test_images_and_earlier_answers(client: openai.OpenAI) -> None:
    first = answered(client)
    image = {"type": "input_image", "image_url": image_url(), "detail": "auto"}
    later = {"role": "user", "content": [image, {"type": "input_text", "text": "And here?"}]}
    history = [*ASK, *(item.to_dict() for item in first.output)]
    with_image = answered(client, [*history, later])
    assert (
        with_image.usage.input_tokens
        > answered(client, [*history, {"role": "user", "content": "And here?"}]).usage.input_tokens
    )


def test_probabilities_of_tokens_join_to_the_text(client: openai.OpenAI) -> None:
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    (item,) = answered(client, **fields).output
    (part,) = item.content
    assert "".join(score.token for score in part.logprobs) == part.text
    assert all(len(score.top_logprobs) == 2 for score in part.logprobs)
    stream = client.responses.create(input=ASK, stream=True, **{**HOW, **fields})  # type: ignore[call-overload]
    deltas = [event for event in stream if event.type == "response.output_text.delta"]
    assert [score.token for event in deltas for score in event.logprobs] == [score.token for score in part.logprobs]


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"store": True}, "store"), ({"previous_response_id": "resp_1"}, "previous_response_id")],
)
def test_nothing_is_stored(client: openai.OpenAI, fields: dict[str, object], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        answered(client, **fields)
    with pytest.raises(openai.NotFoundError, match="/v1/responses"):
        client.responses.retrieve("resp_1")


def test_a_prompt_that_does_not_fit_says_so_as_openai_does(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        answered(client, "x " * 9000)
    assert caught.value.code == "context_length_exceeded"


def test_async_responses_in_process(int8_bundle: Path) -> None:
    async def asked() -> tuple[str, str]:
        async with httpx.AsyncClient(transport=edge.Transport(model=int8_bundle, threads=1)) as carrier:
            client = openai.AsyncOpenAI(api_key="local", base_url="http://edge/v1", http_client=carrier)
            whole = await client.responses.create(input=ASK, **HOW)  # type: ignore[call-overload]
            async with client.responses.stream(input=ASK, **HOW) as stream:  # type: ignore[arg-type]
                deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            return whole.output_text, "".join(deltas)

    whole, streamed = asyncio.run(asked())
    assert whole == streamed


def test_langchain_asks_streams_and_calls(client: openai.OpenAI) -> None:
    fields = {"model": "reka-edge", "base_url": str(client.base_url), "api_key": "local", "max_tokens": 80}
    carrier = {"http_client": client._client, "max_retries": 0}
    chat = langchain_openai.ChatOpenAI(use_responses_api=True, temperature=0.0, **fields, **carrier)
    whole = chat.invoke("What shapes are there?")
    assert whole.text and whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.text for chunk in chat.stream("What shapes are there?")) == whole.text
    assert chat.invoke([("user", "hi"), whole, ("user", "And now?")]).usage_metadata["input_tokens"] > 3
    (call,) = chat.bind_tools([TOOL], tool_choice="count").invoke("What shapes are there?").tool_calls
    assert call["name"] == "count" and call["args"]["shape"] in ("star", "ring")
    assert isinstance(chat.with_structured_output(Counted).invoke("Count."), Counted)


def test_a_text_is_continued_as_it_stands(client: openai.OpenAI) -> None:
    fields = {"model": "reka-edge", "prompt": "There are three", "max_tokens": 8, "seed": 3, "logprobs": 2}
    whole = client.completions.create(**fields)  # type: ignore[call-overload]
    check("TextCompletion", whole.to_dict())
    (choice,) = whole.choices
    assert "".join(choice.logprobs.tokens) == choice.text and whole.usage.completion_tokens <= 8
    assert [len(top) >= 2 for top in choice.logprobs.top_logprobs] == [True] * len(choice.logprobs.tokens)
    chunks = list(client.completions.create(stream=True, **fields))  # type: ignore[call-overload]
    for chunk in chunks:
        check("TextCompletionChunk", chunk.to_dict())
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    offsets = [
        offset for chunk in chunks if chunk.choices[0].logprobs for offset in chunk.choices[0].logprobs.text_offset
    ]
    assert offsets == choice.logprobs.text_offset
    echoed = client.completions.create(**{**fields, "logprobs": None, "echo": True})  # type: ignore[call-overload]
    assert echoed.choices[0].text == f"There are three{choice.text}"
    assert client.completions.create(**fields).choices[0].text != answered(client, "There are three").output_text  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="reka-edge", prompt="x " * 9000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
