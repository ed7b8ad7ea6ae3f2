"""Frames whose size or pixel format is another than that of the first are never converted as if it were the same."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edge.errors import MediaError
from edge.media import video
from edge.media.shapes import Shape, announced
from tests.edge.media.videos import KINDS, made_video

U8 = npt.NDArray[np.uint8]
Packet = tuple[bytes, bool]

RED, GREEN = (200, 40, 40), (40, 200, 40)
OPTIONS = {"frames": 32, "max_s": 100, "max_frames": 1000, "max_px": 10**7, "side": 64, "crop_share": None,
           "resample": "bilinear"}  # fmt: skip
CODECS = {"libx264": "H264", "libx265": "HEVC", "libvpx": "VP80", "libvpx-vp9": "VP90", "mpeg4": "FMP4"}
QUIET = {"libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}}


def jpeg(color: tuple[int, int, int], size: tuple[int, int] = (96, 64), subsampling: int = 2) -> Packet:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG", subsampling=subsampling)
    return buffer.getvalue(), True


def encoded(
    codec: str,
    size: tuple[int, int] = (96, 64),
    *,
    form: str = "yuv420p",
    n: int = 4,
    color: tuple[int, int, int] = RED,
) -> list[Packet]:
    """The packets of some frames, headers within, and whether each is a key frame."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, form
    encoder.time_base, encoder.options, encoder.max_b_frames = Fraction(1, 5), QUIET.get(codec, {}), 0
    found = []
    for i in range(n + 1):
        frame = None
        if i < n:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), RED, np.uint8), format="rgb24")
            frame.pts = i
        found += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(frame)]
    return found


def muxed(codec: str, packets: Sequence[Packet], container: str, size: tuple[int, int] = (96, 64)) -> bytes:
    """A file whose header says this size, whatever the packets hold."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=5, options=QUIET.get(codec, {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.encode(av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24"))
        for i, (data, is_key) in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 5), is_key
            packet.pts = packet.dts = i
            out.mux(packet)
    return buffer.getvalue()


def middle(rgb: U8) -> list[int]:
    return [int(value) for value in rgb.reshape(-1, 3).max(axis=0)]


@pytest.mark.parametrize("forms", [(1, 2), (0, 2), (2, 1), (2, 0)])
def test_images_of_a_camera_whose_first_is_of_another_format_are_right(forms: tuple[int, int]) -> None:
    packets = [jpeg(RED, subsampling=forms[0]), *(jpeg(GREEN, subsampling=forms[1]) for _ in range(5))]
    found = video.decode(muxed("mjpeg", packets, "avi"), OPTIONS)
    assert len(found.arrays) == 5 and found.info["lost"] == "1 of 6 frames cannot be decoded"
    for rgb in found.arrays:
        assert np.abs(np.asarray(rgb, np.int16) - GREEN).max() < 4


@pytest.mark.parametrize("other", [(48, 32), (192, 128), (96, 32), (48, 64)])
def test_a_image_of_another_size_amid_others_is_left_out(other: tuple[int, int]) -> None:
    packets = [*(jpeg(GREEN) for _ in range(3)), jpeg(RED, other), *(jpeg(GREEN) for _ in range(3))]
    found = video.decode(muxed("mjpeg", packets, "avi"), OPTIONS)
    assert len(found.arrays) == 6 and found.info["lost"] == "1 of 7 frames cannot be decoded"
    for rgb in found.arrays:
        assert np.abs(np.asarray(rgb, np.int16) - GREEN).max() < 4


@pytest.mark.parametrize("codec", ["libx264", "libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("other", [(48, 32), (192, 128)])
def test_sizes_that_change_for_good_are_refused_by_name(codec: str, other: tuple[int, int]) -> None:
    packets = encoded(codec) + encoded(codec, other)
    with pytest.raises(MediaError) as caught:
        video.decode(muxed(codec, packets, "matroska"), OPTIONS)
    assert "frames of different sizes (96 x 64, " in str(caught.value)
    assert "not supported: ffmpeg -i " in str(caught.value) and "damaged" not in str(caught.value)


def test_pixel_formats_that_change_by_turns_are_refused_by_name() -> None:
    packets = [jpeg(RED, subsampling=i % 2 * 2) for i in range(6)]
    with pytest.raises(MediaError, match="frames of different pixel formats in one video are not supported: ffmpeg"):
        video.decode(muxed("mjpeg", packets, "avi"), OPTIONS)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("size", [(96, 64), (322, 178), (64, 64)])
def test_size_is_told_by_the_packet(codec: str, size: tuple[int, int]) -> None:
    found = announced(CODECS[codec], encoded(codec, size)[0][0])
    assert found is not None and found.fits(*size)
    assert not found.fits(size[0] * 2, size[1] * 2) and not found.fits(size[0] - 80, size[1])


@pytest.mark.parametrize(
    ("codec", "form"),
    [("libx264", "yuv422p"), ("libx264", "yuv444p"), ("libx264", "yuv420p10le"), ("libx265", "yuv444p"),
     ("libx265", "yuv420p10le"), ("libvpx-vp9", "yuv444p")],
)  # fmt: skip
def test_another_pixel_format_is_another_shape(codec: str, form: str) -> None:
    one, other = (announced(CODECS[codec], encoded(codec, form=name)[0][0]) for name in ("yuv420p", form))
    assert one is not None and other is not None and one.size == other.size and one != other


def test_several_sizes_in_one_packet_are_like_none() -> None:
    packet = encoded("libx264")[0][0] + encoded("libx264", (192, 128))[0][0]
    found = announced("H264", packet)
    assert found is not None and found.size is None


@pytest.mark.parametrize("kind", KINDS)
def test_all_frames_of_a_video_have_one_shape(kind: str) -> None:
    with video._in_memory(made_video(24, kind)) as path:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        _, shapes = video._packets(capture, video._Limits(100, 1000, 10**6))
        capture.release()
    assert len(shapes) == 24 and len(set(shapes)) == 1 and isinstance(shapes[0], Shape)


@given(st.sampled_from(["MJPG", "H264", "HEVC", "VP80", "VP90", "FMP4"]), st.binary(max_size=80))
def test_whatever_is_no_packet_is_no_error(codec: str, data: bytes) -> None:
    heads = {"MJPG": b"\xff\xd8\xff\xc0", "H264": b"\0\0\1\x67", "HEVC": b"\0\0\1\x42\1", "VP80": b"\x10\0\0\x9d\1\x2a"}
    for head in (b"", heads.get(codec, b"\0\0\1\x20"), b"\1"):
        assert announced(codec, head + data) is None or isinstance(announced(codec, head + data), Shape)
