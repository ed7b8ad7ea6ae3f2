"""Ollama's routes: requests become those of /v1/chat, answers are lines of JSON, and what there is not is named."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.messages import MediaPart
from edge.chat.prompt import Call
from edge.chat.reasoning import CLOSE as END
from edge.chat.reasoning import OPEN as REASONING
from edge.chat.reply import Reply
from edge.chat.request import NUMBERS, Request
from edge.chat.tool_calls import CLOSE, OPEN
from edge.engine.handle import FinishReason, Handle, Progress
from edge.engine.pieces import Text
from edge.errors import ContextLengthError, NonFiniteError, UnknownModelError
from edge.limits import Limits
from edge.server.app import App
from edge.server.http import HttpRequest
from edge.server.ollama import read_chat, read_generate
from edge.server.ollama_writer import OllamaWriter, ollama_error
from edge.server.route import RouteRequest
from edge.server.streaming import StreamBroken
from edge.types import ApiError
from tests.edge.fake_engine import WORDS, FakeEngine, OneEngine, manifest

JSON = {"content-type": "application/json"}
TEXT = "".join(WORDS)
TOOL = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
CALL = f'{OPEN}{{"name": "count", "arguments": {{"n": 1}}}}{CLOSE}'
COUNTS = {"total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"}
IMAGE = base64.b64encode(b"an image").decode()


class Named(OneEngine):
    """An engine that some names alone stand for."""

    def __init__(self, engine: FakeEngine, *names: str) -> None:
        super().__init__(engine)
        self._names = names

    def id_of(self, name: str) -> str:
        if name not in self._names:
            raise UnknownModelError(f"model {name!r} is not installed", name=name)
        return super().id_of(name)

    def engine(self, name: str) -> FakeEngine:
        self.id_of(name)
        return super().engine(name)


def reasoning_engine() -> FakeEngine:
    spec = manifest()
    return FakeEngine(replace(spec, prompt=replace(spec.prompt, format="flash")))


def app_of(models: OneEngine) -> App:
    return App(Chat(models, Access(), Limits()))  # type: ignore[arg-type]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(manifest())


@pytest.fixture
def app(engine: FakeEngine) -> Iterator[App]:
    app = app_of(OneEngine(engine))
    yield app
    app.close()


def ask(app: App, path: str = "/api/chat", **fields: object) -> tuple[int, bytes]:
    given = {"messages": [{"role": "user", "content": "hi"}]} if path == "/api/chat" else {"prompt": "hi"}
    body = json.dumps({"model": "a-model", **given, **fields}).encode()
    status, _, parts = app.respond("POST", path, JSON, body)
    return status, b"".join(parts)


def asked(app: App, path: str = "/api/chat", **fields: object) -> dict[str, object]:
    status, body = ask(app, path, stream=False, **fields)
    assert status == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


def lines_of(data: bytes) -> list[dict[str, object]]:
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.decode().splitlines()]


def read(app: App, path: str = "/api/chat", **fields: object) -> Request:
    """Return the request that a body becomes."""
    given = {"messages": [{"role": "user", "content": "hi"}]} if path == "/api/chat" else {"prompt": "hi"}
    found = (read_chat if path == "/api/chat" else read_generate)(app.chat, {"model": "a-model", **given, **fields})
    assert isinstance(found, RouteRequest)
    return found.request


def error_of(app: App, path: str = "/api/chat", **fields: object) -> str:
    status, body = ask(app, path, **fields)
    error = json.loads(body)
    assert (status, set(error)) == (400, {"error"})
    return str(error["error"])


def written(
    *texts: str, tools: tuple[str, ...] = (), reasons: bool = False, streams: bool = True, thinks: bool = True,
    last: FinishReason = "stop",
) -> list[dict[str, object]]:  # fmt: skip
    """Return what is written of an answer that grows by these texts."""
    handle = Handle(Progress("", 1, 0, None), lambda _: None)
    reply = Reply("an-id", "m", handle, frozenset(tools), None, "fresh" if reasons else "none")
    writer, text, data = OllamaWriter("chat", "m", streams, thinks), "", b""
    for n, part in enumerate(texts, 1):
        text += part
        progress = Progress(text, 1, n, last if n == len(texts) else None)
        data += writer.events(reply, progress) if streams else b""
    return lines_of(data) if streams else [writer.whole(reply, progress)]  # type: ignore[list-item]


def test_a_chat_at_once_has_the_message_counts_and_durations(app: App) -> None:
    answer = asked(app)
    assert answer["message"] == {"role": "assistant", "content": TEXT}
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("a-model", True, "stop")
    assert set(answer) == {"model", "created_at", "message", "done", "done_reason", *COUNTS}
    assert (answer["prompt_eval_count"], answer["eval_count"]) == (app.chat.engine("a-model").asked and 3, len(WORDS))  # type: ignore[attr-defined]
    parts = ("load_duration", "prompt_eval_duration", "eval_duration")
    assert abs(sum(int(answer[name]) for name in parts) - int(answer["total_duration"])) <= len(parts)  # type: ignore[call-overload]


@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": None}])
def test_a_chat_is_a_stream_of_lines_unless_it_says_otherwise(app: App, stream: dict[str, object]) -> None:
    status, headers, parts = app.respond(
        "POST", "/api/chat", JSON,
        json.dumps({"model": "a-model", "messages": [{"role": "user", "content": "hi"}], **stream}).encode(),
    )  # fmt: skip
    *pieces, last = lines_of(b"".join(parts))
    assert status == 200 and dict(headers)["content-type"] == "application/x-ndjson"
    assert "".join(str(piece["message"]["content"]) for piece in pieces) == TEXT  # type: ignore[index]
    assert all(piece["done"] is False and set(piece) == {"model", "created_at", "message", "done"} for piece in pieces)
    assert last["message"] == {"role": "assistant", "content": ""} and last["done"] is True
    assert set(last) == {"model", "created_at", "message", "done", "done_reason", *COUNTS}


def test_generate_has_the_text_in_another_place(app: App, engine: FakeEngine) -> None:
    answer = asked(app, "/api/generate", system="Be brief.")
    assert answer["response"] == TEXT and "message" not in answer and set(answer) >= COUNTS
    *pieces, last = lines_of(ask(app, "/api/generate")[1])
    assert "".join(str(piece["response"]) for piece in pieces) == TEXT and last["response"] == ""
    request = read(app, "/api/generate", system="Be brief.", images=[IMAGE])
    system, user = request.messages
    assert (system.role, system.parts, user.role) == ("system", ("Be brief.",), "user")
    image, prompt = user.parts
    assert isinstance(image, MediaPart) and (image.kind, image.loc, prompt) == ("image", ("body", "images", 0), "hi")


def test_raw_is_continued_as_it_stands(app: App, engine: FakeEngine) -> None:
    asked(app, "/api/generate", prompt="human: <sep> I see", raw=True)
    ((prompt, options),) = engine.asked
    assert prompt == [Text("human: <sep> I see")] and not options.fresh


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_predict": 5}, ("max_tokens", 5)),
        ({"num_predict": 5.0}, ("max_tokens", 5)),
        ({"num_predict": -1}, ("max_tokens", (1 << 31) - 1)),
        ({"num_predict": -2}, ("max_tokens", (1 << 31) - 1)),
        ({"num_predict": None}, ("max_tokens", NUMBERS["max_tokens"].default)),
        ({"temperature": 0}, ("temperature", 0)),
        ({"top_k": 40}, ("top_k", 40)),
        ({"top_k": 0}, ("top_k", (1 << 31) - 1)),
        ({"top_k": -1}, ("top_k", (1 << 31) - 1)),
        ({"top_p": 0.5}, ("top_p", 0.5)),
        ({"seed": 7}, ("seed", 7)),
        ({"seed": 0}, ("seed", 0)),
        ({"seed": -1}, ("seed", None)),
        ({"presence_penalty": 1.5}, ("presence_penalty", 1.5)),
        ({"frequency_penalty": -1}, ("frequency_penalty", -1)),
        ({"stop": ["a", "b"]}, ("stop", ("a", "b"))),
        ({"stop": "a"}, ("stop", ("a",))),
        ({"num_ctx": 8192.0, "num_gpu": 1, "num_thread": 2, "use_mmap": True, "numa": False}, ("seed", None)),
        ({"repeat_penalty": 1.0, "min_p": 0.0, "typical_p": 1, "mirostat": 0, "repeat_last_n": 64}, ("seed", None)),
    ],
)
def test_options_mean_what_they_mean_on_rekas_route(
    app: App, options: dict[str, object], expected: tuple[str, object]
) -> None:
    name, value = expected
    for path in ("/api/chat", "/api/generate"):
        assert getattr(read(app, path, options=options).options, name) == value


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": {"repeat_penalty": 1.1}}, "options.repeat_penalty: it is not supported; expected none or 1"),
        ({"options": {"min_p": 0.05}}, "options.min_p"),
        ({"options": {"typical_p": 0.5}}, "options.typical_p"),
        ({"options": {"tfs_z": 0.5}}, "options.tfs_z"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"num_predict": 0}}, "options.num_predict: expected an integer >= 1, got 0"),
        ({"options": {"num_predict": "5"}}, "options.num_predict: expected an integer >= 1, got '5'"),
        ({"options": {"top_p": 2}}, "options.top_p: expected a number in (0, 1], got 2"),
        ({"options": {"temperature": True}}, "options.temperature"),
        ({"options": {"stop": ["a", ""]}}, "options.stop.1"),
        ({"options": [1]}, "options: expected an object, got list"),
        ({"format": "yaml"}, "format: expected 'json' or a JSON schema, got 'yaml'"),
        ({"format": {"type": "object", "properties": {"a": {"not": {}}}}}, "format"),
        ({"think": True}, '"a-model" does not support thinking'),
        ({"think": "high"}, '"a-model" does not support thinking'),
        ({"think": "much"}, "think: expected true, false or one of low, medium, high, max, got 'much'"),
        ({"keep_alive": "for ever"}, "keep_alive: expected seconds or a duration such as '5m', got 'for ever'"),
        ({"keep_alive": True}, "keep_alive"),
        ({"truncate": True}, "truncate: nothing is cut from a conversation"),
        ({"shift": True}, "shift"),
        ({"stream": "yes"}, "stream: expected true or false, got 'yes'"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs: expected logprobs true beside it"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs: expected an integer in [0, 20]"),
        ({"model": None}, "model: expected a model's name, got none"),
        ({"model": ""}, "model: expected a model's name"),
    ],
)
def test_what_is_wrong_or_not_supported_is_named(app: App, fields: dict[str, object], words: str) -> None:
    assert words in error_of(app, **fields)
    assert words in error_of(app, "/api/generate", **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "x"}, "suffix: text after the prompt is not supported"),
        ({"template": "{{ .Prompt }}"}, "template: a bundle has its own prompt format"),
        ({"context": [1, 2]}, "context: ids of earlier turns are not supported"),
        ({"raw": True, "system": "x"}, "raw: it does not support template, system or context"),
        ({"raw": True, "images": [IMAGE]}, "images: they are not supported beside raw"),
        ({"width": 512}, "width: there is no image output"),
        ({"prompt": ["a"]}, "prompt: expected a string, got list"),
        ({"system": 1}, "system: expected a string, got 1"),
        ({"images": "x"}, "images: expected a list of images in base64, got 'x'"),
        ({"images": [1]}, "images.0: expected an image in base64, got 1"),
        ({"images": ["!"]}, "!"),
        ({"images": [IMAGE] * 7}, "prompt: expected at most 6 images in a message, got 7"),
    ],
)
def test_what_generate_alone_refuses(app: App, fields: dict[str, object], words: str) -> None:
    assert words in error_of(app, "/api/generate", **fields)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hi", "messages: expected a list of messages, got 'hi'"),
        (["hi"], "messages.0: expected a message, got 'hi'"),
        ([{"content": "hi"}], "messages.0.role: expected system, user, assistant or tool, got None"),
        ([{"role": "function", "content": "hi"}], "messages.0.role: expected system, user, assistant or tool"),
        ([{"role": "user", "content": [{"text": "hi"}]}], "messages.0.content: expected a string, got list"),
        ([{"role": "user", "images": IMAGE}], "messages.0.images: expected a list"),
        ([{"role": "user", "images": [IMAGE, 1]}], "messages.0.images.1: expected an image in base64, got 1"),
        ([{"role": "user", "content": "a", "images": [IMAGE] * 7}], "messages.0.content: expected at most 6 images"),
        ([{"role": "system", "images": [IMAGE]}], "expected text only in a system message"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "messages.1.role"),
        ([{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}], "messages.0.tool_calls.0"),
        ([{"role": "user", "content": "a", "tool_calls": [{}]}], "messages.0.tool_calls: expected none in a message"),
    ],
)
def test_what_is_wrong_with_messages_is_named_by_its_place(app: App, messages: object, words: str) -> None:
    assert words in error_of(app, messages=messages)


def test_an_image_that_cannot_be_read_is_named_by_its_place(app: App) -> None:
    messages = [{"role": "user", "content": "a", "images": ["file:///etc/passwd"]}]
    assert "base64" in error_of(app, messages=messages)


def test_images_come_before_the_text_of_their_message(app: App) -> None:
    messages = [{"role": "user", "content": "a", "images": [IMAGE, IMAGE]}, {"role": "user", "images": [IMAGE]}]
    first, second = read(app, messages=messages).messages
    kinds = [[getattr(part, "kind", part) for part in message.parts] for message in (first, second)]
    assert kinds == [["image", "image", "a"], ["image"]]
    assert isinstance(first.parts[1], MediaPart) and first.parts[1].loc == ("body", "messages", 0, "images", 1)
    assert isinstance(first.parts[0], MediaPart)
    assert first.parts[0].source == f"data:image/png;base64,{IMAGE}"


@pytest.mark.parametrize(
    "results",
    [
        [{"content": "1"}, {"content": "2"}],
        [{"content": "2", "tool_name": "b"}, {"content": "1", "tool_name": "a"}],
        [{"content": "2", "name": "b"}, {"content": "1", "name": "a"}],
        [{"content": "2", "tool_call_id": "y"}, {"content": "1", "tool_call_id": "x"}],
    ],
)
def test_results_belong_to_calls_by_id_by_name_or_by_order(app: App, results: list[dict[str, object]]) -> None:
    calls = [{"id": "x", "function": {"name": "a", "arguments": {"n": 1}}}, {"function": {"name": "b"}, "id": "y"}]
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "thinking": "so", "tool_calls": calls},
        *({"role": "tool", **result} for result in results),
    ]
    _, calling, answered = read(app, messages=messages).messages
    assert calling.calls == (Call("a", {"n": 1}), Call("b", {})) and calling.parts == ()
    assert answered.results == ("1", "2")


def test_calls_without_ids_have_distinct_ones(app: App) -> None:
    turn = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "a"}}, {"function": {"name": "a"}}]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
    ]
    messages = read(app, messages=[{"role": "user", "content": "hi"}, *turn, *turn]).messages
    ids = [call_id for message in messages if message.role == "assistant" for call_id in message.call_ids]
    assert len(set(ids)) == 4
    assert [message.call_ids for message in messages if message.role == "tool_output"] == [
        tuple(ids[:2]),
        tuple(ids[2:]),
    ]


def test_a_history_that_was_cut_begins_with_a_result(app: App) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "tool", "content": "1"}, {"role": "user", "content": "a"}]
    assert [message.role for message in read(app, messages=messages).messages] == ["system", "tool_output", "user"]


def test_a_format_is_a_response_format(app: App) -> None:
    for wanted in (None, ""):
        assert read(app, format=wanted).options.form is None
    for wanted in ("json", {"type": "object", "properties": {"n": {"type": "integer"}}}):
        assert read(app, format=wanted).options.form is not None
        assert read(app, "/api/generate", format=wanted).options.form is not None


def test_tools_are_on_offer(app: App) -> None:
    assert [tool.name for tool in read(app, tools=[TOOL]).tools] == ["count"]
    assert "tools.0.function" in error_of(app, tools=[{"type": "function"}])
    named = {"function": {"name": "a b", "parameters": {"type": "object"}}}
    assert "tools.0.function.name" in error_of(app, tools=[named])


@pytest.mark.parametrize("streams", [True, False])
def test_calls_have_their_arguments_as_an_object(streams: bool) -> None:
    *pieces, last = written("So: ", CALL[:9], CALL[9:], tools=("count",), streams=streams)
    calling = pieces[-1] if streams else last
    (call,) = calling["message"]["tool_calls"]  # type: ignore[index]
    assert call["function"] == {"index": 0, "name": "count", "arguments": {"n": 1}} and call["id"]
    assert calling["message"]["content"] == ""  # type: ignore[index]
    assert (last["done"], last["done_reason"]) == (True, "stop")


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("thinks", [True, False])
def test_reasoning_is_apart_unless_it_is_not_wanted(streams: bool, thinks: bool) -> None:
    pieces = written(REASONING, "I ", "see", END, "Three", ".", reasons=True, streams=streams, thinks=thinks)
    thought = "".join(str(piece["message"].get("thinking", "")) for piece in pieces)  # type: ignore[attr-defined]
    assert thought == ("I see" if thinks else "")
    assert "".join(str(piece["message"]["content"]) for piece in pieces) == "Three."  # type: ignore[index]


def test_an_answer_that_is_cut_says_length() -> None:
    for reason in ("length", "context"):
        assert written("a", last=reason)[-1]["done_reason"] == "length"


@pytest.mark.parametrize("think", [None, True, False, "low", "medium", "high"])
def test_thinking_may_be_asked_of_a_model_that_reasons(think: object) -> None:
    app = app_of(OneEngine(reasoning_engine()))
    found = read_chat(app.chat, {"model": "m", "messages": [{"role": "user", "content": "a"}], "think": think})
    assert isinstance(found, RouteRequest) and isinstance(found.writer, OllamaWriter)
    assert found.writer.thinks is (think is not False)
    app.close()


@pytest.mark.parametrize(
    ("known", "name", "status"),
    [
        ("edge", "edge", 200), ("edge", "edge:latest", 200), ("edge:latest", "edge", 200), ("edge", "edge:7b", 404),
        ("edge:latest", "edge:latest", 200), ("edge", "other:latest", 404), ("edge", ":latest", 404),
    ],
)  # fmt: skip
def test_a_name_may_have_the_tag_that_clients_add(engine: FakeEngine, known: str, name: str, status: int) -> None:
    app = app_of(Named(engine, known))
    for path in ("/api/chat", "/api/generate"):
        found, body = ask(app, path, model=name, stream=False)
        said = json.loads(body)
        assert found == status
        assert said["model"] == name if status == 200 else f"model '{name}' not found" in said["error"]
    app.close()


@pytest.mark.parametrize(
    ("path", "empty"),
    [
        ("/api/chat", {"messages": []}), ("/api/chat", {"messages": None}), ("/api/generate", {"prompt": ""}),
        ("/api/generate", {"prompt": None}), ("/api/generate", {"prompt": "", "raw": True}),
    ],
)  # fmt: skip
def test_a_request_without_a_prompt_loads_or_unloads(
    app: App, engine: FakeEngine, path: str, empty: dict[str, object]
) -> None:
    for keep_alive, reason in (
        (None, "load"), ("5m", "load"), (-1, "load"), (0, "unload"), ("0", "unload"), ("0s", "unload"), (0.0, "unload"),
    ):  # fmt: skip
        status, body = ask(app, path, **empty, keep_alive=keep_alive)
        answer = json.loads(body)
        said = {"message": {"role": "assistant", "content": ""}} if path == "/api/chat" else {"response": ""}
        assert status == 200 and answer.pop("created_at")
        assert answer == {"model": "a-model", **said, "done": True, "done_reason": reason}
    assert not engine.asked and not engine.closed
    assert "options.top_k" in error_of(app, path, **empty, options={"top_k": "x"})


def test_a_model_that_is_not_there_is_not_loaded(engine: FakeEngine) -> None:
    app = app_of(Named(engine, "edge"))
    for keep_alive in (None, 0):
        status, body = ask(app, model="other", messages=[], keep_alive=keep_alive)
        assert status == 404 and "model 'other' not found" in json.loads(body)["error"]
    app.close()


def test_an_image_without_a_prompt_is_a_question(app: App) -> None:
    (message,) = read(app, "/api/generate", prompt="", images=[IMAGE]).messages
    assert [getattr(part, "kind", part) for part in message.parts] == ["image"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_stream_that_fails_ends_with_the_error(app: App, engine: FakeEngine, path: str) -> None:
    engine.error = NonFiniteError("logits are not finite")
    given = {"messages": [{"role": "user", "content": "a"}]} if path == "/api/chat" else {"prompt": "a"}
    body = json.dumps({"model": "a-model", **given}).encode()
    _, _, parts = app.respond("POST", path, JSON, body)
    sent = []
    with pytest.raises(StreamBroken):
        sent.extend(parts)
    assert set(lines_of(sent[-1])[-1]) == {"error"}


def test_a_prompt_that_does_not_fit_says_so_as_ollama_does() -> None:
    error = ApiError(status_code=400, body={"detail": "the prompt needs 9 positions, the context holds 5"})
    error.__cause__ = ContextLengthError(9, 5)
    text = "the input length exceeds the context length: the prompt needs 9 positions, the context holds 5"
    assert ollama_error(error) == {"error": text}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/embed", "/api/embed: embeddings are not supported"),
        ("/api/embeddings", "/api/embeddings: embeddings are not supported"),
        ("/api/create", "edge-export"),
        ("/api/copy", "edge models alias set"),
        ("/api/delete", "edge models remove"),
        ("/api/push", "not uploaded"),
        ("/api/blobs/sha256:0", "not uploaded"),
        ("/api/none", "no route '/api/none'; there are"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
def test_routes_that_are_not_there_say_why(app: App, path: str, words: str, method: str) -> None:
    status, _, parts = app.respond(method, path, JSON, b"{}")
    assert status == 404 and words in json.loads(b"".join(parts))["error"]


def test_lists_leave_out_what_is_removed_at_this_moment(
    app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def names(path: str) -> list[str]:
        found = app.read(HttpRequest("GET", path, {}, b""))
        assert found.status == 200  # type: ignore[union-attr]
        return [str(model["name"]) for model in json.loads(found.body)["models"]]  # type: ignore[union-attr]

    assert names("/api/tags") == names("/api/ps") == ["a-model:latest"]
    monkeypatch.setattr("tests.edge.fake_engine.BUNDLE", tmp_path)
    assert names("/api/tags") == names("/api/ps") == []


def test_ollamas_clients_are_told_that_the_server_runs(app: App) -> None:
    for agent, expected in (("ollama-python/0.6", b"Ollama is running"), ("ollama/0.12 (amd64)", b"Ollama is running")):
        found = app.read(HttpRequest("GET", "/", {"user-agent": agent}, b""))
        assert found.status == 200 and found.body == expected  # type: ignore[union-attr]
    page = app.read(HttpRequest("GET", "/", {"user-agent": "Mozilla/5.0"}, b""))
    assert b"<html" in page.body  # type: ignore[union-attr]
    script = app.read(HttpRequest("GET", "/page/main.js", {"user-agent": "ollama"}, b""))
    assert b"Ollama is running" not in script.body  # type: ignore[union-attr]
