"""GStreamer pipelines as a camera, a Jetson's CSI camera among them: gst-launch-1.0 runs apart and sends raw frames."""

import shlex

import numpy as np

from edge.arrays import U8
from edge.devices.pixels import Size
from edge.devices.process import FrameProcess
from edge.errors import DeviceError

_PROGRAM = "gst-launch-1.0"
_SIZE: Size = (640, 480)


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
        elements = _elements(pipeline)
        self._process = FrameProcess(
            "pipeline",
            lambda fd: [_PROGRAM, "-q", *elements, *self._tail(fd)],
            lacking="is GStreamer installed?",
            complaints=("ERROR", "WARNING"),
        )

    def read(self) -> U8:
        """Wait for a frame. Raises: DeviceError when none comes, with what GStreamer said last."""
        n_bytes = self._row_bytes * self._height
        due_s = self._process.due_s()
        while len(self._held) < n_bytes:
            self._held += self._process.take(due_s)
        self._process.came()
        rows = np.frombuffer(self._held[:n_bytes], np.uint8).reshape(self._height, self._row_bytes)
        del self._held[:n_bytes]
        return np.ascontiguousarray(rows[:, : 3 * self._width]).reshape(self._height, self._width, 3)

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _tail(self, fd: int) -> list[str]:
        """Return the elements that bring whatever comes to frames of one size; old ones are dropped first."""
        wanted = f"video/x-raw,format=RGB,width={self._width},height={self._height}"
        elements = ("queue leaky=downstream max-size-buffers=1", "videoconvert", "videoscale", wanted)
        return shlex.split(" ".join(f"! {element}" for element in (*elements, f"fdsink fd={fd} sync=false")))


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
