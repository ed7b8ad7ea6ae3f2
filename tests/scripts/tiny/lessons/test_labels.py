"""What is known of a shape, and which cell tells of it."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.tiny.lessons import labels as labelling
from scripts.tiny.lessons.sizes import CODE, FOUND
from scripts.tiny.pictures.colours import COLOURS
from scripts.tiny.pictures.figures import SHAPES
from scripts.tiny.pictures.scenes import Thing
from tests.scripts.tiny.shapes import GRID, SHAPE, said, square, told_of


def test_the_chosen_cells_show_the_shapes_and_what_is_about_them() -> None:
    things = [square(0.5, 0.5), square(0.01, 0.01)]
    codes = labelling.code(things, [labelling.seen(thing, SHAPE.grid) for thing in things], SHAPE.grid)
    cells = labelling.chosen_cells(codes, np.random.default_rng(0), about=1)
    middle = GRID // 2
    about = {(middle + step) * GRID + middle + step for step in (-1, 0, 1)}
    assert about | {0, 1, GRID, GRID + 1} <= set(cells)
    assert cells == sorted(set(cells))
    assert len(cells) < 40


def test_a_code_says_where_and_what_everything_is() -> None:
    things = [square(0.1, 0.9), square(0.12, 0.88, "blue")]
    weights = [labelling.seen(thing, SHAPE.grid) for thing in things]
    codes = labelling.code(things, weights, SHAPE.grid)
    assert codes.shape == (SHAPE.tokens, CODE)
    cell = 12 * GRID + 1
    assert weights == [[(cell, 1.0)], [(cell, 1.0)]]
    assert codes[:, 1].sum() == 2
    assert codes[:, 0].sum() == SHAPE.tokens - 1


@pytest.mark.parametrize("seed", range(20))
def test_a_weak_tower_shares_a_shape_out_among_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = labelling.believed(square(*rng.uniform(0.03, 0.97, 2)), SHAPE.grid, rng)
    assert sum(weight for _, weight in cells) == pytest.approx(1)
    rows, columns = zip(*(divmod(cell, SHAPE.grid) for cell, _ in cells), strict=True)
    assert max(rows) - min(rows) <= 1
    assert max(columns) - min(columns) <= 1


def test_a_shape_near_a_border_may_be_told_by_the_cells_on_both_sides() -> None:
    assert labelling.near(square(0.54, 0.54), 12) == [6 * 12 + 6]
    assert labelling.near(square(4.05 / 12, 0.54), 12) == [6 * 12 + 4, 6 * 12 + 3]
    assert labelling.near(square(0.54, 6.95 / 12), 12) == [6 * 12 + 6, 7 * 12 + 6]
    assert labelling.near(square(0.5, 0.5), 12) == [6 * 12 + 6, 6 * 12 + 5, 5 * 12 + 6, 5 * 12 + 5], "at a corner all"
    assert labelling.near(square(0, 0.54), 12) == [6 * 12], "there is no cell beyond the picture's edge"
    assert labelling.near(square(1, 1), 12) == [11 * 12 + 11]


def test_the_larger_a_shape_the_farther_its_centre_may_seem_from_where_it_is() -> None:
    small, large = square(4.2 / 12, 0.54), Thing("red", "square", 4.2 / 12, 0.54, 0.5, 0.5)
    assert labelling.near(small, 12) == [6 * 12 + 4]
    assert labelling.near(large, 12) == [6 * 12 + 4, 6 * 12 + 3]


def test_of_the_cells_that_may_tell_the_surest_one_does() -> None:
    at_left, corner = square(4.05 / 12, 0.54), square(0.5, 0.5)
    cell, other = 6 * 12 + 4, 6 * 12 + 3
    assert told_of([at_left], cell) == [cell]
    assert told_of([at_left], other) == [other]
    assert told_of([at_left], 0) == [other], "the first of two alike"
    assert [told_of([corner], around) for around in (65, 66, 77, 78)] == [[65], [66], [77], [78]]
    assert told_of([at_left, square(3.5 / 12, 0.54)], other) == [cell, other], "the other cell has a shape of its own"
    assert told_of([at_left, square(4.5 / 12, 0.54)], other) == [cell, cell], "two shapes share the cell"
    assert told_of([at_left, square(2.95 / 12, 0.54)], other) == [other, 6 * 12 + 2], "it can tell of one only"


def test_a_shape_that_two_neighbouring_cells_tell_of_is_seen_double() -> None:
    assert labelling.doubled(said({75: (0.5, 1.05, 0.5), 76: (-0.5, 0.02, 0.45)}), 12)
    assert labelling.doubled(said({75: (0.5, 1.0, 1.1), 88: (0.5, 0.0, 0.0)}), 12), "across a corner"
    assert not labelling.doubled(said({75: (0.5, 1.05, 0.5), 76: (-2.0, 0.02, 0.45)}), 12), "one is not half sure"
    assert not labelling.doubled(said({75: (0.5, 0.2, 0.5), 76: (0.5, 0.8, 0.5)}), 12), "they are at two places"
    assert not labelling.doubled(said({71: (0.5, 1.0, 0.5), 72: (0.5, 0.0, 0.5)}), 12), "the ends of two rows"
    other = said({75: (0.5, 1.05, 0.5), 76: (0.5, 0.02, 0.45)})
    other[75, 3] = 9
    assert not labelling.doubled(other, 12), "they are of two colours"


def test_what_is_told_is_what_the_tower_takes_the_shapes_for() -> None:
    things = [square(0.1, 0.1), square(0.5, 0.54, "blue"), square(0.9, 0.9, "green"), square(0.12, 0.12, "pink")]
    found = np.full((SHAPE.tokens, FOUND), -5, np.float32)

    def says(cell: int, colour: str, shape: str, sure: float) -> None:
        found[cell, 0] = 3
        found[cell, 1 + COLOURS.index(colour)] = found[cell, 12 + SHAPES.index(shape)] = sure
        found[cell, 18:] = 0.5, 0.25, -2, -3

    assert labelling.as_detected(things[2:3], found, 12) == (), "what is not seen is not told"
    says(6 * 12 + 6, "blue", "rectangle", 5)
    says(10 * 12 + 10, "black", "circle", -4.8)
    says(3 * 12 + 9, "white", "star", 5)
    told = labelling.as_detected(things, found, 12)
    assert [(t.colour, t.shape) for t in told] == [
        ("red", "square"), ("blue", "rectangle"), ("green", "square"), ("pink", "square"), ("white", "star"),
    ], "two in a cell stay, what it is sure of is renamed, what it is not sure of is not, a ghost is told"  # fmt: skip
    assert (told[-1].x, told[-1].y) == pytest.approx((9.5 / 12, 3.25 / 12))
    assert (told[-1].width, told[-1].height) == (0.25, 0.125)
