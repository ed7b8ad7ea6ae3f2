"""Tiles: equal, to the bit that matters, to an independent reading of the specification, and cut in its order."""

import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.arrays import F32, U8
from edge.bundle.manifest import VisionSpec
from edge.errors import MediaError
from edge.media.tiles import tile_count, tiles

GOLDEN = Path(__file__).parents[2] / "golden" / "tiles.npz"


def vision(**changes: object) -> VisionSpec:
    facts: dict = {
        "tile_px": 512, "patch_px": 4, "max_tiles": 4, "tokens_per_tile": 64, "resample": "bilinear",
        "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "crop_share": 0.875, "order": "cells-first",
        "frames": 6,
    }  # fmt: skip
    return VisionSpec(**{**facts, **changes})


def pattern(width: int, height: int) -> U8:
    """Return a picture of edges, ramps and fine detail, the same on every machine: (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 7 + y * 13) % 256, (x * x // 16 + y * 3) % 256, ((x ^ y) * 5) % 256], axis=2).astype(np.uint8)


@cache
def processor(side: int, crop_share: float, resample: str) -> Callable:
    from transformers import ConvNextImageProcessor

    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return ConvNextImageProcessor(
        size={"shortest_edge": side}, crop_pct=crop_share, resample=filters[resample],
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip


def images_of(rgb: U8, side: int, patch: int, most: int) -> list[Image.Image]:
    """Cut a picture as the text of section 4 says, read on its own: cells row by row, then the whole."""

    def nearest(value: float) -> int:
        return max(patch, patch * round(value / patch))

    def best(w: float, h: float) -> tuple[int, int]:
        r = w / h
        h1 = int(side / r**0.5)
        w1 = int(h1 * r)
        return nearest(w1), nearest(h1)

    whole = Image.fromarray(rgb, "RGB")
    w, h = whole.size
    n = min(math.ceil(w * h / side**2), most)
    if n <= 1:
        return [whole.resize(best(w, h), Image.Resampling.BICUBIC)]
    candidates = [(gx, n // gx) for gx in range(1, n + 1) if n % gx == 0]
    if n < most:
        candidates += [(gx, (n + 1) // gx) for gx in range(1, n + 2) if (n + 1) % gx == 0]
    chosen, least = (0, 0), math.inf
    for gx, gy in candidates:
        distance = abs(math.log(w / h) - math.log(gx / gy))
        if distance < least:
            chosen, least = (gx, gy), distance
    gx, gy = chosen
    cell_w, cell_h = best(nearest(w // gx), nearest(h // gy))
    large = np.asarray(whole.resize((gx * cell_w, gy * cell_h), Image.Resampling.BICUBIC))
    cells = [large[j * cell_h : (j + 1) * cell_h, i * cell_w : (i + 1) * cell_w] for j in range(gy) for i in range(gx)]
    return [*map(Image.fromarray, cells), whole]


def reference(rgb: U8, spec: VisionSpec) -> F32:
    """Return all tiles by the independent reading and transformers' processor: (N, 3, T, T)."""
    images = images_of(rgb, spec.tile_px, spec.patch_px, spec.max_tiles)
    if spec.order == "whole-first":
        images = images[-1:] + images[:-1]
    process = processor(spec.tile_px, spec.crop_share, spec.resample)
    return np.concatenate([process(image, return_tensors="np")["pixel_values"] for image in images])


SIZES = [
    (1, 1), (1, 2), (2, 1), (3, 3), (4, 4), (96, 288), (288, 96), (96, 96), (100, 33), (384, 384), (385, 383),
    (512, 512), (512, 513), (513, 512), (640, 480), (480, 640), (1024, 256), (256, 1024), (1000, 700), (700, 1000),
    (1024, 1024), (1200, 400), (1333, 1000), (2000, 667), (667, 2000), (2000, 2000), (1, 3000), (3000, 1), (1, 10000),
    (10000, 1), (725, 725), (1920, 1080),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_tiles_equal_an_independent_reading(size: tuple[int, int]) -> None:
    spec = vision(tile_px=384 if size[0] % 2 else 512)
    rgb = pattern(*size)
    found, expected = np.stack(list(tiles(rgb, spec))), reference(rgb, spec)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert len(found) == tile_count(*size, spec)
    assert np.abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"resample": "bicubic"}, {"order": "whole-first"}, {"max_tiles": 1}, {"max_tiles": 6}, {"max_tiles": 9},
        {"patch_px": 8}, {"patch_px": 16}, {"tile_px": 64}, {"tile_px": 224, "crop_share": 0.9},
        {"tile_px": 383}, {"tile_px": 64, "crop_share": 1.0},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("size", [(700, 300), (333, 1000), (50, 50)], ids=str)
def test_every_setting_of_the_spec_is_followed(changes: dict, size: tuple[int, int]) -> None:
    spec = vision(tile_px=384) if "tile_px" not in changes else vision()
    spec = vision(**{"tile_px": spec.tile_px, **changes})
    rgb = pattern(*size)
    found, expected = np.stack(list(tiles(rgb, spec))), reference(rgb, spec)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6


def test_random_sizes_make_as_many_tiles_as_the_independent_reading() -> None:
    rng = random.Random(3)
    for _ in range(300):
        width, height = (round(math.exp(rng.uniform(0, math.log(1500)))) for _ in range(2))
        side, most = rng.choice([64, 224, 384, 512]), rng.randint(1, 12)
        expected = images_of(np.zeros((height, width, 3), np.uint8), side, 4, most)
        assert tile_count(width, height, vision(tile_px=side, max_tiles=most)) == len(expected)


def test_the_cards_image_makes_five_tiles_of_64_tokens() -> None:
    spec = vision()
    assert tile_count(1024, 1024, spec) * spec.tokens_per_tile == 320


@pytest.mark.parametrize(
    ("size", "count"),
    [((512, 512), 1), ((513, 512), 3), ((1536, 512), 4), ((512, 1536), 4), ((512, 2048), 5), ((2048, 2048), 5),
     ((1024, 512), 3), ((600, 600), 3)],
)  # fmt: skip
def test_tile_counts(size: tuple[int, int], count: int) -> None:
    assert tile_count(*size, vision()) == count


def test_cells_come_row_by_row_and_the_whole_image_last() -> None:
    rgb = np.zeros((1024, 1024, 3), np.uint8)
    rgb[:512, 512:] = 80
    rgb[512:, :512] = 160
    rgb[512:, 512:] = 240
    spec = vision(mean=(0, 0, 0), std=(1, 1, 1))
    middles = [round(float(tile[0, 256, 200]) * 255) for tile in tiles(rgb, spec)]
    assert middles[:4] == [0, 80, 160, 240]
    assert len(middles) == 5


GOLDEN_CASES = {
    "one": ((300, 200), {}), "many": ((1000, 700), {}), "tall": ((667, 2000), {"tile_px": 384}),
    "dot": ((1, 1), {}), "crop": ((90, 40), {"tile_px": 32}), "bicubic": ((640, 480), {"resample": "bicubic"}),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_tiles_equal_the_golden_arrays(name: str) -> None:
    size, changes = GOLDEN_CASES[name]
    with np.load(GOLDEN) as golden:
        expected = golden[name]
    found = np.stack([tile[:, ::19, ::23] for tile in tiles(pattern(*size), vision(**changes))])
    assert np.abs(found - expected).max() <= 1e-6


def test_tiles_are_made_one_by_one() -> None:
    made = tiles(pattern(1024, 1024), vision())
    assert isinstance(made, Iterator)
    first = next(made)
    assert first.shape == (3, 512, 512)
    assert first.flags.c_contiguous


def test_a_line_of_pixels_is_refused_before_it_is_blown_up() -> None:
    with pytest.raises(MediaError, match=r"too thin: resizing it needs 256 x \d+ pixels, at most"):
        list(tiles(np.zeros((500_000, 1, 3), np.uint8), vision(tile_px=224)))
    assert len(list(tiles(np.zeros((500_000, 1, 3), np.uint8), vision()))) == tile_count(1, 500_000, vision())


def write_golden() -> None:
    """Write the golden arrays from the independent reading; run this file to do so."""
    arrays = {
        name: reference(pattern(*size), vision(**changes))[:, :, ::19, ::23]
        for name, (size, changes) in GOLDEN_CASES.items()
    }
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    write_golden()
