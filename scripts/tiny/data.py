"""Training batches of reka-edge-tiny: pictures, what the detector should find in them, and conversations as ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset

import scenes
import talk
from figures import SHAPES
from labelling import (
    Weights,
    believed,
    code,
    cover,
    doubtful,
    glimpse,
    imagined,
    likeliest,
    rim,
    sure_enough,
    surer,
    taken,
)
from model import TALLY, Shape
from paints import COLOURS, F32, U8, Rng
from scenes import Thing

Array = npt.NDArray[np.generic]

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
GLANCES = 16  # pictures in a batch while the tower trains alone
CROWD = (7, 30)  # shapes in three of four of them at first: several times the lessons for the same arithmetic
CROWDED = 5  # sheets of which that holds, then one of four, and two of four have hardly any shapes
FEW = (1, 2)  # alone in its picture a shape must be known without others that tell how that was stretched
PICTURES, TEXTS, GROUPS, FILMS = 24, 6, 6, 2  # in a batch of talk: pictures, talks about none, about several, films
FRAMES = (3, 6)  # of a film, of which three are different
LISTS, CROWDS = 36, 16  # in most batches without pictures: lists instead of talks, and shapes only to compare
SHEET = 1024  # so many pictures are drawn at a time
TURNS = 8  # ways to turn and mirror a picture
LOOKS, USES = 4, 2  # how often each is learned from, turned or mirrored another way each time: in looking, in telling
SOUGHT, DOUBLED = 24, 6  # pictures looked at only to find such as are seen double; how many of those in a batch of talk
AGAIN, GAP = 4, 8  # and in telling each batch is talked about so often, each time so many batches later
EASY = 3  # sheets of the tower's that begin with easy pictures: all of the first, two thirds of the second, …
ROWS = ("ids", "labels", "source", "places", "at", "aims", "after", "twins")
MOST_TOLD = TALLY - 1  # shapes in a picture that is talked about
MOST = 12  # shapes of a kind before another one
LENGTH, GROUP_LENGTH = 320, 800  # positions of one conversation, of one about several pictures


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

    looks: the part of an answer that a position belongs to, with the number of its picture in the batch, or None.
    cells, signs: where in the row a picture's cells are, by (picture, cell), and its <image>, by picture.
    echoes: where the token was said before that follows a position.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    looks: list[tuple[talk.Part, int] | None] = field(default_factory=list)
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

    def row(self, talked: talk.Conversation, pictures: Sequence[int], shown: Sequence[Sequence[int]] = ()) -> Row:
        """pictures: numbers in the batch; shown: of each of the batch's pictures the cells to write, all if empty."""
        row = Row()
        if talked.system:
            self.text(row, f"system: {talked.system}\n\n")
            self.mark(row, "<sep>")
        for exchange in talked.exchanges:
            self.question(row, exchange, pictures, shown)
            self.mark(row, "<sep>")
            self.text(row, "assistant:")
            self.answer(row, exchange, pictures)
            self.mark(row, "<sep>", learn=True)
        return row

    def sight(self, picture: int, cells: Sequence[int]) -> Row:
        """A picture that nothing is said about."""
        row = Row()
        self.picture(row, picture, cells)
        return row

    def question(
        self, row: Row, exchange: talk.Exchange, pictures: Sequence[int], shown: Sequence[Sequence[int]]
    ) -> None:
        chosen = [pictures[i] for i in exchange.pictures]
        if not chosen or exchange.text_first:
            self.text(row, f"human: {exchange.question}")
        else:
            self.text(row, "human: ")
        if exchange.film:
            self.film(row, chosen, shown)
        else:
            for picture in chosen:
                self.picture(row, picture, shown[picture] if shown else range(self.tokens))
        if chosen and not exchange.text_first:
            self.text(row, exchange.question)

    def picture(self, row: Row, index: int, cells: Sequence[int]) -> None:
        row.signs[index] = len(row.ids)
        self.mark(row, "<image>")
        end = self.cells(row, index, cells, row.end)
        self.add(row, [self.control["</image>"]], end, learn=False)

    def film(self, row: Row, frames: Sequence[int], shown: Sequence[Sequence[int]]) -> None:
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

    def answer(self, row: Row, exchange: talk.Exchange, pictures: Sequence[int]) -> None:
        encoded = self.tokenizer.encode(f" {exchange.answer}\n\n", add_special_tokens=False)
        self.add(row, encoded.ids, row.end, learn=True)
        ends = np.cumsum([len(part.text) for part in exchange.parts])
        # What ends an answer (offsets count the first space) belongs to its last part.
        said = np.searchsorted(ends, [end - 1 for _, end in encoded.offsets]).clip(max=len(ends) - 1)
        looks = [(part, pictures[part.picture]) if part.aim is not None else None for part in exchange.parts]
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
        for picture, sign in row.signs.items():
            twins += [[i, *twin] for twin in alike(row, picture, sign, weights[picture], kinds[picture])]
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


def alike(row: Row, picture: int, sign: int, weights: Weights, kinds: Sequence[int]) -> list[list[int]]:
    """Of every shape of a picture its cell's position, that of <image>, and those of its kind before it; none of a kind
    that is in doubt.
    """
    cells = [row.cells[picture, likeliest(some)] for some in weights]
    unsure = {kind for some, kind in zip(weights, kinds, strict=True) if doubtful(some)}
    found = []
    for cell, kind in zip(cells, kinds, strict=True):
        if kind in unsure:
            continue
        before = sorted({c for c, k in zip(cells, kinds, strict=True) if k == kind and c < cell})
        found.append([cell, sign, *before[:MOST], *[-1] * (MOST - len(before))])
    return found


def aim(row: Row, look: tuple[talk.Part, int], weights: Sequence[Weights], length: int) -> F32:
    """(2, L): what a part of an answer is about, and what the answer will come to later: <image> if it is nothing.

    A listing looks at the last shape of a kind, which knows how many are before it; other answers at all alike; counts
    also at <image>, as much as at one shape: what falls to it tells how many they are. Nothing where one is in doubt.
    """
    part, picture = look
    out = np.zeros((2, length), np.float32)
    for i, things in enumerate((part.aim, part.later)):
        if things is None or any(doubtful(weights[picture][thing]) for thing in things):
            continue
        cells = [(row.cells[picture, cell], weight) for thing in things for cell, weight in weights[picture][thing]]
        if part.after is not None and i == 0 and cells:
            cells = [(max(row.cells[picture, likeliest(weights[picture][thing])] for thing in things), 1.0)]
        if part.counts or not cells:
            out[i, row.signs[picture]] = 1
        for cell, weight in cells:
            out[i, cell] += weight
        out[i] /= out[i].sum()
    return out


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
        picture = 2 * int(order[place // 2]) + place % 2
        if picture not in self.drawn:
            self.drawn[picture] = self.draw(np.random.default_rng([*self.seed, sheet, TURNS, picture]), picture)
        turn = np.random.default_rng([*self.seed, sheet, TURNS + 1, picture]).permutation(TURNS)[use]
        return self.drawn[picture].turned(int(turn))

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


@dataclass(frozen=True)
class Shown:
    """What is in the pictures of a batch, the how manyth of telling, and which of them are frames of films.

    The last SOUGHT of its pictures are not talked about unless they are seen double.
    """

    number: int
    things: Sequence[Sequence[Thing]]
    films: Sequence[Sequence[int]]


class Batches(Dataset[dict[str, Any]]):
    """Batch i depends on the seed and i alone, and what is told of pictures on how the tower sees them (see told), so
    a run resumes where it stopped and repeats exactly.

    The first `looking` batches are pictures, three of four crowded with shapes, the next `reading` ones talk about
    shapes without pictures, all others are of telling: new pictures, or nothing if talk is about earlier ones.

    part: which part of each batch, of how many; skilled: for a tower that has seen shapes before; groups: talks about
    several pictures in a batch.
    """

    def __init__(
        self,
        tokenizer: str,
        shape: Shape,
        *,
        seed: int,
        looking: int,
        reading: int,
        part: tuple[int, int] = (0, 1),
        skilled: bool = False,
        groups: int = GROUPS,
    ) -> None:
        self.groups = groups
        self.tokenizer, self.shape, self.seed, self.looking, self.reading = tokenizer, shape, seed, looking, reading
        self.part, self.writer, self.telling = part, None, looking + reading
        self.crowds = Drawings(shape, (seed, 3), crowded=True, uses=LOOKS, first=CROWDED if skilled else 0)
        self.usual = Drawings(shape, (seed, 4), crowded=False, uses=USES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.writer is None:  # once in each worker
            cv2.setNumThreads(1)
            self.writer: Writer | None = Writer(Tokenizer.from_str(self.tokenizer), self.shape.tokens)
        rng = np.random.default_rng([self.seed, 2, index, *self.part])
        if index < self.looking:
            return self.pictures([self.crowds[number] for number in self.numbers(index, GLANCES)])
        if index < self.looking + self.reading:
            brief = index % (4 if index - self.looking < 0.6 * self.reading else 2) > 0
            things = [imagined(rng) for _ in range(self.of(LISTS if brief else PICTURES))]
            things += [crowd(rng) for _ in range(self.of(CROWDS) if brief else 0)]
            return self.talks(self.writer, things, rng, whole=index % 8 == 0, brief=brief)
        number, again = divmod(index - self.telling, AGAIN)
        return {} if again else self.gathered(number, rng)

    def gathered(self, number: int, rng: Rng) -> dict[str, Any]:
        """Pictures to be talked about, frames of films, and further pictures of which some may be."""
        shots = [self.usual[n] for n in self.numbers(number, PICTURES + SOUGHT)]
        shots, sought = shots[: self.of(PICTURES)], shots[self.of(PICTURES) :][: self.of(SOUGHT)]
        films = [[i, *range(len(shots) + 2 * n, len(shots) + 2 * n + 2)] for n, i in enumerate(self.filmed(shots, rng))]
        shots += [shots[i].turned(int(turn)) for i, *_ in films for turn in rng.permutation(7)[:2] + 1]
        shots += sought
        tiles = np.stack([shot.tile for shot in shots]).transpose(0, 3, 1, 2)
        return {"tiles": torch.from_numpy(tiles.copy()), "shown": Shown(number, [shot.things for shot in shots], films)}

    def topic(self, index: int) -> int:
        """Which pictures batch `index` of telling talks about: new ones, or those of GAP batches before, …"""
        number, again = divmod(index - self.telling, AGAIN)
        return number if again * GAP > number else number - again * GAP

    def earliest(self, index: int) -> int:
        """The first batch that batch `index` needs to have been looked at, or itself."""
        number = (index - self.telling) // AGAIN
        return index if index < self.telling else self.telling + AGAIN * max(0, number - (AGAIN - 1) * GAP)

    def told(self, index: int, shown: Shown, found: F32) -> dict[str, torch.Tensor]:
        """Batch `index`: conversations about pictures that the tower has looked at, in which its detector has found
        (B, G * G, FOUND): shapes are what it takes them for, and of one at a border the surer cell tells, the first of
        two that are sure enough.
        """
        writer = self.writer or Writer(Tokenizer.from_str(self.tokenizer), self.shape.tokens)
        self.writer = writer
        rng = np.random.default_rng([self.seed, 5, index, *self.part])
        whole = index % (AGAIN + 1) == 0
        framed = {frame for frames in shown.films for frame in frames}  # the same shapes in all of a film's frames
        things = [
            some if i in framed else taken(some, found[i], self.shape.grid) for i, some in enumerate(shown.things)
        ]
        return self.talks(writer, things, rng, whole=whole, films=shown.films, sure=sure_enough(found))

    def filmed(self, shots: Sequence[Drawing], rng: Rng) -> list[int]:
        """The numbers of some of the pictures whose few shapes are all of different kinds."""
        fit = [i for i, shot in enumerate(shots) if len(shot.things) <= 3 and talk.all_different(shot.things)]
        return rng.permutation(fit).astype(int).tolist()[: self.of(FILMS)]

    def of(self, count: int) -> int:
        """This part's share of so many in a batch, of each kind at least one."""
        return max(1, count // self.part[1])

    def numbers(self, batch: int, size: int) -> range:
        """The numbers of this part's pictures."""
        return range(batch * size + self.part[0], (batch + 1) * size, self.part[1])

    def pictures(self, shots: Sequence[Drawing]) -> dict[str, Any]:
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
        films: Sequence[Sequence[int]] = (),
        sure: F32 | None = None,
    ) -> dict[str, torch.Tensor]:
        """Conversations about single pictures, about none, and about several.

        whole: all cells of a picture; brief: lists alone, nothing about crowds.
        films: the pictures that are frames of one, of which only the first is talked about for itself.
        sure: (B, G * G), how sure the tower is that a shape is in a cell, or None to tell as weak eyes would.
        """
        grid = self.shape.grid
        weak = sure is None
        if sure is None:
            weights = [[believed(t, grid, rng) for t in some] for some in things]
        else:
            weights = [surer(some, seen_there, grid) for some, seen_there in zip(things, sure, strict=True)]
        codes = [code(t, w, grid, rng if weak else None) for t, w in zip(things, weights, strict=True)]
        shown = () if whole else [glimpse(coded, rng, about=0 if weak else 1) for coded in codes]
        cells = shown if len(shown) else [range(self.shape.tokens)] * len(things)
        rows = [
            writer.row(talk.one_picture(t, rng, most=0 if brief else 3), [i], shown)
            if len(t) <= MOST_TOLD
            else writer.sight(i, cells[i])
            for i, t in enumerate(things[: len(things) - sum(len(frames) - 1 for frames in films)])
        ]
        rows += [writer.row(talk.plain_talk(rng), []) for _ in range(self.of(2 * TEXTS if brief else TEXTS))]
        groups, places = [], list[list[int]]()
        for _ in range(self.of(self.groups)):
            places.append(rng.permutation(self.of(PICTURES))[: 2 if rng.random() < 0.7 else 3].tolist())
            groups.append(writer.row(talk.several_pictures([things[i] for i in places[-1]], rng), places[-1], shown))
        for frames in films:
            order = sorted(frames * 2)[: int(rng.integers(FRAMES[0], FRAMES[1] + 1))] if not whole else frames
            groups.append(writer.row(talk.film(things[frames[0]], len(order), rng), order, shown))
        kinds = [[COLOURS.index(t.colour) * len(SHAPES) + SHAPES.index(t.shape) for t in some] for some in things]
        arrays = (np.stack(codes), *padded(rows, weights, kinds, LENGTH), *padded(groups, weights, kinds, GROUP_LENGTH))
        names = ("code", *ROWS, *(f"group_{name}" for name in ROWS))
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    def __len__(self) -> int:
        return 2**31
