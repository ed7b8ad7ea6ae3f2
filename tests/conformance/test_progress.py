"""Streams say in comments how far a prompt is read: the real clients see nothing of it; who wants it reads lines."""

import base64
import io
import itertools
from collections.abc import Iterator

import anthropic
import httpx
import langchain_openai
import numpy as np
import openai
import pytest
import reka
from PIL import Image
from reka.client import Reka

from edge.engine.handle import Handle
from edge.engine.model import Model
from tests.conformance.conftest import Served
from tests.edge.asking import eventually

TEXT = {"type": "text", "text": "What is this?"}
HOW = {"model": "reka-edge", "max_tokens": 8, "temperature": 0.0}
COMMENT = b': progress {"image":1,"images":1,"tile":%d,"tiles":3}\n\n'
_SEEDS = itertools.count()


def fresh_url() -> str:
    """Return an image of three tiles that nobody has seen before."""
    pixels = np.random.default_rng(next(_SEEDS)).integers(0, 256, (300, 600, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def asking(url: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, TEXT]}]


@pytest.fixture
def carrier(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client's connection; each tile waits until its reader knows of it."""
    encode = Model.encode_tile

    def patient(model: Model, tile: object, *, owner: Handle, is_last: bool) -> object:
        eventually(lambda: owner._reading is None)
        return encode(model, tile, owner=owner, is_last=is_last)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "encode_tile", patient)
    with httpx.Client(base_url=served.address, timeout=60) as carrier:
        yield carrier


def raw(carrier: httpx.Client, path: str, body: object) -> bytes:
    with carrier.stream("POST", path, json=body) as response:
        assert response.status_code == 200 and response.headers["content-type"] == "text/event-stream"
        return b"".join(response.iter_bytes())


def body_of(path: str, url: str) -> dict[str, object]:
    if path == "/v1/responses":
        content = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "What is this?"}]
        return {"model": "reka-edge", "input": [{"role": "user", "content": content}], "max_output_tokens": 8}
    if path == "/v1/chat":
        return {**HOW, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}, TEXT]}]}
    return {**HOW, "messages": asking(url)}


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions", "/v1/responses"])
def test_a_stream_begins_with_its_progress(carrier: httpx.Client, path: str) -> None:
    sent = raw(carrier, path, {**body_of(path, fresh_url()), "stream": True})
    told = b"".join(COMMENT % tile for tile in (1, 2, 3))
    assert sent.startswith(told) and sent.count(b": progress ") == 3 and b"data: " in sent[len(told) :]


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions", "/v1/responses"])
def test_one_tile_is_one_comment(carrier: httpx.Client, path: str) -> None:
    sent = raw(carrier, path, {**body_of(path, fresh_url()), "stream": True, "detail": "low"})
    assert sent.startswith(b': progress {"image":1,"images":1,"tile":1,"tiles":1}\n\n') and sent.count(b": prog") == 1


def test_a_short_text_is_answered_without_comments(carrier: httpx.Client) -> None:
    sent = raw(carrier, "/v1/chat", {**HOW, "messages": [{"role": "user", "content": "Hi"}], "stream": True})
    assert sent.startswith(b"data: ") and b": progress" not in sent


def test_openais_client_sees_chunks_alone(carrier: httpx.Client) -> None:
    client = openai.OpenAI(api_key="x", base_url=f"{carrier.base_url}/v1", http_client=carrier, max_retries=0)
    url = fresh_url()
    chunks = list(client.chat.completions.create(messages=asking(url), stream=True, **HOW))  # type: ignore[call-overload]
    assert all(chunk.object == "chat.completion.chunk" and len(chunk.choices) == 1 for chunk in chunks)
    whole = client.chat.completions.create(messages=asking(url), **HOW)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content


def test_openais_client_sees_events_of_responses_alone(carrier: httpx.Client) -> None:
    client = openai.OpenAI(api_key="x", base_url=f"{carrier.base_url}/v1", http_client=carrier, max_retries=0)
    with client.responses.stream(**body_of("/v1/responses", fresh_url())) as stream:  # type: ignore[arg-type]
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created" and "response.output_text.delta" in kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")


def test_rekas_client_sees_chunks_alone(carrier: httpx.Client) -> None:
    client = Reka(api_key="local", base_url=f"{carrier.base_url}/v1", httpx_client=carrier)
    content = [{"type": "image_url", "image_url": fresh_url()}, TEXT]
    messages = [reka.ChatMessage(role="user", content=content)]
    chunks = list(client.chat.create_stream(messages=messages, **HOW))  # type: ignore[arg-type]
    assert all(len(chunk.responses) == 1 for chunk in chunks)
    whole = client.chat.create(messages=messages, **HOW)  # type: ignore[arg-type]
    assert chunks[-1].responses[0].chunk.content == whole.responses[0].message.content


def test_anthropics_client_sees_events_alone(carrier: httpx.Client) -> None:
    client = anthropic.Anthropic(api_key="x", base_url=str(carrier.base_url), max_retries=0)
    source = {"type": "base64", "media_type": "image/png", "data": fresh_url().partition(",")[2]}
    content = [{"type": "image", "source": source}, TEXT]
    asking = {"model": "reka-edge", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
    sent = raw(carrier, "/v1/messages", {**asking, "stream": True})
    assert sent.startswith(COMMENT % 1)
    source["data"] = fresh_url().partition(",")[2]
    with client.messages.stream(**asking) as stream:  # type: ignore[arg-type]
        kinds = [event.type for event in stream]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "content_block_delta" in kinds


def test_langchain_sees_chunks_alone(carrier: httpx.Client) -> None:
    fields = {"base_url": f"{carrier.base_url}/v1", "api_key": "local", "http_client": carrier, "max_retries": 0}
    chat = langchain_openai.ChatOpenAI(**HOW, **fields)  # type: ignore[arg-type]
    url = fresh_url()
    streamed = "".join(chunk.text for chunk in chat.stream(asking(url)))
    assert streamed and streamed == chat.invoke(asking(url)).text


def test_detail_and_max_tiles_go_through_the_real_clients(carrier: httpx.Client) -> None:
    client = openai.OpenAI(api_key="x", base_url=f"{carrier.base_url}/v1", http_client=carrier, max_retries=0)
    url = fresh_url()

    def n_tokens(detail: str | None = None, **body: object) -> int:
        image = {"url": url} if detail is None else {"url": url, "detail": detail}
        messages = [{"role": "user", "content": [{"type": "image_url", "image_url": image}, TEXT]}]
        answer = client.chat.completions.create(messages=messages, extra_body=body, **HOW)  # type: ignore[call-overload]
        return int(answer.usage.prompt_tokens)

    assert n_tokens() == n_tokens("auto") == n_tokens(max_tiles=3) > n_tokens("low") == n_tokens(max_tiles=1)
    assert n_tokens("high") > n_tokens("auto")
    rekas = Reka(api_key="local", base_url=f"{carrier.base_url}/v1", httpx_client=carrier)
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": url}, TEXT]}]
    options = {"additional_body_parameters": {"max_tiles": 1}}
    answer = rekas.chat.create(messages=messages, request_options=options, **HOW)  # type: ignore[arg-type]
    assert answer.usage.input_tokens == n_tokens("low")
