"""A request's fields are checked to the letter, defaults filled in once, and every error has its status and body."""

from collections.abc import Mapping

import pytest
import reka

import edge
from edge import errors
from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.reply import Reply, api_errors
from edge.chat.request import read_request
from edge.engine.handle import Progress
from edge.engine.pieces import Control, Text
from edge.errors import STATUS, EdgeError
from edge.limits import Limits
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

LIMITS = Limits()
ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "How many?"}]}
DEFAULTS = {
    "max_tokens": 1024,
    "temperature": 0.4,
    "top_p": 0.95,
    "top_k": 1024,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "seed": None,
    "stop": (),
}
TAKEN = {
    "max_tokens": [1, 2, 3.0, 10**9],  # 3.0 is an integer in JSON
    "temperature": [0, 0.0, 1e-6, 2.5, 1e30],
    "top_p": [1, 1.0, 1e-9, 0.5],
    "top_k": [1, 2, 2**63],
    "frequency_penalty": [-2, 2, 0.5],
    "presence_penalty": [-2.0, 2.0, 0],
    "seed": [0, -1, 2**70],
    "stop": [[], ["a"], ["a"] * 16, ["é" * 128], ("a", "b")],
}
REFUSED: dict[str, list[object]] = {
    "max_tokens": [0, -1, 1.5, 0.0, "5", True, [], {}, float("nan")],
    "temperature": [-1e-9, -1, float("nan"), float("inf"), "hot", True, [0.4]],
    "top_p": [0, 0.0, -0.1, 1.0000001, "0.5", False],
    "top_k": [0, -1, 2.5, "many", True],
    "frequency_penalty": [-2.001, 2.001, float("-inf"), "0"],
    "presence_penalty": [-3, 3, None.__class__, [1]],
    "seed": [1.0, "1", True, []],
    "stop": ["a", 5, [""], [5], ["a"] * 17, ["a" * 257], ["é" * 129], {"a": 1}],
    "tool_choice": ["required", 5, {}],
    "tools": ["weather", 5, {}],
    "use_search_engine": ["yes", 1, 0],
    "model": [None, "", 5, ["reka-edge"]],
}
CASES = [(field, value) for field, values in REFUSED.items() for value in values]


def read(**fields: object) -> object:
    return read_request({**ASK, **fields}, limits=LIMITS)


def details(**fields: object) -> list[tuple[list[str | int], str, str]]:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read(**fields)
    assert caught.value.status_code == 422
    return [(problem.loc, problem.msg, problem.type) for problem in caught.value.body.detail]


def replied(engine: FakeEngine, **fields: object) -> Reply:
    request = read_request({**ASK, **fields}, limits=LIMITS)
    return Chat(OneEngine(engine), Access(files=True), LIMITS).start(request)  # type: ignore[arg-type]


def test_every_default_is_the_tables() -> None:
    options = read_request(ASK, limits=LIMITS).options
    assert {name: getattr(options, name) for name in DEFAULTS} == DEFAULTS
    assert options.fresh


@pytest.mark.parametrize("name", [*DEFAULTS, "tools", "tool_choice", "use_search_engine", "response_format"])
def test_null_is_the_default(name: str) -> None:
    assert read(**{name: None}) == read()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TAKEN.items() for value in values])
def test_values_in_range_are_taken(name: str, value: object) -> None:
    options = read_request({**ASK, name: value}, limits=LIMITS).options
    assert getattr(options, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_values_out_of_range_are_a_422_naming_the_field(name: str, value: object) -> None:
    [(loc, msg, kind)] = details(**{name: value})
    assert loc[:2] == ["body", name]
    assert msg.startswith("expected ")
    assert kind.endswith(("_type", "_error")) or kind in ("too_long", "missing")


def test_a_request_without_a_model_names_it_as_missing() -> None:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read_request({"messages": ASK["messages"]}, limits=LIMITS)
    assert [(problem.loc, problem.type) for problem in caught.value.body.detail] == [(["body", "model"], "missing")]


def test_a_message_of_a_422_says_range_and_value() -> None:
    assert details(top_p=1.5) == [(["body", "top_p"], "expected a number in (0, 1], got 1.5", "value_error")]
    assert details(max_tokens=0)[0][1] == "expected an integer >= 1, got 0"
    assert details(temperature="hot")[0][1] == "expected a number >= 0, got 'hot'"
    assert details(presence_penalty=-3)[0][1] == "expected a number in [-2, 2], got -3"


def test_all_mistakes_are_in_one_body() -> None:
    assert [loc for loc, _, _ in details(top_p=2, max_tokens="x", messages=[{"role": "user"}])] == [
        ["body", "messages", 0, "content"],
        ["body", "max_tokens"],
        ["body", "top_p"],
    ]


def test_a_422_body_is_the_sdks() -> None:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read(seed="x")
    theirs = reka.HttpValidationError.parse_obj(caught.value.body.dict())
    assert theirs.dict() == {
        "detail": [{"loc": ["body", "seed"], "msg": "expected an integer, got 'x'", "type": "int_type"}]
    }


def test_unknown_fields_are_ignored() -> None:
    assert read(n=3, stream=True, user="me") == read()


FEATURES: list[tuple[dict[str, object], str]] = [
    ({"use_search_engine": True}, "use_search_engine: there is no search offline; expected false"),
]


@pytest.mark.parametrize(("fields", "words"), FEATURES)
def test_what_is_not_there_yet_is_a_400_naming_it(fields: Mapping[str, object], words: str) -> None:
    with pytest.raises(edge.ApiError) as caught:
        read(**fields)
    assert caught.value.status_code == 400
    assert words in caught.value.body["detail"]


@pytest.mark.parametrize(
    "fields", [{"tools": []}, {"tool_choice": "auto"}, {"tool_choice": "none"}, {"use_search_engine": False}]
)
def test_the_harmless_values_of_these_are_taken(fields: Mapping[str, object]) -> None:
    assert read(**fields) == read()


def test_a_last_message_of_the_assistants_is_continued() -> None:
    messages = [*ASK["messages"], {"role": "assistant", "content": "There are"}]  # type: ignore[misc]
    assert not read_request({**ASK, "messages": messages}, limits=LIMITS).options.fresh


def test_the_prompt_and_the_options_reach_the_engine() -> None:
    engine = FakeEngine(manifest())
    last = replied(engine, seed=7, max_tokens=9).handle.result()
    [(prompt, options)] = engine.asked
    assert prompt == [Text("human: How many?"), Control((20,)), Text("assistant:")]
    assert (options.seed, options.max_tokens) == (7, 9)
    assert last == Progress("Three red circles.", 3, 4, "stop")


def test_a_response_has_the_sdks_shape() -> None:
    reply = replied(FakeEngine(manifest()))
    response = reply.response(reply.handle.result())
    assert response.dict() == {
        "id": reply.id,
        "model": "a-model",
        "responses": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Three red circles."}}],
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    assert reka.ChatResponse.parse_obj(response.dict()).dict() == response.dict()


def test_chunks_hold_the_whole_text_and_only_the_last_a_reason() -> None:
    reply = replied(FakeEngine(manifest()))
    chunks = [reply.chunk(progress) for progress in reply.progress()]
    texts = [chunk.responses[0].chunk.content for chunk in chunks]
    assert texts[-1] == "Three red circles."
    assert all(str(after).startswith(str(before)) for before, after in zip(texts, texts[1:], strict=False))
    assert {chunk.id for chunk in chunks} == {reply.id}
    assert ["finish_reason" in chunk.dict()["responses"][0] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage.dict() == {"input_tokens": 3, "output_tokens": 4}
    assert reka.ChunkChatResponse.parse_obj(chunks[0].dict()).dict() == chunks[0].dict()


def test_two_replies_have_two_ids() -> None:
    engine = FakeEngine(manifest())
    assert replied(engine).id != replied(engine).id


def test_leaving_the_progress_early_cancels() -> None:
    engine = FakeEngine(manifest())
    engine.n_free = 1
    engine.gate.clear()
    reply = replied(engine)
    arriving = reply.progress()
    assert next(arriving).text == "Three"
    arriving.close()
    engine.gate.set()
    assert reply.handle.cancelled


def test_an_error_of_the_engine_is_raised_where_it_is_read() -> None:
    reply = replied(FakeEngine(manifest(), error=errors.NonFiniteError("token 2 of the answer")))
    with pytest.raises(edge.ApiError) as caught:
        list(reply.progress())
    assert (caught.value.status_code, caught.value.body) == (
        500,
        {"detail": "the model produced a value that is not finite at token 2 of the answer"},
    )


@pytest.mark.parametrize("key", ["image_url", "video_url", "audio_url", "pdf_url"])
def test_media_not_taken_are_a_400_naming_them(key: str) -> None:
    text_only = FakeEngine(manifest(vision=False))
    with pytest.raises(edge.ApiError) as caught:
        replied(text_only, messages=[{"role": "user", "content": [{"type": key, key: "data:,"}]}])
    assert caught.value.status_code == 400
    kind = key.removesuffix("_url")
    words = f"messages.0.content.0.{key}: {kind}: a-model accepts text only"
    assert caught.value.body["detail"].startswith(words)


def made(kind: type[EdgeError]) -> EdgeError:
    if kind is errors.ContextLengthError:
        return errors.ContextLengthError(70, 64)
    if kind is errors.ParameterError:
        return errors.ParameterError("stop: wrong", field="stop")
    if kind is errors.MemoryLimitError:
        return errors.MemoryLimitError("in the folder /srv/models/x", needed=2, available=1)
    return kind("in the folder /srv/models/x")


@pytest.mark.parametrize("kind", STATUS)
def test_every_error_has_its_status_and_a_body(kind: type[EdgeError]) -> None:
    with pytest.raises(edge.ApiError) as caught, api_errors():
        raise made(kind)
    assert caught.value.status_code == STATUS[kind]
    body = caught.value.body
    assert isinstance(body, edge.HttpValidationError) == (kind is errors.ParameterError)
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize("kind", [errors.BundleError, errors.RuntimeFailure, EdgeError])
def test_what_failed_inside_stays_inside(kind: type[EdgeError]) -> None:
    with pytest.raises(edge.ApiError) as caught, api_errors():
        raise made(kind)
    assert "/srv" not in str(caught.value.body)


def test_a_context_too_small_says_both_counts() -> None:
    with pytest.raises(edge.ApiError) as caught, api_errors():
        raise errors.ContextLengthError(70, 64)
    assert caught.value.body == {"detail": "the prompt needs 70 positions, the context holds 64"}


def test_a_parameter_error_is_a_422_at_its_field() -> None:
    with pytest.raises(edge.UnprocessableEntityError) as caught, api_errors():
        raise errors.ParameterError("stop: wrong", field="stop")
    [problem] = caught.value.body.detail
    assert problem.dict() == {"loc": ["body", "stop"], "msg": "stop: wrong", "type": "value_error"}


def test_other_exceptions_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), api_errors():
        raise ZeroDivisionError


def test_temperature_past_every_float_is_refused() -> None:
    body = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "temperature": 10**400}
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read_request(body, limits=Limits())
    assert "temperature" in str(caught.value.body)
