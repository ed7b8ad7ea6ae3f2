"""Where an answer looks is where the thing is that it speaks of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.tiny.lessons import conversations, rows
from scripts.tiny.lessons import labels as labelling
from scripts.tiny.lessons.batches import GROUP_LENGTH, LENGTH
from scripts.tiny.lessons.conversations import Conversation, Exchange
from scripts.tiny.lessons.rows import Writer
from scripts.tiny.pictures import scenes
from scripts.tiny.pictures.colours import COLOURS
from scripts.tiny.pictures.scenes import Thing
from tests.scripts.tiny.shapes import GRID, SHAPE, square


def looked_at(writer: Writer, exchange: Exchange, things: list[Thing]) -> dict[str, set[object]]:
    """Where each word of an answer looks: numbers of shapes, and `sign` for <image>."""
    row = writer.row(Conversation((exchange,)), [0])
    weights = [labelling.seen(thing, SHAPE.grid) for thing in things]
    kinds = [COLOURS.index(thing.colour) * 6 + 1 for thing in things]
    ids, labels, _, _, at, aims, _, _ = rows.padded([row], [weights], [kinds], LENGTH)
    assert np.allclose(aims[:, 0].sum(-1), 1)
    assert (ids[0, list(row.cells.values())] == writer.control["<REKA_IMG_TOKEN>"]).all()
    names: dict[int, object] = {row.cells[0, cell]: i for i, ((cell, _),) in enumerate(weights)}
    names[row.signs[0]] = "sign"
    words = [writer.tokenizer.decode([int(labels[0, position])]) for _, position in at]
    return {word: {names[int(i)] for i in np.flatnonzero(aim[0])} for word, aim in zip(words, aims, strict=True)}


def test_a_listing_looks_at_the_last_shape_of_the_kind_it_names(writer: Writer) -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue"), square(0.9, 0.9)]
    trained = looked_at(writer, Exchange("What do you see?", conversations.listing(things), (0,)), things)
    first, then = {" two": {2}, " red": {2}, " squares": {2}}, {" and": {1}, " a": {1}, " blue": {1}, " square": {1}}
    assert trained == {**first, **then, "\n\n": {"sign"}}


def test_a_count_looks_at_all_that_is_counted_and_at_the_picture_itself(writer: Writer) -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue"), square(0.9, 0.9)]
    exchange = conversations.asked("How many red squares?", "two", [0, 2], counts=True)
    trained = looked_at(writer, replace(exchange, images=(0,)), things)
    assert trained == {" two": {0, 2, "sign"}, "\n\n": {0, 2, "sign"}}


@pytest.mark.parametrize("seed", range(10))
def test_of_a_video_what_is_named_is_looked_at_in_the_last_frame(writer: Writer, seed: int) -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue")]
    moved = [scenes.moved(thing, 3) for thing in things]
    row = writer.row(conversations.video(things, 3, np.random.default_rng(seed)), [0, 0, 1])
    weights = [[labelling.seen(thing, SHAPE.grid) for thing in frame] for frame in (things, moved)]
    ids, labels, source, places, at, aims, _, twins = rows.padded([row], weights, [[1, 25], [1, 25]], GROUP_LENGTH)
    tokens = SHAPE.tokens
    assert (ids[0] == writer.control["<video>"]).sum() == (ids[0] == writer.control["</video>"]).sum() == 1
    assert (ids[0] == writer.control["<image>"]).sum() == 0
    seen = np.flatnonzero(source[0] >= 0)
    assert (source[0, seen] == [*range(tokens), *range(tokens), *range(tokens, 2 * tokens)]).all()
    assert (np.diff(places[0, seen]) == 1).all()
    words = [writer.tokenizer.decode([int(labels[0, position])]) for _, position in at]
    trained = {word: int(source[0, aim.argmax()]) for word, aim in zip(words, aims[:, 0], strict=True)}
    cells = [tokens + cell for ((cell, _),) in weights[1]]
    assert (trained[" red"], trained[" blue"]) == tuple(cells)
    assert (twins[:, 2] == (ids[0] == writer.control["<video>"]).argmax()).all()
    assert (twins[:, 3:] == -1).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_name_is_looked_up_where_it_was_said(writer: Writer, seed: int) -> None:
    exchanges = conversations.acquainted(np.random.default_rng(seed))
    name = exchanges[0].parts[1].text
    row = writer.row(Conversation(exchanges), [])
    ids, labels, _, _, at, aims, after, _ = rows.padded([row], [], [], LENGTH)
    assert np.allclose(aims[:, 0].sum(-1), 1)
    assert not aims[:, 1].any()
    assert (after == -100).all()
    sources = aims[:, 0].argmax(-1)
    assert (ids[0, sources] == labels[0, at[:, 1]]).all()
    assert (sources < at[:, 1]).all()
    assert writer.tokenizer.decode(ids[0, sources].tolist()) == 2 * name


def test_what_was_not_said_before_is_looked_up_nowhere() -> None:
    assert rows.echoes([1, 2, 3, 4, 9], [4]) == {}
    assert rows.echoes([1, 2, 3, 7, 2, 3], [4, 5]) == {3: 1, 4: 2}
    assert rows.echoes([1, 2], []) == {}


def test_shapes_know_which_of_their_kind_are_before_them(writer: Writer) -> None:
    things = [square(0.9, 0.9), square(0.5, 0.5, "blue"), square(0.1, 0.1), square(0.5, 0.9)]
    row = writer.only_image(0, range(SHAPE.tokens))
    weights = [labelling.seen(thing, SHAPE.grid) for thing in things]
    found = {one[0]: one[2:] for one in rows.alike(row, 0, row.signs[0], weights, [1, 25, 1, 1])}
    first, middle, last = (row.cells[0, weights[i][0][0]] for i in (2, 3, 0))
    assert [cell for cell in found[first] if cell >= 0] == []
    assert [cell for cell in found[middle] if cell >= 0] == [first]
    assert [cell for cell in found[last] if cell >= 0] == [first, middle]


def test_no_head_is_shown_where_to_look_for_what_is_in_doubt(writer: Writer) -> None:
    things = [square(0.1, 0.1), square(4.05 / GRID, 6.48 / GRID, "blue"), square(0.9, 0.9)]
    row = writer.row(Conversation((Exchange("What do you see?", conversations.listing(things), (0,)),)), [0])
    weights = [labelling.seen(thing, SHAPE.grid) for thing in things]
    weights[1] = [(cell, 0.5) for cell in labelling.near(things[1], SHAPE.grid)]
    assert [kind[0] for kind in rows.alike(row, 0, row.signs[0], weights, [1, 25, 1])] == [
        row.cells[0, cells[0][0]] for cells in (weights[0], weights[2])
    ]
    _, labels, _, _, at, aims, _, _ = rows.padded([row], [weights], [[1, 25, 1]], LENGTH)
    words = [writer.tokenizer.decode([int(labels[0, position])]) for _, position in at]
    known = {word: bool(aim[0].any()) for word, aim in zip(words, aims, strict=True)}
    assert known[" red"]
    assert not known[" blue"]
