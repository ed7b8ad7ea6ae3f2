"""What a camera sees: it is open while a question is asked and answered, and given back while nobody asks."""

import threading
from pathlib import Path

from edge.arrays import U8
from edge.devices.camera import Camera, Frame
from edge.devices.sources import check_source
from edge.errors import DeviceError

_FIRST_S = 10.0  # that a camera that was just opened may take for its first image


class View:
    """A camera that is not open all the time: it costs no power while nobody asks, and its light says when it looks.

    source: as for `edge.Camera`; a `Camera` stays open, and belongs to who made it. Raises: DeviceError for a file that
    is not there.
    """

    def __init__(self, source: int | str | Path | Camera) -> None:
        self._source = source
        self._is_own = not isinstance(source, Camera)
        self._camera: Camera | None = source if isinstance(source, Camera) else None
        self._lock = threading.Lock()
        if not isinstance(source, Camera):
            check_source(source)

    def open(self) -> None:
        """Open the camera, in the background, if it is not open."""
        with self._lock:
            if self._camera is None and not isinstance(self._source, Camera):
                self._camera = Camera(self._source, loop=True)

    def look(self) -> U8:
        """Return what it sees now: (H, W, 3). Raises: DeviceError."""
        return self.newest().rgb

    def newest(self, *, wait_s: float = _FIRST_S) -> Frame:
        """Return its newest frame, as `Camera.newest`; it is opened where it is not. Raises: DeviceError."""
        self.open()
        with self._lock:
            camera = self._camera
        if camera is None:
            raise DeviceError("camera: closed")
        return camera.newest(wait_s=wait_s)

    def close(self) -> None:
        """Give the camera back, in the background: a read may last."""
        if not self._is_own:
            return
        with self._lock:
            camera, self._camera = self._camera, None
        if camera is not None:
            threading.Thread(target=camera.close, name="edge-camera-close", daemon=True).start()
