"""Pictures of coloured shapes, drawn with cv2, and what is in them: the training data of reka-edge-tiny."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from scripts.tiny.pictures.backgrounds import background, clutter, curves, distractors, speckle, writing
from scripts.tiny.pictures.colours import COLOURS, F32, U8, Rng, apart, colour
from scripts.tiny.pictures.figures import SHAPES, outline, stamp, turned

FINEST_PX = 7.0  # the circumscribed radius from which on an outline alone can still be told apart
TRANSPOSED = 4  # the bit of a turn that makes columns of rows


@dataclass(frozen=True)
class Thing:
    """One shape: its names; centre, bounding size and corners (n, 2) as shares of the picture's width and height."""

    colour: str
    shape: str
    x: float
    y: float
    width: float
    height: float
    corners: F32 | None = None

    @property
    def rim(self) -> F32:
        """The corners of a shape that was drawn. Raises: ValueError for one that was not."""
        if self.corners is None:
            raise ValueError(f"{self.colour} {self.shape}: it was not drawn and has no corners")
        return self.corners


@dataclass(frozen=True)
class Scene:
    """rgb: (H, W, 3) uint8, as a camera or a file would give it; things: what is to be seen."""

    rgb: U8
    things: tuple[Thing, ...]

    @property
    def stretch(self) -> float:
        """log2 of width over height, which the warp to a square tile hides."""
        return math.log2(self.rgb.shape[1] / self.rgb.shape[0])


def image_size(rng: Rng, *, tile_px: int, widest: float) -> tuple[int, int, float]:
    """Width and height to draw at, and how many original pixels one drawn pixel stands for.

    Pictures with many more pixels than a tile are drawn at up to twice the size that the preprocessing shrinks them to:
    how sharp edges are after it, across and down, tells how a picture was stretched.
    """
    ratio = 1.0 if rng.random() < 0.15 else math.exp(rng.uniform(-1, 1) * math.log(widest))
    long = math.exp(rng.uniform(math.log(110), math.log(2000))) if rng.random() < 0.5 else rng.uniform(200, 2000)
    width, height = (long, long / ratio) if ratio >= 1 else (long * ratio, long)
    if min(width, height) < 96:
        width, height = width * 96 / min(width, height), height * 96 / min(width, height)
    detail = 1.02 if rng.random() < 0.5 else rng.uniform(1.02, 2.0)
    shrink = max(1.0, math.sqrt(width * height) / (tile_px * detail))
    return max(round(width / shrink), 24), max(round(height / shrink), 24), shrink


def place(count: int, size: tuple[int, int], shrink: float, rng: Rng) -> list[tuple[float, float, float]]:
    """Centres and circumscribed radii in pixels of shapes that keep apart."""
    width, height = size
    short = min(size)
    floor = max(0.075, 11 / shrink / short)
    placed: list[tuple[float, float, float]] = []
    top = 0.62 if count <= 2 else 0.5 if count <= 4 else 0.42 if count <= 6 else 1.05 / math.sqrt(count)
    gap = -0.1 if rng.random() < 0.06 else rng.uniform(0.0, 0.15)
    for _ in range(count):
        for attempt in range(40):
            sizes = rng.random() ** (1.0 + attempt * 0.1)
            share = floor + (top - floor) * sizes if rng.random() < 0.4 else floor * max(top / floor, 1.01) ** sizes
            radius = max(share * short / 2, 4.5 / shrink)
            if 2 * radius > short:
                continue
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
            if all(math.hypot(x - a, y - b) > (radius + r) * (1 + gap) for a, b, r in placed):
                placed.append((x, y, radius))
                break
    return placed


def draw_things(rgb: U8, count: int, shrink: float, rng: Rng, *, hollow: float, twins: float) -> tuple[Thing, ...]:
    """hollow: how many of the shapes are outlines only; twins: in how many of the pictures some are alike."""
    height, width = rgb.shape[:2]
    things: list[Thing] = []
    smooth = int(rng.choice([0, 1, 1, 3]))
    alike = rng.random() if rng.random() < twins else 0.0  # "two blue squares" must not be rare, nor five
    for x, y, radius in place(count, (width, height), shrink, rng):
        name, shape = COLOURS[rng.integers(11)], SHAPES[rng.integers(6)]
        if things and rng.random() < alike:
            twin = things[rng.integers(len(things))]
            name, shape = (
                (twin.colour, twin.shape)
                if rng.random() < 0.7
                else (twin.colour, shape)
                if rng.random() < 0.5
                else (name, twin.shape)
            )
        points = turned(outline(shape, rng), shape, rng) * radius
        points += np.asarray([x, y], np.float32)
        paint = visible(rgb, name, (x, y, radius), rng)
        if paint is None:
            name, paint = other_colour(rgb, (x, y, radius), rng)
        draw_one(rgb, points, paint, radius, shape, smooth, rng, hollow=rng.random() < hollow and radius > FINEST_PX)
        low, high = points.min(0), points.max(0)
        size = np.asarray([width, height], np.float32)
        (x, y), (across, down) = (low + high) / 2 / size, (high - low) / size
        things.append(Thing(name, shape, x, y, across, down, points / size))
    return tuple(things)


def around(rgb: U8, spot: tuple[float, float, float]) -> F32:
    x, y, radius = spot
    region = rgb[max(int(y - radius), 0) : int(y + radius) + 1, max(int(x - radius), 0) : int(x + radius) + 1]
    step = max(1, min(region.shape[:2]) // 12)
    return region[::step, ::step].reshape(-1, 3).astype(np.float32)


def visible(rgb: U8, name: str, spot: tuple[float, float, float], rng: Rng) -> F32 | None:
    """A paint of this name that stands out where it is going to lie, or None."""
    under = around(rgb, spot)
    if not len(under):
        return None
    mean = under.mean(0)
    for _ in range(4):
        paint = colour(name, rng)
        near = np.abs(under - paint).sum(1) < 45
        if apart(paint, mean) > 85 and near.mean() < 0.15:
            return paint
    return None


def other_colour(rgb: U8, spot: tuple[float, float, float], rng: Rng) -> tuple[str, F32]:
    for index in rng.permutation(11):
        paint = visible(rgb, COLOURS[index], spot, rng)
        if paint is not None:
            return COLOURS[index], paint
    mean = around(rgb, spot).mean(0) if len(around(rgb, spot)) else np.full(3, 255, np.float32)
    return ("black", np.zeros(3, np.float32)) if mean.mean() > 127 else ("white", np.full(3, 255, np.float32))


def draw_one(
    rgb: U8, points: F32, paint: F32, radius: float, shape: str, smooth: int, rng: Rng, *, hollow: bool
) -> None:
    if hollow:
        thickness = max(1.6, rng.uniform(0.07, 0.26) * radius * (0.7 if shape == "star" else 1.0))
        centre = points.mean(0)
        points = centre + (points - centre) * (1 - 0.5 * thickness / radius)
        stamp(rgb, points, paint, thickness=thickness, smooth=max(smooth, 1), rng=rng)
        return
    grain = rng.uniform(2, 14) if rng.random() < 0.12 else 0.0
    stamp(
        rgb,
        points,
        paint,
        thickness=0,
        smooth=smooth,
        grain=grain,
        alpha=1.0 if rng.random() < 0.9 else rng.uniform(0.85, 1),
        rng=rng,
    )
    if rng.random() < 0.1 and radius > 8:
        edge = (
            np.zeros(3, np.float32)
            if rng.random() < 0.6
            else np.full(3, 255, np.float32)
            if rng.random() < 0.5
            else paint * 0.5
        )
        stamp(rgb, points, edge, thickness=max(1.0, rng.uniform(0.02, 0.07) * radius), smooth=1, rng=rng)


def weather(rgb: U8, shrink: float, things: Sequence[Thing], rng: Rng) -> U8:
    """What lenses, sensors and JPEG do to a picture; the smallest shape stays readable.

    Of JPEG there are few traces left in a picture that was much larger.
    """
    height, width = rgb.shape[:2]
    if rng.random() < 0.38:
        finest = min((min(t.width * width, t.height * height) for t in things), default=60.0)
        sigma = rng.uniform(0.3, 1.4) if rng.random() < 0.7 else rng.uniform(1.0, 3.0)
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(0.25, min(sigma, 0.06 * finest))), np.uint8)
    if rng.random() < 0.15:
        rgb = speckle(rgb, rng)
    if rng.random() < 0.1:
        rgb = np.clip(
            (rgb.astype(np.float32) - 128) * rng.uniform(0.9, 1.05) + 128 + rng.uniform(-8, 8), 0, 255
        ).astype(np.uint8)
    if rng.random() < (0.6 if shrink < 1.5 else 0.2):
        low = 35 if shrink < 1.3 else 60
        quality = int(rng.uniform(low, 97))
        data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        rgb = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return rgb


def scene(rng: Rng, *, tile_px: int, least: int = 1, most: int = 6, easy: bool = False, twins: float = 0.5) -> Scene:
    """One picture of so many shapes, if there is room; about one in eleven has nothing in it that the model knows.

    easy: hardly stretched, on a calm ground, few outlines, nothing blurred: what a tower learns its first shapes from.
    twins: in how many of the pictures some shapes are alike.
    """
    width, height, shrink = image_size(rng, tile_px=tile_px, widest=1.25 if easy else 3.05)
    rgb = background((width, height), rng, calm=easy)
    if rng.random() < 0.09:
        for extra, share in ((curves, 0.35), (writing, 0.35), (distractors, 0.35)):
            if rng.random() < share:
                extra(rgb, rng)
        if rng.random() < 0.3:
            clutter(rgb, rng, strength=2.0)
        return Scene(weather(rgb, shrink, (), rng), ())
    if rng.random() < 0.06:
        writing(rgb, rng)
    things = draw_things(rgb, int(rng.integers(least, most + 1)), shrink, rng, hollow=0.1 if easy else 0.4, twins=twins)
    return Scene(rgb if easy else weather(rgb, shrink, things, rng), things)


def tile(rgb: U8, *, tile_px: int, patch_px: int) -> U8:
    """The one tile (tile_px, tile_px, 3) of a picture of a tower with max_tiles = 1: bicubic, then the warp."""
    height, width = rgb.shape[:2]
    best_height = int(tile_px / math.sqrt(width / height))
    best_width = int(best_height * (width / height))
    width, height = (max(patch_px, round(side / patch_px) * patch_px) for side in (best_width, best_height))
    image = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.resize((tile_px, tile_px), Image.Resampling.BILINEAR))


def turned_around(tile: U8, things: Sequence[Thing], turn: int) -> tuple[U8, tuple[Thing, ...]]:
    """A square picture mirrored and turned in one of 8 ways, with what is in it; 0 leaves it as it is."""
    if turn & TRANSPOSED:
        tile = tile.transpose(1, 0, 2)
    if turn & 1:
        tile = tile[:, ::-1]
    if turn & 2:
        tile = tile[::-1]
    return tile, tuple(moved(thing, turn) for thing in things)


def moved(thing: Thing, turn: int) -> Thing:
    points = np.concatenate([[[thing.x, thing.y]], thing.rim])
    width, height = thing.width, thing.height
    if turn & TRANSPOSED:
        points, width, height = points[:, ::-1], height, width
    points = np.where([turn & 1, turn & 2], 1 - points, points)
    x, y = map(float, points[0])
    return Thing(thing.colour, thing.shape, x, y, width, height, points[1:].astype(np.float32))
