"""The order in which the lines of a page are read: blocks from top to bottom, columns from left to right.

A page is cut where white space runs through the whole of it: upright at a gutter between columns of text, else across
at the highest gap that is none between lines, and so on within what the cut leaves. Narrow columns are those of a
table: its rows stay whole.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_PARAGRAPH_GAP = 1.1  # of a line's height, which is that of its letters; between lines of a paragraph it is less
_GUTTER = 0.8  # of a line's height
_COLUMN_WIDTH = 8.0  # of a line's height: what is narrower holds figures or words, not sentences
_SAME_ROW = 0.5  # of a line's height
_MAX_DEPTH = 200


@dataclass(frozen=True)
class Line:
    """A run of text on one line; left < right, and top < bottom: y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float
    text: str


def in_order(lines: Sequence[Line]) -> str:
    """Return the text of a page: its lines in the order they are read, a blank line between blocks."""
    if not lines:
        return ""
    height = median(line.bottom - line.top for line in lines) or 1.0
    return "\n\n".join("\n".join(_rows(block, height)) for block in _blocks(lines, height, 0))


def _blocks(lines: Sequence[Line], height: float, depth: int) -> list[Sequence[Line]]:
    """Cut lines into blocks, in order."""
    if depth == _MAX_DEPTH or len(lines) < 2:
        return [lines]
    parts = _columns(lines, height)
    if len(parts) == 1:
        parts = _halves(lines, height)
    if len(parts) == 1:
        return [lines]
    return [block for part in parts for block in _blocks(part, height, depth + 1)]


def _columns(lines: Sequence[Line], height: float) -> list[list[Line]]:
    """Cut lines at every gutter, unless that would take a table's rows apart."""
    columns: list[list[Line]] = [[]]
    reached = -math.inf
    for line in sorted(lines, key=lambda line: line.left):
        if columns[-1] and line.left - reached >= _GUTTER * height:
            columns.append([])
        columns[-1].append(line)
        reached = max(reached, line.right)
    wide = all(median(line.right - line.left for line in column) >= _COLUMN_WIDTH * height for column in columns)
    if not wide or not all(map(_beside, columns, columns[1:])):
        return [list(lines)]
    return columns[::-1] if _is_leftward(lines) else columns


def _beside(one: Sequence[Line], other: Sequence[Line]) -> bool:
    """Return whether columns stand side by side: what is higher altogether is read first."""
    (top, bottom), (other_top, other_bottom) = (
        (min(line.top for line in column), max(line.bottom for line in column)) for column in (one, other)
    )
    return top < other_bottom and other_top < bottom


def _is_leftward(lines: Sequence[Line]) -> bool:
    """Return whether most letters belong to a script that is read from right to left."""
    ways = [unicodedata.bidirectional(c) for line in lines for c in line.text]
    return ways.count("R") + ways.count("AL") > ways.count("L")


def _halves(lines: Sequence[Line], height: float) -> list[list[Line]]:
    """Cut lines in two at the highest gap between them, the first of several, if any is one between paragraphs."""
    ordered = sorted(lines, key=lambda line: line.top)
    best, at, reached = _PARAGRAPH_GAP * height, 0, ordered[0].bottom
    for i, line in enumerate(ordered):
        if line.top - reached > best:
            best, at = line.top - reached, i
        reached = max(reached, line.bottom)
    return [ordered[:at], ordered[at:]] if at else [ordered]


def _rows(lines: Sequence[Line], height: float) -> list[str]:
    """Return the lines of a block, what stands on one line joined from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.top + line.bottom, line.left)):
        middle = line.top + line.bottom
        if rows and middle - (rows[-1][0].top + rows[-1][0].bottom) < 2 * _SAME_ROW * height:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [" ".join(line.text for line in _along(row)) for row in rows]


def _along(row: Sequence[Line]) -> list[Line]:
    return sorted(row, key=lambda line: line.left, reverse=_is_leftward(row))
