"""`detail` and `max_tiles` of a request and of its parts, in the form of each API, and the pages of PDFs."""

import base64
import io
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from PIL import Image

import edge
from edge.chat.attachments import Access, decode_media
from edge.chat.pdf_text import TextBudget, pdf_parts
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.chat.request import Request, read_request
from edge.engine.pieces import Media
from edge.limits import Limits
from edge.media.detail import AUTO, ONE_TILE, Detail
from edge.server.openai import from_openai
from edge.server.reka import from_legacy, legacy_place
from edge.server.responses import from_responses
from tests.edge.fake_engine import manifest

SPEC = manifest()
LIMITS = Limits()
Fields = dict[str, object]


def url(width: int = 300, height: int = 300) -> str:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def budget(n_tokens: int = 10_000) -> TextBudget:
    return TextBudget(lambda text: list(text.encode()), lambda ids: bytes(ids).decode("utf-8", "replace"), n_tokens)


def of_v1(part: Fields, **fields: object) -> Request:
    message = {"role": "user", "content": [{"type": "image_url", "image_url": url(), **part}]}
    return read_request({"model": "m", "messages": [message], **fields}, limits=LIMITS)


def of_openai(part: Fields, *, nested: bool, **fields: object) -> Request:
    inner = {"url": url(), **(part if nested else {})}
    content = [{"type": "image_url", "image_url": inner, **({} if nested else part)}]
    completion = from_openai({"model": "m", "messages": [{"role": "user", "content": content}], **fields})
    return read_request(completion.fields, limits=LIMITS, place=completion.place)


def of_responses(part: Fields, **fields: object) -> Request:
    content = [{"type": "input_image", "image_url": url(), **part}]
    asked = from_responses({"model": "m", "input": [{"role": "user", "content": content}], **fields})
    return read_request(asked.fields, limits=LIMITS, place=asked.place)


def of_v0(part: Fields, **fields: object) -> Request:
    turn = {"type": "human", "text": "x", "media_url": url()}
    body = {"model_name": "m", "conversation_history": [turn], **part, **fields}
    return read_request(from_legacy(body), limits=LIMITS, place=legacy_place)


FORMS: Mapping[str, Callable[..., Request]] = {
    "v1": of_v1,
    "openai": lambda part, **fields: of_openai(part, nested=True, **fields),
    "openai beside": lambda part, **fields: of_openai(part, nested=False, **fields),
    "responses": of_responses,
    "v0": of_v0,
}


def media(request: Request) -> list[Media]:
    opened = decode_media(
        request.messages, spec=SPEC, access=Access(), budget=budget(), limits=LIMITS, detail=request.detail
    )
    return [piece for piece in pieces(opened, SPEC) if isinstance(piece, Media)]


def n_tiles(request: Request) -> int:
    (image,) = media(request)
    return image.n_tokens // SPEC.vision.tokens_per_tile


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("part", "count"),
    [
        ({}, 5), ({"detail": "low"}, 1), ({"detail": "auto"}, 5), ({"detail": "high"}, 5), ({"detail": None}, 5),
        ({"detail": "original"}, 5), ({"max_tiles": 3}, 3), ({"max_tiles": 1}, 1), ({"max_tiles": 1000}, 5),
        ({"detail": "high", "max_tiles": 3}, 3), ({"max_tiles": None}, 5),
    ],
)  # fmt: skip
def test_a_part_says_how_finely_it_is_looked_at(form: str, part: Fields, count: int) -> None:
    assert n_tiles(FORMS[form](part)) == count


@pytest.mark.parametrize("form", FORMS)
def test_a_request_says_it_for_all_of_its_parts(form: str) -> None:
    assert n_tiles(FORMS[form]({}, max_tiles=3)) == 3
    assert n_tiles(FORMS[form]({}, detail="low")) == 1


@pytest.mark.parametrize("form", [form for form in FORMS if form != "v0"])
def test_a_part_comes_before_its_request(form: str) -> None:
    assert n_tiles(FORMS[form]({"max_tiles": 3}, max_tiles=1)) == 3
    assert n_tiles(FORMS[form]({"detail": "auto"}, detail="low")) == 5


PLACES = {
    "v1": "messages.0.content.0", "openai": "messages.0.content.0.image_url",
    "openai beside": "messages.0.content.0", "responses": "input.0.content.0",
}  # fmt: skip


@pytest.mark.parametrize("form", PLACES)
@pytest.mark.parametrize(
    ("name", "value"),
    [("detail", "fine"), ("detail", 1), ("detail", []), ("detail", True), ("max_tiles", 0), ("max_tiles", -1),
     ("max_tiles", True), ("max_tiles", 1.5), ("max_tiles", "2"), ("max_tiles", [])],
)  # fmt: skip
def test_a_mistake_is_named_where_it_stands(form: str, name: str, value: object) -> None:
    for part, fields, place in (({name: value}, {}, f"{PLACES[form]}.{name}"), ({}, {name: value}, name)):
        with pytest.raises(edge.UnprocessableEntityError) as caught:
            FORMS[form](part, **fields)
        assert [".".join(map(str, problem.loc[1:])) for problem in caught.value.body.detail] == [place]


def test_audio_and_video_parts_keep_their_unknown_fields() -> None:
    parts = [{"type": kind, kind: "data:,", "detail": "fine", "max_tiles": 0} for kind in ("video_url", "audio_url")]
    read_request({"model": "m", "messages": [{"role": "user", "content": parts}]}, limits=LIMITS)


def test_one_image_cut_in_two_ways_has_two_keys() -> None:
    small = Image.new("RGB", (65, 65), "red")  # kept whole, however it is cut
    part = {"type": "image", "image": small}

    def key(**fields: object) -> str:
        message = {"role": "user", "content": [{**part, **fields}]}
        (image,) = media(read_request({"model": "m", "messages": [message]}, limits=LIMITS))
        return image.digest

    assert len({key(), key(detail="low"), key(detail="high")}) == 3
    assert key() == key(detail="auto") == key(max_tiles=9)
    assert key(detail="low") == key(max_tiles=1)


TEXT = (
    "All that this page has to say is said in these words, and there are a good many of them: no stamp has as many. "
    * 2
)


@pytest.mark.parametrize(
    ("texts", "n_tokens", "expected"),
    [
        ([TEXT], 10_000, [ONE_TILE]),
        ([""], 10_000, [AUTO]),
        (["Page 1"], 10_000, [AUTO]),
        ([" \n" * 200], 10_000, [AUTO]),
        ([TEXT], 40, [AUTO]),
        ([TEXT, "", TEXT], 10_000, [ONE_TILE, AUTO, ONE_TILE]),
    ],
)
def test_a_page_that_is_read_from_its_text_is_one_tile(texts: list[str], n_tokens: int, expected: list[Detail]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    parts = pdf_parts([rgb] * len(texts), texts, budget(n_tokens))
    assert [part.detail for part in parts if isinstance(part, DecodedImage)] == expected


def test_a_blank_page_is_one_tile() -> None:
    (page,) = pdf_parts([np.full((300, 200, 3), 255, np.uint8)], [""], budget())
    assert isinstance(page, DecodedImage) and page.detail == ONE_TILE


@pytest.mark.parametrize("detail", [Detail("high"), Detail("low"), Detail("high", 3)])
def test_a_page_is_looked_at_as_the_request_says(detail: Detail) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    pages = [part for part in pdf_parts([rgb, rgb], [TEXT, ""], budget(), detail) if isinstance(part, DecodedImage)]
    assert [page.detail for page in pages] == [detail, detail]


def test_a_limit_on_tiles_is_kept_by_pages_without_text() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    parts = pdf_parts([rgb], [""], budget(), Detail("auto", 3))
    (image,) = [piece for piece in pieces([Turn("user", tuple(parts))], SPEC) if isinstance(piece, Media)]
    assert image.n_tokens == 3 * SPEC.vision.tokens_per_tile
