"""What lies behind and between the shapes: plain, graded, textured and busy grounds, noise, lines, letters."""

from __future__ import annotations

import functools
import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from scripts.tiny.pictures.colours import F32, U8, Rng, any_colour
from scripts.tiny.pictures.figures import SHAPES, blob, other_figure, outline, stamp, turned

NOISE_PX = 1600
GROUNDS = (0.25, 0.17, 0.2, 0.16, 0.16, 0.06)  # how often plain, gradient, clouds, stripes, camouflage, mosaic


def plain(size: tuple[int, int], rng: Rng) -> U8:
    width, height = size
    kind = rng.random()
    paint = np.full(3, 255.0) if kind < 0.3 else np.full(3, 0.0) if kind < 0.38 else any_colour(rng)
    return np.full((height, width, 3), np.clip(paint, 0, 255), np.uint8)


def gradient(size: tuple[int, int], rng: Rng) -> U8:
    width, height = size
    first = any_colour(rng)
    second = any_colour(rng) if rng.random() < 0.5 else np.clip(first + rng.uniform(-90, 90, 3), 0, 255)
    ys, xs = np.linspace(0, 1, height, dtype=np.float32)[:, None], np.linspace(0, 1, width, dtype=np.float32)[None]
    if rng.random() < 0.7:
        angle = rng.uniform(0, 2 * math.pi)
        t = math.cos(angle) * (xs - 0.5) + math.sin(angle) * (ys - 0.5) + 0.5
    else:
        cx, cy = rng.uniform(0, 1, 2)
        across, down = (width / max(size), height / max(size)) if rng.random() < 0.5 else (1.0, 1.0)
        t = np.sqrt(((xs - cx) * across) ** 2 + ((ys - cy) * down) ** 2)
    t = np.clip(t, 0, 1)[..., None]
    return np.clip(first + t * (second - first), 0, 255).astype(np.uint8)


def billows(size: tuple[int, int], rng: Rng, *, channels: int) -> F32:
    """(H, W, channels) noise about zero of one to four octaves; only half of it is as fine across as down, or its
    grain alone would tell how a picture was stretched, which in a photograph it does not.
    """
    width, height = size
    across, down = (width / min(size), height / min(size)) if rng.random() < 0.5 else (1.0, 1.0)
    total = np.zeros((height, width, channels), np.float32)
    coarsest = rng.uniform(1.5, 6)
    for octave in range(int(rng.integers(1, 5))):
        cells = coarsest * 2**octave
        grid = rng.normal(0, 0.6**octave, (round(cells * down) + 1, round(cells * across) + 1, channels))
        octaves = cv2.resize(grid.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        total += np.asarray(octaves, np.float32).reshape(total.shape)
    return total


def clouds(size: tuple[int, int], rng: Rng) -> U8:
    base, contrast = np.clip(any_colour(rng), 0, 255), rng.uniform(10, 70)
    total = billows(size, rng, channels=1 if rng.random() < 0.6 else 3)
    return np.clip(base + contrast * total, 0, 255).astype(np.uint8)


def camouflage(size: tuple[int, int], rng: Rng) -> U8:
    """Uneven flat patches of a few colours, often near to one another."""
    count = int(rng.integers(2, 6))
    base = any_colour(rng)
    near = rng.random() < 0.6
    paints = np.asarray([base + rng.uniform(-55, 55, 3) if near else any_colour(rng) for _ in range(count)])
    field = billows(size, rng, channels=1)[..., 0]
    borders = np.quantile(field[::4, ::4], np.sort(rng.uniform(0, 1, count - 1)))
    rgb: U8 = np.clip(paints, 0, 255).astype(np.uint8)[np.digitize(field, borders)]
    if rng.random() < 0.4:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 2)), np.uint8)
    return rgb


def mosaic(size: tuple[int, int], rng: Rng) -> U8:
    """Splinters around random points, of colours near to one another or not, some with seams."""
    width, height = size
    scale = 4 if min(size) > 300 else 2
    count = int(rng.integers(12, 160))
    points = rng.uniform(0, 1, (count, 2)) * [height / scale, width / scale]
    empty = np.full((height // scale + 1, width // scale + 1), 255, np.uint8)
    empty[tuple(points.astype(int).T)] = 0
    labels = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    base, spread = any_colour(rng), rng.uniform(15, 90)
    paints = np.clip(base + rng.uniform(-spread, spread, (labels.max() + 1, 3)), 0, 255).astype(np.uint8)
    small = paints[labels]
    if rng.random() < 0.4:
        small[cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2))) > 0] = any_colour(
            rng
        ).clip(0, 255)
    kind = cv2.INTER_NEAREST if rng.random() < 0.3 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(small, size, interpolation=kind), np.uint8)


def stripes(size: tuple[int, int], rng: Rng) -> U8:
    width, height = size
    first = any_colour(rng)
    other = first + rng.uniform(-60, 60, 3) if rng.random() < 0.7 else any_colour(rng)
    second: npt.NDArray[Any] = np.clip(other, 0, 255)
    ys, xs = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    period = max(4.0, rng.uniform(0.02, 0.25) * min(size))
    angle = rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)])
    wave = (math.cos(angle) * xs + math.sin(angle) * ys) / period
    if rng.random() < 0.35:  # a checkerboard
        across = (-math.sin(angle) * xs + math.cos(angle) * ys) / period
        t = ((np.floor(wave) + np.floor(across)) % 2)[..., None]
    elif rng.random() < 0.5:
        t = (np.floor(wave) % 2)[..., None]
    else:
        t = (0.5 + 0.5 * np.sin(2 * math.pi * wave))[..., None]
    rgb: U8 = np.clip(first + np.asarray(t) * (second - first), 0, 255).astype(np.uint8)
    return rgb


def speckle(rgb: U8, rng: Rng) -> U8:
    """Sensor noise, or a coarse grain."""
    height, width = rgb.shape[:2]
    coarse = int(rng.choice([1, 1, 1, 2, 3]))
    rows, columns = height // coarse + 1, width // coarse + 1
    y, x = rng.integers(0, NOISE_PX - rows), rng.integers(0, NOISE_PX - columns)
    noise = noise_field()[y : y + rows, x : x + columns, : 1 if rng.random() < 0.5 else 3]
    if coarse > 1:
        noise = np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    noise = noise.reshape(noise.shape[0], noise.shape[1], -1)[:height, :width]
    return np.clip(rgb + noise * np.float32(rng.uniform(2, 28)), 0, 255).astype(np.uint8)


@functools.cache
def noise_field() -> F32:
    """Unit noise to cut windows from: drawing it anew for every picture would cost more than all the shapes."""
    return np.random.default_rng(0).standard_normal((NOISE_PX, NOISE_PX, 3), dtype=np.float32)


def clutter(rgb: U8, rng: Rng, *, strength: float) -> None:
    """Things that are no shapes to name: thin lines, crumbs, faint patches."""
    height, width = rgb.shape[:2]
    short = min(height, width)
    for _ in range(int(rng.integers(3, 40) * strength)):
        at = rng.uniform(0, 1, 2) * [width, height]
        paint = np.clip(any_colour(rng), 0, 255)
        kind = rng.random()
        if kind < 0.4:
            to = at + rng.normal(0, 0.4, 2) * short
            cv2.line(
                rgb,
                at.astype(int).tolist(),
                to.astype(int).tolist(),
                paint.tolist(),
                max(1, round(rng.uniform(0.002, 0.012) * short)),
                cv2.LINE_AA,
            )
        elif kind < 0.8:
            points = outline(SHAPES[rng.integers(6)], rng) * rng.uniform(0.004, 0.018) * short + at
            stamp(rgb, points.astype(np.float32), paint, thickness=0, smooth=1, rng=rng)
        else:
            x, y = int(at[0]), int(at[1])
            under = rgb[min(y, height - 1), min(x, width - 1)].astype(np.float32)
            faint = np.clip(under + rng.uniform(-16, 16, 3), 0, 255)
            points = blob(rng) * rng.uniform(0.05, 0.35) * short + at
            stamp(rgb, points.astype(np.float32), faint.astype(np.float32), thickness=0, smooth=1, rng=rng)


def curves(rgb: U8, rng: Rng) -> None:
    height, width = rgb.shape[:2]
    for _ in range(int(rng.integers(1, 6))):
        steps = np.cumsum(rng.normal(0, 0.05, (int(rng.integers(6, 40)), 2)), 0) + rng.uniform(0.1, 0.9, 2)
        points = np.round(steps * [width, height] * 16).astype(np.int32)
        cv2.polylines(
            rgb,
            [points],
            False,
            np.clip(any_colour(rng), 0, 255).tolist(),
            max(1, int(rng.uniform(0.003, 0.02) * min(width, height))),
            cv2.LINE_AA,
            4,
        )


def writing(rgb: U8, rng: Rng) -> None:
    height, width = rgb.shape[:2]
    letters = "abcdefghijklmnoprstuvwxyzABCDEFGHIJKLMNPRSTUVWXYZ0123456789"
    for _ in range(int(rng.integers(1, 7))):
        text = "".join(letters[i] for i in rng.integers(0, len(letters), int(rng.integers(1, 12))))
        at = (int(rng.uniform(-0.1, 0.8) * width), int(rng.uniform(0.05, 1) * height))
        size = rng.uniform(0.02, 0.16) * min(width, height) / 22
        cv2.putText(
            rgb,
            text,
            at,
            int(rng.integers(0, 8)),
            size,
            np.clip(any_colour(rng), 0, 255).tolist(),
            max(1, int(size * 2)),
            cv2.LINE_AA,
        )


def distractors(rgb: U8, rng: Rng) -> None:
    """Figures with other names: crosses, arrows, hearts, moons, letters L and T."""
    height, width = rgb.shape[:2]
    for _ in range(int(rng.integers(1, 5))):
        points = other_figure(int(rng.integers(5)), rng) * rng.uniform(0.05, 0.3) * min(width, height)
        points = turned(points.astype(np.float32), "", rng) + rng.uniform(0.1, 0.9, 2) * [width, height]
        thickness = 0.0 if rng.random() < 0.7 else max(1.0, 0.01 * min(width, height))
        stamp(rgb, points.astype(np.float32), any_colour(rng), thickness=thickness, smooth=1, rng=rng)


def background(size: tuple[int, int], rng: Rng, *, calm: bool = False) -> U8:
    if calm:
        return plain(size, rng) if rng.random() < 0.7 else gradient(size, rng)
    made = (plain, gradient, clouds, stripes, camouflage, mosaic)[int(rng.choice(6, p=GROUNDS))]
    rgb = made(size, rng)
    if (made is not plain or rng.random() < 0.5) and rng.random() < 0.4:
        rgb = speckle(rgb, rng)
    if rng.random() < 0.2:
        clutter(rgb, rng, strength=1.0 if rng.random() < 0.8 else 2.5)
    if rng.random() < 0.08:
        curves(rgb, rng)
    return rgb
