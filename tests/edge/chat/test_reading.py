"""How far a prompt is read: told for every tile of an image, frame of a video and part of a long text, in order."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import edge
from edge.chat.reading import fields_of, line_of, share_of
from edge.engine.handle import Handle, Reading
from edge.engine.layout import MAX_CHUNK
from edge.engine.model import Model
from tests.edge.asking import eventually

QUESTION = {"type": "text", "text": "What is this?"}
CASES = [
    (Reading("image", 1, 2, 3, 5), {"image": 1, "images": 2, "tile": 3, "tiles": 5}, "image 1, tile 3 of 5", 0.2),
    (Reading("frame", 3, 6, 1, 1), {"frame": 3, "frames": 6}, "video, frame 3 of 6", 2 / 6),
    (
        Reading("audio", 1, 1, 2, 4),
        {"audio": 1, "audios": 1, "window": 2, "windows": 4},
        "audio 1, window 2 of 4",
        0.25,
    ),
    (
        Reading("tokens", 0, 0, 1200, 3400),
        {"tokens_read": 1200, "tokens": 3400},
        "reading 1 200 of 3 400 tokens",
        6 / 17,
    ),
]


@pytest.mark.parametrize(("reading", "fields", "line", "share"), CASES)
def test_a_step_as_fields_as_a_line_and_as_a_share(
    reading: Reading, fields: dict[str, int], line: str, share: float
) -> None:
    assert fields_of(reading) == fields
    assert line_of(reading) == line
    assert share_of(reading) == pytest.approx(share)


def image(size: int, seed: int = 0) -> dict[str, object]:
    rgb = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return {"type": "image", "image": rgb}


def asked(client: edge.Reka, *parts: object, **further: object) -> list[Reading]:
    """Ask with a stream and return what was told before the first chunk."""
    told: list[Reading] = []
    chunks = client.chat.create_stream(
        messages=[{"role": "user", "content": [*parts, QUESTION]}],
        model="reka-edge",
        max_tokens=2,
        request_options={"on_progress": told.append, "additional_body_parameters": further},
    )
    next(chunks)
    before = list(told)
    list(chunks)
    assert told == before
    return before


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the engine wait before each tile and chunk until its reader knows of it."""

    def waiting(name: str, owner_of: Callable[[tuple[object, ...], dict[str, object]], Handle]) -> None:
        work = getattr(Model, name)

        def patient(*arguments: object, **named: object) -> object:
            handle = owner_of(arguments, named)
            eventually(lambda: handle._reading is None)
            return work(*arguments, **named)

        monkeypatch.setattr(Model, name, patient)

    waiting("encode_tile", lambda _, named: cast(Handle, named["owner"]))
    waiting("_read_chunk", lambda arguments, _: cast(Handle, arguments[-1]))


@pytest.fixture
def client(int8_bundle: Path) -> Iterator[edge.Reka]:
    with edge.Reka(model=int8_bundle, threads=1) as client:
        yield client


def test_each_tile_is_told_before_the_answer(client: edge.Reka, seen: None) -> None:
    told = asked(client, image(1500, 1), image(1500, 2), max_tiles=3)
    assert told == [Reading("image", number, 2, step, 3) for number in (1, 2) for step in (1, 2, 3)]


def test_each_frame_is_told(client: edge.Reka, seen: None) -> None:
    frames = [image(100, seed)["image"] for seed in range(3)]
    told = asked(client, {"type": "video", "video": frames}, image(100, 9))
    assert told == [*(Reading("frame", n, 3, 1, 1) for n in (1, 2, 3)), Reading("image", 1, 1, 1, 1)]


def test_a_long_text_is_told_by_its_parts(client: edge.Reka, seen: None) -> None:
    told = asked(client, {"type": "text", "text": "one two three " * 80})
    n_tokens = told[0].steps
    assert [each.step for each in told] == list(range(0, n_tokens, MAX_CHUNK)) and len(told) > 1
    assert {(each.stage, each.steps) for each in told} == {("tokens", n_tokens)}


def test_an_answer_at_once_is_told_too(client: edge.Reka, seen: None) -> None:
    told: list[Reading] = []
    messages = [{"role": "user", "content": [image(100, 5), QUESTION]}]
    client.chat.create(messages=messages, model="reka-edge", max_tokens=2, request_options={"on_progress": told.append})
    assert told == [Reading("image", 1, 1, 1, 1)]


def test_an_event_loop_is_told(int8_bundle: Path, seen: None) -> None:
    async def ask() -> list[Reading]:
        told: list[Reading] = []
        async with edge.AsyncReka(model=int8_bundle, threads=1) as client:
            messages = [{"role": "user", "content": [image(100, 6), QUESTION]}]
            options = {"on_progress": told.append}
            await client.chat.create(messages=messages, model="reka-edge", max_tokens=2, request_options=options)
        return told

    assert asyncio.run(ask()) == [Reading("image", 1, 1, 1, 1)]


def test_an_image_that_was_read_lately_is_not_told_again(client: edge.Reka, seen: None) -> None:
    assert len(asked(client, image(100, 3))) == 1
    assert not asked(client, image(100, 3))


def test_a_short_text_has_nothing_to_tell(client: edge.Reka) -> None:
    assert not asked(client)


def test_what_cannot_be_called_is_refused(client: edge.Reka) -> None:
    with pytest.raises(edge.UnprocessableEntityError, match="on_progress: expected a function"):
        list(client.chat.create_stream(messages=[], model="m", request_options={"on_progress": 5}))
