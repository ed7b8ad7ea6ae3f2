"""OpenAI's completions: a text is read as it stands and continued, whole or in increments."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.engine.pieces import Control, Text
from edge.errors import NonFiniteError
from edge.limits import Limits
from edge.server.app import App
from edge.server.streaming import StreamBroken
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

WORDS = ("\n Three", " red", " circles", ".")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(manifest(), words=WORDS)


@pytest.fixture
def app(engine: FakeEngine) -> Iterator[App]:
    app = App(Chat(OneEngine(engine), Access(), Limits()))  # type: ignore[arg-type]
    yield app
    app.close()


def ask(app: App, **fields: object) -> tuple[int, bytes]:
    body = json.dumps({"model": "a-model", "prompt": "human: <sep> I see", **fields}).encode()
    status, _, parts = app.respond("POST", "/v1/completions", {"content-type": "application/json"}, body)
    return status, b"".join(parts)


def asked(app: App, **fields: object) -> dict[str, object]:
    status, body = ask(app, **fields)
    assert status == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


def test_the_prompt_is_read_as_it_stands(app: App, engine: FakeEngine) -> None:
    answer = asked(app)
    ((prompt, options),) = engine.asked
    assert prompt == [Text("human: <sep> I see")] and not options.fresh
    assert answer["choices"] == [{"index": 0, "text": "".join(WORDS), "logprobs": None, "finish_reason": "stop"}]
    assert answer["object"] == "text_completion" and str(answer["id"]).startswith("cmpl-")


def test_the_prompt_begins_as_every_prompt_of_the_bundle() -> None:
    spec = manifest()
    engine = FakeEngine(replace(spec, prompt=replace(spec.prompt, start_ids=(7,))))
    app = App(Chat(OneEngine(engine), Access(), Limits()))  # type: ignore[arg-type]
    asked(app, prompt=["a"])
    assert engine.asked[-1][0] == [Control((7,)), Text("a")]
    app.close()


@pytest.mark.parametrize("stream", [True, False])
def test_an_echo_comes_before_the_continuation(app: App, stream: bool) -> None:
    status, body = ask(app, echo=True, stream=stream)
    if stream:
        *events, done = body.decode().removesuffix("\n\n").split("\n\n")
        assert done == "data: [DONE]"
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
    else:
        text = json.loads(body)["choices"][0]["text"]
    assert status == 200 and text == "human: <sep> I see" + "".join(WORDS)


def test_a_stream_ends_with_the_usage_where_it_is_asked_for(app: App) -> None:
    _, body = ask(app, stream=True, stream_options={"include_usage": True})
    *events, _ = body.decode().removesuffix("\n\n").split("\n\n")
    *others, last = [json.loads(event.removeprefix("data: ")) for event in events]
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 4
    assert all(chunk["usage"] is None for chunk in others)


def test_a_stream_that_fails_ends_with_the_error(app: App, engine: FakeEngine) -> None:
    engine.error = NonFiniteError("logits are not finite")
    body = json.dumps({"model": "a-model", "prompt": "a", "stream": True}).encode()
    _, _, parts = app.respond("POST", "/v1/completions", {"content-type": "application/json"}, body)
    sent = []
    with pytest.raises(StreamBroken):
        sent.extend(parts)
    assert json.loads(sent[-1].removeprefix(b"data: "))["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "x"}, "suffix: text after the prompt is not supported"),
        ({"prompt": ["a", "b"]}, "prompt: expected one text"),
        ({"prompt": [1, 2]}, "prompt: expected one text"),
        ({"prompt": ""}, "prompt: expected one text"),
        ({"prompt": None}, "prompt: expected one text"),
        ({"messages": [{"role": "user", "content": "a"}]}, "/v1/chat/completions"),
        ({"n": 2}, "n: expected 1"),
        ({"best_of": 2}, "best_of: expected 1"),
        ({"max_tokens": 0}, "max_tokens: expected an integer >= 1"),
        ({"logprobs": 21}, "logprobs: expected an integer in [0, 20]"),
        ({"logprobs": True}, "logprobs: expected an integer"),
        ({"logprobs": 1, "echo": True}, "logprobs: probabilities of the prompt"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"grammar": "root ::= x"}, "grammar"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(app: App, fields: dict[str, object], words: str) -> None:
    status, body = ask(app, **fields)
    assert status == 400 and words in json.loads(body)["error"]["message"]
