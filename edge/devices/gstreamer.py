"""GStreamer pipelines as a camera, a Jetson's CSI camera among them: gst-launch-1.0 runs apart and sends raw frames."""

import os
import select
import shlex
import subprocess
import time

import numpy as np

from edge.arrays import U8
from edge.errors import DeviceError

Size = tuple[int, int]  # width, height

_PROGRAM = "gst-launch-1.0"
_SIZE: Size = (640, 480)
_FIRST_S, _NEXT_S = 15.0, 5.0  # how long a frame may take to come
_END_S = 1.0
_CHUNK_BYTES = 1 << 20
_COMPLAINT_BYTES = 2000


def jetson(number: int, size: Size | None) -> str:
    """Return the pipeline of a Jetson's CSI camera; its image processor scales to the size."""
    width, height = size or _SIZE
    wanted = f"video/x-raw(memory:NVMM),width={width},height={height}"
    return f"nvarguscamerasrc sensor-id={number} ! '{wanted}' ! nvvidconv ! video/x-raw,format=BGRx"


class Pipeline:
    """A running pipeline. It is a process of its own: the frames come through a pipe, and one that hangs is ended."""

    def __init__(self, pipeline: str, size: Size | None) -> None:
        self._width, self._height = size or _SIZE
        self._row_bytes = -(-3 * self._width // 4) * 4  # GStreamer's rows begin at multiples of four bytes
        self._held = bytearray()
        self._complaints = b""
        self._complaints_end = False
        self._limit_s = _FIRST_S
        # Not standard output: some elements of Jetsons write there.
        self._frames, ours = os.pipe()
        self._complaining, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [_PROGRAM, "-q", *_elements(pipeline), *self._tail(ours)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, pass_fds=(ours,),
            )  # fmt: skip
        except OSError as error:
            os.close(self._frames)
            os.close(self._complaining)
            raise DeviceError(
                f"pipeline: {_PROGRAM} cannot be run ({error.strerror}): is GStreamer installed?"
            ) from error
        finally:
            os.close(ours)
            os.close(theirs)

    def read(self) -> U8:
        """Wait for a frame. Raises: DeviceError when none comes, with what GStreamer said last."""
        n_bytes = self._row_bytes * self._height
        deadline_s = time.monotonic() + self._limit_s
        while len(self._held) < n_bytes:
            self._take(deadline_s)
        self._limit_s = _NEXT_S
        rows = np.frombuffer(self._held[:n_bytes], np.uint8).reshape(self._height, self._row_bytes)
        del self._held[:n_bytes]
        return np.ascontiguousarray(rows[:, : 3 * self._width]).reshape(self._height, self._width, 3)

    def close(self) -> None:
        """End the process, kindly first."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._frames)
        os.close(self._complaining)

    def _tail(self, fd: int) -> list[str]:
        """Return the elements that bring whatever comes to frames of one size; old ones are dropped first."""
        wanted = f"video/x-raw,format=RGB,width={self._width},height={self._height}"
        elements = ("queue leaky=downstream max-size-buffers=1", "videoconvert", "videoscale", wanted)
        return shlex.split(" ".join(f"! {element}" for element in (*elements, f"fdsink fd={fd} sync=false")))

    def _take(self, deadline_s: float) -> None:
        """Take what has come of frames and complaints."""
        watched = [self._frames, *([] if self._complaints_end else [self._complaining])]
        ready = select.select(watched, [], [], max(0.0, deadline_s - time.monotonic()))[0]
        if self._frames in ready:
            data = os.read(self._frames, _CHUNK_BYTES)
            if not data:
                raise DeviceError(f"pipeline: ended{self._last_words()}")
            self._held += data
        elif ready:
            self._listen()
        else:
            raise DeviceError(f"pipeline: no frame for {self._limit_s:.0f} s{self._last_words()}")

    def _listen(self) -> None:
        """Take what GStreamer complains about."""
        data = os.read(self._complaining, _CHUNK_BYTES)
        self._complaints_end = not data
        self._complaints = (self._complaints + data)[-_COMPLAINT_BYTES:]

    def _last_words(self) -> str:
        """Return GStreamer's own error, as far as it gave one."""
        while not self._complaints_end and select.select([self._complaining], [], [], _END_S)[0]:
            self._listen()
        lines = [
            line
            for line in self._complaints.decode(errors="replace").splitlines()
            if line.startswith(("ERROR", "WARNING"))
        ]
        return f": {lines[0][:300]}" if lines else ""


def _elements(pipeline: str) -> list[str]:
    """Return a pipeline's words, without an appsink at its end: the frames leave by another way here."""
    try:
        words = shlex.split(pipeline)
    except ValueError as error:
        raise DeviceError(f"pipeline {pipeline!r:.200}: {error}") from error
    if "appsink" in words:
        words = words[: words.index("appsink")]
    while words and words[-1] == "!":
        words.pop()
    if not words or words[0].startswith("-"):
        raise DeviceError(f"pipeline {pipeline!r:.200}: expected elements with `!` between them")
    return words
