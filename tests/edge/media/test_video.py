"""Videos: the right frames, upright, of every container, however its header lies; and never more than is allowed."""

import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image

from edge.bundle.manifest import VisionSpec
from edge.chat.attachments import video_options
from edge.errors import MediaError
from edge.limits import Limits
from edge.media import video
from edge.media.decoded import Decoded
from edge.media.frames import chosen, small, spread
from edge.media.gif import delays_ms
from edge.media.sandbox import ENVIRONMENT, Worker
from edge.media.tiles import frame_tile
from tests.edge.media.tones import contained, tone
from tests.edge.media.videos import KINDS, N_NUMBERS, frame, gif, lying_avi, made_video, number_of, turned

U8 = npt.NDArray[np.uint8]

MEAN = (0.5, 0.5, 0.5)
SPEC = VisionSpec(64, 8, 4, 4, "bilinear", MEAN, MEAN, None, "cells-first", 6)
LIMITS = Limits()


@pytest.fixture(autouse=True, scope="module")
def as_in_the_worker() -> Iterator[None]:
    """Decode here, as the separate process does it: without a word on stderr, and by its demuxers alone."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    yield
    os.environ.clear()
    os.environ.update(before)


def decoded(data: bytes, *, frames: int = 6, spec: VisionSpec = SPEC, limits: Limits = LIMITS) -> Decoded:
    return video.decode(data, video_options(spec, limits, frames))


def numbers(found: Decoded) -> list[int]:
    return [number_of(np.asarray(rgb, np.uint8)) for rgb in found.arrays]


def refused(data: bytes, *, limits: Limits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        decoded(data, limits=limits)
    return str(caught.value)


# --- which frames -------------------------------------------------------------------------------------------------


@given(st.integers(1, 7200), st.integers(1, 32))
def test_frames_are_spread_as_numpys_linspace(n_frames: int, wanted: int) -> None:
    expected = np.floor(np.linspace(0, n_frames - 1, wanted)) if n_frames > wanted else np.arange(n_frames)
    assert spread(n_frames, wanted) == expected.astype(int).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_and_codec_gives_the_same_frames(kind: str) -> None:
    found = decoded(made_video(24, kind))
    assert numbers(found) == [0, 4, 9, 13, 18, 23]
    assert found.info == {"seconds": [0, 0, 1, 1, 2, 2], "n_frames": 24, "fps": 8.0}


def test_a_gif_gives_its_frames() -> None:
    found = decoded(gif(24))
    assert numbers(found) == [0, 4, 9, 13, 18, 23]
    assert found.info["seconds"] == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "expected"), [(1, [0]), (2, [0, 9]), (9, [0, 1, 2, 3, 4, 5, 6, 7, 9]), (10, list(range(10)))]
)
def test_as_many_frames_as_are_asked_for(wanted: int, expected: list[int]) -> None:
    assert numbers(decoded(made_video(10), frames=wanted)) == expected
    assert numbers(decoded(gif(10), frames=wanted)) == expected


@pytest.mark.parametrize("n_frames", [1, 2, 5, 6, 7])
def test_short_videos_give_what_they_have(n_frames: int) -> None:
    assert numbers(decoded(made_video(n_frames))) == spread(n_frames, 6)


# --- how a frame is made small ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 448])
@pytest.mark.parametrize("share", [0.875, None])
@pytest.mark.parametrize("size", [(96, 64), (63, 201), (700, 500)])
def test_a_fitted_frame_makes_the_tile_that_the_frame_itself_makes(
    side: int, share: float | None, size: tuple[int, int]
) -> None:
    spec = VisionSpec(side, 8, 4, 4, "bicubic", MEAN, MEAN, share, "cells-first", 6)
    rgb: U8 = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    fitted = small(Image.fromarray(rgb), side=side, crop_share=share, resample="bicubic")
    assert np.array_equal(frame_tile(fitted, spec), frame_tile(rgb, spec))
    assert frame_tile(rgb, spec).shape == (3, side, side)


def test_frames_are_red_where_they_are_red() -> None:
    red = np.zeros((64, 96, 3), np.uint8)
    red[:, :, 0] = 250
    [first] = decoded(made_video(1, "avi", frames=[red]), frames=1).arrays
    assert first[32, 32, 0] > 200 > 60 > int(first[32, 32, 1:].max())


# --- headers that turn, lie and vary ------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_rotation_in_the_header_is_honoured(degrees: int, corner: tuple[int, int]) -> None:
    first = decoded(turned(made_video(3), degrees)).arrays[0]
    bright = {(y, x) for y in (0, -1) for x in (0, -1) if first[y, x, 0] > 200}
    assert bright == {corner}


@pytest.mark.parametrize("told", [0, 1, 5, 23, 25, 200, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_wrong_frame_count_changes_nothing(told: int) -> None:
    found = decoded(lying_avi(made_video(24, "avi"), told))
    assert numbers(found) == [0, 4, 9, 13, 18, 23]
    assert found.info["n_frames"] == 24


def test_frames_are_chosen_by_when_they_are_shown() -> None:
    times = [Fraction(i * i, 10) for i in range(10)]
    found = decoded(made_video(10, "mkv", times=times))
    assert numbers(found) == [0, 4, 5, 6, 8, 9]  # those shown at 0, 1.62, 3.24, 4.86, 6.48 and 8.1 s
    assert found.info["seconds"] == [0, 1, 2, 3, 6, 8]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_each_of_some_stills_after_a_burst_is_seen(kind: str) -> None:
    times = [Fraction(i, 10) for i in range(20)] + [Fraction(10 * i + 2) for i in range(5)]
    found = decoded(made_video(25, kind, times=times))
    assert numbers(found) == [0, 20, 21, 22, 23, 24]
    assert found.info["seconds"] == [0, 2, 12, 22, 32, 42]


def test_a_still_shown_for_long_is_looked_at_once() -> None:
    times = [*(i / 10 for i in range(20)), 100.0]
    assert chosen(times, 6) == [0, 4, 9, 14, 19, 20]


@pytest.mark.parametrize("fps", [10.0, 23.976, 29.97, 30.0])
@pytest.mark.parametrize("digits", [3, 6])
def test_times_that_are_rounded_leave_the_choice_as_it_is(fps: float, digits: int) -> None:
    times = [round(i / fps, digits) for i in range(301)]
    assert chosen(times, 6) == spread(301, 6)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 32))
def test_as_many_frames_are_chosen_whatever_their_times(gaps_ms: list[int], wanted: int) -> None:
    times = [ms / 1000 for ms in accumulate(gaps_ms)]
    found = chosen(times, wanted)
    assert len(found) == min(wanted, len(times)) and found == sorted(set(found))
    assert found[0] == 0 and (wanted == 1 or found[-1] == len(times) - 1)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_seconds_count_from_the_first_frame(kind: str) -> None:
    found = decoded(made_video(24, kind, times=[Fraction(7) + Fraction(i, 8) for i in range(24)]))
    assert numbers(found) == [0, 4, 9, 13, 18, 23]
    assert found.info["seconds"] == [0, 0, 1, 1, 2, 2]


def test_a_gif_is_timed_by_its_delays() -> None:
    found = decoded(gif(10, delay_ms=[100] * 8 + [5000, 5000]))
    assert numbers(found) == [0, 2, 4, 6, 8, 9]
    assert found.info["seconds"] == [0, 0, 0, 0, 0, 5]


@pytest.mark.parametrize(("told_ms", "shown_ms"), [(0, 100), (10, 100), (20, 20), (250, 250)])
def test_a_delay_too_short_to_be_meant_is_that_of_browsers(told_ms: int, shown_ms: int) -> None:
    assert list(delays_ms(gif(3, delay_ms=told_ms))) == [shown_ms] * 3


@pytest.mark.parametrize("told", [0, 5, 24, 200])
@pytest.mark.parametrize("make", [made_video, gif])
def test_every_frame_is_decoded_once(make: Callable[..., bytes], told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding, opencvs = [], cv2.VideoCapture

    class Capture:
        def __init__(self, *arguments: object) -> None:
            self._capture = opencvs(*arguments)

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

        def grab(self) -> bool:
            is_whole: bool = self._capture.grab()
            if is_whole and self._capture.get(cv2.CAP_PROP_FORMAT) != -1:
                decoding.append(1)
            return is_whole

    class Gif(GifImagePlugin.GifImageFile):
        def seek(self, number: int) -> None:
            decoding.append(1)
            super().seek(number)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(GifImagePlugin, "GifImageFile", Gif)
    data = gif(24) if make is gif else lying_avi(made_video(24, "avi"), told)
    assert numbers(decoded(data)) == [0, 4, 9, 13, 18, 23]
    assert 24 <= len(decoding) <= 26  # Pillow looks behind the last frame


def test_a_video_that_is_cut_off_gives_the_frames_there_are() -> None:
    whole = made_video(24, "avi")
    found = decoded(whole[: len(whole) * 2 // 3])
    assert 8 < found.info["n_frames"] < 24
    assert numbers(found) == spread(found.info["n_frames"], 6)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_the_seconds_of_a_video_are_limited(kind: str) -> None:
    assert LIMITS.video_s == 120
    size = (32, 32)
    for n_frames in (119, 120):
        assert len(decoded(made_video(n_frames, kind, fps=1, size=size)).arrays) == 6
    message = refused(made_video(121, kind, fps=1, size=size))
    assert re.fullmatch(r"video: expected at most 120 s, got 121(\.\d+)? s", message)


def test_the_seconds_of_a_gif_are_limited() -> None:
    for n_frames in (11, 12):
        assert decoded(gif(n_frames, delay_ms=10_000)).arrays
    assert refused(gif(13, delay_ms=10_000)) == "video: expected at most 120 s, got 130 s"


def test_a_video_without_an_end_in_its_header_is_stopped_at_the_limit() -> None:
    data = lying_avi(made_video(140, "avi", fps=1, size=(32, 32)), 0)
    assert "expected at most 120 s" in refused(data)


@pytest.mark.parametrize("make", [made_video, gif])
def test_the_frames_of_a_video_are_limited(make) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    limits = Limits(video_decoded_frames=10)
    for n_frames in (9, 10):
        assert decoded(make(n_frames), limits=limits).info["n_frames"] == n_frames
    assert refused(make(11), limits=limits) == "video: expected at most 10 frames, got 11 or more"


@pytest.mark.slow
def test_the_default_limit_of_frames_holds() -> None:
    assert LIMITS.video_decoded_frames == 7200
    tiny = [frame(i % N_NUMBERS, (16, 16)) for i in range(7201)]
    for n_frames in (7199, 7200):
        assert decoded(made_video(kind="mpeg4.mp4", fps=100, size=(16, 16), frames=tiny[:n_frames])).arrays
    assert "at most 7200 frames" in refused(made_video(kind="mpeg4.mp4", fps=100, size=(16, 16), frames=tiny))


@pytest.mark.parametrize("make", [made_video, gif])
def test_the_pixels_of_a_frame_are_limited(make) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    n_px = 96 * 64
    for limit in (n_px, n_px + 1):
        assert decoded(make(2), limits=Limits(video_px=limit)).arrays
    message = refused(make(2), limits=Limits(video_px=n_px - 1))
    assert message == f"video: expected frames of at most {n_px - 1} pixels, got 96 x 64 = {n_px}"


def playlist() -> bytes:
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 100, playlist(), b"ffconcat version 1.0\nfile /etc/passwd\n", b"v=0\r\no=- 0 0 IN IP4\r\n",
     b'<?xml version="1.0"?><MPD></MPD>', b"\x89PNG\r\n\x1a\n" + bytes(50), b"RIFF\0\0\0\0WAVEfmt ",
     b"OggS" + bytes(60)],
)  # fmt: skip
def test_what_is_no_video_is_refused_by_its_first_bytes(data: bytes) -> None:
    message = refused(data)
    assert "expected MP4, MOV, MKV, WebM, AVI or GIF" in message
    assert "damaged" not in message


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"GIF89a"])
def test_a_playlist_in_disguise_is_damaged(head: bytes) -> None:
    assert "damaged or cut off" in refused(head + playlist())


def test_a_codec_that_is_not_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "ffv1.mkv", ("matroska", "ffv1"))
    message = refused(made_video(3, "ffv1.mkv"))
    assert message.startswith("video: expected a codec of H.264, HEVC, VP8, VP9, MPEG-4 or Motion JPEG, got FFV1")
    assert "not supported: ffmpeg -i " in message and "damaged" not in message


def test_audio_in_a_container_of_videos_is_told_where_it_belongs() -> None:
    for name in ("m4a", "webm"):
        assert "no video track, only audio: send it as `audio_url`" in refused(
            contained(tone(0.5, rate_hz=48_000), name)
        )


# --- memory -------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_video() -> None:
    size = (320, 240)  # 0.2 MB a frame
    peaks = []
    for n_frames in (60, 600):
        data = made_video(n_frames, "mpeg4.mp4", fps=25, size=size)
        worker = Worker()
        try:
            worker.decode("video", data, video_options(SPEC, LIMITS, 6))
            status = Path(f"/proc/{worker.pid}/status").read_text("ascii")
            peaks.append(int(re.search(r"VmHWM:\s+(\d+)", status)[1]))  # type: ignore[index]
        finally:
            worker.close()
    assert peaks[1] - peaks[0] < 12_000  # KB; 540 frames more are 124 MB
