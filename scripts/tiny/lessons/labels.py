"""What is known of a picture's shapes, cell by cell: what the tower has to find, and what embeddings have to say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from scripts.tiny.lessons.sizes import CODE, SAID
from scripts.tiny.pictures.colours import COLOURS, F32, Rng
from scripts.tiny.pictures.figures import SHAPES
from scripts.tiny.pictures.scenes import Thing

Shares = list[tuple[int, float]]  # the cells of one shape, and how much of it is in each
Weights = list[Shares]
DOUBT = (0.08, 0.4)  # of a cell, and that for each whole picture that a shape is wide or high: how far its centre may
# seem to be from where it is, so that cells beyond a border which is no farther may tell of it as well
UNSEEN = -1.5  # the detector's logit of a shape that it does not see; of one that it sees where none is, the opposite
HALF_SURE = -1.0  # the logit from which on a cell may be one of two that tell of one shape
SAME_PLACE = 0.7  # how far, in cells, two of them may disagree on where it is
SURE = 0.7  # a name of this probability is what the tower takes a shape for
CURVE, EDGE = 1, 2  # what the rim of a shape is made of, beside the corners of each kind; a star has tips and notches
CORNERS = {"triangle": 3, "square": 4, "rectangle": 4, "hexagon": 5, "star": 6}


def most_likely(cells: Shares) -> int:
    """The cell that most of a shape is in."""
    return max(cells, key=lambda cell: cell[1])[0]


def doubtful(cells: Shares) -> bool:
    """Whether no cell has most of a shape: where the guided heads should look is not known then."""
    return max(share for _, share in cells) <= 0.5


def targets(things: Sequence[Thing], weights: Weights, grid: int) -> F32:
    """(grid * grid, 7) for the detector: a shape here?, colour, shape, x and y from the cell's corner, log2 of both
    sides; given which cell tells of each shape.
    """
    out = np.zeros((grid * grid, 7), np.float32)
    told = zip(things, weights, strict=True)
    for thing, cells in sorted(told, key=lambda t: t[0].width * t[0].height):  # of two in a cell the larger one stays
        cell = most_likely(cells)
        row, column = divmod(cell, grid)
        out[cell] = (
            1, COLOURS.index(thing.colour), SHAPES.index(thing.shape), thing.x * grid - column, thing.y * grid - row,
            np.log2(max(thing.width, 0.01)), np.log2(max(thing.height, 0.01)),
        )  # fmt: skip
    return out


def cover(things: Sequence[Thing], side: int) -> F32:
    """(side * side, 8) for a spotter: does a shape lie over this cell, its colour and shape, where its centre is seen
    from here (tenths of the picture), log2 of both sides, and the cell's weight. Smaller shapes lie on top; the cells
    of one shape weigh one together, so that small ones count as much as large ones.
    """
    owner = np.zeros((side, side), np.uint8)
    order = sorted(things, key=lambda t: -t.width * t.height)
    for number, thing in enumerate(order, 1):
        corners = np.round((thing.rim * side - 0.5) * 16).astype(np.int32)
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


def rim(things: Sequence[Thing], side: int) -> F32:
    """(side * side, 2): what lies on the rims of shapes in this cell, 0 for no rim, and its weight.

    Every shape weighs one, half of it in its corners: they are what tells the kinds apart, and where finding begins.
    """
    kinds, owner = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    for number, thing in enumerate(sorted(things, key=lambda t: -t.width * t.height), 1):
        points = np.round((thing.rim * side - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(owner, [points], number, cv2.LINE_8, 4)
        cv2.fillPoly(kinds, [points], 0, cv2.LINE_8, 4)
        round_one = thing.shape == "circle"
        for image, value in ((kinds, CURVE if round_one else EDGE), (owner, number)):
            cv2.polylines(image, [points], True, value, 1, cv2.LINE_8, 4)
        if not round_one:
            columns, rows = np.floor(thing.rim * side).astype(int).clip(0, side - 1).T
            owner[rows, columns] = number
            kinds[rows, columns] = CORNERS[thing.shape] + (np.arange(len(rows)) % 2 if thing.shape == "star" else 0)
    flat, corner = kinds.ravel(), kinds.ravel() > EDGE
    of = np.where(flat > 0, owner.ravel().astype(int) * 2 + corner, 0)
    counts = np.bincount(of, minlength=2 * len(things) + 2)
    weight = np.where(of > 0, 0.5 / counts[of].clip(min=1), 0.02 * len(things) / (flat == 0).sum().clip(min=1))
    return np.stack([flat, weight], 1).astype(np.float32)


def seen(thing: Thing, grid: int) -> Shares:
    """The one cell that a shape's centre is in."""
    column, row = min(int(thing.x * grid), grid - 1), min(int(thing.y * grid), grid - 1)
    return [(row * grid + column, 1.0)]


def near(thing: Thing, grid: int) -> list[int]:
    """The cells that may tell of a shape, up to four: first the one that its centre is in, then those across a border
    that the centre is near.
    """
    doubt = DOUBT[0] + DOUBT[1] * max(thing.width, thing.height)
    columns, rows = (within(place * grid, doubt, grid) for place in (thing.x, thing.y))
    return [row * grid + column for row in rows for column in columns]


def within(place: float, doubt: float, grid: int) -> list[int]:
    """Of one axis, the cell of a place and those that are no farther from it than doubt."""
    cell = min(max(int(place), 0), grid - 1)
    before = [cell - 1] if cell > 0 and place - cell < doubt else []
    after = [cell + 1] if cell < grid - 1 and cell + 1 - place < doubt else []
    return [cell, *before, *after]


def surer(things: Sequence[Thing], sure: F32, grid: int) -> Weights:
    """The one cell that tells of each shape: of those that may, the one of which the tower is surest already, the first
    of several alike.

    Then one says all and the others nothing; shared out among them a shape would look like two. A cell with another
    shape's centre in it is none that may, and shapes that share a cell stay there.
    sure: (G * G,) how sure the tower is that each cell tells of a shape.
    """
    able = [near(thing, grid) for thing in things]
    held = Counter(cells[0] for cells in able)
    told = []
    for home, *others in able:
        free = [cell for cell in others if not held[cell]] if held[home] == 1 else []
        told.append(max(sorted([home, *free]), key=lambda cell: float(sure[cell])))
        held[told[-1]] += told[-1] != home
    return [[(cell, 1.0)] for cell in told]


def sure_enough(found: F32) -> F32:
    """How sure the tower is that cells tell of a shape, alike of all that rather do: of two such that tell of one shape
    the decoder can leave out the second, which looks back at the first.

    found: (..., FOUND) as the detector says it.
    """
    return np.minimum(found[..., 0], 0)


def doubled(found: F32, grid: int) -> bool:
    """Whether two neighbouring cells seem to tell of one shape, each at least half sure of it.

    found: (G * G, FOUND) as the detector says it.
    """
    cells = np.flatnonzero(found[:, 0] > HALF_SURE)
    _, colours, shapes, sides = np.split(found[cells], np.cumsum(SAID)[:-1], axis=1)
    corners = np.stack([cells % grid, cells // grid], 1)
    kinds = colours.argmax(1) * len(SHAPES) + shapes.argmax(1)
    centres = corners + sides[:, :2]
    apart = np.abs(centres[:, None] - centres).sum(-1) + 9 * (kinds[:, None] != kinds)
    beside = np.abs(corners[:, None] - corners).max(-1) == 1
    return bool((beside & (apart < SAME_PLACE)).any())


def as_detected(things: Sequence[Thing], found: F32, grid: int) -> tuple[Thing, ...]:
    """The shapes of a picture as the tower takes them, which is all that the decoder can tell of: without those that
    it does not see, with those that it sees where none is, by the names that it is sure of.

    found: (G * G, FOUND) as the detector says it.
    """
    cells = [cell for ((cell, _),) in surer(things, sure_enough(found), grid)]
    crowds = Counter(cells)
    kept = [
        thing if crowds[cell] > 1 else renamed(thing, found[cell])
        for thing, cell in zip(things, cells, strict=True)
        if crowds[cell] > 1 or found[cell, 0] > UNSEEN
    ]
    near = {cell + row * grid + column for cell in cells for row in (-1, 0, 1) for column in (-1, 0, 1)}
    ghosts = [cell for cell in np.flatnonzero(found[:, 0] > -UNSEEN).tolist() if cell not in near]
    return (*kept, *(ghost(cell, found[cell], grid) for cell in ghosts))


def renamed(thing: Thing, said: F32) -> Thing:
    """A shape by the colour and kind that the detector says (FOUND,), each if it is sure of that."""
    _, colours, shapes, _ = np.split(said, np.cumsum(SAID)[:-1])
    names = [(COLOURS, colours, thing.colour), (SHAPES, shapes, thing.shape)]
    colour, shape = (all_of[logits.argmax()] if likely(logits) > SURE else name for all_of, logits, name in names)
    return replace(thing, colour=colour, shape=shape)


def likely(logits: F32) -> float:
    """The probability of the most likely of some."""
    return float(1 / np.exp(logits - logits.max()).sum())


def ghost(cell: int, said: F32, grid: int) -> Thing:
    """A shape that the detector says (FOUND,) is in a cell although there is none."""
    _, colours, shapes, (x, y, width, height) = np.split(said, np.cumsum(SAID)[:-1])
    row, column = divmod(cell, grid)
    at = (column + float(np.clip(x, 0.1, 0.9))) / grid, (row + float(np.clip(y, 0.1, 0.9))) / grid
    return Thing(COLOURS[colours.argmax()], SHAPES[shapes.argmax()], *at, float(2.0**width), float(2.0**height))


def believed(thing: Thing, grid: int, rng: Rng) -> Shares:
    """The cells that a shape's centre may be in, to a tower that cannot tell exactly, and how likely."""
    if rng.random() < 0.5:
        return seen(thing, grid)
    blur = rng.uniform(0.01, 0.07)
    across = [sides(place * grid + rng.normal(0, blur), blur, grid) for place in (thing.x, thing.y)]
    both = [(row * grid + column, a * b) for column, a in across[0] for row, b in across[1]]
    kept = [(cell, weight) for cell, weight in both if weight > 0.04]
    return [(cell, weight / sum(w for _, w in kept)) for cell, weight in kept]


def sides(place: float, blur: float, grid: int) -> Shares:
    """Of one axis, the cell of a place and the one beyond its nearer border."""
    place = min(max(place, 0.0), grid - 1e-6)
    cell = int(place)
    beyond, far = (cell - 1, place - cell) if place - cell < 0.5 else (cell + 1, cell + 1 - place)
    share = 0.5 * math.erfc(far / blur / math.sqrt(2)) if 0 <= beyond < grid else 0.0
    return [(cell, 1 - share), (beyond, share)]


def described(thing: Thing, rng: Rng | None = None) -> F32:
    """(CODE - 2,) colours, shapes, place and sides of a shape; with rng as a weak tower sees it, not quite sure."""
    colours, shapes = np.zeros(len(COLOURS)), np.zeros(len(SHAPES))
    colours[COLOURS.index(thing.colour)] = shapes[SHAPES.index(thing.shape)] = 1
    if rng is not None:
        for names in (colours, shapes):
            if rng.random() < 0.15:
                doubt = rng.uniform(0, 0.42)
                names *= 1 - doubt
                names[rng.integers(len(names))] += doubt
    waves = [f(math.pi * k * place) for place in (thing.x, thing.y) for k in (1, 2, 3, 4) for f in (math.sin, math.cos)]
    logs = [(math.log2(max(side, 0.01)) + 3) / 2 for side in (thing.width, thing.height)]
    return np.asarray([*colours, *shapes, 2 * thing.x - 1, 2 * thing.y - 1, *waves, *logs], np.float32)


def code(things: Sequence[Thing], weights: Weights, grid: int, rng: Rng | None = None) -> F32:
    """(grid * grid, CODE) of what is in each cell, given each shape's; with rng to a weak tower."""
    out = np.zeros((grid * grid, CODE), np.float32)
    for thing, cells in zip(things, weights, strict=True):
        about = described(thing, rng)
        for cell, weight in cells:
            out[cell, 1] += weight
            out[cell, 2:] += weight * about
    if rng is not None:
        for ghost in random_things(rng)[: int(rng.integers(0, 3))]:
            cell, weight = seen(ghost, grid)[0][0], rng.uniform(0, 0.35)
            out[cell, 1] += weight
            out[cell, 2:] += weight * described(ghost)
        out[:, 1:] += rng.normal(0, 0.04, (grid * grid, CODE - 1)) * np.minimum(out[:, 1:2], 1)
    out[:, 0] = 1 - np.minimum(out[:, 1], 1)
    return out


def chosen_cells(code: F32, rng: Rng, *, about: int) -> list[int]:
    """The cells with shapes in them, those so far about them and a few of the others: all that there is to read, in a
    fraction of the time.
    """
    grid = math.isqrt(len(code))
    near = cv2.dilate(code[:, 1].reshape(grid, grid), np.ones((2 * about + 1, 2 * about + 1), np.uint8))
    held = np.flatnonzero(near)
    return sorted({*held.tolist(), *rng.integers(0, len(code), int(rng.integers(2, 20))).tolist()})


def random_things(rng: Rng) -> tuple[Thing, ...]:
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
