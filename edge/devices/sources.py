"""What the name of a camera stands for, all read the same way: a device, a pipeline, a video, images, a stream."""

import contextlib
import logging
import mmap
import os
import select
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge.arrays import U8
from edge.devices.mjpeg import Jpegs
from edge.devices.pixels import MAX_FPS, MAX_PX, Size, checked
from edge.errors import DeviceError, MediaError, MemoryExhausted
from edge.media import opencv
from edge.media.fetch import MAX_BYTES
from edge.media.image import open_image
from edge.media.tracks import Data, turn_of

if TYPE_CHECKING:
    import cv2

_LOG = logging.getLogger("edge.capture")
_IMAGE_S = 1.0  # how long an image of a folder is shown
_LONGEST_STILL_S = 60.0  # between two frames of a video; more is no time that a file means
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
_CHUNK_BYTES = 1 << 16
_LISTEN_S = 0.5  # how long standard input is waited for at a time
_MAX_BROKEN = 20  # images one after another that cannot be decoded: it is no camera then
_CV2_SILENT = 0  # cv2.utils.logging.LOG_LEVEL_SILENT, which not every 4.x has in Python


class NothingYet(Exception):
    """No frame came so far: the source is well and wants to be read again."""


class Capture(Protocol):
    """An open source of frames."""

    def read(self) -> U8 | None:
        """Wait for the next frame, (H, W, 3) uint8 RGB; None at the end. Raises: DeviceError, NothingYet."""

    def close(self) -> None:
        """Give the source back; its read may be waiting in no other thread."""


def is_live(source: int | str | Path) -> bool:
    """Return whether a source is a camera, whose images never repeat, and nothing that stands in for one."""
    name = str(source)
    return name.isdecimal() or name.startswith("/dev/") or "!" in name or name.partition(":")[0] in ("csi", "pi")


def open_capture(source: int | str | Path, *, size: Size | None) -> Capture:
    """Open a source of frames.

    source: 0 or /dev/video0 (V4L2), csi or csi:1 (a Jetson's), pi or pi:1 (a Raspberry Pi's), a GStreamer
    pipeline (with `!` in it), a video, a folder of images, one image, - for JPEG images on standard input.
    size: width and height wanted of a device. Raises: DeviceError.
    """
    name = str(source)
    kind, _, number = name.partition(":")
    if name.isdecimal() or name.startswith("/dev/"):
        return _Device(_device_number(name), size)
    if "!" in name or kind == "csi":
        from edge.devices.gstreamer import Pipeline, jetson

        return Pipeline(name if "!" in name else jetson(int(number or 0), size), size)
    if kind == "pi":
        from edge.devices.raspberry_pi import open_pi

        return open_pi(int(number or 0), size)
    if name == "-":
        return _Stream()
    path = Path(name)
    if path.is_dir():
        return _Images(sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES), of=path)
    if path.suffix.lower() in _SUFFIXES:
        return _Images([path], of=path)
    return _Video(path)


def check_source(source: int | str | Path) -> None:
    """Raise: DeviceError for a name that is no camera's, and of no file either: no use waiting for that one."""
    name = str(source)
    kind, separator, number = name.partition(":")
    if kind in ("csi", "pi") and separator and "!" not in name and not number.isdecimal():
        raise DeviceError(f"camera {name!r:.200}: expected {kind} or {kind}:NUMBER")
    # An empty name would be the folder where this program runs.
    if not (is_live(source) or name == "-" or (name and Path(name).exists())):
        wanted = "a device's number, csi, pi, a pipeline, -, or the path of a video, an image or a folder of images"
        raise DeviceError(f"camera {name!r:.200}: no such file; expected {wanted}")


class _Device:
    """A V4L2 device."""

    def __init__(self, number: int, size: Size | None) -> None:
        import cv2

        self._name = f"/dev/video{number}"
        self._due_s = 0.0
        with _quiet():
            self._device = cv2.VideoCapture(number, cv2.CAP_V4L2)
        if not self._device.isOpened():
            raise DeviceError(f"{self._name}: cannot be opened: in use by another program, or no camera")
        self._device.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if size is not None:
            self._device.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            self._device.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])

    def read(self) -> U8:
        """Wait for a frame; those that come faster than needed are dropped before they are decoded."""
        with _quiet():
            while self._device.grab():
                now_s = time.monotonic()
                if now_s >= self._due_s:
                    self._due_s = now_s + 1 / MAX_FPS
                    return _rgb(*self._device.retrieve(), self._name)
        raise DeviceError(f"{self._name}: stopped delivering")

    def close(self) -> None:
        self._device.release()


class _Video:
    """A video file's frames, each shown when it is due."""

    def __init__(self, path: Path) -> None:
        import cv2

        if (fault := opencv.fault()) is not None:
            raise DeviceError(f"{path}: {fault}")
        self._path = path
        with _quiet():
            self._video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._video.isOpened():
            raise DeviceError(f"{path}: cannot be opened as a video")
        fps = self._video.get(cv2.CAP_PROP_FPS)
        self._frame_s = 1 / fps if 1 <= fps <= 240 else 1 / 25
        self._turn = turn_of(self._video, _mapped(path))
        self._video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # it knows no mirrors
        self._due_s = time.monotonic()
        self._at_s = 0.0
        self._begun = False

    def read(self) -> U8 | None:
        import cv2

        try:
            with _quiet():
                bgr = opencv.retrieve(self._video) if self._video.grab() else None
        except opencv.Unwritten as error:
            raise DeviceError(f"{self._path}: OpenCV cannot convert its frames") from error
        if bgr is None and not self._begun:
            raise DeviceError(f"{self._path}: no frame of it can be decoded")
        if bgr is None:
            return None
        at_s = self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._begun:
            between = at_s - self._at_s
            self._due_s += between if 0 < between <= _LONGEST_STILL_S else self._frame_s
        self._at_s, self._begun = at_s, True
        self._due_s = _wait_until(self._due_s)
        return _rgb(True, np.ascontiguousarray(self._turn.applied(bgr)), str(self._path))

    def close(self) -> None:
        self._video.release()


class _Images:
    """Images, each shown for a second; those that cannot be decoded are passed by."""

    def __init__(self, paths: list[Path], *, of: Path) -> None:
        if not paths:
            raise DeviceError(f"{of}: no images in this folder; expected {', '.join(sorted(_SUFFIXES))}")
        self._left = iter(paths)
        self._due_s = time.monotonic()
        self._begun = False

    def read(self) -> U8 | None:
        self._due_s = _wait_until(self._due_s)
        broken = None
        for path in self._left:
            try:
                rgb = open_image(path.read_bytes(), max_px=MAX_PX)
            except OSError as error:
                broken = f"{path}: {error.strerror}"
            except (MediaError, MemoryExhausted) as error:
                broken = f"{path}: {error}"
            else:
                self._begun = True
                self._due_s += _IMAGE_S
                return rgb
            _tell(f"{broken}; it is passed by")
        if not self._begun:
            raise DeviceError(str(broken))
        return None

    def close(self) -> None:
        """Nothing is held."""


class _Stream:
    """JPEG images one after another on standard input: the newest one, those before it are not decoded."""

    def __init__(self) -> None:
        try:
            self._file = os.fdopen(os.dup(0), "rb", buffering=0)
        except OSError as error:
            raise DeviceError(f"standard input: {error.strerror}") from error
        self._jpegs = Jpegs()
        self._newest: bytes | None = None
        self._due_s = 0.0
        self._begun = self._ended = False
        self._broken: list[str] = []  # what is wrong with the last images

    def read(self) -> U8 | None:
        deadline_s = time.monotonic() + _LISTEN_S
        while not self._ended:
            now_s = time.monotonic()
            if self._newest is not None and now_s >= self._due_s and (rgb := self._decoded(now_s)) is not None:
                return rgb
            until_s = deadline_s if self._newest is None else self._due_s
            if select.select([self._file], [], [], max(0.0, until_s - now_s))[0]:
                self._take()
            elif self._newest is None:
                raise NothingYet
        if self._newest is not None and (rgb := self._decoded(time.monotonic())) is not None:
            return rgb
        if self._broken and not self._begun:
            raise DeviceError(self._broken[-1])
        return None

    def close(self) -> None:
        self._file.close()

    def _take(self) -> None:
        data = self._file.read(_CHUNK_BYTES)
        self._ended = data == b""
        if found := self._jpegs.add(data or b""):
            self._newest = found[-1]
        if self._jpegs.held > MAX_BYTES:
            n_bytes = self._jpegs.held
            raise DeviceError(f"standard input: expected JPEG images, got {n_bytes} bytes without an end of one")

    def _decoded(self, now_s: float) -> U8 | None:
        """Return the newest image, None when it cannot be decoded. Raises: DeviceError when none can."""
        data, self._newest = self._newest or b"", None
        try:
            rgb = open_image(data, max_px=MAX_PX)
        except (MediaError, MemoryExhausted) as error:
            self._broken.append(f"standard input: {error}")
            _tell(f"{self._broken[-1]}; it is passed by")
            if len(self._broken) >= _MAX_BROKEN:
                raise DeviceError(self._broken[-1]) from error
            return None
        self._broken.clear()
        self._begun = True
        self._due_s = now_s + 1 / MAX_FPS
        return rgb


def _mapped(path: Path) -> Data:
    """Return a file's bytes without reading it."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return b""


@lru_cache(maxsize=64)
def _tell(words: str) -> None:
    """Say what was left out, once: a folder is looked through again and again."""
    _LOG.warning("%s", words)


def _device_number(name: str) -> int:
    """Return the number of /dev/videoN that a number, a device or a link to one stands for. Raises: DeviceError."""
    path = Path(f"/dev/video{name}" if name.isdecimal() else name)
    if not path.exists():
        others = ", ".join(sorted(str(other) for other in Path("/dev").glob("video*"))) or "none"
        raise DeviceError(f"camera {path}: no such device; those there: {others}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise DeviceError(f"camera {path}: permission denied: expected a user of the group `video`")
    number = path.resolve().name.removeprefix("video")
    if not number.isdecimal():
        raise DeviceError(f"camera {path}: expected /dev/videoN or a link to it")
    return int(number)


def _rgb(found: bool, bgr: "cv2.typing.MatLike", name: str) -> U8:
    import cv2

    if not found:
        raise DeviceError(f"{name}: a frame cannot be decoded")
    return checked(cv2.cvtColor(checked(bgr, name), cv2.COLOR_BGR2RGB), name)


def _wait_until(due_s: float) -> float:
    """Wait for a moment of the monotonic clock; return it, or now if it is past."""
    now_s = time.monotonic()
    time.sleep(max(0.0, due_s - now_s))
    return max(due_s, now_s)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV from writing to stderr: what failed is raised."""
    import cv2

    level = cv2.getLogLevel()
    cv2.setLogLevel(_CV2_SILENT)
    try:
        yield
    finally:
        cv2.setLogLevel(level)
