"""The error of every tensor: a strip of cells for each kind, layer after layer, with the scheme in each cell."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from export.report.axes import NARROW, WIDE, label, picture
from export.report.labels import LETTER_PX
from export.report.markup import Markup, element, join, text
from export.report.numbers import printed
from export.report.tensors import Cell, Grid

N_SHADES: Final = 6  # of the style sheet, beside the one for no error

_ALIKE = 1.25  # ratio of errors that need no two shades
_GAP = 1.5  # ratio between neighbours that belong to different schemes
_CELL_PX = 17.0  # no narrower: a mark has two letters
_WIDEST_PX = 26.0
_ROW_PX = 20.0
_GAP_PX = 1.0


@dataclass(frozen=True)
class Shade:
    """A run of errors that have one colour: the smallest and the largest that occur."""

    low: float
    high: float


def shades(errors: Sequence[float]) -> tuple[Shade, ...]:
    """Return runs of errors, ascending, none for 0: cut at the gaps between schemes first, then in equal ratios."""
    runs = [sorted(error for error in errors if error > 0)]
    if not runs[0]:
        return ()
    while len(runs) < N_SHADES:
        widest = max(runs, key=lambda run: run[-1] / run[0])
        if widest[-1] / widest[0] < _ALIKE:
            break
        at, cut = runs.index(widest), _cut(widest)
        runs[at : at + 1] = [widest[:cut], widest[cut:]]
    return tuple(Shade(run[0], run[-1]) for run in runs)


def shade(error: float, known: Sequence[Shade]) -> int:
    """Return the number of an error's shade: 0 for none, 1 for the faintest."""
    return 0 if error <= 0 else max(1, sum(each.low <= error for each in known))


def _cut(run: Sequence[float]) -> int:
    """Return where to cut ascending numbers: at their widest gap, or in the middle where none is wide."""
    gap, place = max((after / before, place) for place, (before, after) in enumerate(pairwise(run), 1))
    return place if gap >= _GAP else bisect_left(run, math.sqrt(run[0] * run[-1]))


def strips(grid: Grid, known: Sequence[Shade], marks: Mapping[str, str], title: str) -> Markup:
    """Return the cells of a tower, for wide and for narrow pages; strips that are too long go on below."""
    return join(
        _strips(grid, known, marks, title, WIDE, "wide"), _strips(grid, known, marks, title, NARROW, "narrow")
    )  # fmt: skip


def chip(name: str, cell: Cell, known: Sequence[Shade], marks: Mapping[str, str]) -> Markup:
    """Return one tensor that is in no layer: its cell and its name."""
    inside = element("b", text(_mark(cell, marks)), class_=f"h{shade(cell.error, known)}")
    return element("li", inside, text(f" {name} "), element("small", text(printed(cell.error))))


def _strips(
    grid: Grid, known: Sequence[Shade], marks: Mapping[str, str], title: str, width: float, size: str
) -> Markup:
    left = min(max(len(row) for row in grid.rows) * LETTER_PX + 12, width * 0.4)
    room = width - left - 2
    n_across = min(len(grid.columns), int(room // _CELL_PX))
    cell_px = min(_WIDEST_PX, math.floor(room / n_across))
    band_px = len(grid.rows) * _ROW_PX + 26
    parts = []
    n_bands = -(-len(grid.columns) // n_across)
    for band in range(n_bands):
        columns = range(band * n_across, min((band + 1) * n_across, len(grid.columns)))
        parts.append(_band(grid, columns, known, marks, left, cell_px, band * band_px))
    return picture(width, n_bands * band_px + 2, title, *parts, class_=size)


def _band(
    grid: Grid,
    columns: range,
    known: Sequence[Shade],
    marks: Mapping[str, str],
    left: float,
    cell_px: float,
    top: float,
) -> Markup:
    parts = []
    for row, kind in enumerate(grid.rows):
        y = top + row * _ROW_PX
        parts.append(label(kind, left - 8, y + 14, "row", "end"))
        for column in columns:
            cell = grid.cells.get((row, column))
            if cell is not None:
                x = left + (column - columns.start) * cell_px
                parts.append(_cell(cell, grid, row, column, known, marks, x, y, cell_px))
    every = _every(grid, cell_px)
    below = top + len(grid.rows) * _ROW_PX + 13
    for column in columns:
        if column % every == 0:
            x = left + (column - columns.start + 0.5) * cell_px
            parts.append(label(grid.columns[column], x, below, "tick", "middle"))
    return join(*parts, label(grid.by, left - 8, below, "tick", "end"))


def _cell(
    cell: Cell, grid: Grid, row: int, column: int, known: Sequence[Shade], marks: Mapping[str, str],
    x: float, y: float, cell_px: float,
) -> Markup:  # fmt: skip
    level = shade(cell.error, known)
    where = f"{grid.tower} {grid.by} {grid.columns[column]} {grid.rows[row]}"
    many = f", the largest of {cell.n}" if cell.n > 1 else ""
    words = f"{where}: {' and '.join(cell.schemes)}, error {printed(cell.error)}{many}"
    return element(
        "g",
        element("title", text(words)),
        element("rect", x=x, y=y, width=cell_px - _GAP_PX, height=_ROW_PX - _GAP_PX, class_=f"h{level}"),
        label(_mark(cell, marks), x + (cell_px - _GAP_PX) / 2, y + 13, f"in t{level}", "middle"),
    )


def _mark(cell: Cell, marks: Mapping[str, str]) -> str:
    return marks[cell.schemes[0]] if len(cell.schemes) == 1 else "≠"


def _every(grid: Grid, cell_px: float) -> int:
    """Return how many columns share one label: 1, 2, 4, 8, so that labels do not touch."""
    needed = max(len(name) for name in grid.columns) * LETTER_PX + 4
    return next(every for every in (1, 2, 4, 8, 16, 32) if every * cell_px >= needed or every == 32)
