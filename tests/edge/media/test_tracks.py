"""Pictures are shown turned and mirrored as MP4 and Matroska say, and a container that is damaged says nothing."""

import io
import struct
from collections.abc import Callable

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.media import video
from edge.media.tracks import Track, Turn, tracks
from tests.edge.media.tones import contained, tone
from tests.edge.media.videos import made_video

ONE = 0x10000
COLORS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}
# a, b, c and d of the matrix: (x, y) is shown at (a x + c y, b x + d y). Corners row by row; as decoded they are RGBW.
SHOWN = {
    (1, 0, 0, 1): "RGBW",
    (-1, 0, 0, 1): "GRWB",
    (1, 0, 0, -1): "BWRG",
    (-1, 0, 0, -1): "WBGR",
    (0, 1, -1, 0): "BRWG",
    (0, -1, 1, 0): "GWRB",
    (0, 1, 1, 0): "RBGW",
    (0, -1, -1, 0): "WGBR",
}
Square = tuple[int, int, int, int]
OPTIONS = {"frames": 1, "max_s": 10, "max_frames": 100, "max_px": 10**6, "side": 448, "crop_share": None,
           "resample": "bilinear"}  # fmt: skip


def quarters() -> bytes:
    rgb = np.zeros((64, 96, 3), np.uint8)
    for (top, left), color in zip(((0, 0), (0, 48), (32, 0), (32, 48)), COLORS.values(), strict=True):
        rgb[top : top + 32, left : left + 48] = color
    return made_video(3, frames=[rgb] * 3)


def with_matrix(data: bytes, square: Square, *, box: bytes = b"tkhd") -> bytes:
    """The MP4 with another matrix in a header."""
    at = data.index(struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 0x40000000), data.index(box))
    a, b, c, d = (ONE * value for value in square)
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000) + data[at + 36 :]


def in_matroska(data: bytes) -> bytes:
    """The same packets in Matroska, whose writer tells the matrix its own way."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return buffer.getvalue()


def corners(data: bytes) -> str:
    [rgb] = video.decode(data, OPTIONS).arrays
    height, width = rgb.shape[:2]
    points = [rgb[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return "".join(min(COLORS, key=lambda name: np.abs(point - np.array(COLORS[name])).sum()) for point in points)


@pytest.mark.parametrize("square", SHOWN)
@pytest.mark.parametrize("box", [b"tkhd", b"mvhd"])
def test_matrix_of_mp4_is_honoured(square: Square, box: bytes) -> None:
    assert corners(with_matrix(quarters(), square, box=box)) == SHOWN[square]


@pytest.mark.parametrize("square", SHOWN)
def test_projection_of_matroska_is_honoured(square: Square) -> None:
    assert corners(in_matroska(with_matrix(quarters(), square))) == SHOWN[square]


def test_matrices_of_track_and_movie_are_multiplied() -> None:
    data = with_matrix(with_matrix(quarters(), (0, 1, -1, 0)), (-1, 0, 0, 1), box=b"mvhd")
    assert corners(data) == "RBGW"  # turned to BRWG, then mirrored


@pytest.mark.parametrize("square", [(0, 0, 0, 0), (1, 0, 1, 0)])
def test_matrix_that_shows_nothing_is_left_aside(square: Square) -> None:
    assert tracks(with_matrix(quarters(), square)) == [Track("video", "avc1")]


def test_tracks_are_told_by_kind_and_codec() -> None:
    assert tracks(quarters()) == [Track("video", "avc1", Turn())]
    assert tracks(made_video(1, "vp9.webm")) == [Track("video", "V_VP9")]
    assert tracks(contained(tone(0.1, rate_hz=48_000), "m4a")) == [Track("audio", "mp4a")]
    assert tracks(contained(tone(0.1, rate_hz=48_000), "webm")) == [Track("audio", "A_OPUS")]
    assert tracks(b"") == tracks(b"RIFF....AVI ") == []


@pytest.mark.parametrize("make", [quarters, lambda: in_matroska(with_matrix(quarters(), (0, 1, 1, 0)))])
def test_container_that_is_cut_off_or_spoiled_is_no_error(make: Callable[[], bytes]) -> None:
    data = make()
    for n_bytes in range(0, len(data), 7):
        tracks(data[:n_bytes])
    random = np.random.default_rng(0)
    for _ in range(300):
        spoiled = np.frombuffer(data, np.uint8).copy()
        spoiled[random.integers(0, len(data), 6)] = random.integers(0, 256, 6)
        tracks(spoiled.tobytes())


@given(st.binary(max_size=200), st.sampled_from([b"\0\0\0\x08ftyp", b"\x1a\x45\xdf\xa3", b""]))
def test_whatever_is_no_container_is_no_error(data: bytes, head: bytes) -> None:
    assert isinstance(tracks(head + data), list)
