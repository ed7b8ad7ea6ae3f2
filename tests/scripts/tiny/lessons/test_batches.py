"""Batches are written after the tower has seen their images, and repeat exactly."""

from __future__ import annotations

import numpy as np

from scripts.tiny.lessons.batches import AGAIN, GAP, IMAGES, Batches, Shown
from scripts.tiny.lessons.rows import Writer
from scripts.tiny.lessons.sizes import FOUND
from tests.scripts.tiny.shapes import GRID, SHAPE, square


def test_of_what_the_tower_has_looked_at_the_surer_cell_is_talked_about(writer: Writer) -> None:
    thing = square(4.05 / GRID, 6.48 / GRID)
    cell, other = 6 * GRID + 4, 6 * GRID + 3
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0)
    shown = Shown(0, [[thing]] * IMAGES, [])
    for surest in (cell, other):
        found = np.full((IMAGES, SHAPE.tokens, FOUND), -1, np.float32)
        found[:, surest, 0] = 1
        told = lessons.told(0, shown, found)
        assert (told["code"][:, :, 1].nonzero()[:, 1] == surest).all()
        assert (told["source"][told["twins"][:, 0], told["twins"][:, 1]] % SHAPE.tokens == surest).all()


def test_of_two_cells_that_are_sure_enough_the_first_is_talked_about(writer: Writer) -> None:
    """The second can look back at it; which of two is a little surer no one can tell."""
    thing = square(4.05 / GRID, 6.48 / GRID)
    cell, other = 6 * GRID + 4, 6 * GRID + 3
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0)
    for logits, first in (((0.4, 0.9), other), ((0.9, 0.4), other), ((0.9, -0.4), cell)):
        found = np.full((IMAGES, SHAPE.tokens, FOUND), -9, np.float32)
        found[:, cell, 0], found[:, other, 0] = logits[::-1] if logits[1] > 0 else logits
        told = lessons.told(0, Shown(0, [[thing]] * IMAGES, []), found)
        assert (told["code"][:, :, 1].nonzero()[:, 1] == first).all()


def test_pictures_are_talked_about_several_times_and_a_run_that_goes_on_knows_which(writer: Writer) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=3, decoder_steps=2)
    first, span = 5, AGAIN * GAP * AGAIN
    topics = [lessons.topic(index) for index in range(first, first + 3 * span)]
    early = range(AGAIN * GAP)
    assert all(topics.count(number) == AGAIN for number in early if number >= (AGAIN - 1) * GAP)
    for index, topic in enumerate(topics, first):
        shown_at = first + AGAIN * topic
        assert lessons.earliest(index) <= shown_at <= index
    assert [lessons.earliest(index) for index in range(6)] == [0, 1, 2, 3, 4, 5]
    assert lessons[first + 1] == {}
