"""Which frames of a film are taken, and how each is made as small as its tile needs it."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge.media.image import fit

U8 = npt.NDArray[np.uint8]


def spread(n_frames: int, wanted: int) -> list[int]:
    """Return the indices of frames evenly spread: floor(linspace(0, n - 1, wanted)), all where there are no more.

    Source: reka-edge.md, 4.
    """
    if n_frames <= wanted:
        return list(range(n_frames))
    return [int(index) for index in np.linspace(0, n_frames - 1, wanted)]


def small(frame: Image.Image, *, side: int, crop_share: float | None, resample: str) -> U8:
    """Return a frame as `edge.media.image.fit` makes it: (h, w, 3)."""
    return np.array(fit(frame, side=side, crop_share=crop_share, resample=resample))
