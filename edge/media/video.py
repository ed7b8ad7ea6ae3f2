"""Films: a few frames, evenly spread over one, however long it is and whatever its header says of it."""

import io
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image

from edge.errors import MediaError
from edge.media.decoded import Decoded, Options
from edge.media.frames import small, spread
from edge.media.image import from_array
from edge.media.sniff import expect

U8 = npt.NDArray[np.uint8]

CODECS = "H.264, HEVC, VP8, VP9, MPEG-4 or Motion JPEG"

_LOG = logging.getLogger("edge")
_CODEC_TAGS = {
    *("H264", "X264", "AVC1", "AVC3", "HEVC", "HVC1", "HEV1", "H265", "VP80", "VP08", "VP90", "VP09"),
    *("FMP4", "MP4V", "XVID", "DIVX", "DX50", "M4S2", "MJPG", "JPEG"),
}
_MAX_FPS = 1000.0
_LEAST_FRAME_BYTES = 16
_GIF_DELAY_MS = 100  # what a delay of 0 stands for


@dataclass(frozen=True)
class _Limits:
    """What a film may be: seconds, frames decoded, pixels a frame."""

    seconds: float
    frames: int
    px: int

    def check_length(self, seconds: float) -> None:
        if seconds > self.seconds:
            raise MediaError(f"video: expected at most {self.seconds:g} s, got {seconds:.9g} s")

    def check_frames(self, n_frames: int) -> None:
        if n_frames > self.frames:
            raise MediaError(f"video: expected at most {self.frames} frames, got {n_frames} or more")

    def check_pixels(self, width: int, height: int) -> None:
        if width * height > self.px:
            pixels = width * height
            raise MediaError(f"video: expected frames of at most {self.px} pixels, got {width} x {height} = {pixels}")


@dataclass(frozen=True)
class _Shape:
    """How a frame is made as small as its tile needs it."""

    side: int
    crop_share: float | None
    resample: str


@dataclass
class _Seen:
    """One way through a film: frames kept by index, how many there were, and when the last one was shown."""

    frames: dict[int, U8]
    n_frames: int = 0
    last_s: float = 0.0


def decode(data: bytes, options: Options) -> Decoded:
    """Return `frames` frames of a film, fitted to a tile: arrays (h, w, 3) uint8 RGB, upright.

    options: frames, max_s, max_frames, max_px; of the tile: side, crop_share, resample. info: seconds (when each frame
    is shown), n_frames (of the whole film), fps. The frames are floor(linspace(0, n - 1, frames)), all where there are
    no more. Memory does not grow with the film. Raises: MediaError. Source: reka-edge.md, 4.
    """
    limits = _Limits(_number(options, "max_s"), int(_number(options, "max_frames")), int(_number(options, "max_px")))
    share = options.get("crop_share")
    shape = _Shape(int(_number(options, "side")), None if share is None else float(share), str(options["resample"]))
    wanted = int(_number(options, "frames"))
    name = expect("video", data).name
    try:
        if name == "GIF":
            return _decode_gif(data, wanted, limits, shape)
        return _decode_film(data, wanted, limits, shape)
    except cv2.error as error:
        _LOG.debug("video: not decoded", exc_info=True)
        raise MediaError("video: the data is damaged or cut off") from error


def _decode_film(data: bytes, wanted: int, limits: _Limits, shape: _Shape) -> Decoded:
    told, fps = _told(data, limits)
    seen = _watch(data, set(spread(told, wanted)), limits, shape)
    if seen.n_frames == 0:
        raise MediaError("video: expected at least one frame, got none that can be decoded")
    indices = spread(seen.n_frames, wanted)
    if not seen.frames.keys() >= set(indices):
        # The header lied about their number, which is known now.
        again = _watch(data, set(indices), limits, shape)
        seen = _Seen({**seen.frames, **again.frames}, seen.n_frames, seen.last_s)
    if fps is None:
        fps = (seen.n_frames - 1) / seen.last_s if seen.last_s > 0 else 1.0
    return _decoded(seen, indices, fps)


def _decoded(seen: _Seen, indices: list[int], fps: float) -> Decoded:
    # Frames that could not be decoded, in a film that is damaged further on, are left out.
    kept = [index for index in indices if index in seen.frames]
    if not kept:
        raise MediaError("video: the data is damaged or cut off")
    seconds = [int(index / fps) for index in kept]
    info = {"seconds": seconds, "n_frames": seen.n_frames, "fps": fps}
    return Decoded(tuple(seen.frames[index] for index in kept), info)


def _told(data: bytes, limits: _Limits) -> tuple[int, float | None]:
    """Return the number of frames and the rate a header tells; 0 and None where it tells nothing that can be."""
    film = _open(data, limits)
    try:
        count, fps = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    finally:
        film.release()
    rate = fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else None
    if not 0 < count <= len(data) / _LEAST_FRAME_BYTES:
        return 0, rate  # more frames than there are bytes for: nothing is known before they are counted
    if rate is not None:
        limits.check_length(count / rate)
    return int(count), rate


def _watch(data: bytes, indices: set[int], limits: _Limits, shape: _Shape) -> _Seen:
    """Decode a film from its beginning to its end and keep the frames of these indices."""
    film = _open(data, limits)
    seen = _Seen({})
    try:
        while film.grab():
            index, seen.n_frames = seen.n_frames, seen.n_frames + 1
            limits.check_frames(seen.n_frames)
            seen.last_s = max(seen.last_s, film.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            limits.check_length(seen.last_s)
            if index in indices:
                whole, bgr = film.retrieve()
                if whole:
                    seen.frames[index] = _fitted(np.asarray(bgr, np.uint8), limits, shape)
    finally:
        film.release()
    return seen


def _open(data: bytes, limits: _Limits) -> cv2.VideoCapture:
    """Open a film in memory. Raises: MediaError."""
    # A file without a name: OpenCV's reading from Python's own streams crashes when it is released.
    descriptor = os.memfd_create("film", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        film = cv2.VideoCapture(f"/proc/self/fd/{descriptor}", cv2.CAP_FFMPEG)
    finally:
        os.close(descriptor)
    if not film.isOpened():
        raise MediaError("video: the data is damaged or cut off, or its codec is not taken")
    tag = int(film.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    name = tag.to_bytes(4, "little").decode("latin-1").upper()
    if name not in _CODEC_TAGS:
        film.release()
        spelt = name if name.isascii() and name.isprintable() else "another"
        raise MediaError(f"video: expected a codec of {CODECS}, got {spelt}")
    limits.check_pixels(int(film.get(cv2.CAP_PROP_FRAME_WIDTH)), int(film.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    return film


def _fitted(bgr: U8, limits: _Limits, shape: _Shape) -> U8:
    """Bring a frame to the size its tile needs."""
    limits.check_pixels(bgr.shape[1], bgr.shape[0])  # it may differ from the header's
    return _small(Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])), shape)


def _small(frame: Image.Image, shape: _Shape) -> U8:
    return small(frame, side=shape.side, crop_share=shape.crop_share, resample=shape.resample)


def _decode_gif(data: bytes, wanted: int, limits: _Limits, shape: _Shape) -> Decoded:
    """Decode an animation twice: its frames are counted first, as nothing tells their number."""
    seen = _Seen({})
    for seen.n_frames, delay_ms, _ in _gif_frames(data, limits):
        seen.last_s += delay_ms / 1000
    limits.check_length(seen.last_s)
    indices = spread(seen.n_frames, wanted)
    for number, _, frame in _gif_frames(data, limits):
        if number - 1 in indices:
            seen.frames[number - 1] = _small(Image.fromarray(from_array(frame, max_px=limits.px)), shape)
    return _decoded(seen, indices, seen.n_frames / seen.last_s)


def _gif_frames(data: bytes, limits: _Limits) -> Iterator[tuple[int, float, Image.Image]]:
    """Yield (1, 2, …, milliseconds, frame), as far as an animation can be decoded. Raises: MediaError for the first."""
    number = 0
    try:
        with GifImagePlugin.GifImageFile(io.BytesIO(data)) as film:
            limits.check_pixels(film.width, film.height)
            while True:
                film.seek(number)
                film.load()
                number += 1
                limits.check_frames(number)
                yield number, float(film.info.get("duration") or _GIF_DELAY_MS), film
    except EOFError:
        return
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, Image.DecompressionBombError) as error:
        _LOG.debug("video: a GIF's frame %d was not decoded", number, exc_info=True)
        if number == 0:
            raise MediaError("video: the GIF data is damaged or cut off") from error


def _number(options: Options, name: str) -> float:
    return float(options[name] or 0)
