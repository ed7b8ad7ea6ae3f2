"""Labels: beside their marks, and never one over another."""

from __future__ import annotations

import itertools
import random

import pytest

from export.report.labels import Box, beside, spread, width

FRAME = Box(50, 20, 760, 380)


@pytest.mark.parametrize("seed", range(20))
def test_labels_cover_neither_each_other_nor_marks(seed: int) -> None:
    chance = random.Random(seed)
    points = [(chance.uniform(60, 750), chance.uniform(30, 370)) for _ in range(12)]
    names = [f"int4-block{chance.randint(1, 10 ** chance.randint(1, 9))}" for _ in points]
    placed = beside(points, names, FRAME, [])
    for one, other in itertools.combinations(placed, 2):
        assert one.box.overlap(other.box) == 0
    for index, at in enumerate(placed):
        assert at.box.outside(FRAME) == pytest.approx(0)
        assert not [
            x for other, (x, y) in enumerate(points) if other != index and at.box.overlap(Box(x, y, x + 1, y + 1))
        ]


def test_marks_at_one_place_have_labels_at_different_ones() -> None:
    placed = beside([(400, 200)] * 5, ["int4", "int8", "w8a8", "mixed", "fp32"], FRAME, [])
    assert len({(at.x, at.y) for at in placed}) == 5
    assert not any(one.box.overlap(other.box) for one, other in itertools.combinations(placed, 2))


def test_a_label_at_the_right_edge_is_left_of_its_mark() -> None:
    (at,) = beside([(755, 200)], ["a-long-name-of-a-bundle"], FRAME, [])
    assert at.box.right <= 760 and at.anchor in ("end", "middle")


def test_a_label_keeps_off_a_line() -> None:
    (free,) = beside([(400, 200)], ["int4"], FRAME, [])
    (moved,) = beside([(400, 200)], ["int4"], FRAME, [[(400, 200), (700, 200)]])
    assert free.anchor == "start" and (moved.anchor, moved.y) != (free.anchor, free.y)


def test_spread_keeps_order_gap_and_bounds() -> None:
    wanted = [100.0, 101.0, 99.0, 300.0, 395.0, 396.0]
    found = spread(wanted, top=20, bottom=400, gap=15)
    assert sorted(range(6), key=lambda index: found[index]) == [2, 0, 1, 3, 4, 5]
    heights = sorted(found)
    assert all(after - before >= 15 - 1e-9 for before, after in itertools.pairwise(heights))
    assert heights[0] >= 20 and heights[-1] <= 400


def test_too_many_labels_share_the_height_there_is() -> None:
    found = spread([50.0] * 40, top=0, bottom=100, gap=15)
    assert min(found) >= -1e-6 and max(found) <= 100 + 1e-6 and len({round(at, 6) for at in found}) == 40


def test_width_grows_with_the_name() -> None:
    assert width("int4-block32-zp") > width("int4")
