"""The tiles that a vision tower reads: how many an image makes, what it is resized to, and its pixels, normalised."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from edge.arrays import F32, U8
from edge.bundle.manifest import VisionSpec
from edge.media.detail import AUTO, Detail, Level
from edge.media.resized import Resized, Target, check_resized, size_of

_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ENLARGED: Mapping[Level, int] = {"low": 1, "auto": 1, "high": 4}  # times the pixels


class Tower(Protocol):
    """What of a vision tower decides the sizes of tiles: a `VisionSpec`, or a `TowerShape`."""

    @property
    def tile_px(self) -> int:
        """The side of a tile."""

    @property
    def patch_px(self) -> int:
        """What the sides of cells are multiples of."""

    @property
    def max_tiles(self) -> int:
        """The most cells of a grid."""

    @property
    def crop_share(self) -> float | None:
        """What of a tile's shortest edge is kept."""

    @property
    def resample(self) -> Literal["bilinear", "bicubic"]:
        """How a tile is made."""


@dataclass(frozen=True)
class TowerShape:
    """A tower's shape as it goes to the decoding process."""

    tile_px: int
    patch_px: int
    max_tiles: int
    crop_share: float | None
    resample: Literal["bilinear", "bicubic"]


def tile_count(width: int, height: int, tower: Tower, detail: Detail = AUTO) -> int:
    """Return how many tiles an image of this size makes. Source: model-family.md, 4."""
    grid = grid_of(width, height, tower, detail)
    return 1 if grid is None else grid[0] * grid[1] + 1


def tiles(image: U8 | Resized, spec: VisionSpec, detail: Detail = AUTO) -> Iterator[F32]:
    """Yield an image's tiles one by one, each (3, T, T) float32, normalised.

    image: (H, W, 3) uint8, or what is left of it for the same detail.
    Raises: MediaError for an image too thin to resize. Source: model-family.md, 4.
    """
    grid = grid_of(*size_of(image), spec, detail)
    if isinstance(image, Resized):
        cells = Image.fromarray(image.cells)
        overview = functools.partial(_normalised, image.cells if image.whole is None else image.whole, spec)
    else:
        whole = Image.fromarray(image)
        target = targets(whole.width, whole.height, spec, detail)[0]
        cells = _resized(whole, (target.width, target.height), target.resample)
        overview = functools.partial(_tile, whole, spec)
    if grid is None:
        yield _tile(cells, spec)
        return
    if spec.order == "whole-first":
        yield overview()
    yield from _cells(cells, grid, spec)
    if spec.order == "cells-first":
        yield overview()


def frame_tile(rgb: U8, spec: VisionSpec) -> F32:
    """Return the one tile of a video's frame: (3, T, T) float32, normalised. rgb: (H, W, 3) uint8."""
    return _tile(Image.fromarray(rgb), spec)


def _cells(resized: Image.Image, grid: tuple[int, int], spec: VisionSpec) -> Iterator[F32]:
    """Yield the tiles of a grid whose cells are the right size, row by row."""
    columns, rows = grid
    width, height = resized.width // columns, resized.height // rows
    for row in range(rows):
        for column in range(columns):
            left, top = column * width, row * height
            yield _tile(resized.crop((left, top, left + width, top + height)), spec)


def targets(width: int, height: int, tower: Tower, detail: Detail = AUTO) -> list[Target]:
    """Return what an image is resized to: its cells side by side, and, where it has several, all of it for one tile."""
    grid = grid_of(width, height, tower, detail)
    if grid is None:
        return [Target(*_best(width, height, tower), Image.Resampling.BICUBIC)]
    columns, rows = grid
    cell = (_to_multiple(width // columns, tower.patch_px), _to_multiple(height // rows, tower.patch_px))
    cell_width, cell_height = _best(*cell, tower)
    fitted = _fitted(width, height, tower.tile_px, tower.crop_share)
    cells = Target(columns * cell_width, rows * cell_height, Image.Resampling.BICUBIC)
    return [cells, Target(*fitted, _RESAMPLE[tower.resample])]


def fit(image: Image.Image, *, side: int, crop_share: float | None, resample: str) -> Image.Image:
    """Resize an image as a tile of side x side needs it, once: doing it again changes nothing.

    Tiles of less than 384 px that have a crop_share keep the proportions: the shortest edge becomes side / crop_share.
    """
    return _resized(image, _fitted(image.width, image.height, side, crop_share), _RESAMPLE[resample])


def _fitted(width: int, height: int, side: int, crop_share: float | None) -> tuple[int, int]:
    """Return the size that `fit` resizes to."""
    if side >= 384 or crop_share is None:
        return side, side
    shortest = int(side / crop_share)
    longest = int(shortest * max(width, height) / min(width, height))
    return (shortest, longest) if width <= height else (longest, shortest)


def _tile(image: Image.Image, spec: VisionSpec) -> F32:
    """Bring an image to T x T, normalised: (3, T, T)."""
    fitted = fit(image, side=spec.tile_px, crop_share=spec.crop_share, resample=spec.resample)
    return _normalised(np.asarray(fitted), spec)


def _normalised(fitted: U8, spec: VisionSpec) -> F32:
    """Cut the middle of an image that was made to fit a tile, and normalise it: (3, T, T)."""
    side, (height, width) = spec.tile_px, fitted.shape[:2]
    left, top = (width - side) // 2, (height - side) // 2
    pixels = fitted[top : top + side, left : left + side]  # (T, T, 3)
    mean, std = np.array(spec.mean), np.array(spec.std)
    # 256 grey levels per channel: a table instead of arithmetic on every pixel.
    table = ((np.arange(256)[None, :] / 255 - mean[:, None]) / std[:, None]).astype(np.float32)  # (3, 256)
    return np.stack([table[channel][pixels[:, :, channel]] for channel in range(3)])


def grid_of(width: int, height: int, tower: Tower, detail: Detail = AUTO) -> tuple[int, int] | None:
    """Return the grid (columns, rows) an image is cut into, None when it stays whole."""
    most = _most_cells(tower, detail)
    n = min(-(-width * height * _ENLARGED[detail.level] // tower.tile_px**2), most)
    if n <= 1:
        return None
    counts = [n, n + 1] if n < most else [n]
    grids = [(columns, count // columns) for count in counts for columns in range(1, count + 1) if count % columns == 0]
    wanted = math.log(width / height)
    return min(grids, key=lambda grid: abs(wanted - math.log(grid[0] / grid[1])))


def _most_cells(tower: Tower, detail: Detail) -> int:
    """Return the most cells of a grid; where there are several, the tile that shows all of the image is one more."""
    if detail.level == "low":
        return 1
    return tower.max_tiles if detail.max_tiles is None else min(tower.max_tiles, detail.max_tiles - 1)


def _best(width: int, height: int, spec: Tower) -> tuple[int, int]:
    """Return the size of about T x T pixels that keeps an image's proportions, in multiples of the patch."""
    ratio = width / height
    best_height = int(spec.tile_px / math.sqrt(ratio))
    best_width = int(best_height * ratio)
    return _to_multiple(best_width, spec.patch_px), _to_multiple(best_height, spec.patch_px)


def _to_multiple(length: int, step: int) -> int:
    return max(step, round(length / step) * step)


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    check_resized(*size)
    return image.resize(size, resample)
