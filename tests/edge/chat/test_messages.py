"""Messages of every spelling become the same turns, and every mistake is named with its place."""

import base64
import dataclasses
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reka
from PIL import Image

import edge
from edge.bundle.manifest import Manifest, MemorySpec, PromptSpec, RecipeRecord, Source, TextSpec, VisionSpec
from edge.chat.attachments import Access, turns
from edge.chat.pdf_text import TextBudget
from edge.chat.prompt import Call, DecodedImage, Turn
from edge.errors import MediaError, TextError
from edge.limits import Limits

LIMITS = Limits()
BUDGET = TextBudget(lambda text: list(text.encode()), lambda ids: bytes(ids).decode("utf-8", "replace"), 1000)
CALL = {"id": "c1", "name": "weather", "parameters": {"city": "Lyon"}}
SPEC = Manifest(
    format=1,
    id="a-model",
    aliases=(),
    family="yasa2",
    min_runtime="0.1.0",
    source=Source("Yasa2ForConditionalGeneration", {}, (), ()),
    recipe=RecipeRecord("fp32", {}),
    text=TextSpec(8, 1, 2, 1, 4, 16, 32, 64, 1.0, 10000.0, 1e-5, 1.0, "fp32"),
    vision=VisionSpec(64, 8, 4, 4, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.875, "cells-first", 6),
    audio=None,
    prompt=PromptSpec("yasa", "B", {}, (30,), ()),
    memory=MemorySpec(6000, 32),
    files={},
)
TEXT_ONLY = dataclasses.replace(SPEC, family="yasa", vision=None)


def png(size: tuple[int, int] = (4, 3), colour: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def read(*messages: object, **options: object) -> list[Turn]:
    access = Access(files=options.pop("files", True))  # type: ignore[arg-type]
    return turns(messages, **{"spec": SPEC, "access": access, "budget": BUDGET, "limits": LIMITS, **options})  # type: ignore[arg-type]


def problems(*messages: object) -> list[tuple[list[str | int], str]]:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read(*messages)
    assert caught.value.status_code == 422
    assert isinstance(caught.value.body, edge.HttpValidationError)
    return [(problem.loc, problem.type) for problem in caught.value.body.detail or []]


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def image_of(turn: Turn) -> DecodedImage:
    part = turn.parts[0]
    assert isinstance(part, DecodedImage)
    return part


@pytest.mark.parametrize("kind", [dict, edge.ChatMessage, reka.ChatMessage])
def test_dicts_our_models_and_the_sdks_are_the_same(kind: Callable[..., object]) -> None:
    read_turns = read(
        kind(role="system", content="be brief"),
        kind(role="user", content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], tool_calls=None),
        kind(role="assistant", content=None, tool_calls=[CALL]),
        kind(role="tool_output", content=[{"tool_call_id": "unknown", "output": "sunny"}]),
        kind(role="assistant", content="It is"),
    )
    assert read_turns == [
        Turn("system", ("be brief",)),
        Turn("user", ("a", "b")),
        Turn("assistant", (), (Call("weather", {"city": "Lyon"}),)),
        Turn("tool_output", results=("sunny",)),
        Turn("assistant", ("It is",)),
    ]


@pytest.mark.parametrize("source", ["path", "file", "data"])
@pytest.mark.parametrize("kind", [edge.ChatMessage, reka.ChatMessage])
def test_a_image_is_opened_from_any_url(source: str, kind: Callable[..., object], tmp_path: Path) -> None:
    file = tmp_path / "frame.png"
    file.write_bytes(png())
    url = {"path": str(file), "file": file.as_uri(), "data": data_url(png())}[source]
    [turn] = read(kind(role="user", content=[{"type": "image_url", "image_url": url, "pdf_url": None}]))
    assert image_of(turn).rgb.shape == (3, 4, 3)
    assert image_of(turn).rgb[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", [dict, edge.ChatMessage])
def test_decoded_images_are_taken_in_process(kind: Callable[..., object]) -> None:
    array = np.full((3, 4, 3), 7, np.uint8)
    for image in (array, Image.fromarray(array)):
        [turn] = read(kind(role="user", content=[{"type": "image", "image": image}, {"type": "text", "text": "?"}]))
        assert np.array_equal(image_of(turn).rgb, array)
        assert turn.parts[1] == "?"


def test_a_path_under_the_key_of_arrays_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "frame.png").write_bytes(png())
    with pytest.raises(MediaError, match=r"content\.0\.image: image: expected an .* array or a PIL image, got str"):
        read(user([{"type": "image", "image": str(tmp_path / "frame.png")}]))


def test_a_part_without_a_type_is_told_by_its_key() -> None:
    assert read(user([{"text": "a"}, {"type": None, "text": ""}])) == [Turn("user", ("a", ""))]


def test_local_files_can_be_refused(tmp_path: Path) -> None:
    (tmp_path / "frame.png").write_bytes(png())
    with pytest.raises(MediaError, match=r"messages\.0\.content\.0\.image_url: .*not allowed"):
        read(user([{"type": "image_url", "image_url": str(tmp_path / "frame.png")}]), files=False)


@pytest.mark.parametrize("kind", ["video", "audio", "pdf"])
def test_kinds_not_taken_are_named_with_what_is_taken(kind: str) -> None:
    with pytest.raises(MediaError, match=f"{kind}: a-model accepts text only"):
        read(user([{"type": f"{kind}_url", f"{kind}_url": "x"}]), spec=TEXT_ONLY)


def test_a_text_bundle_takes_no_image() -> None:
    with pytest.raises(MediaError, match="image: a-model accepts text only"):
        read(user([{"type": "image_url", "image_url": data_url(png())}]), spec=TEXT_ONLY)


DEEP: object = None
for _ in range(3000):
    DEEP = [DEEP]
MISTAKES: list[tuple[object, list[str | int], str]] = [
    (5, [0], "dict_type"),
    ({}, [0, "role"], "literal_error"),
    ({"role": "human", "content": "a"}, [0, "role"], "literal_error"),
    ({"role": "user"}, [0, "content"], "missing"),
    ({"role": "assistant", "content": None, "tool_calls": []}, [0, "content"], "missing"),
    (user(5), [0, "content"], "string_type"),
    (user({"type": "text", "text": "a"}), [0, "content"], "string_type"),
    (user(["a"]), [0, "content", 0], "dict_type"),
    (user([{"type": "text"}]), [0, "content", 0], "value_error"),
    (user([{"type": "text", "text": 5}]), [0, "content", 0, "text"], "string_type"),
    (user([{"type": "image_url", "image_url": {"url": "x"}}]), [0, "content", 0, "image_url"], "string_type"),
    (user([{"type": "image_url", "image_url": "a", "pdf_url": "b"}]), [0, "content", 0], "value_error"),
    (user([{"type": "text", "image_url": "a"}]), [0, "content", 0, "type"], "literal_error"),
    (user([{"type": "smell_url", "smell_url": "a"}]), [0, "content", 0], "value_error"),
    ({"role": "system", "content": [{"type": "image_url", "image_url": "a"}]}, [0, "content"], "value_error"),
    ({"role": "tool_output", "content": "sunny"}, [0, "content"], "list_type"),
    ({"role": "tool_output", "content": []}, [0, "content"], "list_type"),
    ({"role": "tool_output", "content": [{"output": "a"}]}, [0, "content", 0, "tool_call_id"], "string_type"),
    ({"role": "tool_output", "content": [{"tool_call_id": ""}]}, [0, "content", 0, "output"], "string_type"),
    ({"role": "user", "content": "a", "tool_calls": [CALL]}, [0, "tool_calls"], "list_type"),
    ({"role": "assistant", "tool_calls": "x"}, [0, "tool_calls"], "list_type"),
    ({"role": "assistant", "tool_calls": [{**CALL, "id": None}]}, [0, "tool_calls", 0, "id"], "string_type"),
    ({"role": "assistant", "tool_calls": [{**CALL, "name": ""}]}, [0, "tool_calls", 0, "name"], "string_type"),
    ({"role": "assistant", "tool_calls": [{**CALL, "parameters": {"a": object()}}]}, [0, "tool_calls"], "dict_type"),
    ({"role": "assistant", "tool_calls": [{**CALL, "parameters": {"a": math.nan}}]}, [0, "tool_calls"], "dict_type"),
    ({"role": "assistant", "tool_calls": [{**CALL, "parameters": {"a": DEEP}}]}, [0, "tool_calls"], "dict_type"),
    ({"role": "assistant", "tool_calls": [{**CALL, "parameters": 5}]}, [0, "tool_calls", 0, "parameters"], "dict_type"),
]


@pytest.mark.parametrize(("message", "loc", "kind"), MISTAKES)
def test_a_mistake_is_named_with_its_place(message: object, loc: list[str | int], kind: str) -> None:
    [(found, found_kind)] = problems(message)
    assert (found[: 2 + len(loc)], found_kind) == (["body", "messages", *loc], kind)


HALF = "half a pair: \ud800"


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (user(HALF), "content"),
        (user([{"type": "text", "text": "a"}, {"type": "text", "text": HALF}]), "content.1.text"),
        ({"role": "tool_output", "content": [{"tool_call_id": "a", "output": HALF}]}, "content.0.output"),
        ({"role": "assistant", "content": HALF}, "content"),
    ],
)
def test_half_a_surrogate_pair_is_named_by_message_and_part(message: object, place: str) -> None:
    with pytest.raises(TextError) as caught:
        read(user("a"), message)
    assert str(caught.value) == f"messages.1.{place}: expected Unicode text, got half a surrogate pair"


def test_every_mistake_is_named_at_once() -> None:
    assert len(problems(user(5), {"role": "x"}, user([{"type": "text"}]))) == 3


def test_a_later_system_message_is_named_by_its_index() -> None:
    assert problems(user("a"), {"role": "system", "content": "b"}) == [(["body", "messages", 1, "role"], "value_error")]


@pytest.mark.parametrize("messages", ["hello", None, 5, {"role": "user"}])
def test_messages_must_be_a_list(messages: object) -> None:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        turns(messages, spec=SPEC, access=Access(), budget=BUDGET, limits=LIMITS)  # type: ignore[arg-type]
    assert caught.value.body.detail[0].loc == ["body", "messages"]


def test_messages_may_be_any_iterable() -> None:
    texts = (user(text) for text in "ab")
    assert len(turns(texts, spec=SPEC, access=Access(), budget=BUDGET, limits=LIMITS)) == 2


def test_the_number_of_messages_is_limited() -> None:
    assert problems() == [(["body", "messages"], "too_short")]
    for count in (1, 255, 256):
        assert len(read(*[user("a")] * count)) == count
    assert problems(*[user("a")] * 257) == [(["body", "messages"], "too_long")]


def test_the_number_of_parts_is_limited() -> None:
    half = user([{"type": "text", "text": "a"}] * 256)
    assert len(read(half, user([{"type": "text", "text": "a"}] * 255))) == len(read(half, half)) == 2
    assert problems(half, half, user("a")) == [(["body", "messages"], "too_long")]


def test_the_number_of_images_is_limited_per_message_and_in_all() -> None:
    part = {"type": "image_url", "image_url": data_url(png())}
    assert len(read(user([part] * 6))[0].parts) == 6
    assert problems(user([part] * 7)) == [(["body", "messages", 0, "content"], "too_long")]
    assert len(read(*[user([part] * 4)] * 8)) == 8
    assert problems(*[user([part] * 4)] * 8, user([part])) == [(["body", "messages"], "too_long")]


def test_the_pixels_of_a_image_are_limited() -> None:
    limits = dataclasses.replace(LIMITS, image_px=12)
    for size in ((11, 1), (4, 3)):
        assert read(user([{"type": "image_url", "image_url": data_url(png(size))}]), limits=limits)
    with pytest.raises(MediaError, match="expected at most 12 pixels, got 13"):
        read(user([{"type": "image_url", "image_url": data_url(png((13, 1)))}]), limits=limits)


def test_the_decoded_bytes_of_a_request_are_limited() -> None:
    part = {"type": "image_url", "image_url": data_url(png((4, 3)))}
    assert read(user([part, part]), limits=dataclasses.replace(LIMITS, decoded_bytes=72))
    with pytest.raises(MediaError, match=r"content.1.image_url: .*\(71 bytes may be decoded in one request\)"):
        read(user([part, part]), limits=dataclasses.replace(LIMITS, decoded_bytes=71))


def test_small_boards_have_half_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for gigabytes, limits in ((4, Limits(image_px=32_000_000, decoded_bytes=128 << 20)), (8, Limits())):
        pages = {"SC_PHYS_PAGES": gigabytes * 10**9 // 4096, "SC_PAGE_SIZE": 4096}
        monkeypatch.setattr("edge.limits.os.sysconf", pages.__getitem__)
        assert Limits.of_this_machine() == limits


def test_errors_show_little_of_what_was_sent() -> None:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read({"role": "x" * 10_000, "content": "a"}, user([10**4000]), user([["y" * 10_000]]))
    assert len(str(caught.value)) < 2000
