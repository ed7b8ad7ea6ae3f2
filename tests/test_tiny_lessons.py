"""What the embedded model is taught with: its lessons say what its pictures show, and where to look is where it is."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tiny"
sys.path.append(str(SCRIPTS))

import data  # noqa: E402
import scenes  # noqa: E402
import talk  # noqa: E402
import training  # noqa: E402
from model import CODE, Shape, Yasa  # noqa: E402
from scenes import Thing  # noqa: E402

SHAPE = Shape(vocab_size=2112)


@pytest.fixture(scope="module")
def writer() -> data.Writer:
    return data.Writer(Tokenizer.from_str(data.train_tokenizer(seed=0)), SHAPE.tokens)


def square(x: float, y: float, colour: str = "red") -> Thing:
    corners = np.asarray([[x - 0.05, y - 0.1], [x + 0.05, y - 0.1], [x + 0.05, y + 0.1], [x - 0.05, y + 0.1]])
    return Thing(colour, "square", x, y, 0.1, 0.2, corners.astype(np.float32))


def drawn(thing: Thing) -> np.ndarray:
    picture = np.zeros((200, 200, 3), np.uint8)
    cv2.fillPoly(picture, [np.round(thing.corners * 200).astype(np.int32)], (255, 255, 255))
    return picture


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_picture_shows_what_its_label_says(turn: int) -> None:
    before = square(0.3, 0.8)
    picture, (after,) = scenes.turned_around(drawn(before), [before], turn)
    assert (picture != drawn(after)).mean() < 0.005, "only edges may round the other way"
    assert np.allclose([after.x, after.y], after.corners.mean(0), atol=1e-6)
    assert np.allclose([after.width, after.height], np.ptp(after.corners, axis=0), atol=1e-6)


def test_eight_turns_are_eight_different_pictures() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert len({scenes.turned_around(picture, [], turn)[0].tobytes() for turn in range(8)}) == 8


def test_two_processes_draw_what_one_would_and_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SHEET", 8)
    monkeypatch.setattr(data.Drawings, "draw", lambda self, rng, number: (np.full((2, 2, 3), number, np.uint8), ()))
    alone = [int(data.Drawings(SHAPE, (0, 3), crowded=True)[n][0][0, 0, 0]) for n in range(32)]
    shares = []
    for part in (0, 1):
        drawings = data.Drawings(SHAPE, (0, 3), crowded=True)
        shares.append([int(drawings[n][0][0, 0, 0]) for n in range(part, 32, 2)])
    assert [number for pair in zip(*shares, strict=True) for number in pair] == alone
    assert not set(shares[0]) & set(shares[1])
    assert sorted(alone) == sorted(list(range(8)) * 4)


def test_parts_of_a_listing_are_its_text_and_speak_of_every_shape_once() -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue"), square(0.9, 0.9)]
    parts = talk.listing(things)
    assert "".join(part.text for part in parts) == "two red squares and a blue square"
    assert [part.aim for part in parts] == [(0, 2), (1,), ()]
    assert [part.later for part in parts] == [(1,), (), ()]
    assert talk.listing([]) == (talk.Part("I don't know", (), ()),)


def test_answers_look_at_the_shapes_they_name(writer: data.Writer) -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue"), square(0.9, 0.9)]
    exchange = talk.Exchange("What do you see?", talk.listing(things), (0,))
    row = writer.row(talk.Conversation((exchange,)), [0])
    weights = [data.seen(thing, SHAPE.grid) for thing in things]
    ids, labels, _, _, at, aims, after, twins = data.padded([row], [weights], [[3, 25, 3]], 264)
    assert np.allclose(aims[:, 0].sum(-1), 1)
    cells = {row.cells[0, 13]: 0, row.cells[0, 6 * 12 + 6]: 1, row.cells[0, 130]: 2, row.signs[0]: "sign"}
    for (_, position), aim in zip(at, aims, strict=True):
        word = writer.tokenizer.decode([int(labels[0, position])])
        looked = {cells[int(i)] for i in np.flatnonzero(aim[0])}
        expected = {" two": {0, 2, "sign"}, " red": {0, 2, "sign"}, " blue": {1, "sign"}, " and": {1, "sign"}}
        assert looked == expected.get(word, looked), word
    assert set(np.flatnonzero(aims[-1, 0])) == {row.signs[0]}, "when all is said there is nothing left to look at"
    assert (ids[0, list(row.cells.values())] == writer.control["<REKA_IMG_TOKEN>"]).all()


def test_a_code_says_where_and_what_everything_is() -> None:
    codes, weights = data.code([square(0.1, 0.9), square(0.12, 0.88, "blue")], SHAPE.grid)
    assert codes.shape == (SHAPE.tokens, CODE)
    assert weights == [[(10 * 12 + 1, 1.0)], [(10 * 12 + 1, 1.0)]]
    assert codes[:, 1].sum() == 2
    assert codes[:, 0].sum() == SHAPE.tokens - 1


@pytest.mark.parametrize("seed", range(20))
def test_weak_eyes_share_a_shape_out_among_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = data.believed(square(*rng.uniform(0.03, 0.97, 2)), SHAPE.grid, rng)
    assert sum(weight for _, weight in cells) == pytest.approx(1)
    rows, columns = zip(*(divmod(cell, SHAPE.grid) for cell, _ in cells), strict=True)
    assert max(rows) - min(rows) <= 1
    assert max(columns) - min(columns) <= 1


def test_directions_of_the_code_are_at_right_angles() -> None:
    basis = Yasa(SHAPE).basis.double()
    assert torch.allclose(basis @ basis.T, 0.25 * torch.eye(CODE, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 192, 192), (2, 512, 192), (2, 192, 512)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    turned = training.orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(turned)
    assert values.quantile(0.05) > 0.6
    assert values.max() < 1.3
