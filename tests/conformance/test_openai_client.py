"""The real `openai` client, over TCP and in process: chats, streams, pictures, and every error in its own form."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

import edge
from tests.conformance.conftest import Served, serving
from tests.conformance.test_reka_client import image_url

ASK = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "What shapes are there?"}]
HOW = {"model": "reka-edge", "max_completion_tokens": 12, "seed": 3, "temperature": 1.0}


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[openai.OpenAI]:
    over_tcp = request.param == "tcp"
    transport = None if over_tcp else edge.Transport(model=int8_bundle, threads=1)
    with httpx.Client(transport=transport, timeout=60) as carrier:
        url = f"{served.address}/v1" if over_tcp else "http://edge/v1"
        yield openai.OpenAI(api_key="local", base_url=url, http_client=carrier, max_retries=0)


def text_of(client: openai.OpenAI, messages: object = ASK, **fields: object) -> str:
    answer = client.chat.completions.create(messages=messages, **{**HOW, **fields})  # type: ignore[call-overload]
    return str(answer.choices[0].message.content)


def refused(client: openai.OpenAI, messages: object = ASK, **fields: object) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        text_of(client, messages, **fields)
    assert set(caught.value.body) == {"message", "type", "param", "code"}  # type: ignore[call-overload]
    return caught.value


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(messages=ASK, **HOW)  # type: ignore[call-overload]
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.object == "chat.completion" and answer.model == "reka-edge-random" and answer.created > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_adds_up_to_the_completion(client: openai.OpenAI) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(messages=ASK, **HOW, **options))  # type: ignore[call-overload]
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text_of(client)
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].choices[0].finish_reason in ("stop", "length") and not parts[-1].choices[0].delta.content
    assert last.choices == [] and last.usage.completion_tokens >= 1
    assert all(part.usage is None for part in parts) and len({chunk.id for chunk in chunks}) == 1


def test_models_in_the_form_of_openai(client: openai.OpenAI) -> None:
    models = client.models.list()
    assert models.object == "list" and "reka-edge-random" in [model.id for model in models]


def test_images(client: openai.OpenAI) -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": image_url(), "detail": "low"}},
        {"type": "text", "text": "What is this?"},
    ]
    assert text_of(client, [{"role": "user", "content": parts}]) != text_of(
        client, [{"role": "user", "content": "What is this?"}]
    )


def test_one_stop_string_is_taken_as_a_list(client: openai.OpenAI) -> None:
    whole = text_of(client, max_completion_tokens=None, max_tokens=12)
    assert text_of(client, stop=whole[2]) == whole[: whole.index(whole[2])].rstrip()


def test_calls_and_tool_messages_of_the_past_are_taken(client: openai.OpenAI) -> None:
    function = {"name": "count", "arguments": '{"shape": "star"}'}
    messages = [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "4"}]},
        {"role": "user", "content": "Sure?"},
    ]
    assert text_of(client, messages)
    bad = [*messages[:1], {**messages[1], "tool_calls": [{"id": "a", "type": "function", "function": {}}]}]
    assert refused(client, bad).param == "messages.1.tool_calls.0.function.arguments"
    assert refused(client, [*messages[:4], {"role": "user", "content": 5}]).param == "messages.4.content"


def test_probabilities_of_tokens_are_the_same_streamed(client: openai.OpenAI) -> None:
    fields = {**HOW, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(messages=ASK, **fields)  # type: ignore[call-overload]
    scores = whole.choices[0].logprobs.content
    content = whole.choices[0].message.content
    assert "".join(score.token for score in scores) == content
    assert b"".join(bytes(score.bytes) for score in scores).decode("utf-8", "replace") == content
    assert 0 < len(scores) <= whole.usage.completion_tokens
    for score in scores:
        assert score.logprob <= 0 and len(score.top_logprobs) == 3
        assert score.top_logprobs[0].logprob >= score.logprob
    stream = client.chat.completions.create(messages=ASK, stream=True, **fields)  # type: ignore[call-overload]
    choices = [chunk.choices[0] for chunk in stream]
    assert [score for choice in choices if choice.logprobs for score in choice.logprobs.content] == scores
    for choice in choices:
        tokens = choice.logprobs.content if choice.logprobs else []
        assert "".join(score.token for score in tokens) == (choice.delta.content or "")


def test_special_tokens_that_a_model_samples_are_no_text(client: openai.OpenAI) -> None:
    for seed in range(6):
        assert "<|special" not in text_of(client, seed=seed, max_completion_tokens=60, temperature=2.0)


@pytest.mark.parametrize(("top", "param"), [(21, "top_logprobs"), (-1, "top_logprobs")])
def test_so_many_probabilities_are_not_given(client: openai.OpenAI, top: int, param: str) -> None:
    assert refused(client, logprobs=True, top_logprobs=top).param == param


TOOL = {
    "type": "function",
    "function": {
        "name": "count",
        "description": "Counts.",
        "parameters": {
            "type": "object",
            "properties": {"shape": {"enum": ["star", "ring"]}},
            "required": ["shape"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "count"}}])
def test_a_tool_that_must_be_called_is_called(client: openai.OpenAI, choice: object) -> None:
    fields = {**HOW, "tools": [TOOL], "tool_choice": choice, "max_completion_tokens": 80}
    whole = client.chat.completions.create(messages=ASK, **fields).choices[0]  # type: ignore[call-overload]
    assert whole.finish_reason == "tool_calls" and whole.message.content is None
    (call,) = whole.message.tool_calls
    assert call.function.name == "count" and json.loads(call.function.arguments)["shape"] in ("star", "ring")
    chunks = list(client.chat.completions.create(messages=ASK, stream=True, **fields))  # type: ignore[call-overload]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    streamed = [called for chunk in chunks for called in chunk.choices[0].delta.tool_calls or ()]
    assert [called.function.arguments for called in streamed] == [call.function.arguments]
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_a_function_without_parameters_takes_no_arguments(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "noon"}}
    fields = {**HOW, "tools": [tool], "tool_choice": "required", "max_completion_tokens": 200}
    answer = client.chat.completions.create(messages=ASK, **fields)  # type: ignore[call-overload]
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("noon", "{}")


def test_an_error_says_what_the_request_itself_holds_and_where(client: openai.OpenAI) -> None:
    outputs = [{"role": "tool", "tool_call_id": name, "content": "5"} for name in ("a", "b")]
    for value in (None, 7):
        error = refused(client, [{"role": "user", "content": [{"type": "text", "text": value}]}])
        assert f"messages.0.content.0.text: expected a string, got {value}" in error.message
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = refused(client, [*ASK, *outputs, {"role": "user", "content": [image]}])
    assert "messages.4.content.0.image_url: " in error.message
    for name, value in (
        ("input_audio", {"data": "AAAA", "format": "wav"}),
        ("file", {"file_data": "data:application/pdf;base64,AAAA"}),
    ):
        error = refused(client, [*ASK, *outputs, {"role": "user", "content": [{"type": name, name: value}]}])
        assert f"messages.4.content.0.{name}: " in error.message
    silent = {"role": "tool", "tool_call_id": "c", "content": 5}
    assert refused(client, [*ASK, *outputs, silent]).param == "messages.4.content"
    assert refused(client, [*ASK, *outputs, {"role": "tool", "content": "5"}]).param == "messages.4.tool_call_id"
    odd = {"type": "function", "function": {"name": "two words"}}
    assert refused(client, tools=[TOOL, odd]).param == "tools.1.function.name"
    error = refused(client, tool_choice={"type": "allowed_tools", "allowed_tools": {}}, tools=[TOOL])
    assert "tool_choice.allowed_tools.mode: expected auto or required, got None" in error.message
    assert "tool_choice.allowed_tools.tools: expected a list of tools, got None" in error.message
    error = refused(client, tool_choice={"type": "custom", "custom": {"name": "count"}}, tools=[TOOL])
    assert "got type 'custom'" in error.message
    error = refused(client, tool_choice="any", tools=[TOOL])
    assert "tool_choice: expected auto, none, required, allowed_tools or one of the tools, got 'any'" in error.message
    for name in ("max_tokens", "max_completion_tokens"):
        most: dict[str, object] = {"max_tokens": None, "max_completion_tokens": None, name: 2}
        error = refused(client, tool_choice="required", tools=[TOOL], **most)
        assert f"{name}: expected at least " in error.message


def test_an_answer_by_a_schema(client: openai.OpenAI) -> None:
    schema = {"name": "shapes", "schema": TOOL["function"]["parameters"]}  # type: ignore[index]
    form = {"type": "json_schema", "json_schema": schema}
    assert json.loads(text_of(client, response_format=form, max_completion_tokens=60))["shape"] in ("star", "ring")
    assert text_of(client, response_format={"type": "text"}) == text_of(client)
    assert isinstance(json.loads(text_of(client, response_format={"type": "json_object"}, max_tokens=60)), dict)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_completion_tokens": None, "max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"n": 2}, None),
        ({"logit_bias": {"5": 1}}, None),
        ({"modalities": ["text", "audio"]}, None),
        ({"tool_choice": {"type": "function", "function": {"name": "none"}}}, "tool_choice"),
    ],
)
def test_what_is_not_taken_is_a_400(client: openai.OpenAI, fields: dict[str, object], param: str | None) -> None:
    error = refused(client, **fields)
    assert isinstance(error, openai.BadRequestError) and error.type == "invalid_request_error"
    assert error.param == param


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"type": "hologram"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image_url", "image_url": {}},
    ],
)
def test_parts_that_cannot_be_taken_are_a_400(client: openai.OpenAI, part: object) -> None:
    assert isinstance(refused(client, [{"role": "user", "content": [part]}]), openai.BadRequestError)


def test_a_prompt_that_does_not_fit_says_so_as_openai_does(client: openai.OpenAI) -> None:
    assert refused(client, [{"role": "user", "content": "word " * 20000}]).code == "context_length_exceeded"


def test_a_model_that_is_not_there(client: openai.OpenAI) -> None:
    error = refused(client, model="gpt-4o")
    assert isinstance(error, openai.NotFoundError) and error.code == "model_not_found"


def test_the_key_as_a_bearer_token(int8_bundle: Path) -> None:
    with serving(int8_bundle, key="secret") as served, contextlib.ExitStack() as stack:
        url = f"{served.address}/v1"
        good = stack.enter_context(openai.OpenAI(api_key="secret", base_url=url, max_retries=0))
        assert text_of(good)
        bad = stack.enter_context(openai.OpenAI(api_key="other", base_url=url, max_retries=0))
        error = refused(bad)
        assert isinstance(error, openai.AuthenticationError) and error.code == "invalid_api_key"


def test_async_completions_in_process(int8_bundle: Path) -> None:
    async def asked() -> list[str]:
        transport = edge.Transport(model=int8_bundle, threads=1)
        async with httpx.AsyncClient(transport=transport) as carrier:
            client = openai.AsyncOpenAI(api_key="local", base_url="http://edge/v1", http_client=carrier)
            whole = await client.chat.completions.create(messages=ASK, **HOW)  # type: ignore[call-overload]
            stream = await client.chat.completions.create(messages=ASK, stream=True, **HOW)  # type: ignore[call-overload]
            streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return [whole.choices[0].message.content, streamed]

    whole, streamed = asyncio.run(asked())
    assert whole == streamed
