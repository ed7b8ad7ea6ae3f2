"""Figures as corner points, the six shapes and others, and how one is put on a picture."""

from __future__ import annotations

import math

import cv2
import numpy as np

from scripts.tiny.pictures.colours import F32, U8, Rng

SHAPES = ("circle", "square", "triangle", "rectangle", "star", "hexagon")


def outline(shape: str, rng: Rng) -> F32:
    """Corner points (n, 2) of the shape, unturned, inside the unit circle."""
    if shape == "circle":
        angles = np.arange(72) * (2 * math.pi / 72)
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    if shape == "hexagon":
        angles = np.arange(6) * (math.pi / 3)
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    if shape == "square":
        return np.asarray([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) / math.sqrt(2)
    if shape == "rectangle":
        ratio = math.exp(rng.uniform(math.log(1.4), math.log(3.2)))
        half = 1 / math.hypot(1, ratio)
        corners = np.asarray([[-ratio, -1], [ratio, -1], [ratio, 1], [-ratio, 1]], np.float32) * half
        return corners if rng.random() < 0.5 else corners[:, ::-1].copy()
    if shape == "star":
        points = 5 if rng.random() < 0.85 else int(rng.choice([4, 6, 7, 8]))
        inner = rng.uniform(0.36, 0.5) if points < 7 else rng.uniform(0.45, 0.6)
        angles = np.arange(2 * points) * (math.pi / points) - math.pi / 2
        radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32)
    return triangle(rng)


def triangle(rng: Rng) -> F32:
    kind = rng.random()
    if kind < 0.5:
        angles = np.asarray([-90, 30, 150]) * math.pi / 180
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    if kind < 0.8:
        height, half = rng.uniform(0.8, 1.6), rng.uniform(0.6, 0.9)
        points = np.asarray([[0, -height / 2], [half, height / 2], [-half, height / 2]], np.float32)
    else:
        a, b = rng.uniform(0.8, 1.6, 2)
        points = np.asarray([[-a / 2, -b / 2], [a / 2, b / 2], [-a / 2, b / 2]], np.float32)
    points -= (points.max(0) + points.min(0)) / 2
    points /= np.linalg.norm(points, axis=1).max()
    return points


def turned(points: F32, shape: str, rng: Rng) -> F32:
    share = rng.random()
    if share < 0.35:
        angle = 0.0
    elif share < 0.55:
        angle = math.radians(rng.uniform(-15, 15))
    else:
        angle = rng.uniform(0, 2 * math.pi)
    if shape == "hexagon" and rng.random() < 0.5:
        angle += math.pi / 2
    c, s = math.cos(angle), math.sin(angle)
    return (points @ np.asarray([[c, s], [-s, c]], np.float32)).astype(np.float32)


def blob(rng: Rng) -> F32:
    """A patch without a name: uneven corners around a centre."""
    corners = int(rng.integers(4, 11))
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    radii = rng.uniform(0.4, 1, corners)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32)


def other_figure(kind: int, rng: Rng) -> F32:
    if kind == 0:  # cross
        a = rng.uniform(0.2, 0.4)
        return np.asarray(
            [
                [-a, -1],
                [a, -1],
                [a, -a],
                [1, -a],
                [1, a],
                [a, a],
                [a, 1],
                [-a, 1],
                [-a, a],
                [-1, a],
                [-1, -a],
                [-a, -a],
            ],
            np.float32,
        )
    if kind == 1:  # arrow
        a = rng.uniform(0.15, 0.3)
        return np.asarray([[-1, -a], [0.2, -a], [0.2, -0.6], [1, 0], [0.2, 0.6], [0.2, a], [-1, a]], np.float32)
    if kind == 2:  # heart
        t = np.linspace(0, 2 * math.pi, 40)
        across = 16 * np.sin(t) ** 3
        down = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        heart: F32 = np.stack([across, down], 1).astype(np.float32)
        heart /= 17
        return heart
    if kind == 3:  # moon
        t = np.linspace(0.6, 2 * math.pi - 0.6, 30)
        outer = np.stack([np.cos(t), np.sin(t)], 1)
        inner = np.stack([0.45 + 0.75 * np.cos(t[::-1]), 0.75 * np.sin(t[::-1])], 1)
        moon: F32 = np.concatenate([outer, inner]).astype(np.float32)
        return moon
    a = rng.uniform(0.2, 0.4)  # the letter L
    return np.asarray([[-0.7, -1], [-0.7 + a, -1], [-0.7 + a, 1 - a], [0.7, 1 - a], [0.7, 1], [-0.7, 1]], np.float32)


def stamp(
    rgb: U8, points: F32, paint: F32, *, thickness: float, smooth: int, alpha: float = 1.0, grain: float = 0.0, rng: Rng
) -> None:
    """Draw one closed figure; points (n, 2) in pixels; thickness 0 fills; smooth: supersampling, 0 = hard edges."""
    height, width = rgb.shape[:2]
    pad = int(thickness) + 3
    x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - pad, 0)
    x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + pad, [width, height])
    if x1 <= x0 or y1 <= y0:
        return
    scale = max(smooth, 1)
    mask = np.zeros(((y1 - y0) * scale, (x1 - x0) * scale), np.uint8)
    local = np.round(((points - [x0, y0] + 0.5) * scale - 0.5) * 16).astype(np.int32)
    if thickness:
        cv2.polylines(
            mask, [local], True, 255, max(1, round(thickness * scale)), cv2.LINE_AA if smooth == 1 else cv2.LINE_8, 4
        )
    else:
        cv2.fillPoly(mask, [local], 255, cv2.LINE_AA if smooth == 1 else cv2.LINE_8, 4)
    if scale > 1:
        mask = cv2.resize(mask, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    weight = mask.astype(np.float32)[..., None] * (alpha / 255)
    region = rgb[y0:y1, x0:x1]
    fill = paint if not grain else paint + rng.normal(0, grain, region.shape).astype(np.float32)
    region[...] = np.clip(region + weight * (fill - region) + 0.5, 0, 255).astype(np.uint8)
