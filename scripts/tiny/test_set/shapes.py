"""Shapes of the independent test pictures: what the names mean, where they may lie, how they are drawn and saved."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from scripts.tiny.test_set.backgrounds import CLUTTER, F32, KINDS, clutter, ground

# Hue in degrees, saturation and value: what people call by that name without hesitating, with gaps in between.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 6), (0.78, 1.0), (0.68, 1.0)),
    "orange": ((23, 35), (0.8, 1.0), (0.9, 1.0)),
    "yellow": ((50, 60), (0.65, 1.0), (0.88, 1.0)),
    "green": ((95, 150), (0.55, 1.0), (0.38, 0.85)),
    "blue": ((208, 238), (0.65, 1.0), (0.5, 1.0)),
    "purple": ((268, 292), (0.5, 0.95), (0.4, 0.8)),
    "pink": ((322, 346), (0.3, 0.58), (0.92, 1.0)),
    "brown": ((18, 30), (0.55, 0.85), (0.3, 0.52)),
    "black": ((0, 360), (0.0, 0.4), (0.0, 0.1)),
    "white": ((0, 360), (0.0, 0.03), (0.95, 1.0)),
    "grey": ((0, 360), (0.0, 0.06), (0.4, 0.66)),
}
SHAPES = ("circle", "square", "triangle", "rectangle", "star", "hexagon")
SMALLEST_PX, SMALLEST_OUTLINED_PX = 12.0, 20.0
THINNEST_PX, SMALLEST_RECTANGLE_PX = 8.0, 15.0
SHARES = (0.08, 0.60)
COUNT_ODDS = (0.22, 0.22, 0.18, 0.14, 0.12, 0.12)


@dataclass(frozen=True)
class Shape:
    """One shape to draw: centre and size in pixels, angle in radians, corners as (n, 2) within the unit disc."""

    colour: str
    kind: str
    rgb: tuple[float, float, float]
    size_px: float
    centre: tuple[float, float]
    corners: npt.NDArray[np.float64] | None
    stroke_px: float | None


def polygon(kind: str, size_px: float, rng: np.random.Generator) -> npt.NDArray[np.float64] | None:
    """The rotated outline, (n, 2), its farthest points 1 apart and the middle of its box at 0; None for a circle."""
    if kind == "circle":
        return None
    if kind in ("square", "rectangle"):
        longest = min(2.8, math.sqrt((size_px / THINNEST_PX) ** 2 - 1)) if kind == "rectangle" else 1.0
        ratio = 1.0 if kind == "square" else rng.uniform(1.5, longest)
        corners = np.array([[-ratio, -1], [ratio, -1], [ratio, 1], [-ratio, 1]], float)
    elif kind == "triangle":
        apex = rng.uniform(-0.45, 0.45) if rng.random() < 0.5 else 0.0
        corners = np.array([[-0.5, 0], [0.5, 0], [apex, -rng.uniform(0.7, 1.1)]])
    elif kind == "star":
        points, inner = (5 if rng.random() < 0.85 else 6), rng.uniform(0.38, 0.5)
        turn = np.arange(2 * points) * np.pi / points
        radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
        corners = np.stack([np.sin(turn) * radius, -np.cos(turn) * radius], axis=1)
    else:
        turn = np.arange(6) * np.pi / 3
        corners = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.65 else rng.normal(0, 0.04)
    spin = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = corners @ spin
    corners -= (corners.max(axis=0) + corners.min(axis=0)) / 2
    across = max(float(np.linalg.norm(a - b)) for a in corners for b in corners)
    unit: npt.NDArray[np.float64] = corners / across
    return unit


def named_rgb(name: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """A natural variation of the named colour, 0 to 255."""
    (hue, saturation, value) = (rng.uniform(*bounds) for bounds in COLOURS[name])
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return red * 255, green * 255, blue * 255


def mask(shape: Shape) -> Image.Image:
    """How much of each pixel the shape covers, on a square a little larger than it; drawn larger, then averaged."""
    side = math.ceil(shape.size_px) + 6
    scale = 4 if side < 600 else 2
    large = Image.new("L", (side * scale, side * scale))
    draw, middle = ImageDraw.Draw(large), side * scale / 2
    radius = shape.size_px * scale / 2
    if shape.corners is None:
        box = (middle - radius, middle - radius, middle + radius, middle + radius)
        draw.ellipse(box, fill=255)
    else:
        draw.polygon([(middle + x * 2 * radius, middle + y * 2 * radius) for x, y in shape.corners], fill=255)
    if shape.stroke_px is not None:
        hollow(large, shape, shape.stroke_px * scale, scale)
    return large.resize((side, side), Image.Resampling.BOX)


def hollow(large: Image.Image, shape: Shape, stroke: float, scale: int) -> None:
    """Empties the inside of a drawn shape, a stroke's width away from its edge."""
    draw, middle, across = ImageDraw.Draw(large), large.width / 2, shape.size_px * scale
    if shape.corners is None:
        inner = across / 2 - stroke
        draw.ellipse((middle - inner, middle - inner, middle + inner, middle + inner), fill=0)
        return
    solid = large.copy()
    draw.rectangle((0, 0, large.width, large.height), fill=0)
    ring = [(middle + x * across, middle + y * across) for x, y in shape.corners]
    # Twice the stroke: half of the pen falls outside and is cut away by the solid shape.
    draw.line([*ring, ring[0], ring[1]], fill=255, width=round(2 * stroke), joint="curve")
    large.paste(0, mask=Image.eval(solid, lambda value: 255 - value))


def lab(rgb: npt.ArrayLike) -> F32:
    """CIE Lab of sRGB values 0 to 255, last axis 3."""
    linear = np.asarray(rgb, np.float32) / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / [0.9505, 1.0, 1.089]
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    light, a, b = 116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])
    return np.stack([light, a, b], axis=-1).astype(np.float32)


def visible(shape: Shape, lab_image: F32, scale: float) -> bool:
    """Whether the shape stands out from all but a few of the background pixels under and around it."""
    reach = shape.size_px * 0.56
    x, y = shape.centre
    top, left = max(0, int((y - reach) * scale)), max(0, int((x - reach) * scale))
    around = lab_image[top : int((y + reach) * scale) + 1, left : int((x + reach) * scale) + 1]
    distance = np.linalg.norm(around - lab(shape.rgb), axis=-1)
    return bool(np.quantile(distance, 0.05) >= 26.0)


def sizes_px(n_shapes: int, shorter_px: int, rng: np.random.Generator) -> list[float]:
    """Sizes in pixels, largest first, as likely small as large, the largest ones smaller the more there are."""
    low = max(SHARES[0], SMALLEST_PX / shorter_px)
    high = max(low * 1.2, (0.6, 0.58, 0.52, 0.46, 0.42, 0.38)[n_shapes - 1])
    shares = np.exp(rng.uniform(math.log(low), math.log(high), n_shapes))
    return sorted((float(share) * shorter_px for share in shares), reverse=True)


def place(sizes: list[float], pixels: F32, style: str, rng: np.random.Generator) -> list[Shape] | None:
    """Shapes that stand out and do not overlap, or None where no room was found."""
    height, width = pixels.shape[:2]
    scale = min(1.0, 256 / max(width, height))
    small_px = (round(width * scale), round(height * scale))
    lab_image = lab(np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize(small_px)))
    placed: list[Shape] = []
    for size in sizes:
        twin = placed[int(rng.integers(len(placed)))] if placed and rng.random() < 0.25 else None
        for _ in range(60):
            shape = candidate(size, (width, height), style, twin, rng)
            apart = all(math.dist(shape.centre, other.centre) > (size + other.size_px) * 0.55 + 4 for other in placed)
            if apart and visible(shape, lab_image, scale):
                placed.append(shape)
                break
        else:
            return None
    return placed


def candidate(size: float, canvas: tuple[int, int], style: str, twin: Shape | None, rng: np.random.Generator) -> Shape:
    """A shape somewhere inside the canvas, of another one's colour and kind where a twin is given."""
    colour = twin.colour if twin else str(rng.choice(list(COLOURS)))
    kind = twin.kind if twin else str(rng.choice(SHAPES))
    if kind == "rectangle" and size < SMALLEST_RECTANGLE_PX:
        kind = "square"
    margin = size / 2 + 2
    centre = tuple(rng.uniform(margin, side - margin) if side > 2 * margin else side / 2 for side in canvas)
    outlined = size >= SMALLEST_OUTLINED_PX and (style == "outlined" or (style == "mixed" and rng.random() < 0.5))
    stroke_px = max(2.0, size * rng.uniform(0.06, 0.13)) if outlined else None
    corners = polygon(kind, size, rng)
    return Shape(colour, kind, named_rgb(colour, rng), size, (centre[0], centre[1]), corners, stroke_px)


def paint(pixels: F32, shape: Shape, rng: np.random.Generator) -> None:
    """Lays the shape over the picture in place, some with a little shading across."""
    cover = np.asarray(mask(shape), np.float32) / 255.0
    side = cover.shape[0]
    shade = np.ones((side, side), np.float32)
    if rng.random() < 0.3:
        shade += np.linspace(-1, 1, side, dtype=np.float32)[:, None] * rng.uniform(-0.07, 0.07)
    left, top = round(shape.centre[0] - side / 2), round(shape.centre[1] - side / 2)
    height, width = pixels.shape[:2]
    rows, columns = slice(max(0, top), min(height, top + side)), slice(max(0, left), min(width, left + side))
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    colour = np.clip(np.asarray(shape.rgb, np.float32) * shade[..., None], 0, 255)
    alpha = cover[..., None][inside]
    pixels[rows, columns] = pixels[rows, columns] * (1 - alpha) + colour[inside] * alpha


def canvas(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height from 96 to 2 000 pixels, aspect up to 1:3 either way."""
    usual = (1.0, 4 / 3, 3 / 2, 16 / 9)
    aspect = float(rng.choice(usual)) if rng.random() < 0.5 else math.exp(rng.uniform(0, math.log(3)))
    longer = math.exp(rng.uniform(math.log(96 * aspect), math.log(2000)))
    longer_px = min(2000, max(96, round(longer)))
    shorter_px = max(96, math.ceil(longer_px / aspect))
    return (longer_px, shorter_px) if rng.random() < 0.6 else (shorter_px, longer_px)


def encoded(pixels: F32, smallest_px: float, rng: np.random.Generator) -> tuple[bytes, dict[str, object]]:
    """The picture file and what was done to it: some blurred, by at most 5 % of the smallest shape, most as JPEG."""
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    blur_px = rng.uniform(0.3, max(0.35, min(0.05 * smallest_px, 6.0))) if rng.random() < 0.4 else 0.0
    if blur_px:
        image = image.filter(ImageFilter.GaussianBlur(blur_px))
    data, notes = BytesIO(), dict[str, object](blur_px=round(blur_px, 2))
    if rng.random() < 0.2:
        image.save(data, "PNG")
        return data.getvalue(), {**notes, "format": "png"}
    # Strong compression of small shapes leaves nothing to see: 8-pixel blocks with halved colour.
    quality = int(rng.integers(35 if smallest_px >= 40 else 60, 96))
    image.save(data, "JPEG", quality=quality, subsampling=int(rng.integers(0, 3)) if smallest_px >= 40 else 0)
    return data.getvalue(), {**notes, "format": "jpg", "quality": quality}


def scene(rng: np.random.Generator) -> tuple[bytes, dict[str, object]]:
    """A picture of one to six shapes and its label; backgrounds without enough room or contrast are drawn again."""
    n_shapes = int(rng.choice(6, p=COUNT_ODDS)) + 1
    kind, style = str(rng.choice(KINDS)), str(rng.choice(["filled", "filled", "outlined", "mixed"]))
    while True:
        width, height = canvas(rng)
        pixels = ground(kind, width, height, rng)
        shapes = place(sizes_px(n_shapes, min(width, height), rng), pixels, style, rng)
        if shapes is not None:
            break
    for shape in shapes:
        paint(pixels, shape, rng)
    data, notes = encoded(pixels, shapes[-1].size_px, rng)
    objects = [described(shape, min(width, height)) for shape in shapes]
    return data, {"objects": objects, "background": kind, "style": style, "width": width, "height": height, **notes}


def described(shape: Shape, shorter_px: int) -> dict[str, object]:
    """The label of one shape; `size` is its share of the shorter side."""
    return {
        "colour": shape.colour,
        "shape": shape.kind,
        "size": round(shape.size_px / shorter_px, 4),
        "size_px": round(shape.size_px, 1),
        "outlined": shape.stroke_px is not None,
        "centre": [round(value, 1) for value in shape.centre],
    }


def empty(rng: np.random.Generator) -> tuple[bytes, dict[str, object]]:
    """A picture without any of the shapes and its label."""
    width, height = canvas(rng)
    kind, over = str(rng.choice(KINDS)), str(rng.choice(CLUTTER))
    pixels = clutter(over, ground(kind, width, height, rng), rng)
    data, notes = encoded(pixels, 40.0, rng)
    return data, {"objects": [], "background": kind, "style": over, "width": width, "height": height, **notes}
