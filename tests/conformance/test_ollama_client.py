"""The real `ollama` client, sync and async, over TCP and in process."""

import asyncio
import base64
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import ollama
import pydantic
import pytest

import edge
from tests.conformance.conftest import Served, serving
from tests.conformance.scripted import call_of, saying
from tests.conformance.test_openapi import check
from tests.conformance.test_reka_client import image_url

MODEL = "reka-edge"
ASK = [{"role": "user", "content": "What shapes are there?"}]
OPTIONS = {"num_predict": 12, "temperature": 1.0, "seed": 3, "num_ctx": 8192}
IMAGE = base64.b64decode(image_url().partition(",")[2])


class Counted(pydantic.BaseModel):
    """What an answer must be."""

    shape: Literal["star", "ring"]
    n: int = pydantic.Field(ge=0, le=9)


def count_shapes(shape: str, least: int = 0) -> int:
    """
    Count the shapes of a kind.

    Args:
      shape: The kind
      least: How many there are at least

    Returns:
      int: How many there are
    """
    return len(shape) + least


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[ollama.Client]:
    if request.param == "tcp":
        client = ollama.Client(served.address, timeout=60)
    else:
        client = ollama.Client("http://edge", transport=edge.Transport(model=int8_bundle, threads=1))
    yield client
    client.close()


def test_a_chat_at_once_and_as_a_stream(client: ollama.Client) -> None:
    whole = client.chat(model=MODEL, messages=ASK, options=OPTIONS)
    assert whole.message.role == "assistant" and whole.message.content
    assert (whole.model, whole.done) == (MODEL, True) and whole.done_reason in ("stop", "length")
    *pieces, last = client.chat(model=MODEL, messages=ASK, options=OPTIONS, stream=True)
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert not any(piece.done for piece in pieces) and last.done and last.message.content == ""
    for end in (whole, last):
        assert 0 < end.eval_count <= 12 and end.prompt_eval_count > 0
        assert end.total_duration >= end.prompt_eval_duration + end.eval_duration > 0
    assert datetime.datetime.fromisoformat(str(whole.created_at)).tzinfo is not None


def test_answers_are_as_the_document_says(served: Served) -> None:
    with httpx.Client(base_url=served.address, timeout=60) as http:
        for path, name, fields in (
            ("/api/chat", "OllamaChat", {"messages": ASK, "logprobs": True, "top_logprobs": 2}),
            ("/api/generate", "OllamaGenerate", {"prompt": "What?"}),
            ("/api/chat", "OllamaChat", {"messages": []}),
            ("/api/generate", "OllamaGenerate", {}),
        ):
            body = {"model": MODEL, "options": OPTIONS, **fields}
            for line in http.post(path, json=body).text.splitlines():
                check(name, json.loads(line))
            check(name, http.post(path, json={**body, "stream": False}).json())
        check("OllamaModels", http.get("/api/tags").json())
        check("OllamaRunning", http.get("/api/ps").json())
        check("OllamaModel", http.post("/api/show", json={"model": MODEL}).json())


def test_generate_raw_and_with_a_system_message(client: ollama.Client) -> None:
    whole = client.generate(MODEL, "What shapes are there?", options=OPTIONS)
    assert whole.response == client.chat(model=MODEL, messages=ASK, options=OPTIONS).message.content
    streamed = client.generate(MODEL, "What shapes are there?", options=OPTIONS, stream=True)
    assert "".join(piece.response for piece in streamed) == whole.response
    system = client.generate(MODEL, "What shapes are there?", system="Be brief.", options=OPTIONS)
    assert system.prompt_eval_count > whole.prompt_eval_count
    raw = client.generate(MODEL, "What shapes are there?", raw=True, options=OPTIONS)
    assert raw.prompt_eval_count < whole.prompt_eval_count


def test_options_reach_the_engine(client: ollama.Client) -> None:
    whole = client.chat(model=MODEL, messages=ASK, options=OPTIONS)
    again = client.chat(model=MODEL, messages=ASK, options=ollama.Options(**OPTIONS))
    other = client.chat(model=MODEL, messages=ASK, options={**OPTIONS, "seed": 4})
    assert again.message == whole.message != other.message
    short = client.chat(model=MODEL, messages=ASK, options={**OPTIONS, "num_predict": 2})
    assert (short.done_reason, short.eval_count) == ("length", 2)
    stop = str(whole.message.content)[3]
    cut = client.chat(model=MODEL, messages=ASK, options={**OPTIONS, "stop": [stop]})
    assert str(whole.message.content).startswith(str(cut.message.content)) and stop not in str(cut.message.content)


def test_images_in_every_form_that_the_client_takes(client: ollama.Client, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(IMAGE)
    plain = client.chat(model=MODEL, messages=ASK, options=OPTIONS)
    counts = set()
    for image in (IMAGE, path, str(path), base64.b64encode(IMAGE).decode()):
        answer = client.chat(model=MODEL, messages=[{**ASK[0], "images": [image]}], options=OPTIONS)
        counts.add(answer.prompt_eval_count)
    (n_tokens,) = counts
    assert n_tokens > plain.prompt_eval_count
    generated = client.generate(MODEL, "What shapes are there?", images=[IMAGE], options=OPTIONS)
    assert generated.prompt_eval_count == n_tokens
    two = client.generate(MODEL, "What shapes are there?", images=[IMAGE, path], options=OPTIONS)
    assert two.prompt_eval_count > n_tokens
    with pytest.raises(ollama.ResponseError, match=r"messages\.0\.images\.0|image") as caught:
        client.chat(model=MODEL, messages=[{**ASK[0], "images": [b"no image at all, but long enough"]}])
    assert caught.value.status_code == 400


@pytest.mark.parametrize("stream", [True, False])
def test_a_schema_of_pydantic_and_json(client: ollama.Client, stream: bool) -> None:
    options = {**OPTIONS, "num_predict": 200}
    for ask in (
        lambda **more: client.chat(model=MODEL, messages=ASK, **more),
        lambda **more: client.generate(MODEL, "Count.", **more),
    ):

        def text_of(wanted: object, ask: object = ask) -> str:
            said = ask(format=wanted, options=options, stream=stream)  # type: ignore[operator]
            parts = [said] if not stream else list(said)
            return "".join(str(part.response if "response" in part else part.message.content) for part in parts)

        assert Counted.model_validate_json(text_of(Counted.model_json_schema()))
        assert isinstance(json.loads(text_of("json")), dict)


def test_probabilities_join_to_the_text(client: ollama.Client) -> None:
    whole = client.chat(model=MODEL, messages=ASK, options=OPTIONS, logprobs=True, top_logprobs=2)
    assert "".join(score.token for score in whole.logprobs) == whole.message.content
    assert all(len(score.top_logprobs) == 2 and score.logprob <= 0 for score in whole.logprobs)
    streamed = client.generate(MODEL, ASK[0]["content"], options=OPTIONS, logprobs=True, stream=True)
    pieces = [piece for piece in streamed if piece.logprobs]
    assert "".join(score.token for piece in pieces for score in piece.logprobs) == whole.message.content


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    client.generate(MODEL)
    listed, *others = client.list().models
    assert {model.model: model.digest for model in others}["reka-edge:latest"] == listed.digest
    (running, *_) = client.ps().models
    assert listed.model == running.model == "reka-edge-random:latest" and listed.digest == running.digest
    assert listed.size > 0 and listed.modified_at.tzinfo is not None and listed.details.family == "yasa2"
    assert running.size > 0 and running.context_length > 0 and running.expires_at > datetime.datetime.now(datetime.UTC)
    for name in (MODEL, listed.model, "reka-edge-random"):
        shown = client.show(name)
        assert shown.details == listed.details and shown.capabilities == ["completion", "tools", "vision"]
        assert shown.modelinfo["yasa2.context_length"] == running.context_length
        assert client.chat(model=name, messages=ASK, options=OPTIONS).model == name


def test_a_model_is_pulled_where_it_is_there(client: ollama.Client) -> None:
    assert client.pull("reka-edge:latest").status == "success"
    assert [part.status for part in client.pull("reka-edge", stream=True)] == ["success"]
    with pytest.raises(ollama.ResponseError, match=r"'llama3\.2' not found.*edge models pull") as caught:
        client.pull("llama3.2")
    assert caught.value.status_code == 404


@pytest.mark.parametrize("keep_alive", [None, "5m", -1, 0])
def test_a_model_is_loaded_by_an_empty_request(client: ollama.Client, keep_alive: object) -> None:
    reason = "unload" if keep_alive == 0 else "load"
    assert client.generate(MODEL, keep_alive=keep_alive).done_reason == reason  # type: ignore[arg-type]
    chat = client.chat(model=MODEL, keep_alive=keep_alive)  # type: ignore[arg-type]
    assert (chat.done_reason, chat.message.content) == (reason, "")
    assert [part.done for part in client.chat(model=MODEL, stream=True)] == [True]


def test_errors_are_raised_with_their_status(client: ollama.Client) -> None:
    def failure(**fields: object) -> ollama.ResponseError:
        with pytest.raises(ollama.ResponseError) as caught:
            list(client.chat(**{"model": MODEL, "messages": ASK, "stream": True, **fields}))  # type: ignore[call-overload]
        return caught.value

    unknown = failure(model="llama3.2")
    assert unknown.status_code == 404 and unknown.error.startswith("model 'llama3.2' not found")
    for fields, words in (
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"repeat_penalty": 1.2}}, "options.repeat_penalty: it is not supported"),
        ({"format": {"type": "object", "properties": {"a": {"type": "x"}}}}, "format"),
        ({"think": True}, "does not support thinking"),
        ({"messages": [*ASK, {"role": "system", "content": "late"}]}, "messages.1.role"),
        ({"messages": [{"role": "user", "content": "x " * 9000}]}, "exceeds the context length"),
    ):
        error = failure(**fields)
        assert error.status_code == 400 and words in error.error
    with pytest.raises(ollama.ResponseError, match="embeddings are not supported") as caught:
        client.embed(MODEL, "a")
    assert caught.value.status_code == 404


def test_a_body_of_no_declared_type_is_read_but_not_for_a_foreign_page(served: Served) -> None:
    data = json.dumps({"model": MODEL, "messages": ASK, "options": OPTIONS, "stream": False})
    with httpx.Client(base_url=served.address, timeout=60) as http:
        for headers, status in (
            ({}, 200),
            ({"content-type": "application/octet-stream"}, 200),
            ({"content-type": "application/x-www-form-urlencoded"}, 200),  # curl -d
            ({"content-type": "text/plain"}, 415),
            ({"content-type": "application/x-www-form-urlencoded", "origin": "https://example.com"}, 403),
            ({"content-type": "application/x-www-form-urlencoded", "origin": "null"}, 403),
            ({"origin": "https://example.com"}, 403),
            ({"origin": "null"}, 403),
        ):
            response = http.post("/api/chat", content=data.encode(), headers=headers)
            assert response.status_code == status and ("error" in response.json()) == (status != 200)


def test_a_key_is_given_as_a_bearer(int8_bundle: Path) -> None:
    with serving(int8_bundle, key="secret") as served:
        with ollama.Client(served.address, headers={"Authorization": "Bearer secret"}) as known:
            assert known.list().models and known.chat(model=MODEL, messages=ASK, options=OPTIONS).done
        for headers in ({}, {"Authorization": "Bearer other"}):
            with ollama.Client(served.address, headers=headers) as other, pytest.raises(ollama.ResponseError) as caught:
                other.list()
            assert caught.value.status_code == 401 and "key" in caught.value.error


def test_tools_are_functions_of_python_and_their_results_are_read() -> None:
    scripts = (call_of("count_shapes", '{"shape": "star"}'), ("Four", " stars."))
    with saying(*scripts) as (served, engine), ollama.Client(served.address) as client:
        messages: list[object] = [*ASK]
        answer = client.chat(model=MODEL, messages=messages, tools=[count_shapes])  # type: ignore[arg-type]
        (call,) = answer.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("count_shapes", {"shape": "star"})
        result = count_shapes(**call.function.arguments)
        messages += [answer.message, {"role": "tool", "content": str(result), "tool_name": call.function.name}]
        final = client.chat(model=MODEL, messages=messages, tools=[count_shapes])  # type: ignore[arg-type]
        assert final.message.content == "Four stars." and not final.message.tool_calls
        prompts = [repr(prompt) for prompt, _ in engine.asked]
        assert "Count the shapes of a kind" in prompts[0] and "4" in prompts[1] and '"shape": "star"' in prompts[1]


def test_a_stream_has_its_call_before_the_end() -> None:
    with saying(call_of("count_shapes", '{"shape": "star"}')) as (served, _), ollama.Client(served.address) as client:
        *pieces, last = client.chat(model=MODEL, messages=ASK, tools=[count_shapes], stream=True)
        calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
        assert [call.function.arguments for call in calls] == [{"shape": "star"}] and not last.message.tool_calls


def test_async_in_process_and_over_tcp(served: Served, int8_bundle: Path) -> None:
    async def asked(client: ollama.AsyncClient) -> list[str]:
        whole = await client.chat(model=MODEL, messages=ASK, options=OPTIONS)
        stream = await client.chat(model=MODEL, messages=ASK, options=OPTIONS, stream=True)
        streamed = "".join([part.message.content or "" async for part in stream])
        generated = await client.generate(MODEL, ASK[0]["content"], options=OPTIONS)
        wanted = Counted.model_json_schema()
        counted = await client.chat(
            model=MODEL, messages=ASK, format=wanted, options={**OPTIONS, "num_predict": 200}
        )  # fmt: skip
        assert Counted.model_validate_json(str(counted.message.content))
        assert (await client.list()).models and (await client.ps()).models and (await client.show(MODEL)).capabilities
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.chat(model="llama3.2", messages=ASK)
        await client.close()
        return [str(whole.message.content), streamed, generated.response]

    transport = edge.Transport(model=int8_bundle, threads=1)
    for client in (ollama.AsyncClient(served.address), ollama.AsyncClient("http://edge", transport=transport)):
        assert len(set(asyncio.run(asked(client)))) == 1


def test_a_client_that_leaves_a_stream_leaves_the_place_to_the_next(served: Served) -> None:
    with ollama.Client(served.address, timeout=60) as client:
        for _ in range(4):  # there are two places
            stream = client.chat(model=MODEL, messages=ASK, options={**OPTIONS, "num_predict": -1}, stream=True)
            next(iter(stream))
            stream.close()  # type: ignore[union-attr]
        assert client.chat(model=MODEL, messages=ASK, options=OPTIONS).done
