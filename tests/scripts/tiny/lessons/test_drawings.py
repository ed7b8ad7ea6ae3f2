"""Training images are numbered, and each depends on its number alone."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.tiny.lessons import drawings
from scripts.tiny.lessons.drawings import CROWDED, Drawing, Drawings
from scripts.tiny.pictures.scenes import Scene
from tests.scripts.tiny.shapes import SHAPE


def test_a_picture_on_its_side_is_stretched_the_other_way() -> None:
    wide = Drawing(np.zeros((4, 4, 3), np.uint8), (), 1.5)
    assert [wide.turned(turn).stretch for turn in range(8)] == [1.5] * 4 + [-1.5] * 4
    assert Scene(np.zeros((100, 300, 3), np.uint8), ()).stretch == pytest.approx(np.log2(3))


def test_two_processes_draw_what_one_would_and_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "SHEET", 8)
    blank = lambda self, rng, number: Drawing(np.full((2, 2, 3), number, np.uint8), (), 0.0)  # noqa: E731
    monkeypatch.setattr(Drawings, "draw", blank)
    alone = [int(Drawings(SHAPE, (0, 3), crowded=True, uses=4)[n].tile[0, 0, 0]) for n in range(32)]
    shares = []
    for part in (0, 1):
        ours = Drawings(SHAPE, (0, 3), crowded=True, uses=4)
        shares.append([int(ours[n].tile[0, 0, 0]) for n in range(part, 32, 2)])
    assert [number for pair in zip(*shares, strict=True) for number in pair] == alone
    assert not set(shares[0]) & set(shares[1])
    assert sorted(alone) == sorted(list(range(8)) * 4)


def test_half_of_the_later_images_for_the_tower_have_hardly_any_shapes() -> None:
    sheets = Drawings(SHAPE, (0, 3), crowded=True, uses=1)
    sheets.sheet = CROWDED
    counts = [len(sheets.draw(np.random.default_rng(seed), seed).things) for seed in range(32)]
    few = [count for seed, count in enumerate(counts) if seed // 2 % 4 > 1]
    assert max(few) <= 2
    assert max(counts) >= 7
