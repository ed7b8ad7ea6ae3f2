"""Which frames of a video are looked at, and how each is made as small as its tile needs it."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from edge.arrays import U8
from edge.media.tiles import fit

_CLOCK_S = 1e-3  # containers round times to as little as this


def spread(n_frames: int, wanted: int) -> list[int]:
    """Return the indices of frames evenly spread: floor(linspace(0, n - 1, wanted)), all where there are no more.

    Source: model-family.md, 4.
    """
    if n_frames <= wanted:
        return list(range(n_frames))
    return [int(index) for index in np.linspace(0, n_frames - 1, wanted)]


def chosen(times: Sequence[float], wanted: int) -> list[int]:
    """Return the indices of frames evenly spread over the time that a video takes.

    times: when each frame is shown, in seconds, ascending. Frames that follow each other at one rate are chosen by
    `spread`; otherwise those that are shown at linspace(first, last, wanted) are, and where one frame is shown at
    several of these moments, others are looked at besides, in the middle of the most frames that were passed over.
    """
    n_frames = len(times)
    if n_frames <= wanted or wanted < 2 or _is_even(times):
        return spread(n_frames, wanted)
    moments = np.linspace(times[0], times[-1], wanted)
    found = sorted({max(0, bisect_right(times, float(moment) + _CLOCK_S) - 1) for moment in moments})
    while len(found) < wanted:
        skipped, start = max((end - start, -start) for start, end in pairwise(found))
        found = sorted([*found, -start + skipped // 2])
    return found


def _is_even(times: Sequence[float]) -> bool:
    """Return whether every frame is nearer to its place in an even row than to the places beside it."""
    row = np.linspace(times[0], times[-1], len(times))
    between = (times[-1] - times[0]) / (len(times) - 1)
    return bool(np.abs(np.asarray(times) - row).max() <= between / 2 + _CLOCK_S)


def small(frame: Image.Image, *, side: int, crop_share: float | None, resample: str) -> U8:
    """Return a frame as `edge.media.tiles.fit` makes it: (h, w, 3)."""
    return np.array(fit(frame, side=side, crop_share=crop_share, resample=resample))
