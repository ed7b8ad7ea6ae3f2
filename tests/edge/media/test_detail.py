"""`detail` and a limit on tiles: how many tiles an image makes, and that the tiles are those of its pixels."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edge.arrays import U8
from edge.media.detail import AUTO, ONE_TILE, Detail
from edge.media.image import decode, received, reduced, tower_options
from edge.media.tiles import tile_count, tiles
from tests.edge.media.test_tiles import vision

SPEC = vision(tile_px=64)
DETAILS = (ONE_TILE, AUTO, Detail("high"), Detail("auto", 3), Detail("high", 4), Detail("low", 9))


def noise(width: int, height: int) -> U8:
    return np.random.default_rng(width * 31 + height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "detail", "count"),
    [
        ((2048, 2048), Detail("auto"), 5), ((2048, 2048), Detail("low"), 1), ((2048, 2048), Detail("high"), 5),
        ((300, 300), Detail("auto"), 1), ((300, 300), Detail("high"), 3), ((600, 600), Detail("high"), 5),
        ((64, 64), Detail("high"), 1), ((2048, 2048), Detail("auto", 1), 1), ((2048, 2048), Detail("auto", 2), 1),
        ((2048, 2048), Detail("auto", 3), 3), ((2048, 512), Detail("auto", 4), 4), ((900, 900), Detail("auto", 99), 5),
        ((600, 600), Detail("high", 3), 3), ((2048, 2048), Detail("low", 5), 1), ((300, 300), Detail("auto", 5), 1),
    ],
)  # fmt: skip
def test_tiles_of_an_image(size: tuple[int, int], detail: Detail, count: int) -> None:
    assert tile_count(*size, vision(), detail) == count


def test_no_image_makes_more_tiles_than_it_may() -> None:
    rng = random.Random(5)
    for _ in range(500):
        width, height, most = rng.randint(1, 4000), rng.randint(1, 4000), rng.randint(1, 14)
        spec = vision(max_tiles=rng.randint(1, 12))
        low, auto, high = (tile_count(width, height, spec, Detail(level)) for level in ("low", "auto", "high"))
        assert low == 1 <= auto <= max(auto, high)
        for level in ("auto", "high"):
            assert tile_count(width, height, spec, Detail(level, most)) <= most
            assert tile_count(width, height, spec, Detail(level, 13)) == tile_count(width, height, spec, Detail(level))


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("size", [(300, 200), (90, 90), (20, 30), (1000, 40)])
def test_what_is_left_of_an_image_makes_the_tiles_of_the_whole(size: tuple[int, int], detail: Detail) -> None:
    rgb, data = noise(*size), io.BytesIO()
    Image.fromarray(rgb).save(data, "PNG")
    wanted = list(tiles(rgb, SPEC, detail))
    assert len(wanted) == tile_count(*size, SPEC, detail)
    found = decode(data.getvalue(), {"max_px": 1 << 20, **tower_options(SPEC, detail)})
    for image in (
        received(found, SPEC, max_px=1 << 20, detail=detail),
        reduced(rgb, SPEC, max_px=1 << 20, detail=detail),
    ):
        assert np.array_equal(np.stack(list(tiles(image, SPEC, detail))), np.stack(wanted))


def test_a_limit_on_tiles_is_that_of_a_model_of_fewer_cells() -> None:
    rgb = noise(300, 200)
    fewer = list(tiles(rgb, replace(SPEC, max_tiles=2)))
    assert np.array_equal(np.stack(list(tiles(rgb, SPEC, Detail("auto", 3)))), np.stack(fewer))
