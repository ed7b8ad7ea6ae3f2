"""Conversations as rows of token ids, with what is learned at each position and where the guided heads look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from scripts.tiny.lessons import conversations
from scripts.tiny.lessons.labels import Weights, doubtful, most_likely
from scripts.tiny.lessons.tokenizer import SPECIAL
from scripts.tiny.pictures.colours import F32

Array = npt.NDArray[np.generic]
ROWS = ("ids", "labels", "source", "places", "at", "aims", "after", "twins")
MOST = 12  # shapes of a kind before another one


@dataclass(frozen=True)
class Row:
    """One conversation, each (L,): ids, labels (-100: no loss), source (row of the images' embeddings, or -1), places.

    looks: the part of an answer that a position belongs to, with the number of its picture in the batch, or None.
    cells, signs: where in the row a picture's cells are, by (picture, cell), and its <image>, by picture.
    echoes: where the token was said before that follows a position.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    looks: list[tuple[conversations.Part, int] | None] = field(default_factory=list)
    cells: dict[tuple[int, int], int] = field(default_factory=dict)
    signs: dict[int, int] = field(default_factory=dict)
    echoes: dict[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.places[-1] + 1 if self.places else 0


class Writer:
    """Writes conversations as the runtime would: every run of text between two control tokens is one string."""

    def __init__(self, tokenizer: Tokenizer, tokens: int) -> None:
        self.tokenizer, self.tokens = tokenizer, tokens
        self.control = {token: tokenizer.token_to_id(token) for token in SPECIAL}

    def row(
        self, talked: conversations.Conversation, images: Sequence[int], shown: Sequence[Sequence[int]] = ()
    ) -> Row:
        """pictures: numbers in the batch; shown: of each of the batch's pictures the cells to write, all if empty."""
        row = Row()
        if talked.system:
            self.text(row, f"system: {talked.system}\n\n")
            self.mark(row, "<sep>")
        for exchange in talked.exchanges:
            self.question(row, exchange, images, shown)
            self.mark(row, "<sep>")
            self.text(row, "assistant:")
            self.answer(row, exchange, images)
            self.mark(row, "<sep>", learn=True)
        return row

    def only_image(self, image: int, cells: Sequence[int]) -> Row:
        """A picture that nothing is said about."""
        row = Row()
        self.image(row, image, cells)
        return row

    def question(
        self, row: Row, exchange: conversations.Exchange, images: Sequence[int], shown: Sequence[Sequence[int]]
    ) -> None:
        chosen = [images[i] for i in exchange.images]
        if not chosen or exchange.text_first:
            self.text(row, f"human: {exchange.question}")
        else:
            self.text(row, "human: ")
        if exchange.video:
            self.video(row, chosen, shown)
        else:
            for image in chosen:
                self.image(row, image, shown[image] if shown else range(self.tokens))
        if chosen and not exchange.text_first:
            self.text(row, exchange.question)

    def image(self, row: Row, index: int, cells: Sequence[int]) -> None:
        row.signs[index] = len(row.ids)
        self.mark(row, "<image>")
        end = self.cells(row, index, cells, row.end)
        self.add(row, [self.control["</image>"]], end, learn=False)

    def video(self, row: Row, frames: Sequence[int], shown: Sequence[Sequence[int]]) -> None:
        """Frames one after another; where one comes again, its cells are those of the last time."""
        sign = len(row.ids)
        self.mark(row, "<video>")
        end = row.end
        for frame in frames:
            row.signs[frame] = sign
            end = self.cells(row, frame, shown[frame] if shown else range(self.tokens), end)
        self.add(row, [self.control["</video>"]], end, learn=False)

    def cells(self, row: Row, index: int, cells: Sequence[int], start: int) -> int:
        """Returns the position after all cells, the ones that are left out as well."""
        at = len(row.ids)
        row.cells.update({(index, cell): at + i for i, cell in enumerate(cells)})
        row.ids.extend([self.control["<REKA_IMG_TOKEN>"]] * len(cells))
        row.labels.extend([-100] * len(cells))
        row.source.extend(index * self.tokens + cell for cell in cells)
        row.places.extend(start + cell for cell in cells)
        row.looks.extend([None] * len(cells))
        return start + self.tokens

    def answer(self, row: Row, exchange: conversations.Exchange, images: Sequence[int]) -> None:
        encoded = self.tokenizer.encode(f" {exchange.answer}\n\n", add_special_tokens=False)
        self.add(row, encoded.ids, row.end, learn=True)
        ends = np.cumsum([len(part.text) for part in exchange.parts])
        # What ends an answer (offsets count the first space) belongs to its last part.
        said = np.searchsorted(ends, [end - 1 for _, end in encoded.offsets]).clip(max=len(ends) - 1)
        looks = [(part, images[part.image]) if part.aim is not None else None for part in exchange.parts]
        row.looks[-len(said) :] = [looks[i] for i in said]
        repeated = [at for at, i in enumerate(said) if exchange.parts[i].echo]
        row.echoes.update(echoes(row.ids, [len(row.ids) - len(said) + at for at in repeated]))

    def text(self, row: Row, text: str, *, learn: bool = False) -> None:
        self.add(row, self.tokenizer.encode(text, add_special_tokens=False).ids, row.end, learn=learn)

    def mark(self, row: Row, token: str, *, learn: bool = False) -> None:
        self.add(row, [self.control[token]], row.end, learn=learn)

    def add(self, row: Row, ids: list[int], start: int, *, learn: bool) -> None:
        row.ids.extend(ids)
        row.labels.extend(ids if learn else [-100] * len(ids))
        row.source.extend([-1] * len(ids))
        row.places.extend(range(start, start + len(ids)))
        row.looks.extend([None] * len(ids))


def echoes(ids: Sequence[int], repeated: Sequence[int]) -> dict[int, int]:
    """Of the position before each repeated one, where the same run of ids lay before; nothing if it did not."""
    run = [ids[at] for at in repeated]
    if not run:
        return {}
    earlier = [i for i in range(repeated[0] - len(run) + 1) if list(ids[i : i + len(run)]) == run]
    return {at - 1: earlier[0] + i for i, at in enumerate(repeated)} if earlier else {}


def padded(
    rows: Sequence[Row], weights: Sequence[Weights], kinds: Sequence[Sequence[int]], longest: int
) -> tuple[Array, ...]:
    """ids, labels, source and places, each (len(rows), L), labels[i] being what follows ids[i]; at (N, 2), row and
    position of every answer's token that is about pictures; aims (N, 2, L), where the guided heads look from there;
    after (N,), which kind was named last, or -100; twins (M, 3 + MOST) of every shape's cell: its row and position, the
    <image> before it, and all shapes of its kind before it, filled up with -1.

    weights, kinds: of each of the batch's pictures, every shape's cells and its kind.
    """
    length = min(longest, max(len(row.ids) for row in rows))
    ids, labels, source, places = (np.full((len(rows), length), fill) for fill in (0, -100, -1, 0))
    at: list[tuple[int, int]] = []
    aims: list[F32] = []
    after: list[int] = []
    twins: list[list[int]] = []
    for i, row in enumerate(rows):
        n = min(len(row.ids), length)
        ids[i, :n], source[i, :n], places[i, :n] = row.ids[:n], row.source[:n], row.places[:n]
        labels[i, : n - 1] = row.labels[1:n]
        for image, sign in row.signs.items():
            twins += [[i, *twin] for twin in alike(row, image, sign, weights[image], kinds[image])]
        known: dict[int, F32] = {}
        for j, look in enumerate(row.looks[1:n]):
            if look is not None:
                if id(look) not in known:
                    known[id(look)] = aim(row, look, weights, length)
                at.append((i, j))
                aims.append(known[id(look)])
                after.append(-100 if look[0].after is None else look[0].after)
        for j, source_at in row.echoes.items():
            if j < n:
                at.append((i, j))
                aims.append(np.stack([np.eye(1, length, source_at, dtype=np.float32)[0], np.zeros(length, np.float32)]))
                after.append(-100)
    stacked = np.asarray(aims, np.float32).reshape(-1, 2, length)
    where, pairs = np.asarray(at, np.int64).reshape(-1, 2), np.asarray(twins, np.int64).reshape(-1, 3 + MOST)
    return ids, labels, source, places, where, stacked, np.asarray(after, np.int64), pairs


def alike(row: Row, image: int, sign: int, weights: Weights, kinds: Sequence[int]) -> list[list[int]]:
    """Of every shape of a picture its cell's position, that of <image>, and those of its kind before it; none of a kind
    that is in doubt.
    """
    cells = [row.cells[image, most_likely(some)] for some in weights]
    unsure = {kind for some, kind in zip(weights, kinds, strict=True) if doubtful(some)}
    found = []
    for cell, kind in zip(cells, kinds, strict=True):
        if kind in unsure:
            continue
        before = sorted({c for c, k in zip(cells, kinds, strict=True) if k == kind and c < cell})
        found.append([cell, sign, *before[:MOST], *[-1] * (MOST - len(before))])
    return found


def aim(row: Row, look: tuple[conversations.Part, int], weights: Sequence[Weights], length: int) -> F32:
    """(2, L): what a part of an answer is about, and what the answer will come to later: <image> if it is nothing.

    A listing looks at the last shape of a kind, which knows how many are before it; other answers at all alike; counts
    also at <image>, as much as at one shape: what falls to it tells how many they are. Nothing where one is in doubt.
    """
    part, image = look
    out = np.zeros((2, length), np.float32)
    for i, things in enumerate((part.aim, part.later)):
        if things is None or any(doubtful(weights[image][thing]) for thing in things):
            continue
        cells = [(row.cells[image, cell], weight) for thing in things for cell, weight in weights[image][thing]]
        if part.after is not None and i == 0 and cells:
            cells = [(max(row.cells[image, most_likely(weights[image][thing])] for thing in things), 1.0)]
        if part.counts or not cells:
            out[i, row.signs[image]] = 1
        for cell, weight in cells:
            out[i, cell] += weight
        out[i] /= out[i].sum()
    return out
