"""Videos: a few frames, evenly spread over the time one takes, whatever its header says of it."""

import contextlib
import io
import itertools
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import GifImagePlugin, Image

from edge.arrays import U8
from edge.errors import MediaError
from edge.media import opencv
from edge.media.decoded import Decoded, Options
from edge.media.frames import chosen, small, spread
from edge.media.gif import delays_ms
from edge.media.image import from_array
from edge.media.shapes import Shape, announced
from edge.media.sniff import expect
from edge.media.tracks import Turn, tracks, turn_of
from edge.media.variants import unsupported

CODECS = "H.264, HEVC, VP8, VP9, MPEG-4 or Motion JPEG"

_LOG = logging.getLogger("edge")
_CODEC_TAGS = {
    *("H264", "X264", "AVC1", "AVC3", "HEVC", "HVC1", "HEV1", "H265", "VP80", "VP08", "VP90", "VP09"),
    *("FMP4", "MP4V", "XVID", "DIVX", "DX50", "M4S2", "MJPG", "JPEG"),
}
_OTHER_CODECS = {
    **dict.fromkeys(("AV01", "V_AV1"), "AV1"),
    **dict.fromkeys(("APCO", "APCS", "APCN", "APCH", "AP4H", "AP4X", "V_PRORES"), "ProRes"),
    **dict.fromkeys(("VVC1", "VVI1", "V_MPEGI/ISO/VVC"), "VVC"),
}
_VP8 = ("VP80", "VP08")
_MAX_FPS = 1000.0
_TICK_S = 1e-6  # times are sums of floats
_UNKNOWN_S = 1e9  # what is further from 0 is no time: OpenCV reckons with the number that stands for none
_SAME_RATE = 0.01  # how much a rate that is measured may differ from the one that is told
_MAX_NAMED = 4
_SPARE_PX, _MAX_SPARES = 16_000_000, 24  # frames kept beside those chosen, in case that others turn out to be right


@dataclass(frozen=True)
class _Limits:
    """What a video may be: seconds, frames decoded, pixels a frame."""

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


@dataclass(frozen=True)
class _Plan:
    """What is known of a video before it is decoded.

    times: when each frame is shown, in seconds, ascending from 0; start_s: what a decoder's clock says at 0, None where
    it tells nothing that can be and frames are counted; fps: as the header tells it; usable: what the clock says at
    each frame that can be converted, None for all; n_others: how many cannot be.
    """

    times: list[float]
    start_s: float | None
    fps: float | None
    usable: frozenset[float] | None = None
    n_others: int = 0


@dataclass
class _Seen:
    """A way through a video: when each frame was shown, by the decoder's clock, and those that were kept, by index."""

    clock_s: list[float] = field(default_factory=list)
    frames: dict[int, U8] = field(default_factory=dict)


def decode(data: bytes, options: Options) -> Decoded:
    """Return `frames` frames of a video, fitted to a tile: arrays (h, w, 3) uint8 RGB, upright and not mirrored.

    options: frames, max_s, max_frames, max_px; of the tile: side, crop_share, resample. info: seconds (when each frame
    is shown, counted from the first), n_frames (of the whole video), fps, lost (what could not be decoded, if
    anything). The frames are those of `edge.media.frames.chosen`. It is decoded once, and memory does not grow with it.
    Raises: MediaError. Source: model-family.md, 4.
    """
    limits = _Limits(_number(options, "max_s"), int(_number(options, "max_frames")), int(_number(options, "max_px")))
    share = options.get("crop_share")
    shape = _Shape(int(_number(options, "side")), None if share is None else float(share), str(options["resample"]))
    wanted = int(_number(options, "frames"))
    name = expect("video", data).name
    try:
        if name == "GIF":
            return _decode_gif(data, wanted, limits, shape)
        return _decode_video(data, wanted, limits, shape)
    except cv2.error as error:
        _LOG.debug("video: not decoded", exc_info=True)
        raise MediaError("video: the data is damaged or cut off") from error
    except opencv.Unwritten as error:
        hint = f"pip install '{opencv.SUPPORTED}'"
        raise MediaError(f"video: OpenCV {cv2.__version__} cannot convert its frames: {hint}") from error


# --- by OpenCV ----------------------------------------------------------------------------------------------------


def _decode_video(data: bytes, wanted: int, limits: _Limits, shape: _Shape) -> Decoded:
    if (fault := opencv.fault()) is not None:
        raise MediaError(f"video: {fault}")
    with _in_memory(data) as path:
        plan = _planned(path, data, limits)
        seen = _watched(path, data, plan, wanted, limits, shape)
    n_frames, n_lost = len(seen.clock_s), len(plan.times) - len(seen.clock_s)
    if n_frames == 0:
        raise MediaError("video: expected at least one frame, got none that can be decoded")
    times = plan.times if n_lost == 0 else _ascending(seen.clock_s, plan.fps)[0]
    n_lost = max(0, n_lost) + plan.n_others
    lost = f"{n_lost} of {len(plan.times) + plan.n_others} frames cannot be decoded" if n_lost else None
    return _result(times, seen.frames, wanted, plan.fps, lost)


def _planned(path: str, data: bytes, limits: _Limits) -> _Plan:
    """Go through the packets of a video without decoding them. Raises: MediaError."""
    capture = _open(path, data, limits)
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        rate = fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else None
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        clock_s, shapes = _packets(capture, limits)
    finally:
        capture.release()
    usable = _usable(clock_s, shapes, size) if len(set(shapes)) > 1 else None
    times, start_s = _ascending(_without_preroll(clock_s) if usable is None else sorted(usable), rate)
    if times:
        between = np.diff(times)
        limits.check_length(times[-1] + (float(np.median(between)) if len(between) else 0.0))
    return _Plan(times, start_s, rate, usable, 0 if usable is None else len(clock_s) - len(usable))


def _packets(capture: cv2.VideoCapture, limits: _Limits) -> tuple[list[float], list[Shape | None]]:
    """Return what the clock says at the frame of each packet, and the shape of each."""
    codec = _codec(capture)
    if not capture.set(cv2.CAP_PROP_FORMAT, -1):
        raise MediaError(f"video: {opencv.fault('without packets')}")
    clock_s: list[float] = []
    shapes: list[Shape | None] = []
    found, raw = capture.retrieve(flag=int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))
    current = announced(codec, raw.tobytes()) if found and raw is not None else None
    while capture.grab():
        found, raw = capture.retrieve()
        packet = raw.tobytes() if found else b""
        current = announced(codec, packet) or current
        if codec in _VP8 and packet and not packet[0] >> 4 & 1:
            continue  # it is not shown: others are made of it
        clock_s.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        shapes.append(current)
        limits.check_frames(len(clock_s))
    return clock_s, shapes


def _usable(clock_s: list[float], shapes: list[Shape | None], size: tuple[int, int]) -> frozenset[float]:
    """Return what the clock says at the frames that OpenCV can convert: all as the first one, reading beyond others.

    Raises: MediaError where that is not most of them.
    """
    found, n_found = Counter(shapes).most_common(1)[0]
    is_timed = len({at_s for at_s in clock_s if abs(at_s) <= _UNKNOWN_S}) == len(clock_s)
    if found is None or not is_timed or 2 * n_found <= len(shapes) or not found.fits(*size):
        sizes = [f"{one.size[0]} x {one.size[1]}" for one in dict.fromkeys(shapes) if one is not None and one.size]
        change = f"sizes ({', '.join(sizes[:_MAX_NAMED])})" if len(set(sizes)) > 1 else "pixel formats"
        hint = "ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p video.mp4"
        raise MediaError(f"video: frames of different {change} in one video are not supported: {hint}")
    return frozenset(at_s for at_s, one in zip(clock_s, shapes, strict=True) if one == found)


def _without_preroll(clock_s: list[float]) -> list[float]:
    """Return the times without those of packets that only serve to decode what is shown: they are before 0, or at 0."""
    if any(abs(at_s) > _UNKNOWN_S for at_s in clock_s):
        return clock_s  # the clock's 0 is not known either
    later = [at_s for at_s in clock_s if at_s > _TICK_S]
    is_shown_at_0 = any(abs(at_s) <= _TICK_S for at_s in clock_s)
    return [*([0.0] if is_shown_at_0 else []), *later] if later else clock_s


def _ascending(clock_s: Sequence[float], fps: float | None) -> tuple[list[float], float | None]:
    """Return times in the order they are shown, from 0 on, and where they begin: None for frames that are counted."""
    known = sorted(at_s for at_s in clock_s if abs(at_s) <= _UNKNOWN_S)
    if not known or any(end - start < _TICK_S for start, end in itertools.pairwise(known)):
        return [i / (fps or 1.0) for i in range(len(clock_s))], None
    n_unknown = len(clock_s) - len(known)  # the first packets, where a demuxer has to find out their order
    if n_unknown == 0:
        return [at_s - known[0] for at_s in known], known[0]
    between = 1 / fps if fps else float(np.median(np.diff([0.0, *known])))
    times = [*(between * i for i in range(n_unknown)), *(at_s - known[0] + between * n_unknown for at_s in known)]
    return times, None


def _watched(path: str, data: bytes, plan: _Plan, wanted: int, limits: _Limits, shape: _Shape) -> _Seen:
    """Decode a video from its beginning to its end, once, and keep the frames that are chosen, and some to spare."""
    capture = _open(path, data, limits)
    seen = _Seen()
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # it knows no mirrors
        turn = turn_of(capture, data)
        n_px = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        due = _Due(plan, wanted, n_spares=int(min(_MAX_SPARES, _SPARE_PX // max(1.0, n_px))))
        while capture.grab():
            limits.check_frames(len(seen.clock_s) + 1)
            at_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if plan.usable is not None and at_s not in plan.usable:
                continue
            seen.clock_s.append(at_s)
            if not due.comes(len(seen.clock_s) - 1, seen.clock_s[-1]):
                continue
            if (bgr := opencv.retrieve(capture)) is not None:
                seen.frames[len(seen.clock_s) - 1] = _fitted(bgr, turn, limits, shape)
    finally:
        capture.release()
    return seen


class _Due:
    """Which of the frames that come are kept: each moment's first one that is shown then or later."""

    def __init__(self, plan: _Plan, wanted: int, *, n_spares: int) -> None:
        indices = sorted({*chosen(plan.times, wanted), *spread(len(plan.times), n_spares)}) or [0]
        self._start_s = plan.start_s
        self._moments = [plan.times[i] if plan.start_s is not None else float(i) for i in indices]

    def comes(self, index: int, at_s: float) -> bool:
        """Return whether the next frame is kept. at_s: by the decoder's clock."""
        if not self._moments:
            return False
        now = index if self._start_s is None else at_s - self._start_s
        if index == 0:
            now = max(now, self._moments[0])  # what came before it cannot be decoded
        n_passed = sum(1 for _ in itertools.takewhile(lambda moment: moment <= now + _TICK_S, self._moments))
        del self._moments[:n_passed]
        return n_passed > 0


def _result(times: Sequence[float], frames: dict[int, U8], wanted: int, fps: float | None, lost: str | None) -> Decoded:
    """Return the frames chosen by these times, or those nearest to them that there are."""
    kept: set[int] = set()
    for index in chosen(times, wanted):
        others = [other for other in frames if other not in kept]
        if others:
            kept.add(min(others, key=lambda other: (abs(other - index), other)))
    if not kept:
        raise MediaError("video: the data is damaged or cut off")
    measured = (len(times) - 1) / times[-1] if times[-1] > 0 else 1.0
    is_told = fps is not None and (times[-1] == 0 or abs(fps / measured - 1) < _SAME_RATE)
    seconds = [int(times[index] + _TICK_S) for index in sorted(kept)]
    info = {"seconds": seconds, "n_frames": len(times), "fps": fps if is_told else measured}
    return Decoded(tuple(frames[index] for index in sorted(kept)), info | ({"lost": lost} if lost else {}))


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Yield the path of a file that has no name: OpenCV crashes when it releases one of Python's own streams."""
    descriptor = os.memfd_create("video", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _open(path: str, data: bytes, limits: _Limits) -> cv2.VideoCapture:
    """Open a video file. Raises: MediaError."""
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise _refusal(data)
    if (name := _codec(capture)) not in _CODEC_TAGS:
        capture.release()
        raise _not_supported(name)
    limits.check_pixels(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    return capture


def _codec(capture: cv2.VideoCapture) -> str:
    tag = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    return tag.to_bytes(4, "little").decode("latin-1").upper()


def _refusal(data: bytes) -> MediaError:
    """Say why a video cannot be opened: without images, of another codec, or damaged."""
    found = tracks(data)
    codecs = [track.codec.upper() for track in found if track.kind == "video"]
    if not codecs and any(track.kind == "audio" for track in found):
        return MediaError("video: the file has no video track, only audio: send it as `audio_url`")
    if any(codec in _OTHER_CODECS for codec in codecs):
        return _not_supported(codecs[0])
    found_out = unsupported("AVI", data) if data[:4] == b"RIFF" else None
    return MediaError(f"video: {found_out or 'the data is damaged or cut off'}")


def _not_supported(codec: str) -> MediaError:
    name = _OTHER_CODECS.get(codec, codec if codec.isascii() and codec.isprintable() else "another")
    hint = "ffmpeg -i FILE -c:v libx264 video.mp4"
    return MediaError(f"video: expected a codec of {CODECS}, got {name}, which is not supported: {hint}")


def _fitted(bgr: U8, turn: Turn, limits: _Limits, shape: _Shape) -> U8:
    """Bring a frame to the size its tile needs."""
    limits.check_pixels(bgr.shape[1], bgr.shape[0])  # it may differ from the header's
    return _small(Image.fromarray(np.ascontiguousarray(turn.applied(bgr)[:, :, ::-1])), shape)


def _small(frame: Image.Image, shape: _Shape) -> U8:
    return small(frame, side=shape.side, crop_share=shape.crop_share, resample=shape.resample)


# --- GIF ----------------------------------------------------------------------------------------------------------


def _decode_gif(data: bytes, wanted: int, limits: _Limits, shape: _Shape) -> Decoded:
    """Decode an animation once, after its blocks have told how many frames there are and how long each is shown."""
    ends_s: list[float] = []
    for delay_ms in delays_ms(data):
        limits.check_frames(len(ends_s) + 1)
        ends_s.append((ends_s[-1] if ends_s else 0.0) + delay_ms / 1000)
    limits.check_length(ends_s[-1] if ends_s else 0.0)
    times = [0.0, *ends_s[:-1]]
    n_px = max(1, int.from_bytes(data[6:8], "little") * int.from_bytes(data[8:10], "little"))
    due = _Due(_Plan(times, None, None), wanted, n_spares=min(_MAX_SPARES, _SPARE_PX // n_px))
    frames: dict[int, U8] = {}
    n_frames = 0
    for n_frames, frame in _gif_frames(data, limits):
        if due.comes(n_frames - 1, 0.0):
            frames[n_frames - 1] = _small(Image.fromarray(from_array(frame, max_px=limits.px)), shape)
    n_lost = len(times) - n_frames
    lost = f"{n_lost} of {len(times)} frames cannot be decoded" if n_lost > 0 else None
    return _result(times[:n_frames], frames, wanted, n_frames / ends_s[n_frames - 1] if n_frames else None, lost)


def _gif_frames(data: bytes, limits: _Limits) -> Iterator[tuple[int, Image.Image]]:
    """Yield (1, 2, …, frame), as far as an animation can be decoded. Raises: MediaError for the first."""
    number = 0
    try:
        with GifImagePlugin.GifImageFile(io.BytesIO(data)) as video:
            limits.check_pixels(video.width, video.height)
            while True:
                video.seek(number)
                video.load()
                number += 1
                limits.check_frames(number)
                yield number, video
    except EOFError:
        return
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, Image.DecompressionBombError) as error:
        _LOG.debug("video: a GIF's frame %d was not decoded", number, exc_info=True)
        if number == 0:
            raise MediaError("video: the GIF data is damaged or cut off") from error


def _number(options: Options, name: str) -> float:
    return float(options[name] or 0)
