"""Backgrounds of the independent test pictures: plain, gradient, textured, busy, and what clutters an empty one.

Nothing here may look like one of the six shapes: no dots, checks, bricks or cells, no closed strokes, no round letters.
"""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

F32 = npt.NDArray[np.float32]
KINDS = ("plain", "gradient", "textured", "busy")
CLUTTER = ("nothing", "lines", "text", "scribbles", "bands", "noise")
LETTERS = "ABEFHKLMNTVWXYZaehkmnrstuvwxz 123457 "


def colour(rng: np.random.Generator) -> F32:
    """A random background colour, muted more often than not: (3,) float32, 0 to 255."""
    saturation = rng.uniform(0.0, 0.35) if rng.random() < 0.65 else rng.uniform(0.35, 0.9)
    rgb = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.08, 1.0))
    return np.array([channel * 255.0 for channel in rgb], np.float32)


def ground(kind: str, width: int, height: int, rng: np.random.Generator) -> F32:
    """A background: (height, width, 3) float32, 0 to 255."""
    makers = {"plain": plain, "gradient": gradient, "textured": textured, "busy": busy}
    pixels: F32 = np.clip(makers[kind](width, height, rng), 0.0, 255.0)
    return pixels


def plain(width: int, height: int, rng: np.random.Generator) -> F32:
    """One colour, white and black a little more often than chance."""
    pick = rng.random()
    rgb = np.full(3, 255.0 if pick < 0.15 else 0.0, np.float32) if pick < 0.22 else colour(rng)
    return np.broadcast_to(rgb, (height, width, 3)).copy()


def gradient(width: int, height: int, rng: np.random.Generator) -> F32:
    """Two or three colours blended along a line or outwards from a point."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        ramp = x * np.cos(angle) + y * np.sin(angle)
    else:
        ramp = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
    stops = np.stack([colour(rng) for _ in range(rng.integers(2, 4))])
    at = np.linspace(0.0, 1.0, len(stops))
    return np.stack([np.interp(ramp, at, stops[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def clouds(width: int, height: int, rng: np.random.Generator, *, coarse: int, octaves: int) -> F32:
    """Noise summed over octaves, the coarsest of `coarse` cells a side: (height, width) float32, about -1 to 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = min(coarse * 2**octave, 256)
        grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 1.7**octave
    return total / max(float(np.abs(total).max()), 1e-6)


def textured(width: int, height: int, rng: np.random.Generator) -> F32:
    """A colour with grain, weave, stripes, wood or paper on it."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.02, 0.12) * min(width, height) + 3
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = rng.choice(["grain", "weave", "stripes", "wood", "paper"])
    if kind == "grain":
        relief = rng.normal(0, 0.5, (height, width)).astype(np.float32)
    elif kind == "weave":
        thread = 6.283 / rng.uniform(3, 6)  # so fine that it is cloth, not a lattice of dots
        relief = np.sin(along * thread) * 0.5 + np.sin(across * thread) * 0.5
    elif kind == "stripes":
        relief = np.sign(np.sin(along * (3.1416 / period)))
    elif kind == "wood":
        warp = clouds(width, height, rng, coarse=3, octaves=2) * period * 2
        relief = np.sin((along + warp) * (6.283 / period)) + rng.normal(0, 0.15, (height, width))
    else:
        relief = clouds(width, height, rng, coarse=24, octaves=4)
    depth = rng.uniform(8, 38)
    tint = rng.uniform(0.6, 1.0, 3).astype(np.float32)
    return plain(width, height, rng) + (relief * depth)[..., None].astype(np.float32) * tint


def camouflage(width: int, height: int, rng: np.random.Generator) -> F32:
    """Ragged patches with hard edges, in three to five colours near each other: far apart they would be shapes."""
    levels = clouds(width, height, rng, coarse=int(rng.integers(3, 7)), octaves=4)
    steps = np.quantile(levels, np.linspace(0, 1, int(rng.integers(3, 6)) + 1)[1:-1])
    n_colours = len(steps) + 1
    palette = colour(rng) * 0.8 + 25 + rng.uniform(-32, 32, (n_colours, 3)) + rng.uniform(-32, 32, (n_colours, 1))
    patches: F32 = palette[np.digitize(levels, steps)].astype(np.float32)
    return patches


def busy(width: int, height: int, rng: np.random.Generator) -> F32:
    """Camouflage, or many-coloured clouds like an out-of-focus photograph, often with strokes or writing over it."""
    if rng.random() < 0.3:
        return camouflage(width, height, rng)
    base, spread = colour(rng), rng.uniform(40, 110)
    shared = clouds(width, height, rng, coarse=int(rng.integers(2, 6)), octaves=4)
    rgb = np.stack([shared * 0.6 + clouds(width, height, rng, coarse=4, octaves=4) * 0.5 for _ in range(3)], axis=-1)
    pixels = np.clip(base + rgb * spread, 0, 255).astype(np.float32)
    pixels += rng.normal(0, rng.uniform(0, 8), (height, width, 1))
    if rng.random() < 0.5:
        pixels = clutter(str(rng.choice(["lines", "text", "scribbles"])), pixels, rng)
    return pixels.astype(np.float32)


def clutter(kind: str, pixels: F32, rng: np.random.Generator) -> F32:
    """The picture with lines, text, scribbles, bands or noise over it."""
    height, width = pixels.shape[:2]
    if kind == "nothing":
        return pixels
    if kind == "noise":
        return pixels + rng.normal(0, rng.uniform(15, 60), (height, width, 3)).astype(np.float32)
    if kind == "bands":
        share = 0.5 + 0.5 * np.sin(np.linspace(0, rng.uniform(4, 30), height, dtype=np.float32))
        mixed = share[:, None, None] * rng.uniform(0.2, 0.6)
        return (pixels * (1 - mixed) + colour(rng) * mixed).astype(np.float32)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    {"lines": draw_lines, "text": draw_text, "scribbles": draw_scribbles}[kind](image, rng)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    return np.asarray(image, np.float32)


def ink(rng: np.random.Generator) -> tuple[int, int, int]:
    """A random stroke colour."""
    red, green, blue = (int(value) for value in colour(rng))
    return red, green, blue


def draw_lines(image: Image.Image, rng: np.random.Generator) -> None:
    """Near-parallel lines right across the picture, or two that cross: three crossing ones would make a triangle."""
    draw, reach = ImageDraw.Draw(image), float(np.hypot(*image.size))
    angle, n_lines = rng.uniform(0, np.pi), int(rng.integers(1, 9))
    for index in range(n_lines):
        tilt = angle + (np.pi / 2 if n_lines == 2 and index else rng.uniform(-0.03, 0.03))
        centre = np.array([rng.uniform(0, image.width), rng.uniform(0, image.height)])
        step = np.array([np.cos(tilt), np.sin(tilt)]) * reach
        line_px = max(1, int(rng.uniform(0.002, 0.015) * min(image.size)))
        draw.line([tuple(centre - step), tuple(centre + step)], fill=ink(rng), width=line_px)


def draw_text(image: Image.Image, rng: np.random.Generator) -> None:
    """A few lines of meaningless writing."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 7))):
        size_px = max(9.0, rng.uniform(0.05, 0.16) * min(image.size))
        words = "".join(rng.choice(list(LETTERS), int(rng.integers(3, 24))))
        at = (rng.uniform(-0.1, 0.7) * image.width, rng.uniform(0, 0.92) * image.height)
        draw.text(at, words, fill=ink(rng), font=ImageFont.load_default(size_px))


def draw_scribbles(image: Image.Image, rng: np.random.Generator) -> None:
    """Open wandering strokes; none turns by more than 150 degrees in all, so none closes on itself."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        n_steps, step_px = int(rng.integers(8, 30)), rng.uniform(0.02, 0.06) * min(image.size)
        heading = rng.uniform(0, 2 * np.pi) + np.clip(np.cumsum(rng.normal(0, 0.45, n_steps)), -1.3, 1.3)
        path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * step_px, axis=0)
        path += [rng.uniform(0, image.width), rng.uniform(0, image.height)]
        stroke_px = max(1, int(rng.uniform(0.004, 0.02) * min(image.size)))
        draw.line([tuple(point) for point in path], fill=ink(rng), width=stroke_px, joint="curve")
