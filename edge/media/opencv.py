"""OpenCV's decoder of video files, so used that no byte it has not written leaves it."""

import re
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import U8

if TYPE_CHECKING:
    import cv2


# From the first on, which tells the time of a packet before it is decoded, up to the last before the conversion of
# interlaced frames fails without a word: its buffer then holds what was in that memory before.
LOWEST, TOO_NEW = (4, 10), (4, 13)
SUPPORTED = "opencv-python-headless>=4.10,<4.13"

_FILLS = (0x00, 0xFF)  # they differ in every bit


class Unwritten(Exception):
    """A frame that the decoder says to have written, and has not, or not all of it."""


def fault(version: str | None = None) -> str | None:
    """Return what is wrong with the OpenCV that is installed, None for a version that is supported.

    version: another than the installed one's.
    """
    if version is None:
        import cv2

        version = str(cv2.__version__)
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is not None and LOWEST <= (int(found[1]), int(found[2])) < TOO_NEW:
        return None
    return f"OpenCV {version} is not supported for video: pip install '{SUPPORTED}'"


def retrieve(capture: "cv2.VideoCapture") -> U8 | None:
    """Return the frame that was grabbed last, (H, W, 3) uint8 BGR, None where it cannot be decoded.

    It is converted twice, into memory with two fills that have no bit in common: what is the same in both has been
    written, whatever it shows. Raises: Unwritten where a byte is not.
    """
    import cv2

    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    first = _converted(capture, (max(1, height), max(1, width), 3), _FILLS[0])
    if first is None:
        return None
    again = _converted(capture, first.shape, _FILLS[1])
    if again is None or not np.array_equal(first, again):
        raise Unwritten
    return first


def _converted(capture: "cv2.VideoCapture", shape: tuple[int, ...], fill: int) -> U8 | None:
    """Convert the frame into memory that holds this fill, whatever size the frame turns out to have."""
    for _ in range(2):
        image = np.full(shape, fill, np.uint8)
        found, frame = capture.retrieve(image)
        if not found or frame is None:
            return None
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise Unwritten
        if np.shares_memory(frame, image):
            return image
        shape = frame.shape  # the header told another: what came is in memory of OpenCV's own
    raise Unwritten
