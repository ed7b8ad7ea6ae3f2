"""Training batches of reka-edge-tiny: pictures, what the detector should find in them, and conversations as ids."""

from __future__ import annotations

import json
import math
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
from model import IMAGINED, Shape
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
PICTURES, TALKS, TEXTS, GROUPS = 32, 24, 2, 2  # in one batch: pictures, talks about one, about none, about several
CROWD = 16  # shapes at most while the tower trains alone: three times the lessons for the same arithmetic
ROWS = ("ids", "labels", "source", "places", "kinds")
LENGTH, GROUP_LENGTH = 264, 520  # positions of one conversation, of one about several pictures


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
    """One conversation, each (L,): ids, labels (-100: no loss), source (row of the pictures' embeds, or -1), places.

    kinds: the kind of shape that a position of a listing speaks of, or -100.
    """

    ids: list[int]
    labels: list[int]
    source: list[int]
    places: list[int]
    kinds: list[int]

    @property
    def end(self) -> int:
        return self.places[-1] + 1 if self.places else 0


class Writer:
    """Writes conversations as the runtime would: every run of text between two control tokens is one string."""

    def __init__(self, tokenizer: Tokenizer, tokens: int) -> None:
        self.tokenizer, self.tokens = tokenizer, tokens
        self.control = {token: tokenizer.token_to_id(token) for token in SPECIAL}

    def row(self, talked: talk.Conversation, pictures: Sequence[int], shown: Sequence[Sequence[int]] = ()) -> Row:
        """pictures: numbers in the batch; shown: of each of the batch's pictures the cells to write, all if empty."""
        row = Row([], [], [], [], [])
        if talked.system:
            self.text(row, f"system: {talked.system}\n\n")
            self.mark(row, "<sep>")
        for exchange in talked.exchanges:
            self.question(row, exchange, pictures, shown)
            self.mark(row, "<sep>")
            self.text(row, "assistant:")
            self.answer(row, exchange)
            self.mark(row, "<sep>", learn=True)
        return row

    def question(
        self, row: Row, exchange: talk.Exchange, pictures: Sequence[int], shown: Sequence[Sequence[int]]
    ) -> None:
        chosen = [pictures[i] for i in exchange.pictures]
        if not chosen or exchange.text_first:
            self.text(row, f"human: {exchange.question}")
        else:
            self.text(row, "human: ")
        for picture in chosen:
            self.picture(row, picture, shown[picture] if shown else range(self.tokens))
        if chosen and not exchange.text_first:
            self.text(row, exchange.question)

    def picture(self, row: Row, index: int, cells: Sequence[int]) -> None:
        self.mark(row, "<image>")
        start = row.end
        row.ids.extend([self.control["<REKA_IMG_TOKEN>"]] * len(cells))
        row.labels.extend([-100] * len(cells))
        row.source.extend(index * self.tokens + cell for cell in cells)
        row.places.extend(start + cell for cell in cells)
        row.kinds.extend([-100] * len(cells))
        self.add(row, [self.control["</image>"]], start + self.tokens, learn=False)

    def answer(self, row: Row, exchange: talk.Exchange) -> None:
        encoded = self.tokenizer.encode(f" {exchange.answer}\n\n", add_special_tokens=False)
        self.add(row, encoded.ids, row.end, learn=True)
        if exchange.parts:
            ends = np.cumsum([len(text) for text, _ in exchange.parts])
            said = np.searchsorted(ends, [end - 2 for _, end in encoded.offsets])  # offsets count the first space
            spoken_of = [exchange.parts[i][1] if i < len(ends) else -100 for i in said]
            row.kinds[-len(spoken_of) :] = spoken_of

    def text(self, row: Row, text: str, *, learn: bool = False) -> None:
        self.add(row, self.tokenizer.encode(text, add_special_tokens=False).ids, row.end, learn=learn)

    def mark(self, row: Row, token: str, *, learn: bool = False) -> None:
        self.add(row, [self.control[token]], row.end, learn=learn)

    def add(self, row: Row, ids: list[int], start: int, *, learn: bool) -> None:
        row.ids.extend(ids)
        row.labels.extend(ids if learn else [-100] * len(ids))
        row.source.extend([-1] * len(ids))
        row.places.extend(range(start, start + len(ids)))
        row.kinds.extend([-100] * len(ids))


def padded(rows: Sequence[Row], longest: int) -> tuple[I64, ...]:
    """ids, labels, source, places and kinds, each (len(rows), L); labels[i] and kinds[i] are of what follows ids[i]."""
    length = min(longest, max(len(row.ids) for row in rows))
    ids, labels, source, places, kinds = (np.full((len(rows), length), fill) for fill in (0, -100, -1, 0, -100))
    for i, row in enumerate(rows):
        n = min(len(row.ids), length)
        ids[i, :n], source[i, :n], places[i, :n] = row.ids[:n], row.source[:n], row.places[:n]
        labels[i, : n - 1], kinds[i, : n - 1] = row.labels[1:n], row.kinds[1:n]
    return ids, labels, source, places, kinds


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
    """(side * side, 8) for a spotter: does a shape lie over this cell, its colour and shape, where its centre is seen
    from here (tenths of the picture), log2 of both sides, and the cell's weight. Smaller shapes lie on top; the cells
    of one shape weigh one together, so that small ones count as much as large ones.
    """
    owner = np.zeros((side, side), np.uint8)
    order = sorted(things, key=lambda t: -t.width * t.height)
    for number, thing in enumerate(order, 1):
        corners = np.round((thing.corners * side - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(owner, [corners], number, cv2.LINE_8, 4)
    table = np.zeros((len(order) + 1, 8), np.float32)
    counts = np.bincount(owner.ravel(), minlength=len(order) + 1)
    for number, t in enumerate(order, 1):
        log_sides = np.log2(max(t.width, 0.01)), np.log2(max(t.height, 0.01))
        kind = COLOURS.index(t.colour), SHAPES.index(t.shape)
        table[number] = 1, *kind, 10 * t.x, 10 * t.y, *log_sides, 1 / max(counts[number], 1)
    table[0, 7] = 25 / side**2
    out = table[owner.ravel()]
    rows, columns = np.divmod(np.arange(side**2), side)
    out[:, 3] -= 10 * (columns + 0.5) / side
    out[:, 4] -= 10 * (rows + 0.5) / side
    return out


def perfect(things: Sequence[Thing], grid: int) -> npt.NDArray[np.float32]:
    """(grid * grid, IMAGINED) for Yasa.imagine: in each cell how many shapes, of which kinds, and where in the cell."""
    out = np.zeros((grid * grid, IMAGINED), np.float32)
    for thing in things:
        column, row = min(int(thing.x * grid), grid - 1), min(int(thing.y * grid), grid - 1)
        cell = out[row * grid + column]
        cell[0] += 1
        cell[1:3] += (thing.x * grid - column - 0.5, thing.y * grid - row - 0.5)
        cell[3 + COLOURS.index(thing.colour) * len(SHAPES) + SHAPES.index(thing.shape)] += 1
    return out


def glimpse(things: Sequence[Thing], grid: int, rng: Rng) -> list[int]:
    """The cells with shapes in them and a few of the others: all that there is to read, in a fraction of the time."""
    held = {min(int(t.y * grid), grid - 1) * grid + min(int(t.x * grid), grid - 1) for t in things}
    return sorted(held | set(rng.integers(0, grid * grid, int(rng.integers(2, 20))).tolist()))


def imagined(rng: Rng) -> tuple[Thing, ...]:
    """Shapes without a picture; they keep apart as those in pictures do, and are often alike."""
    things: list[Thing] = []
    alike = rng.random()
    for _ in range(0 if rng.random() < 0.06 else int(rng.integers(1, 7))):
        colour, shape = COLOURS[rng.integers(11)], SHAPES[rng.integers(6)]
        if things and rng.random() < alike:
            twin = things[rng.integers(len(things))]
            kind = rng.random()
            colour, shape = twin.colour if kind < 0.75 else colour, twin.shape if kind > 0.25 else shape
        for _ in range(9):
            x, y = rng.uniform(0.03, 0.97, 2)
            if all(abs(x - t.x) + abs(y - t.y) > 0.11 for t in things):
                break
        size = 0.07 * math.exp(rng.uniform(0, 1.9))
        things.append(Thing(colour, shape, x, y, size, size))
    return tuple(things)


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Batch i depends on the seed and i alone, so a run resumes where it stopped and repeats exactly.

    The first `looking` batches are pictures, two of three crowded with shapes, the next `reading` ones talk about
    shapes without pictures, all others are pictures and talk. part: which part of each batch, of how many.
    """

    def __init__(
        self, tokenizer: str, shape: Shape, *, seed: int, looking: int, reading: int, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.tokenizer, self.shape, self.seed, self.looking, self.reading = tokenizer, shape, seed, looking, reading
        self.part, self.writer = part, None

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if self.writer is None:  # once in each worker
            cv2.setNumThreads(1)
            self.writer: Writer | None = Writer(Tokenizer.from_str(self.tokenizer), self.shape.tokens)
        rng = np.random.default_rng([self.seed, 2, index, *self.part])
        if index < self.looking:
            return self.pictures(rng, most=6 if index % 3 == 0 else CROWD)[1]
        if index < self.looking + self.reading:
            things = [imagined(rng) for _ in range(self.of(PICTURES))]
            shown = [glimpse(t, self.shape.grid, rng) for t in things] if index % 8 else ()
            return self.talks(self.writer, things, shown, rng)
        things, seen = self.pictures(rng, most=6)
        return seen | self.talks(self.writer, things, (), rng)

    def of(self, count: int) -> int:
        """This part's share of so many in a batch."""
        return count // self.part[1]

    def pictures(self, rng: Rng, *, most: int) -> tuple[list[tuple[Thing, ...]], dict[str, torch.Tensor]]:
        px, patch, grid = self.shape.tile_px, self.shape.patch_px, self.shape.grid
        shots = [scenes.scene(rng, tile_px=px, most=most) for _ in range(self.of(PICTURES))]
        tiles = np.stack([scenes.tile(s.rgb, tile_px=px, patch_px=patch) for s in shots]).transpose(0, 3, 1, 2)
        arrays = {"tiles": tiles.copy(), "marks": np.stack([targets(s.things, grid) for s in shots])}
        for name, side in (("fine", 4 * grid), ("middle", 2 * grid)):
            arrays[name] = np.stack([cover(s.things, side) for s in shots])
        return [s.things for s in shots], {name: torch.from_numpy(array) for name, array in arrays.items()}

    def talks(
        self, writer: Writer, things: Sequence[Sequence[Thing]], shown: Sequence[Sequence[int]], rng: Rng
    ) -> dict[str, torch.Tensor]:
        """Conversations about single pictures, about none, and about several; shown: as Writer.row takes it."""
        rows = [writer.row(talk.one_picture(t, rng), [i], shown) for i, t in enumerate(things[: self.of(TALKS)])]
        rows += [writer.row(talk.plain_talk(rng), []) for _ in range(self.of(TEXTS))]
        groups = []
        for _ in range(self.of(GROUPS)):
            chosen = rng.permutation(len(things))[: 2 if rng.random() < 0.7 else 3].tolist()
            groups.append(writer.row(talk.several_pictures([things[i] for i in chosen], rng), chosen, shown))
        cells = np.stack([perfect(t, self.shape.grid) for t in things])
        arrays = (cells, *padded(rows, LENGTH), *padded(groups, GROUP_LENGTH))
        names = ("cells", *ROWS, *(f"group_{name}" for name in ROWS))
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    def __len__(self) -> int:
        return 2**31
