"""Training batches: images with what the detector should find in them, and conversations as ids."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import Dataset

from scripts.tiny.lessons import conversations
from scripts.tiny.lessons.drawings import CROWDED, MOST_TOLD, Drawing, Drawings, crowd
from scripts.tiny.lessons.labels import (
    as_detected,
    believed,
    chosen_cells,
    code,
    cover,
    random_things,
    rim,
    sure_enough,
    surer,
)
from scripts.tiny.lessons.rows import ROWS, Writer, padded
from scripts.tiny.lessons.sizes import Shape
from scripts.tiny.pictures.colours import COLOURS, F32, Rng
from scripts.tiny.pictures.figures import SHAPES
from scripts.tiny.pictures.scenes import Thing

TOWER_IMAGES = 16  # pictures in a batch while the tower trains alone
IMAGES, TEXTS, GROUPS, VIDEOS = 24, 6, 6, 2  # in a batch of talk: images, talks about none, about several, videos
FRAMES = (3, 6)  # of a video, of which three are different
LISTS, CROWDS = 36, 16  # in most batches without pictures: lists instead of talks, and shapes only to compare
LOOKS, USES = 4, 2  # how often each is learned from, turned or mirrored another way each time: for the tower, for both
SOUGHT, DOUBLED = 24, 6  # pictures looked at only to find such as are seen double; how many of those in a batch of talk
AGAIN, GAP = 4, 8  # and each batch for both is talked about so often, each time so many batches later
LENGTH, GROUP_LENGTH = 320, 800  # positions of one conversation, of one about several pictures


@dataclass(frozen=True)
class Shown:
    """What is in the images of a batch, its number among those that train both, and which are frames of videos.

    The last SOUGHT of its pictures are not talked about unless they are seen double.
    """

    number: int
    things: Sequence[Sequence[Thing]]
    videos: Sequence[Sequence[int]]


class Batches(Dataset[dict[str, Any]]):
    """Batch i depends on the seed and i alone, and what is said of images on how the tower sees them (see told), so
    a run resumes where it stopped and repeats exactly.

    The first `tower_steps` batches are images, three of four crowded with shapes, the next `decoder_steps` ones talk
    about shapes without images, all others train both: new images, or nothing if talk is about earlier ones.

    part: which part of each batch, of how many; trained_tower: for a tower that has seen shapes before; groups:
    conversations about several images in a batch.
    """

    def __init__(
        self,
        tokenizer: str,
        shape: Shape,
        *,
        seed: int,
        tower_steps: int,
        decoder_steps: int,
        part: tuple[int, int] = (0, 1),
        trained_tower: bool = False,
        groups: int = GROUPS,
    ) -> None:
        self.tokenizer, self.shape, self.seed, self.part, self.groups = tokenizer, shape, seed, part, groups
        self.tower_steps, self.decoder_steps, self.joint_start = tower_steps, decoder_steps, tower_steps + decoder_steps
        self.crowds = Drawings(shape, (seed, 3), crowded=True, uses=LOOKS, first=CROWDED if trained_tower else 0)
        self.usual = Drawings(shape, (seed, 4), crowded=False, uses=USES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        writer = self.writer  # before anything is drawn
        rng = np.random.default_rng([self.seed, 2, index, *self.part])
        if index < self.tower_steps:
            return self.images([self.crowds[number] for number in self.numbers(index, TOWER_IMAGES)])
        if index < self.tower_steps + self.decoder_steps:
            brief = index % (4 if index - self.tower_steps < 0.6 * self.decoder_steps else 2) > 0
            things = [random_things(rng) for _ in range(self.of(LISTS if brief else IMAGES))]
            things += [crowd(rng) for _ in range(self.of(CROWDS) if brief else 0)]
            return self.talks(writer, things, rng, whole=index % 8 == 0, brief=brief)
        number, again = divmod(index - self.joint_start, AGAIN)
        return {} if again else self.gathered(number, rng)

    @functools.cached_property
    def writer(self) -> Writer:
        """What writes the conversations; made once in each worker, which shall have one thread."""
        cv2.setNumThreads(1)
        return Writer(Tokenizer.from_str(self.tokenizer), self.shape.tokens)

    def gathered(self, number: int, rng: Rng) -> dict[str, Any]:
        """Images to be talked about, frames of videos, and further images of which some may be."""
        shots = [self.usual[n] for n in self.numbers(number, IMAGES + SOUGHT)]
        shots, sought = shots[: self.of(IMAGES)], shots[self.of(IMAGES) :][: self.of(SOUGHT)]
        videos = [
            [i, *range(len(shots) + 2 * n, len(shots) + 2 * n + 2)] for n, i in enumerate(self.with_video(shots, rng))
        ]
        shots += [shots[i].turned(int(turn)) for i, *_ in videos for turn in rng.permutation(7)[:2] + 1]
        shots += sought
        tiles = np.stack([shot.tile for shot in shots]).transpose(0, 3, 1, 2)
        return {
            "tiles": torch.from_numpy(tiles.copy()),
            "shown": Shown(number, [shot.things for shot in shots], videos),
        }

    def topic(self, index: int) -> int:
        """Which images batch `index`, which trains both, talks about: new ones, or those of GAP batches before, …"""
        number, again = divmod(index - self.joint_start, AGAIN)
        return number if again * GAP > number else number - again * GAP

    def earliest(self, index: int) -> int:
        """The first batch that batch `index` needs to have been looked at, or itself."""
        number = (index - self.joint_start) // AGAIN
        return index if index < self.joint_start else self.joint_start + AGAIN * max(0, number - (AGAIN - 1) * GAP)

    def told(self, index: int, shown: Shown, found: F32) -> dict[str, torch.Tensor]:
        """Batch `index`: conversations about pictures that the tower has looked at, in which its detector has found
        (B, G * G, FOUND): shapes are what it takes them for, and of one at a border the surer cell tells, the first of
        two that are sure enough.
        """
        rng = np.random.default_rng([self.seed, 5, index, *self.part])
        whole = index % (AGAIN + 1) == 0
        framed = {frame for frames in shown.videos for frame in frames}  # the same shapes in all of a video's frames
        things = [
            some if i in framed else as_detected(some, found[i], self.shape.grid) for i, some in enumerate(shown.things)
        ]
        return self.talks(self.writer, things, rng, whole=whole, videos=shown.videos, sure=sure_enough(found))

    def with_video(self, shots: Sequence[Drawing], rng: Rng) -> list[int]:
        """The numbers of some of the pictures whose few shapes are all of different kinds."""
        fit = [i for i, shot in enumerate(shots) if len(shot.things) <= 3 and conversations.all_different(shot.things)]
        order: list[int] = rng.permutation(fit).astype(int).tolist()
        return order[: self.of(VIDEOS)]

    def of(self, count: int) -> int:
        """This part's share of so many in a batch, of each kind at least one."""
        return max(1, count // self.part[1])

    def numbers(self, batch: int, size: int) -> range:
        """The numbers of this part's pictures."""
        return range(batch * size + self.part[0], (batch + 1) * size, self.part[1])

    def images(self, shots: Sequence[Drawing]) -> dict[str, Any]:
        grid, known = self.shape.grid, [shot.things for shot in shots]
        arrays = {
            "tiles": np.stack([shot.tile for shot in shots]).transpose(0, 3, 1, 2).copy(),
            "stretch": np.asarray([shot.stretch for shot in shots], np.float32),
            "middle": np.stack([cover(things, 2 * grid) for things in known]),
            "fine": np.stack([cover(things, 4 * grid) for things in known]),
            "rims": np.stack([rim(things, 8 * grid) for things in known]),
            "wide_rims": np.stack([rim(things, 4 * grid) for things in known]),
        }
        return {"known": known} | {name: torch.from_numpy(array) for name, array in arrays.items()}

    def talks(
        self,
        writer: Writer,
        things: Sequence[Sequence[Thing]],
        rng: Rng,
        *,
        whole: bool,
        brief: bool = False,
        videos: Sequence[Sequence[int]] = (),
        sure: F32 | None = None,
    ) -> dict[str, torch.Tensor]:
        """Conversations about single pictures, about none, and about several.

        whole: all cells of a picture; brief: lists alone, nothing about crowds.
        videos: the images that are frames of one, of which only the first is talked about for itself.
        sure: (B, G * G), how sure the tower is that a shape is in a cell, or None to tell as a weak tower would.
        """
        grid = self.shape.grid
        weak = sure is None
        if sure is None:
            weights = [[believed(t, grid, rng) for t in some] for some in things]
        else:
            weights = [surer(some, seen_there, grid) for some, seen_there in zip(things, sure, strict=True)]
        codes = [code(t, w, grid, rng if weak else None) for t, w in zip(things, weights, strict=True)]
        shown = () if whole else [chosen_cells(coded, rng, about=0 if weak else 1) for coded in codes]
        cells = shown if len(shown) else [range(self.shape.tokens)] * len(things)
        rows = [
            writer.row(conversations.about_one_image(t, rng, most=0 if brief else 3), [i], shown)
            if len(t) <= MOST_TOLD
            else writer.only_image(i, cells[i])
            for i, t in enumerate(things[: len(things) - sum(len(frames) - 1 for frames in videos)])
        ]
        rows += [writer.row(conversations.plain_talk(rng), []) for _ in range(self.of(2 * TEXTS if brief else TEXTS))]
        groups, places = [], list[list[int]]()
        for _ in range(self.of(self.groups)):
            places.append(rng.permutation(self.of(IMAGES))[: 2 if rng.random() < 0.7 else 3].tolist())
            groups.append(
                writer.row(conversations.about_several_images([things[i] for i in places[-1]], rng), places[-1], shown)
            )
        for frames in videos:
            order = list(frames)
            if not whole:
                order = sorted(order * 2)[: int(rng.integers(FRAMES[0], FRAMES[1] + 1))]
            groups.append(writer.row(conversations.video(things[frames[0]], len(order), rng), order, shown))
        kinds = [[COLOURS.index(t.colour) * len(SHAPES) + SHAPES.index(t.shape) for t in some] for some in things]
        arrays = (np.stack(codes), *padded(rows, weights, kinds, LENGTH), *padded(groups, weights, kinds, GROUP_LENGTH))
        names = ("code", *ROWS, *(f"group_{name}" for name in ROWS))
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    def __len__(self) -> int:
        return 2**31
