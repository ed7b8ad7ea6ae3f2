"""Videos that tests make: frames that tell their own number, in every container and codec, and headers that lie."""

import io
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]

# name: (container, encoder)
KINDS = {
    "mp4": ("mp4", "libx264"),
    "hevc.mp4": ("mp4", "libx265"),
    "mpeg4.mp4": ("mp4", "mpeg4"),
    "mov": ("mov", "libx264"),
    "mkv": ("matroska", "libx264"),
    "webm": ("webm", "libvpx"),
    "vp9.webm": ("webm", "libvpx-vp9"),
    "avi": ("avi", "mjpeg"),
    "mpeg4.avi": ("avi", "mpeg4"),
}
N_NUMBERS = 25
_FAST = {"libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
         "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
         "libvpx": {"cpu-used": "8", "deadline": "realtime"}}  # fmt: skip


def frame(number: int, size: tuple[int, int] = (96, 64)) -> U8:
    """A grey frame whose level is its number (0 to 24), one corner white: (H, W, 3)."""
    width, height = size
    rgb = np.full((height, width, 3), 10 * number, np.uint8)
    rgb[: height // 4, : width // 4] = 255
    return rgb


def number_of(rgb: U8) -> int:
    """The number that a frame tells, whatever codec it went through."""
    height, width = rgb.shape[:2]
    return round(float(np.median(rgb[height // 2 :, width // 2 :])) / 10)


def made_video(
    n_frames: int = 24,
    kind: str = "mp4",
    *,
    fps: int = 8,
    size: tuple[int, int] = (96, 64),
    times: Sequence[Fraction] | None = None,
    frames: Iterable[U8] | None = None,
) -> bytes:
    """Encode a video. times: when each frame is shown, in seconds, where that is not even."""
    container, codec = KINDS[kind]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps, options=_FAST.get(codec, {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, rgb in enumerate(
            frames if frames is not None else (frame(i % N_NUMBERS, size) for i in range(n_frames))
        ):
            image = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            image.time_base = Fraction(1, 1000) if times is not None else Fraction(1, fps)
            image.pts = round(times[i] * 1000) if times is not None else i
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def gif(n_frames: int = 24, *, delay_ms: int | list[int] = 100, size: tuple[int, int] = (96, 64)) -> bytes:
    images = [Image.fromarray(frame(i % N_NUMBERS, size)) for i in range(n_frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=delay_ms, optimize=False)
    return buffer.getvalue()


def turned(data: bytes, degrees: int) -> bytes:
    """An MP4 whose header says that it is to be shown turned clockwise."""
    one = 0x10000
    matrix = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    a, b, c, d = matrix
    at = data.index(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 0x40000000), data.index(b"tkhd"))
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000) + data[at + 36 :]


def lying_avi(data: bytes, n_frames: int) -> bytes:
    """An AVI whose headers say that it has so many frames, and that has no index to tell the truth."""
    told = bytearray(data)
    struct.pack_into("<I", told, told.index(b"avih") + 8 + 16, n_frames)
    struct.pack_into("<I", told, told.index(b"strh") + 8 + 32, n_frames)
    return bytes(told[: told.rindex(b"idx1")])
