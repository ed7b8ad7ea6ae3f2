"""The eleven colours: what people, style sheets and drawing programs mean by their names."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Rng = np.random.Generator

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")

# Hue in degrees, saturation and value as shares: the part of HSV that people call by the name without hesitating.
REGIONS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 8), (0.80, 1.0), (0.70, 1.0)),
    "orange": ((22, 37), (0.80, 1.0), (0.86, 1.0)),
    "yellow": ((48, 61), (0.60, 1.0), (0.84, 1.0)),
    "green": ((92, 155), (0.45, 1.0), (0.36, 0.95)),
    "blue": ((203, 243), (0.58, 1.0), (0.48, 1.0)),
    "purple": ((268, 293), (0.48, 1.0), (0.42, 0.9)),
    "pink": ((322, 347), (0.22, 0.68), (0.90, 1.0)),
    "brown": ((17, 32), (0.52, 0.95), (0.33, 0.60)),
    "black": ((0, 360), (0.0, 0.25), (0.0, 0.13)),
    "white": ((0, 360), (0.0, 0.035), (0.94, 1.0)),
    "grey": ((0, 360), (0.0, 0.05), (0.38, 0.70)),
}
# What drawing programs and style sheets mean by the names.
ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (214, 39, 40), (220, 30, 30), (229, 57, 53)),
    "orange": ((255, 165, 0), (255, 140, 0), (255, 127, 14), (245, 130, 32), (251, 140, 0)),
    "yellow": ((255, 255, 0), (255, 215, 0), (250, 220, 40), (253, 216, 53), (240, 220, 60)),
    "green": ((0, 128, 0), (0, 255, 0), (44, 160, 44), (34, 139, 34), (50, 205, 50), (67, 160, 71), (40, 160, 60)),
    "blue": ((0, 0, 255), (31, 119, 180), (30, 144, 255), (65, 105, 225), (30, 80, 220), (30, 136, 229), (0, 0, 180)),
    "purple": ((128, 0, 128), (148, 103, 189), (138, 43, 226), (142, 36, 170), (130, 50, 170), (153, 50, 204)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 182, 193), (227, 119, 194), (255, 150, 190), (250, 120, 180)),
    "brown": ((139, 69, 19), (140, 86, 75), (150, 75, 0), (121, 85, 72), (120, 70, 30), (160, 82, 45)),
    "black": ((0, 0, 0), (15, 15, 15), (25, 25, 25), (33, 33, 33)),
    "white": ((255, 255, 255), (250, 250, 250), (245, 245, 245)),
    "grey": ((128, 128, 128), (127, 127, 127), (169, 169, 169), (105, 105, 105), (150, 150, 150), (117, 117, 117)),
}


def colour(name: str, rng: Rng) -> F32:
    """An RGB value, (3,) float32 in [0, 255], that anyone would call by this name."""
    if rng.random() < 0.45:
        anchor = ANCHORS[name][rng.integers(len(ANCHORS[name]))]
        spread = 4 if name in ("white", "black", "grey") else 12
        shift = (
            rng.uniform(-spread, spread, 3) if name not in ("white", "black", "grey") else rng.uniform(-spread, spread)
        )
        return np.clip(np.asarray(anchor, np.float32) + shift, 0, 255).astype(np.float32)
    hue, saturation, value = (rng.uniform(*limits) for limits in REGIONS[name])
    return np.asarray(colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value), np.float32) * 255


def any_colour(rng: Rng) -> F32:
    if rng.random() < 0.3:
        return np.full(3, rng.uniform(0, 255), np.float32) + rng.uniform(-8, 8, 3).astype(np.float32)
    return np.asarray(colorsys.hsv_to_rgb(rng.random(), rng.random() ** 1.2, rng.uniform(0.05, 1)), np.float32) * 255


def apart(a: F32, b: F32) -> float:
    """How different two colours look ("redmean" distance, 0 to 765)."""
    mean, d = (a[0] + b[0]) / 2, a - b
    return float(math.sqrt((2 + mean / 256) * d[0] ** 2 + 4 * d[1] ** 2 + (2 + (255 - mean) / 256) * d[2] ** 2))
