"""A Raspberry Pi's camera: by picamera2 where it can be imported, else by rpicam-vid, a process of its own."""

import importlib
import logging
import shutil
import sys
import time
from types import ModuleType

from edge.arrays import U8
from edge.devices.mjpeg import Jpegs
from edge.devices.pixels import MAX_FPS, MAX_PX, Size, checked
from edge.devices.process import FrameProcess
from edge.errors import DeviceError, MediaError, MemoryExhausted
from edge.media.fetch import MAX_BYTES
from edge.media.image import open_image

_LOG = logging.getLogger("edge.capture")
_SIZE: Size = (640, 480)
_PROGRAMS = ("rpicam-vid", "libcamera-vid")  # its name since Bookworm, and the one before
_ALWAYS = ("--timeout", "0", "--nopreview", "--flush", "--codec", "mjpeg")  # without an end, each image at once
_QUALITY = 90  # of its JPEGs, of 100; its own default, 50, shows blocks
_MAX_BROKEN = 20  # images one after another that cannot be decoded: it is no camera then
# What numpy says when a library was compiled for the other major version of it.
_OTHER_NUMPY = ("numpy.dtype size changed", "numpy.core.multiarray failed to import", "_ARRAY_API not found")


def open_pi(number: int, size: Size | None) -> "PiCamera | Rpicam":
    """Open a camera by its number, as `rpicam-hello --list-cameras` counts them.

    picamera2 is not a dependency: it is built against the system's libcamera, and seen by the system's Python and by
    virtual environments made from that with --system-site-packages. Raises: DeviceError.
    """
    try:
        library = importlib.import_module("picamera2")
    except Exception as error:  # a library compiled for another numpy fails with a ValueError
        why = _why(error)
    else:
        return PiCamera(library, number, size)
    program = next((name for name in _PROGRAMS if shutil.which(name)), None)
    if program is None:
        raise DeviceError(f"pi:{number}: {why}; and {_PROGRAMS[0]} (the system's package rpicam-apps) is not installed")
    _LOG.warning("pi:%d: %s; %s is used", number, why, program)
    return Rpicam(program, number, size)


class PiCamera:
    """A camera by picamera2, in this process."""

    def __init__(self, library: ModuleType, number: int, size: Size | None) -> None:
        self._name = f"pi:{number}"
        try:
            self._camera = library.Picamera2(number)
        except Exception as error:  # libcamera's errors have no class of their own
            raise DeviceError(f"{self._name}: cannot be opened: {str(error) or type(error).__name__}") from error
        try:
            main = {"format": "BGR888", "size": size or _SIZE}  # its name for R, G, B in this order in memory
            self._camera.configure(self._camera.create_video_configuration(main=main))
            self._camera.start()
        except Exception as error:
            self._camera.close()
            raise DeviceError(f"{self._name}: cannot be opened: {str(error) or type(error).__name__}") from error

    def read(self) -> U8:
        """Wait for a frame, ten a second at most. Raises: DeviceError."""
        time.sleep(1 / MAX_FPS)
        try:
            pixels = self._camera.capture_array("main")
        except Exception as error:
            raise DeviceError(f"{self._name}: stopped delivering: {str(error) or type(error).__name__}") from error
        return checked(pixels, self._name)

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()


class Rpicam:
    """A camera by rpicam-vid: JPEG images come through a pipe, and only the newest is decoded."""

    def __init__(self, program: str, number: int, size: Size | None) -> None:
        self._name = f"pi:{number}"
        width, height = size or _SIZE
        options = {"camera": number, "width": width, "height": height, "framerate": MAX_FPS, "quality": _QUALITY}
        chosen = [word for name, value in options.items() for word in (f"--{name}", f"{value:g}")]
        self._process = FrameProcess(
            self._name,
            lambda fd: [program, *_ALWAYS, *chosen, "--output", f"/dev/fd/{fd}"],
            lacking="is the system's package rpicam-apps installed?",
            complaints=("ERROR", "FATAL"),
        )
        self._jpegs = Jpegs()
        self._n_broken = 0

    def read(self) -> U8:
        """Wait for a frame. Raises: DeviceError when none comes, with what the program said."""
        due_s = self._process.due_s()
        while True:
            newest: bytes | None = None
            while newest is None or self._process.waiting():
                newest = next(reversed(self._jpegs.add(self._process.take(due_s))), newest)
                if self._jpegs.held > MAX_BYTES:
                    n_bytes = self._jpegs.held
                    raise DeviceError(f"{self._name}: expected JPEG images, got {n_bytes} bytes without an end of one")
            self._process.came()
            try:
                rgb = open_image(newest, max_px=MAX_PX)
            except (MediaError, MemoryExhausted) as error:
                self._n_broken += 1
                if self._n_broken >= _MAX_BROKEN:
                    raise DeviceError(f"{self._name}: {error}") from error
                continue
            self._n_broken = 0
            return rgb

    def close(self) -> None:
        """End the program."""
        self._process.close()


def _why(error: Exception) -> str:
    """Say why picamera2 cannot be imported, and what helps."""
    words = str(error)
    if any(mark in words for mark in _OTHER_NUMPY):
        numpy = importlib.import_module("numpy").__version__
        return (
            f"picamera2 cannot be imported: the system's libraries are compiled for another numpy than {numpy} "
            f"({words:.120}): expected numpy below 2 beside the system's 1.24 "
            "(pip install 'numpy>=1.26,<2' 'opencv-python-headless<4.12')"
        )
    if not isinstance(error, ImportError):
        return f"picamera2 cannot be imported: {words:.300}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    hint = "the system's package python3-picamera2, and an environment that sees system packages"
    if "libcamera" in words:
        hint += f" of the system's own Python (this is {python})"
    return f"picamera2 cannot be imported: expected {hint}"
