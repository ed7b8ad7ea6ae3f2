"""Training images as tiles, numbered: each depends on the seed and its number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.tiny.lessons.sizes import TALLY, Shape
from scripts.tiny.pictures import scenes
from scripts.tiny.pictures.colours import COLOURS, U8, Rng
from scripts.tiny.pictures.figures import SHAPES
from scripts.tiny.pictures.scenes import Thing

CROWD = (7, 30)  # shapes in three of four of them at first: several times the lessons for the same arithmetic
CROWDED = 5  # sheets of which that holds, then one of four, and two of four have hardly any shapes
FEW = (1, 2)  # alone in its picture a shape must be known without others that tell how that was stretched
SHEET = 1024  # so many pictures are drawn at a time
TURNS = 8  # ways to turn and mirror a picture
EASY = 3  # sheets of the tower's that begin with easy pictures: all of the first, two thirds of the second, …
MOST_TOLD = TALLY - 1  # shapes in a picture that is talked about


def crowd(rng: Rng) -> tuple[Thing, ...]:
    """More shapes than are talked about, of a few kinds: to learn which are alike."""
    kinds = [(COLOURS[rng.integers(11)], SHAPES[rng.integers(6)]) for _ in range(int(rng.integers(3, 9)))]
    chosen = [kinds[i] for i in rng.integers(0, len(kinds), int(rng.integers(8, 22)))]
    return tuple(Thing(*kind, *rng.uniform(0.03, 0.97, 2), *rng.uniform(0.08, 0.4, 2)) for kind in chosen)


@dataclass(frozen=True)
class Drawing:
    """A picture as the model gets it, (T, T, 3) uint8, what is to be seen in it, and how it was stretched."""

    tile: U8
    things: tuple[Thing, ...]
    stretch: float

    def turned(self, turn: int) -> Drawing:
        """Mirrored and turned in one of 8 ways."""
        stretch = -self.stretch if turn & scenes.TRANSPOSED else self.stretch
        return Drawing(*scenes.turned_around(self.tile, self.things, turn), stretch)


class Drawings:
    """Pictures number 0, 1, … of a phase, as tiles. Each depends on seed, phase and number alone; SHEET at a time are
    drawn as they are needed and used `uses` times, turned or mirrored another way and in another order each time.
    """

    def __init__(self, shape: Shape, seed: tuple[int, int], *, crowded: bool, uses: int, first: int = 0) -> None:
        self.shape, self.seed, self.crowded, self.uses, self.first = shape, seed, crowded, uses, first
        self.sheet, self.drawn = -1, dict[int, Drawing]()

    def __getitem__(self, number: int) -> Drawing:
        sheet, rest = divmod(number, SHEET * self.uses)
        sheet, (use, place) = sheet + self.first, divmod(rest, SHEET)
        if sheet != self.sheet:
            self.sheet, self.drawn = sheet, {}
        # Even and odd numbers are shuffled apart: two processes share a batch that way and never draw the same picture.
        order = np.random.default_rng([*self.seed, sheet, use]).permutation(SHEET // 2)
        image = 2 * int(order[place // 2]) + place % 2
        if image not in self.drawn:
            self.drawn[image] = self.draw(np.random.default_rng([*self.seed, sheet, TURNS, image]), image)
        turn = np.random.default_rng([*self.seed, sheet, TURNS + 1, image]).permutation(TURNS)[use]
        return self.drawn[image].turned(int(turn))

    def draw(self, rng: Rng, number: int) -> Drawing:
        crowded = self.crowded and number // 2 % 4 < (3 if self.sheet < CROWDED else 1)
        full = not self.crowded and number // 2 % 2
        few = self.crowded and not crowded and number // 2 % 4 > 1
        least, most = CROWD if crowded else FEW if few else (MOST_TOLD // 2 + 1 if full else 1, MOST_TOLD)
        twins = 0.5 if self.crowded else 0.75  # counting is what listings fail at first
        easy = self.crowded and self.sheet <= number // 8 % EASY
        shot = scenes.scene(rng, tile_px=self.shape.tile_px, least=least, most=most, easy=easy, twins=twins)
        tile = scenes.tile(shot.rgb, tile_px=self.shape.tile_px, patch_px=self.shape.patch_px)
        return Drawing(tile, shot.things, shot.stretch)
