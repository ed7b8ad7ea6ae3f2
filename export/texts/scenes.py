"""Drawn scenes: a few coloured shapes on a plain, gradient or noisy background, the same for the same seed."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from export.arrays import U8

Outline = npt.NDArray[np.float64]  # (points, 2), x and y around the origin, px

COLOURS: Final = {
    "red": (214, 32, 36), "orange": (245, 134, 24), "yellow": (248, 218, 40), "green": (40, 156, 62),
    "blue": (36, 84, 206), "purple": (130, 48, 166), "pink": (246, 130, 180), "brown": (124, 76, 36),
    "black": (18, 18, 20), "white": (250, 250, 250), "grey": (128, 130, 132),
}  # fmt: skip
SHAPES: Final = ("circle", "square", "triangle", "rectangle", "star", "hexagon")

# Width and height, px: some are one tile at 384 or 512 px, most are several.
_SIZES: Final = ((320, 320), (480, 360), (360, 480), (640, 480), (900, 420), (512, 512), (240, 400), (768, 768))
_FINER = 3  # a shape is drawn this many times larger


def numbered(number: int) -> U8:
    """Draw the scene with this number, 0 or more. Returns (H, W, 3) RGB."""
    return scene(np.random.default_rng(number))


def scene(random: np.random.Generator) -> U8:
    """Draw one to five shapes, well apart, on a plain, gradient or noisy background. Returns (H, W, 3) RGB."""
    width, height = _SIZES[random.integers(len(_SIZES))]
    names = [str(name) for name in random.choice(list(COLOURS), 6, replace=False)]
    image = Image.fromarray(_background(random, width, height, COLOURS[names[0]]))
    taken: list[tuple[float, float, float]] = []
    for name in names[1 : 1 + int(random.integers(1, 6))]:
        place = _free_place(random, width, height, taken)
        if place is not None:
            taken.append(place)
            draw = _DRAW[SHAPES[random.integers(len(SHAPES))]]
            outline = draw(place[2], float(random.uniform(0, 2 * math.pi))) + np.array(place[:2])
            _fill(image, outline, COLOURS[name])
    return np.asarray(image)


def _fill(image: Image.Image, outline: Outline, colour: tuple[int, int, int]) -> None:
    """Fill an outline, its edges smooth as in a photograph."""
    mask = Image.new("L", (image.width * _FINER, image.height * _FINER))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in (outline * _FINER).tolist()], fill=255)
    image.paste(colour, mask=mask.resize(image.size, Image.Resampling.BOX))


def _background(random: np.random.Generator, width: int, height: int, colour: tuple[int, int, int]) -> U8:
    kind = random.integers(3)
    ground = np.broadcast_to(np.array(colour, np.float64), (height, width, 3))
    if kind == 1:
        other = random.uniform(0, 255, 3)
        share = np.linspace(0, 1, width)[None, :, None]
        ground = ground * (1 - share) + other * share
    if kind == 2:
        ground = ground + random.normal(0, 18, (height, width, 3))
    return np.clip(np.rint(ground), 0, 255).astype(np.uint8)


def _free_place(
    random: np.random.Generator, width: int, height: int, taken: list[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """Centre x, y and radius of a disc that touches none of those taken; None when 40 tries found none."""
    for _ in range(40):
        radius = float(random.uniform(0.07, 0.2)) * min(width, height)
        x = float(random.uniform(radius, width - radius))
        y = float(random.uniform(radius, height - radius))
        if all(math.hypot(x - other[0], y - other[1]) > 1.1 * (radius + other[2]) for other in taken):
            return x, y, radius
    return None


def _polygon(n_corners: int, *, dent: float = 1.0) -> Callable[[float, float], Outline]:
    """An outline with `n_corners` on a circle; every second of them pulled in by `dent`."""

    def outline(radius: float, turn: float) -> Outline:
        angles = turn + np.arange(n_corners) * (2 * math.pi / n_corners)
        radii = radius * np.where(np.arange(n_corners) % 2, dent, 1.0)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)

    return outline


def _rectangle(radius: float, turn: float) -> Outline:
    angles = turn + np.array([1, -1, 1, -1]) * 0.46 + np.array([0, 0, math.pi, math.pi])  # about 2 to 1
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


_DRAW: Final[dict[str, Callable[[float, float], Outline]]] = {
    "circle": _polygon(72),
    "square": _polygon(4),
    "triangle": _polygon(3),
    "rectangle": _rectangle,
    "star": _polygon(10, dent=0.42),
    "hexagon": _polygon(6),
}
