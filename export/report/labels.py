"""Where names stand in a plot: beside their marks, over nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

LETTER_PX = 6.9  # no narrower than the letters of the usual fonts at 12 px, on average
LINE_PX = 15.0
_GAP_PX = 9.0

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that two boxes share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def outside(self, frame: "Box") -> float:
        """Return the area of this box beyond a frame."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)


@dataclass(frozen=True)
class Placed:
    """A label at its base line; `leads` where it is so far from its mark that a line has to join them."""

    x: float
    y: float
    anchor: Anchor
    box: Box
    leads: bool


def width(label: str) -> float:
    """Return the room that a label needs, in pixels."""
    return len(label) * LETTER_PX


def beside(
    points: Sequence[Point], labels: Sequence[str], frame: Box, lines: Sequence[Sequence[Point]]
) -> list[Placed]:
    """Place a label for each point: where it covers no mark, no other label, and little of any line."""
    marks = [_around(x, y, 7) for x, y in points]
    on_lines = [_around(x, y, 2) for line in lines for x, y in _along(line)]
    placed: dict[int, Placed] = {}
    # Those with the least room first: near the right edge, then from the top down.
    for index in sorted(range(len(points)), key=lambda index: (-points[index][0], points[index][1])):
        taken = [*(at.box for at in placed.values()), *(mark for other, mark in enumerate(marks) if other != index)]
        choices = _choices(points[index], width(labels[index]))
        placed[index] = min(choices, key=lambda choice: _cost(choice, taken, on_lines, frame))
    return [placed[index] for index in range(len(points))]


def spread(wanted: Sequence[float], *, top: float, bottom: float, gap: float = LINE_PX) -> list[float]:
    """Return heights near the wanted ones, at least a gap from each other, within top and bottom where they fit."""
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    gap = min(gap, (bottom - top) / max(1, len(wanted) - 1))
    heights = [min(max(wanted[index], top), bottom) for index in order]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    last = bottom
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], last)
        last = heights[index] - gap
    return [heights[order.index(index)] for index in range(len(wanted))]


def _choices(point: Point, length: float) -> list[Placed]:
    """Return the places of a label around its mark, the best first."""
    x, y = point
    near = [
        _label(x + _GAP_PX, y, "start", length), _label(x - _GAP_PX, y, "end", length),
        _label(x, y - LINE_PX, "middle", length), _label(x, y + LINE_PX, "middle", length),
    ]  # fmt: skip
    for step in (1, 2, 3, 4):
        for sign in (-1, 1):
            down = y + sign * step * LINE_PX
            near.append(_label(x + _GAP_PX, down, "start", length, leads=step > 1))
            near.append(_label(x - _GAP_PX, down, "end", length, leads=step > 1))
    return near


def _label(x: float, y: float, anchor: Anchor, length: float, *, leads: bool = False) -> Placed:
    left = {"start": x, "middle": x - length / 2, "end": x - length}[anchor]
    return Placed(x, y + 4, anchor, Box(left, y - LINE_PX / 2, left + length, y + LINE_PX / 2), leads)


def _cost(choice: Placed, taken: Sequence[Box], lines: Sequence[Box], frame: Box) -> float:
    """Return how bad a place is: text over text or beyond the frame is worst, over a line less, far away least."""
    covered = sum(choice.box.overlap(box) for box in taken) + choice.box.outside(frame)
    crossed = sum(choice.box.overlap(box) for box in lines)
    return 100 * covered + 10 * crossed + (50 if choice.leads else 0)


def _around(x: float, y: float, radius: float) -> Box:
    return Box(x - radius, y - radius, x + radius, y + radius)


def _along(line: Sequence[Point], step: float = 6) -> list[Point]:
    """Return points along a line of straight parts, some pixels apart."""
    points: list[Point] = []
    for (x0, y0), (x1, y1) in pairwise(line):
        n = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / step))
        points += [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(n + 1)]
    return points
