"""What every source of frames delivers, and how many of them."""

from typing import Final

import numpy as np

from edge.arrays import U8
from edge.errors import DeviceError

Size = tuple[int, int]  # width, height

MAX_FPS: Final = 10.0  # frames decoded a second; more would only take time from the model
MAX_PX: Final = 32_000_000


def checked(pixels: object, name: str) -> U8:
    """Return a frame if it is one; name: of what delivered it. Raises: DeviceError."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or not pixels.size:
        raise DeviceError(f"{name}: expected frames of (H, W, 3) uint8, got {getattr(pixels, 'shape', None)}")
    return pixels
