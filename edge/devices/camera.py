"""A camera that always has its newest frame: read in a thread, never queued, opened again when it went away."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from edge.arrays import U8
from edge.devices.pixels import Size, checked
from edge.devices.sources import Capture, NothingYet, check_source, is_live, open_capture
from edge.errors import DeviceError

Source = int | str | Path | Callable[[], Capture]

_LOG = logging.getLogger("edge")
_OPEN_S = 10.0  # how long the first frame may take
_RETRY_S, _LONGEST_RETRY_S = 1.0, 10.0
_STUCK_S = 12.0  # a read that takes longer will not come back: OpenCV gives up after ten seconds
_MAX_STUCK = 2
_JOIN_S = 2.0
_SAMPLE_STEP = 8


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a camera. rgb: (H, W, 3) uint8; at_s: time.monotonic() when it came; number: counted from 1."""

    rgb: U8
    at_s: float
    number: int


class Camera:
    """The newest frame of a camera, or of what stands in for one; a context manager.

    source: 0 or "/dev/video0" (V4L2), "csi" or "csi:1" (a Jetson's), "pi" (a Raspberry Pi's, by picamera2), a GStreamer
    pipeline (with `!` in it); in place of a camera the path of a video, of an image or of a folder of images, or "-"
    for JPEG images on standard input; or a function that opens a `Capture`. size: width and height wanted of a
    device, in pixels; its own unless given. stale_s: a frame older than so many seconds is an error. still: an
    unchanging image is no fault (a real camera always has some noise, a screen grabber has none). loop: what ends
    begins again.
    The device is opened in the background and again whenever it fails; `newest` tells.

        with Camera(0, size=(1280, 720)) as camera:
            rgb = camera.newest().rgb

    Raises: DeviceError for a file that is not there.
    """

    def __init__(
        self,
        source: Source = 0,
        *,
        size: Size | None = None,
        stale_s: float = 4.0,
        still: bool = False,
        loop: bool = False,
    ) -> None:
        self.name = "camera" if callable(source) else f"camera {source}"[:200]
        self.stale_s = stale_s
        if not callable(source):
            check_source(source)
        self._open = source if callable(source) else lambda: open_capture(source, size=size)
        self._watches_pixels = not (still or callable(source)) and is_live(source)
        self._loop = loop
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._fault: str | None = None
        self._ended = False
        self._sample: U8 | None = None
        self._moved_s = self._began_s = time.monotonic()
        self._stuck: list[_Reader] = []
        self._reader: _Reader | None = _Reader(self)
        self._reader.start()

    def __repr__(self) -> str:
        return f"Camera({self.name!r}, stale_s={self.stale_s:g})"

    @property
    def ended(self) -> bool:
        """Whether the video, the images or standard input came to their end."""
        return self._ended

    def newest(self, *, wait_s: float = _OPEN_S) -> Frame:
        """Return the newest frame; only the first one is waited for.

        Raises: DeviceError when the camera is closed, cannot be opened, vanished, delivers nothing new for stale_s, or
        delivers the same image over and over.
        """
        with self._changed:
            self._revive()
            self._changed.wait_for(lambda: self._frame or self._fault or self._ended, wait_s)
            frame = self._frame
        now_s = time.monotonic()
        if self._reader is None:
            raise DeviceError(f"{self.name}: closed")
        if frame is None:
            waited = f"no frame yet, {now_s - self._began_s:.1f} s after opening it"
            raise DeviceError(self._fault or f"{self.name}: {'ended without a frame' if self._ended else waited}")
        age_s = now_s - frame.at_s
        if age_s > self.stale_s and not self._ended:
            why = f": {self._fault}" if self._fault else ""
            raise DeviceError(f"{self.name}: no new frame for {age_s:.1f} s{why}")
        if self._frozen(now_s):
            raise DeviceError(f"{self.name}: the same frame for {now_s - self._moved_s:.1f} s")
        return frame

    def close(self) -> None:
        """Give the device back; a read that never returns is left behind. Closing twice is fine."""
        with self._changed:
            reader, self._reader = self._reader, None
            self._changed.notify_all()
        if reader is not None:
            reader.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frozen(self, now_s: float) -> bool:
        return self._watches_pixels and now_s - self._moved_s > self.stale_s

    def _revive(self) -> None:
        """Leave a reader behind whose read does not return, and begin another; few may be left behind at a time."""
        reader, now_s = self._reader, time.monotonic()
        self._stuck = [stuck for stuck in self._stuck if stuck.is_alive()]
        if reader is not None and now_s - reader.beat_s > _STUCK_S and len(self._stuck) < _MAX_STUCK:
            _LOG.warning("%s: a read does not return; opening it anew", self.name)
            reader.stopping.set()
            self._stuck.append(reader)
            self._reader = _Reader(self)
            self._reader.start()

    def _put(self, reader: "_Reader", rgb: U8) -> bool:
        """Take a frame from its reader; return whether the image is another than before."""
        sample = checked(rgb, self.name)[::_SAMPLE_STEP, ::_SAMPLE_STEP].copy()
        with self._changed:
            if reader is not self._reader:
                return False
            now_s = time.monotonic()
            moved = self._sample is None or not np.array_equal(sample, self._sample)
            if moved:
                self._sample, self._moved_s = sample, now_s
            self._frame = Frame(rgb, now_s, 1 if self._frame is None else self._frame.number + 1)
            self._fault = None
            self._changed.notify_all()
        if self._frozen(now_s):
            raise DeviceError("the same frame over and over")
        return moved

    def _fail(self, reader: "_Reader", fault: str | None) -> None:
        """Take a reader's fault, or (None) the end of what it reads."""
        with self._changed:
            if reader is self._reader:
                self._ended = fault is None
                if fault is not None or self._frame is not None:  # why there never was a frame is still of interest
                    self._fault = fault
                self._changed.notify_all()


class _Reader:
    """A thread that opens a capture, reads it, and opens it again when it fails, waiting longer each time."""

    def __init__(self, camera: Camera) -> None:
        self.stopping = threading.Event()
        self.beat_s = time.monotonic()
        self._camera = camera
        self._retry_s = _RETRY_S
        self._n_frames = 0
        # A daemon: a device that never answers must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="edge-camera", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            _LOG.warning("%s: a read does not return; it is left behind", self._camera.name)

    def _run(self) -> None:
        camera = self._camera
        while not self.stopping.is_set():
            try:
                n_before = self._n_frames
                if self._read_all() and not (camera._loop and self._n_frames > n_before):
                    camera._fail(self, None)
                    return
                continue
            except DeviceError as error:
                camera._fail(self, str(error))
            except Exception as error:  # whatever a library does: the camera must be picked up again
                _LOG.exception("%s failed", camera.name)
                camera._fail(self, f"{camera.name}: {type(error).__name__}")
            self._pause()

    def _read_all(self) -> bool:
        """Open the capture and read it to its end, which is True, or until told to stop. Raises: DeviceError."""
        self.beat_s = time.monotonic()
        capture = self._camera._open()
        try:
            while not self.stopping.is_set():
                self.beat_s = time.monotonic()
                try:
                    rgb = capture.read()
                except NothingYet:
                    continue
                if rgb is None:
                    return True
                self._n_frames += 1
                if self._camera._put(self, rgb):
                    self._retry_s = _RETRY_S
            return False
        finally:
            capture.close()

    def _pause(self) -> None:
        """Wait before the next try; waiting is no sign of a reader that is stuck."""
        deadline_s = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S)
        while (left_s := deadline_s - time.monotonic()) > 0 and not self.stopping.wait(min(left_s, 1.0)):
            self.beat_s = time.monotonic()
