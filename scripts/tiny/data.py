"""Training batches of reka-edge-tiny: pictures, what the detector should find in them, and conversations as ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset

import scenes
import talk
from figures import SHAPES
from model import Shape
from paints import COLOURS, Rng
from scenes import Thing

I64 = npt.NDArray[np.int64]

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|endofprompt|>", "<|endofchunk|>",
    "<REKA_IMG_TOKEN>", "<image>", "</image>", "<REKA_ADO_TOKEN>", "<audio>", "</audio>", "<video>", "</video>",
    "<transcript>", "</transcript>", "<ocr>", "</ocr>", "<sep>", "<tool>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>",
)  # fmt: skip
PICTURES, TALKS, TEXTS, GROUPS = 32, 20, 2, 1  # in one batch: pictures, talks about one, about none, about several
CROWD = 16  # shapes at most while the tower trains alone: three times the lessons for the same arithmetic
LENGTH, GROUP_LENGTH = 160, 320  # positions of one conversation, of one about several pictures


def train_tokenizer(*, seed: int, size: int = 2048) -> str:
    """A byte-level BPE over the conversations' words, with the family's special tokens; returns tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(talk.corpus(6000, seed), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, sort_keys=True, indent=1)


@dataclass(frozen=True)
class Row:
    """One conversation: ids and labels (-100: no loss) (L,), source (L,): row of the pictures' embeds, or -1."""

    ids: list[int]
    labels: list[int]
    source: list[int]


class Writer:
    """Writes conversations as the runtime would: every run of text between two control tokens is one string."""

    def __init__(self, tokenizer: Tokenizer, tokens: int) -> None:
        self.tokenizer, self.tokens = tokenizer, tokens
        self.control = {token: tokenizer.token_to_id(token) for token in SPECIAL}

    def row(self, talked: talk.Conversation, pictures: Sequence[int]) -> Row:
        row = Row([], [], [])
        if talked.system:
            self.text(row, f"system: {talked.system}\n\n")
            self.mark(row, "<sep>")
        for exchange in talked.exchanges:
            self.question(row, exchange, pictures)
            self.mark(row, "<sep>")
            self.text(row, "assistant:")
            self.text(row, f" {exchange.answer}\n\n", learn=True)
            self.mark(row, "<sep>", learn=True)
        return row

    def question(self, row: Row, exchange: talk.Exchange, pictures: Sequence[int]) -> None:
        shown = [pictures[i] for i in exchange.pictures]
        if not shown or exchange.text_first:
            self.text(row, f"human: {exchange.question}")
        else:
            self.text(row, "human: ")
        for picture in shown:
            self.picture(row, picture)
        if shown and not exchange.text_first:
            self.text(row, exchange.question)

    def picture(self, row: Row, index: int) -> None:
        self.mark(row, "<image>")
        row.ids.extend([self.control["<REKA_IMG_TOKEN>"]] * self.tokens)
        row.labels.extend([-100] * self.tokens)
        row.source.extend(range(index * self.tokens, (index + 1) * self.tokens))
        self.mark(row, "</image>")

    def text(self, row: Row, text: str, *, learn: bool = False) -> None:
        self.add(row, self.tokenizer.encode(text, add_special_tokens=False).ids, learn=learn)

    def mark(self, row: Row, token: str, *, learn: bool = False) -> None:
        self.add(row, [self.control[token]], learn=learn)

    def add(self, row: Row, ids: list[int], *, learn: bool) -> None:
        row.ids.extend(ids)
        row.labels.extend(ids if learn else [-100] * len(ids))
        row.source.extend([-1] * len(ids))


def padded(rows: Sequence[Row], length: int) -> tuple[I64, I64, I64]:
    """ids, labels (already shifted: labels[i] is what follows ids[i]) and source, each (len(rows), length)."""
    ids, labels, source = (
        np.zeros((len(rows), length), np.int64),
        np.full((len(rows), length), -100),
        np.full((len(rows), length), -1),
    )
    for i, row in enumerate(rows):
        n = min(len(row.ids), length)
        ids[i, :n], source[i, :n] = row.ids[:n], row.source[:n]
        labels[i, : n - 1] = row.labels[1:n]
    return ids, labels, source


def targets(things: Sequence[Thing], grid: int) -> npt.NDArray[np.float32]:
    """(grid * grid, 7) for the detector: centre here?, colour, shape, x and y in the cell, log2 of both sides."""
    out = np.zeros((grid * grid, 7), np.float32)
    for thing in sorted(things, key=lambda t: t.width * t.height):  # where two share a cell the larger one stays
        column, row = min(int(thing.x * grid), grid - 1), min(int(thing.y * grid), grid - 1)
        out[row * grid + column] = (
            1, COLOURS.index(thing.colour), SHAPES.index(thing.shape), thing.x * grid - column, thing.y * grid - row,
            np.log2(max(thing.width, 0.01)), np.log2(max(thing.height, 0.01)),
        )  # fmt: skip
    return out


def cover(things: Sequence[Thing], side: int) -> npt.NDArray[np.float32]:
    """(side * side, 3) for the spotter: does a shape lie over this cell, its colour, its shape; smaller ones on top."""
    out = np.zeros((side, side, 3), np.float32)
    centres = (np.arange(side) + 0.5) / side
    for thing in sorted(things, key=lambda t: -t.width * t.height):
        over = ((centres[None] - thing.x) / (thing.width / 2)) ** 2 + (
            (centres[:, None] - thing.y) / (thing.height / 2)
        ) ** 2
        under = over < 0.8
        under[min(int(thing.y * side), side - 1), min(int(thing.x * side), side - 1)] = True
        out[under] = 1, COLOURS.index(thing.colour), SHAPES.index(thing.shape)
    return out.reshape(side * side, 3)


def perfect(things: Sequence[Thing], grid: int) -> npt.NDArray[np.float32]:
    """(grid * grid, 20) for Yasa.imagine: in each cell how many shapes, colours, shapes, and where in the cell."""
    out = np.zeros((grid * grid, 20), np.float32)
    for thing in things:
        column, row = min(int(thing.x * grid), grid - 1), min(int(thing.y * grid), grid - 1)
        cell = out[row * grid + column]
        cell[0] += 1
        cell[1 + COLOURS.index(thing.colour)] += 1
        cell[12 + SHAPES.index(thing.shape)] += 1
        cell[18:] += (thing.x * grid - column - 0.5, thing.y * grid - row - 0.5)
    return out


def imagined(rng: Rng) -> tuple[Thing, ...]:
    """Shapes without a picture."""
    things: list[Thing] = []
    for _ in range(0 if rng.random() < 0.08 else int(rng.integers(1, 7))):
        colour, shape = COLOURS[rng.integers(11)], SHAPES[rng.integers(6)]
        if things and rng.random() < 0.25:
            colour = things[-1].colour
        if things and rng.random() < 0.25:
            shape = things[-1].shape
        things.append(Thing(colour, shape, rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95), 0.1, 0.1))
    return tuple(things)


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Batch i depends on the seed and i alone, so a run resumes where it stopped and repeats exactly.

    The first `looking` batches are pictures, two of three crowded with shapes, the next `reading` ones talk about
    shapes without pictures, all others are pictures and talk.
    """

    def __init__(self, tokenizer: str, shape: Shape, *, seed: int, looking: int, reading: int) -> None:
        self.tokenizer, self.shape, self.seed, self.looking, self.reading = tokenizer, shape, seed, looking, reading
        self.writer: Writer | None = None

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if self.writer is None:  # once in each worker
            cv2.setNumThreads(1)
            self.writer = Writer(Tokenizer.from_str(self.tokenizer), self.shape.tokens)
        rng = np.random.default_rng([self.seed, 2, index])
        if index < self.looking:
            return self.pictures(rng, most=6 if index % 3 == 0 else CROWD)[1]
        if index < self.looking + self.reading:
            things = [imagined(rng) for _ in range(PICTURES)]
            return self.talks(self.writer, things, rng)
        things, seen = self.pictures(rng, most=6)
        return seen | self.talks(self.writer, things, rng)

    def pictures(self, rng: Rng, *, most: int) -> tuple[list[tuple[Thing, ...]], dict[str, torch.Tensor]]:
        px, patch, grid = self.shape.tile_px, self.shape.patch_px, self.shape.grid
        shots = [scenes.scene(rng, tile_px=px, most=most) for _ in range(PICTURES)]
        tiles = np.stack([scenes.tile(s.rgb, tile_px=px, patch_px=patch) for s in shots]).transpose(0, 3, 1, 2)
        marks = np.stack([targets(s.things, grid) for s in shots])
        covers = np.stack([cover(s.things, 2 * grid) for s in shots])
        arrays = {"tiles": tiles.copy(), "marks": marks, "covers": covers}
        seen = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return [s.things for s in shots], seen

    def talks(self, writer: Writer, things: Sequence[Sequence[Thing]], rng: Rng) -> dict[str, torch.Tensor]:
        """Conversations about single pictures, about none, and about several."""
        rows = [writer.row(talk.one_picture(t, rng), [i]) for i, t in enumerate(things[:TALKS])]
        rows += [writer.row(talk.plain_talk(rng), []) for _ in range(TEXTS)]
        groups = []
        for _ in range(GROUPS):
            chosen = rng.permutation(PICTURES)[: int(rng.integers(2, 4))].tolist()
            groups.append(writer.row(talk.several_pictures([things[i] for i in chosen], rng), chosen))
        cells = np.stack([perfect(t, self.shape.grid) for t in things])
        arrays = (cells, *padded(rows, LENGTH), *padded(groups, GROUP_LENGTH))
        names = ("cells", "ids", "labels", "source", "group_ids", "group_labels", "group_source")
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    def __len__(self) -> int:
        return 2**31
