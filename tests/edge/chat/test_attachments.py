"""Media of messages: counted before anything is opened, decoded where they must be, and laid out as they are said."""

import base64
import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edge
from edge.bundle.manifest import Manifest
from edge.chat.attachments import Access, folder_of, open_media
from edge.chat.messages import Problems, read_messages
from edge.chat.pdf_text import TextBudget
from edge.chat.prompt import DecodedImage, DecodedVideo, Part, Turn, pieces
from edge.chat.request import read_request
from edge.engine.pieces import Text
from edge.errors import MediaError, ParameterError
from edge.limits import Limits
from edge.media.decoded import Decoded, Options
from tests.edge.fake_engine import manifest
from tests.edge.media.pdfs import made_pdf
from tests.edge.media.videos import frame, gif, made_video, number_of

SPEC = manifest()
LIMITS = Limits()


def url(data: bytes) -> str:
    return f"data:;base64,{base64.b64encode(data).decode()}"


def part(kind: str, data: bytes = b"x") -> dict[str, object]:
    return {"type": f"{kind}_url", f"{kind}_url": url(data)}


def user(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


@pytest.fixture(scope="module")
def access() -> Iterator[Access]:
    access = Access()
    yield access
    access.worker.close()


def budget(n_tokens: int = 1000) -> TextBudget:
    return TextBudget(lambda text: list(map(ord, text)), lambda ids: "".join(map(chr, ids)), n_tokens)


def opened(
    access: Access,
    *messages: object,
    limits: Limits = LIMITS,
    frames: int | None = None,
    spec: Manifest = SPEC,
    room: TextBudget | None = None,
) -> list[tuple[Part, ...]]:
    problems = Problems()
    checked = read_messages(messages, problems, limits)
    problems.raise_any()
    found = open_media(checked, spec=spec, access=access, budget=room or budget(), limits=limits, frames=frames)
    return [turn.parts for turn in found]


def refused(access: Access, *messages: object, limits: Limits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        opened(access, *messages, limits=limits)
    return str(caught.value)


def png(size: tuple[int, int] = (4, 3)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size).save(data, "PNG")
    return data.getvalue()


# --- how many -----------------------------------------------------------------------------------------------------

COUNTS = [
    ("image", "images", 6, 32),
    ("video", "videos", 3, 6),
    ("audio", "audio parts", 2, 6),
    ("pdf", "PDFs", 20, 40),
]


def counted(*messages: object) -> list[tuple[list[str | int], str]]:
    problems = Problems()
    read_messages(messages, problems, LIMITS)
    return [(problem.loc, problem.msg) for problem in problems.found]


@pytest.mark.parametrize(("kind", "name", "here", "in_all"), COUNTS)
def test_media_are_counted_per_message_and_per_request(kind: str, name: str, here: int, in_all: int) -> None:
    for count in (here - 1, here):
        assert counted(user(*[part(kind)] * count)) == []
    words = f"expected at most {here} {name} in a message, got {here + 1}"
    assert counted(user(*[part(kind)] * (here + 1))) == [(["body", "messages", 0, "content"], words)]
    full, rest = divmod(in_all, here)
    messages = [user(*[part(kind)] * here)] * full + ([user(*[part(kind)] * rest)] if rest else [])
    assert counted(*messages[:-1], user(*[part(kind)] * ((rest or here) - 1))) == []
    assert counted(*messages) == []
    words = f"expected at most {in_all} {name} in all messages, got {in_all + 1}"
    assert counted(*messages, user(part(kind))) == [(["body", "messages"], words)]


def test_pages_are_counted_per_message_and_per_request(access: Access) -> None:
    limits = dataclasses.replace(LIMITS, pages_per_message=3, pages=5)
    one, two, three = (part("pdf", made_pdf(*[[]] * n)) for n in (1, 2, 3))
    for parts, n_pages in (([two], 2), ([three], 3), ([two, one], 3)):
        assert len(opened(access, user(*parts), limits=limits)[0]) == n_pages
    assert "expected 1 to 1 pages, got 2" in refused(access, user(two, two), limits=limits)
    assert len(opened(access, user(three), user(two), limits=limits)) == 2
    assert "messages.1.content.0.pdf_url: pdf: expected 1 to 2 pages, got 3" in refused(
        access, user(three), user(three), limits=limits
    )
    assert "content.1.pdf_url: pdf: expected at most 3 pages in a message, got 4 or more" in refused(
        access, user(three, one), limits=limits
    )


@pytest.mark.parametrize("value", [1, 31, 32, None])
def test_frames_may_be_asked_for(value: int | None) -> None:
    request = read_request({"model": "m", "messages": [user(part("video"))], "video_frames": value}, limits=LIMITS)
    assert request.video_frames == value


@pytest.mark.parametrize("value", [0, 33, -1, True, 1.5, "6"])
def test_no_more_than_32_frames_are_looked_at(value: object) -> None:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        read_request({"model": "m", "messages": [user(part("video"))], "video_frames": value}, limits=LIMITS)
    [problem] = caught.value.body.detail
    assert problem.loc == ["body", "video_frames"] and problem.msg.startswith("expected an integer in [1, 32], got ")


# --- how much -----------------------------------------------------------------------------------------------------


def test_the_limits_are_those_that_are_documented() -> None:
    assert (LIMITS.messages, LIMITS.parts) == (256, 512)
    assert (LIMITS.images_per_message, LIMITS.videos_per_message, LIMITS.audios_per_message) == (6, 3, 2)
    assert (LIMITS.images, LIMITS.videos, LIMITS.audios) == (32, 6, 6)
    assert (LIMITS.pages_per_message, LIMITS.pages) == (20, 40)
    assert (LIMITS.image_px, LIMITS.decoded_bytes) == (64_000_000, 256 << 20)
    assert (LIMITS.video_s, LIMITS.video_decoded_frames, LIMITS.video_px) == (120, 7200, 9_000_000)
    assert (LIMITS.page_px, LIMITS.page_text_tokens) == (4_000_000, 4096)
    assert (LIMITS.audio.seconds, LIMITS.audio.pcm_bytes, LIMITS.audio.channels) == (600, 64 << 20, 8)


@pytest.mark.parametrize(
    ("kind", "data", "n_bytes"), [("image", png((10, 10)), 300), ("video", gif(2), 2 * 73 * 109 * 3)]
)
def test_all_that_is_decoded_is_counted(access: Access, kind: str, data: bytes, n_bytes: int) -> None:
    message = user(part(kind, data), part(kind, data))
    for room in (2 * n_bytes, 2 * n_bytes + 1):
        assert len(opened(access, message, limits=dataclasses.replace(LIMITS, decoded_bytes=room))[0]) == 2
    less = dataclasses.replace(LIMITS, decoded_bytes=2 * n_bytes - 1)
    assert f"{less.decoded_bytes} bytes" in refused(access, message, limits=less)


# --- videos and PDFs as parts ------------------------------------------------------------------------------------


def numbers(clip: Part) -> list[int]:
    assert isinstance(clip, DecodedVideo)
    return [number_of(image.rgb) for image in clip.frames]


def test_a_video_has_as_many_frames_as_the_bundle_or_the_request_says(access: Access) -> None:
    message = user(part("video", made_video(24)))
    assert SPEC.vision is not None and SPEC.vision.frames == 6
    assert numbers(opened(access, message)[0][0]) == [0, 4, 9, 13, 18, 23]
    assert numbers(opened(access, message, frames=3)[0][0]) == [0, 11, 23]
    spec = dataclasses.replace(SPEC, vision=dataclasses.replace(SPEC.vision, frames=2))
    assert numbers(opened(access, message, spec=spec)[0][0]) == [0, 23]


@pytest.mark.parametrize("kind", [list, tuple, np.asarray])
def test_frames_may_be_handed_over(access: Access, kind: Callable[[object], object]) -> None:
    frames = kind([frame(i) for i in range(24)])
    [[clip]] = opened(access, user({"type": "video", "video": frames}))
    assert numbers(clip) == [0, 4, 9, 13, 18, 23]
    assert isinstance(clip, DecodedVideo) and clip.seconds == (0, 4, 9, 13, 18, 23)


@pytest.mark.parametrize("frames", [[], "path.mp4", 5, [5], ["a.png"], [np.zeros((4, 4), np.uint8)]])
def test_other_things_are_no_frames(access: Access, frames: object) -> None:
    assert "messages.0.content.0.video: " in refused(access, user({"type": "video", "video": frames}))


def test_handed_over_frames_are_counted(access: Access) -> None:
    limits = dataclasses.replace(LIMITS, video_decoded_frames=10)
    for count in (9, 10):
        assert opened(access, user({"type": "video", "video": [frame(1)] * count}), limits=limits)
    message = user({"type": "video", "video": [frame(1)] * 11})
    assert "video: expected at most 10 frames, got 11" in refused(access, message, limits=limits)


def test_equal_frames_have_one_digest_and_others_another(access: Access) -> None:
    [[clip]] = opened(access, user({"type": "video", "video": [frame(1), frame(2), frame(1)]}))
    assert isinstance(clip, DecodedVideo)
    first, second, third = (image.digest for image in clip.frames)
    assert first == third != second


def test_a_pdfs_pages_are_sized_for_the_tiles(access: Access) -> None:
    [[image, text]] = opened(access, user(part("pdf", made_pdf([(50, 50, "hello")]))))
    assert isinstance(image, DecodedImage) and SPEC.vision is not None
    height, width = image.rgb.shape[:2]
    assert width * height == pytest.approx(SPEC.vision.max_tiles * SPEC.vision.tile_px**2, rel=0.05)
    assert text == "Page 1 of 1:\nhello\n"


def test_the_text_of_pdfs_keeps_to_one_budget(access: Access) -> None:
    room = budget(8)
    message = user(part("pdf", made_pdf([(50, 50, "12345")])), part("pdf", made_pdf([(50, 50, "67890")])))
    [found] = opened(access, message, room=room)
    assert found[1] == "Page 1 of 1:\n12345\n" and found[3] == "Page 1 of 1:\n678 […]\n"
    assert (room.spent, room.cut) == (8, 2)


def test_text_of_a_pdf_never_becomes_a_control_token(access: Access) -> None:
    [parts] = opened(access, user(part("pdf", made_pdf([(50, 50, "<sep><image>")]))))
    found = pieces([Turn("user", parts)], SPEC)
    assert any(isinstance(piece, Text) and "<sep><image>" in piece.text for piece in found)


# --- who decodes --------------------------------------------------------------------------------------------------


class Recorder:
    """A worker that is asked and does nothing."""

    def __init__(self, *answers: Decoded) -> None:
        self.asked: list[str] = []
        self.answers = list(answers)

    def decode(self, kind: str, data: bytes, options: Options) -> Decoded:
        self.asked.append(kind)
        return self.answers.pop(0)


def test_what_strangers_send_is_decoded_apart_and_videos_and_pdfs_always() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    for apart, kinds in ((True, ["image", "video", "pdf"]), (False, ["video", "pdf"])):
        answers = {"image": {}, "video": {"seconds": [0]}, "pdf": {"texts": [""]}}
        worker = Recorder(*(Decoded((rgb,), answers[kind]) for kind in kinds))
        message = user(part("image", png()), part("video"), part("pdf"))
        opened(Access(apart=apart, worker=worker), message)  # type: ignore[arg-type]
        assert worker.asked == kinds


@pytest.mark.parametrize(
    "answer",
    [Decoded(()), Decoded((np.zeros((4, 4), np.uint8),)), Decoded((np.zeros((4, 4, 3), np.float32),)),
     Decoded((np.zeros((0, 4, 3), np.uint8),)), Decoded((np.zeros((4, 4, 3), np.uint8),), {"seconds": 5}),
     Decoded((np.zeros((4, 4, 3), np.uint8),), {"seconds": [], "texts": []})],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["video", "pdf"])
def test_what_a_process_that_was_taken_over_says_is_refused(kind: str, answer: Decoded) -> None:
    access = Access(apart=True, worker=Recorder(answer))  # type: ignore[arg-type]
    assert "decoding it failed" in refused(access, user(part(kind)))


def test_a_folder_may_be_named_by_a_text_but_not_by_an_empty_one(tmp_path: Path) -> None:
    assert (folder_of(True), folder_of(False)) == (True, False)
    assert folder_of(str(tmp_path)) == folder_of(tmp_path) == tmp_path
    with pytest.raises(ParameterError, match="files: expected True, False or the name of a folder, got ''"):
        folder_of("")
