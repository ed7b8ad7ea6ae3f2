"""The real `anthropic` client on messages, over TCP and in process, and LangChain on top of it."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import anthropic
import httpx2
import langchain_anthropic
import langchain_core.messages
import pydantic
import pytest
from anthropic.types import Message

import edge
from tests.conformance.conftest import Served, serving
from tests.conformance.test_openapi import check
from tests.conformance.test_reka_client import image_url
from tests.edge.media.pdfs import made_pdf

HOW = {"model": "reka-edge", "max_tokens": 12, "extra_body": {"temperature": 1.0, "seed": 3}}
ASK = [{"role": "user", "content": "What shapes are there?"}]
EVENTS = ["message_start", "content_block_start", "ping", "content_block_delta", "content_block_stop", "message_delta",
          "message_stop"]  # fmt: skip
SCHEMA = {"type": "object", "properties": {"shape": {"enum": ["star", "ring"]}}, "required": ["shape"]}
TOOL = {"name": "count", "description": "Counts.", "input_schema": SCHEMA}


class Counted(pydantic.BaseModel):
    """What an answer must be."""

    shape: Literal["star", "ring"]
    n: int


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[anthropic.Anthropic]:
    over_tcp = request.param == "tcp"
    transport = None if over_tcp else edge.Transport(model=int8_bundle, threads=1)
    with httpx2.Client(transport=transport, timeout=60) as carrier:
        url = served.address if over_tcp else "http://edge"
        yield anthropic.Anthropic(api_key="local", base_url=url, http_client=carrier, max_retries=0)


def answered(client: anthropic.Anthropic, messages: object = ASK, **fields: object) -> Message:
    message: Message = client.messages.create(messages=messages, **{**HOW, **fields})  # type: ignore[call-overload]
    Message.model_validate(message.to_dict())
    check("Message", message.to_dict())
    return message


def with_blocks(*blocks: dict[str, object]) -> list[dict[str, object]]:
    return [{"role": "user", "content": [*blocks, {"type": "text", "text": "What is this?"}]}]


def n_tokens(client: anthropic.Anthropic, messages: object, **fields: object) -> int:
    return client.messages.count_tokens(model="reka-edge", messages=messages, **fields).input_tokens  # type: ignore[arg-type]


def base64_of(data: bytes, media_type: str) -> dict[str, object]:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


def image_of() -> dict[str, object]:
    data = base64.b64decode(image_url().partition(",")[2])
    return {"type": "image", "source": base64_of(data, "image/png")}


def test_a_message(client: anthropic.Anthropic) -> None:
    message = answered(client, system="Be brief.")
    (block,) = message.content
    assert block.type == "text" and block.text and message.model == "reka-edge-random"
    cut = answered(client, max_tokens=1)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 1)
    assert message.usage.input_tokens > cut.usage.input_tokens == n_tokens(client, ASK)


def test_a_stop_sequence_is_named(client: anthropic.Anthropic) -> None:
    (block,) = answered(client).content
    stop = block.text[3:6]
    stopped = answered(client, stop_sequences=["never said", stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    assert stopped.content[0].text == block.text[: block.text.index(stop)]


def test_a_stream_has_every_event_in_its_order(client: anthropic.Anthropic) -> None:
    with client.messages.with_streaming_response.create(messages=ASK, stream=True, **HOW) as response:  # type: ignore[call-overload]
        assert response.headers["content-type"] == "text/event-stream"
        raw = list(anthropic.Stream.raw_events(response.http_response))
    events = [event.json() for event in raw]
    assert [event.event for event in raw] == [event["type"] for event in events]
    for event in events:
        check("MessageEvent", event)
    names = [event["type"] for event in events]
    assert list(dict.fromkeys(names)) == EVENTS and {name for name in EVENTS if names.count(name) > 1} <= {EVENTS[3]}
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == answered(client).content[0].text


def test_the_clients_own_stream_adds_up_to_the_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(messages=ASK, **HOW) as stream:  # type: ignore[arg-type]
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = answered(client)
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage) == (whole.stop_reason, whole.usage)


def test_an_answer_is_what_a_schema_says(client: anthropic.Anthropic) -> None:
    fields = {**HOW, "max_tokens": 80}
    parsed = client.messages.parse(messages=ASK, output_format=Counted, **fields)  # type: ignore[arg-type]
    assert isinstance(parsed.parsed_output, Counted)
    with client.messages.stream(messages=ASK, output_format=Counted, **fields) as stream:  # type: ignore[arg-type]
        assert stream.get_final_message().parsed_output == parsed.parsed_output
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert json.loads(answered(client, output_config=form, max_tokens=80).content[0].text)["shape"] in ("star", "ring")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "count"}])
def test_a_tool_is_called_and_its_result_is_read(client: anthropic.Anthropic, choice: object) -> None:
    fields = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 80}
    message = answered(client, **fields)
    (call,) = message.content
    assert (call.type, call.name, message.stop_reason) == ("tool_use", "count", "tool_use")
    assert call.input["shape"] in ("star", "ring")
    with client.messages.stream(messages=ASK, **{**HOW, **fields}) as stream:  # type: ignore[arg-type]
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        (streamed,) = stream.get_final_message().content
    assert json.loads("".join(parts)) == streamed.input == call.input
    said = [*ASK, {"role": "assistant", "content": message.to_dict()["content"]}]
    counts = []
    for content in ("3", [{"type": "text", "text": "3"}, image_of()]):
        result = {"type": "tool_result", "tool_use_id": call.id, "content": content, "is_error": True}
        after = answered(client, [*said, {"role": "user", "content": [result]}], tools=[TOOL])
        counts.append(after.usage.input_tokens)
    assert counts[1] > counts[0] > n_tokens(client, said, tools=[TOOL])


def test_the_clients_tool_runner_runs_to_the_answer(client: anthropic.Anthropic) -> None:
    asked = []

    @anthropic.beta_tool(input_schema=SCHEMA)  # type: ignore[arg-type]
    def count(shape: str) -> str:
        """Count the shapes of a kind."""
        asked.append(shape)
        return "3"

    fields = {**HOW, "max_tokens": 80, "tool_choice": {"type": "any"}}
    runner = client.beta.messages.tool_runner(tools=[count], messages=ASK, max_iterations=2, **fields)  # type: ignore[call-overload]
    messages = list(runner)
    assert [message.stop_reason for message in messages] == ["tool_use"] * 2
    assert asked and set(asked) <= {"star", "ring"}
    assert messages[1].usage.input_tokens > messages[0].usage.input_tokens


def test_images_and_documents_take_tokens(client: anthropic.Anthropic) -> None:
    pdf = {
        "type": "document",
        "source": base64_of(made_pdf([(50, 50, "One page")]), "application/pdf"),
        "title": "A PDF",
    }
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "There is a star."}}
    plain = n_tokens(client, with_blocks())
    for block in (image_of(), pdf, text):
        message = answered(client, with_blocks(block))
        assert message.usage.input_tokens == n_tokens(client, with_blocks(block)) > plain


def test_what_is_said_already_is_continued(client: anthropic.Anthropic) -> None:
    begun = [*ASK, {"role": "assistant", "content": "There are"}]
    assert answered(client, begun).usage.input_tokens > answered(client).usage.input_tokens


def test_a_prompt_longer_than_the_context_is_counted_and_refused(client: anthropic.Anthropic) -> None:
    long = [{"role": "user", "content": "x " * 1500}]
    assert n_tokens(client, long) > 1024
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: [0-9]+ tokens > 1024 maximum") as caught:
        answered(client, long)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens: expected an integer >= 1"),
        ({"model": "claude"}, anthropic.NotFoundError, "claude"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, anthropic.BadRequestError, "tools.0.type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, anthropic.BadRequestError, "messages.0.role"),
    ],
)
def test_errors_are_the_clients_own(
    client: anthropic.Anthropic, fields: dict[str, object], kind: type[anthropic.APIStatusError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        answered(client, **{"messages": ASK, **fields})
    assert words in str(caught.value.api_message)
    check_error(caught.value)


def check_error(error: anthropic.APIStatusError) -> None:
    body = error.body
    assert isinstance(body, dict) and body["type"] == "error" and set(body["error"]) == {"type", "message"}


def test_models_are_listed_and_described(client: anthropic.Anthropic) -> None:
    page = client.models.list()
    assert [model.id for model in page] == [model.id for model in page.data] and not page.has_more
    assert "reka-edge-random" in [model.id for model in page]
    check("AnthropicModels", json.loads(page.to_json()))
    model = client.models.retrieve("reka-edge")
    assert (model.id, model.type, model.display_name) == ("reka-edge-random", "model", "reka-edge-random")
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("claude")
    assert caught.value.type == "not_found_error"


def test_what_is_not_there_is_told_as_the_client_reads_it(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.batches.retrieve("msgbatch_1")
    assert "no route '/v1/messages/batches/msgbatch_1'" in str(caught.value.api_message)
    check_error(caught.value)


def test_async_messages_in_process(int8_bundle: Path) -> None:
    async def asked() -> tuple[str, str, int]:
        async with httpx2.AsyncClient(transport=edge.Transport(model=int8_bundle, threads=1)) as carrier:
            client = anthropic.AsyncAnthropic(api_key="local", base_url="http://edge", http_client=carrier)
            whole = await client.messages.create(messages=ASK, **HOW)  # type: ignore[call-overload]
            async with client.messages.stream(messages=ASK, **HOW) as stream:  # type: ignore[arg-type]
                text = "".join([part async for part in stream.text_stream])
            counted = await client.messages.count_tokens(model="reka-edge", messages=ASK)  # type: ignore[arg-type]
            return whole.content[0].text, text, counted.input_tokens - whole.usage.input_tokens

    whole, streamed, difference = asyncio.run(asked())
    assert (streamed, difference) == (whole, 0)


def test_both_of_the_clients_headers_carry_the_key(int8_bundle: Path) -> None:
    with serving(int8_bundle, key="secret") as served:
        for headers in ({"X-Api-Key": "secret"}, {"Authorization": "Bearer secret"}):
            headers |= {"anthropic-version": "2023-06-01"}
            answer = httpx2.post(f"{served.address}/v1/messages", headers=headers, json={**HOW, "messages": ASK})
            assert answer.status_code == 200
            assert httpx2.get(f"{served.address}/v1/models", headers=headers).json()["has_more"] is False
        client = anthropic.Anthropic(api_key="wrong", base_url=served.address, max_retries=0)
        with client, pytest.raises(anthropic.AuthenticationError) as caught:
            answered(client)
        assert caught.value.type == "authentication_error"
        check_error(caught.value)


def test_langchain_asks_streams_calls_and_counts(served: Served) -> None:
    fields = {"model": "reka-edge", "base_url": served.address, "api_key": "local", "max_tokens": 80, "max_retries": 0}
    chat = langchain_anthropic.ChatAnthropic(temperature=0.0, **fields)
    whole = chat.invoke("What shapes are there?")
    assert whole.text and whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.text for chunk in chat.stream("What shapes are there?")) == whole.text
    assert chat.invoke([("user", "hi"), whole, ("user", "And now?")]).usage_metadata["input_tokens"] > 3
    (call,) = chat.bind_tools([TOOL], tool_choice="count").invoke("What shapes are there?").tool_calls
    assert call["name"] == "count" and call["args"]["shape"] in ("star", "ring")
    assert isinstance(chat.with_structured_output(Counted).invoke("Count."), Counted)
    assert isinstance(chat.with_structured_output(Counted, method="json_schema").invoke("Count."), Counted)
    assert chat.get_num_tokens_from_messages([langchain_core.messages.HumanMessage("hi")]) > 0
