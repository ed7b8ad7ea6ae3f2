"""The types are the SDK's own: every field, type and result compared with `reka-api`."""

import json
import pydoc
import types
import typing
import warnings

import numpy as np
import pydantic
import pytest
import reka
import reka.core.api_error

import edge
import edge.types

MODELS = [name for name in reka.__all__ if hasattr(getattr(reka, name), "__fields__")]
ALIASES = [name for name in reka.__all__ if typing.get_origin(getattr(reka, name)) is typing.Union]
CALL = {"id": "c1", "name": "weather", "parameters": {"city": "Lyon", "unit": None, "days": [1, {"x": None}]}}
IMAGE = {"type": "image_url", "image_url": "b"}
STOPPED = {"message": {"role": "assistant", "content": "é"}, "finish_reason": "stop"}
CALLED = {"message": {"role": "assistant", "content": "", "tool_calls": [CALL]}}
ANSWER = {"id": "a", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}}
SAMPLES: list[tuple[str, dict[str, object]]] = [
    ("ChatMessage", {"role": "user", "content": "hé\u2028"}),
    ("ChatMessage", {"role": "user", "content": None}),
    ("ChatMessage", {"role": "user", "content": None, "tool_calls": None}),
    ("ChatMessage", {"role": "narrator", "mood": "dark", "empty": None}),
    ("ChatMessage", {"content": "no role"}),
    ("ChatMessage", {"role": "user", "content": []}),
    ("ChatMessage", {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}),
    ("ChatMessage", {"role": "user", "content": [{"type": "image_url", "image_url": "b", "pdf_url": None, "x": 1}]}),
    ("ChatMessage", {"role": "tool_output", "content": [{"tool_call_id": "c1", "output": "sunny"}]}),
    ("ChatMessage", {"role": "assistant", "tool_calls": [CALL]}),
    ("ChatMessageChunk", {"role": "assistant", "content": "so far"}),
    ("Tool", {"name": "weather", "parameters": {"type": "object", "default": None, "properties": {"a": {"x": None}}}}),
    ("Tool", {"name": "weather", "description": None, "parameters": {}}),
    ("ToolCall", CALL),
    ("ToolOutput", {"tool_call_id": "c1", "output": 5}),
    ("TypedText", {"text": 5}),
    ("TypedText", {"text": "5", "type": "text"}),
    ("TypedMediaContent", {"type": "video_url", "video_url": "v", "audio_url": None}),
    ("Usage", {"input_tokens": "3", "output_tokens": 2}),
    ("Model", {"id": "reka-edge", "owner": "us"}),
    ("ChatResponse", {**ANSWER, "responses": [STOPPED]}),
    ("ChatResponse", {**ANSWER, "responses": [CALLED]}),
    ("ChunkChatResponse", {**ANSWER, "responses": [{"chunk": {"role": "assistant", "content": "é"}}], "note": None}),
    ("HttpValidationError", {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "a", "type": "b"}]}),
    ("HttpValidationError", {}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(SAMPLES)]


def simplified(hint: object) -> object:
    """Return a type hint in one spelling, classes by name, unions as sets."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return frozenset(simplified(argument) for argument in arguments)
    if origin is typing.Literal:
        return ("literal", frozenset(arguments))
    if origin is not None:
        return (origin, *(simplified(argument) for argument in arguments))
    return hint if hint in (str, int, float, bool, dict, type(None), typing.Any) else getattr(hint, "__name__", hint)


@pytest.mark.parametrize("name", reka.__all__)
def test_every_public_name_of_the_sdk_is_there(name: str) -> None:
    assert name in edge.__all__
    assert getattr(edge, name) is not None


def test_every_public_name_can_be_imported_and_listed() -> None:
    assert sorted(edge.__all__) == dir(edge) == sorted(set(edge.__all__))
    assert all(getattr(edge, name) is not None for name in edge.__all__)


def test_the_help_of_the_package_fits_on_two_screens_and_the_help_of_a_name_is_whole() -> None:
    shown = pydoc.plain(pydoc.render_doc(edge))
    assert len(shown.splitlines()) < 80
    assert "client.chat.create(" in shown and "Camera, Microphone, watch" in shown
    assert "class Reka" in pydoc.plain(pydoc.render_doc(edge.Reka))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rekka'"):
        _ = edge.Rekka  # type: ignore[attr-defined]


def test_the_sdk_has_the_models_and_aliases_compared_here() -> None:
    assert len(MODELS) == 15
    assert len(ALIASES) == 9


@pytest.mark.parametrize("name", MODELS)
def test_fields_types_and_defaults_are_the_sdks(name: str) -> None:
    theirs, ours = getattr(reka, name), getattr(edge, name)
    assert list(ours.model_fields) == list(theirs.__fields__)
    their_hints, our_hints = typing.get_type_hints(theirs), typing.get_type_hints(ours)
    for field, info in ours.model_fields.items():
        assert simplified(our_hints[field]) == simplified(their_hints[field]), field
        assert info.is_required() == theirs.__fields__[field].required, field
        assert info.get_default() == theirs.__fields__[field].get_default() or info.is_required(), field


@pytest.mark.parametrize("name", ALIASES)
def test_aliases_are_the_sdks(name: str) -> None:
    assert simplified(getattr(edge, name)) == simplified(getattr(reka, name))


def test_the_environment_is_the_sdks() -> None:
    assert [(e.name, e.value) for e in edge.RekaEnvironment] == [(e.name, e.value) for e in reka.RekaEnvironment]


@pytest.mark.parametrize(("name", "fields"), SAMPLES, ids=IDS)
def test_dict_and_json_are_the_sdks(name: str, fields: dict[str, object]) -> None:
    theirs, ours = getattr(reka, name)(**fields), getattr(edge, name)(**fields)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.dict() == theirs.dict()
        assert ours.dict(exclude_none=True) == theirs.dict(exclude_none=True)
        assert json.loads(ours.json()) == json.loads(theirs.json())
        assert ours.json(indent=1, sort_keys=True) == theirs.json(indent=1, sort_keys=True)
        assert ours == theirs
        assert ours == ours.dict()
        assert getattr(edge, name).parse_obj(theirs.dict()).dict() == ours.dict()
        assert getattr(edge, name).parse_raw(ours.json()) == ours


def test_json_is_ascii_and_fields_stand_in_the_sdks_order() -> None:
    fields = {"role": "user", "content": "é"}
    assert edge.ChatMessage(**fields).json() == '{"content": "\\u00e9", "role": "user"}'
    assert edge.ChatMessage(**fields).json() == reka.ChatMessage(**fields).json()


def test_the_sdks_own_objects_are_taken_inside_ours() -> None:
    message = edge.ChatMessage(
        role="assistant",
        content=[reka.TypedText(type="text", text="a"), reka.ToolOutput(tool_call_id="c", output="d")][:1],
        tool_calls=[reka.ToolCall(id="a", name="b", parameters={})],
    )
    assert isinstance(message.content, list)
    assert isinstance(message.content[0], edge.TypedText)
    assert message.tool_calls is not None
    assert isinstance(message.tool_calls[0], edge.ToolCall)


def test_tool_outputs_keep_their_type() -> None:
    message = edge.ChatMessage(role="tool_output", content=[{"tool_call_id": "c1", "output": "sunny"}])
    assert isinstance(message.content, list)
    assert isinstance(message.content[0], edge.ToolOutput)


def test_an_array_stays_the_same_object() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    message = edge.ChatMessage(role="user", content=[{"type": "image", "image": image}])
    assert message.content[0].image is image  # type: ignore[index,union-attr]


def test_objects_are_frozen_as_the_sdks() -> None:
    for kind in (reka, edge):
        with pytest.raises(TypeError, match="immutable"):
            kind.ChatMessage(role="user").role = "system"
        with pytest.raises(TypeError, match="immutable"):
            kind.ChatMessage(role="user").mood = "dark"


def test_equal_objects_have_equal_hashes() -> None:
    one, two = edge.Usage(input_tokens=1, output_tokens=2), edge.Usage(input_tokens=1, output_tokens=2)
    assert one == two
    assert hash(one) == hash(two)
    assert one != edge.Usage(input_tokens=1, output_tokens=3)
    assert one != "usage"


def test_copy_replaces_fields() -> None:
    assert edge.ChatMessage(role="user", content="a").copy(update={"content": "b"}).content == "b"


def test_construct_does_not_validate() -> None:
    assert edge.Usage.construct(input_tokens="many", output_tokens=1).dict()["input_tokens"] == "many"


@pytest.mark.parametrize("fields", [{"role": "user", "content": [5]}, {"role": "user", "content": {"a": 1}}])
def test_what_the_sdk_refuses_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ChatMessage"):
        reka.ChatMessage(**fields)
    with pytest.raises(pydantic.ValidationError):
        edge.ChatMessage(**fields)


def test_what_json_does_not_have_is_a_type_error_as_the_sdks() -> None:
    for kind in (reka, edge):
        with pytest.raises(TypeError, match="not JSON serializable"):
            kind.ChatMessage(role="user", content=[{"type": "image", "image": object()}]).json()


def test_errors_are_the_sdks() -> None:
    body = edge.HttpValidationError(detail=[edge.ValidationError(loc=["body"], msg="a", type="b")])
    ours, theirs = edge.UnprocessableEntityError(body), reka.UnprocessableEntityError(body)  # type: ignore[arg-type]
    assert (ours.status_code, ours.body, str(ours)) == (theirs.status_code, theirs.body, str(theirs))
    assert isinstance(ours, edge.ApiError)
    plain = edge.ApiError(status_code=404, body={"detail": "x"})
    assert str(plain) == str(reka.core.api_error.ApiError(status_code=404, body={"detail": "x"}))
    assert (edge.ApiError().status_code, edge.ApiError().body) == (None, None)
