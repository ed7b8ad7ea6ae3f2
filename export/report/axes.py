"""The frame of a plot: its picture element, axes with ticks and units, and the marks of bundles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from export.report.labels import LETTER_PX, Box
from export.report.markup import Markup, element, join, px, text
from export.report.numbers import tick as round_number
from export.report.scales import Scale

WIDE: Final = 880  # pixels: what a desktop shows
NARROW: Final = 350  # what a phone shows, and one of several panels

_TICK_PX = 5
_N_SHAPES = 6


@dataclass(frozen=True)
class Mark:
    """How a bundle, or a set of positions, is drawn: a shape by its number, in the accent colour where it leads."""

    number: int
    leads: bool


def picture(width: float, height: float, label: str, *children: Markup, class_: str | None = None) -> Markup:
    """Return an SVG that a screen reader calls by its label."""
    return element(
        "svg", *children, viewBox=f"0 0 {px(width)} {px(height)}", width=width, height=height, role="img",
        aria_label=label, class_=class_,
    )  # fmt: skip


def both(draw: Callable[[float, str], Markup]) -> Markup:
    """Return a plot twice: for a wide page and for a narrow one; the style sheet shows either."""
    return join(draw(WIDE, "wide"), draw(NARROW, "narrow"))


def label(content: str, x: float, y: float, class_: str, anchor: str = "start") -> Markup:
    """Return a line of text; anchor: start, middle or end at x."""
    return element("text", text(content), x=x, y=y, class_=class_, text_anchor=None if anchor == "start" else anchor)


def line(x0: float, y0: float, x1: float, y1: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x0, y1=y0, x2=x1, y2=y1, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    steps = " ".join(f"{'L' if index else 'M'}{px(x)} {px(y)}" for index, (x, y) in enumerate(points))
    return element("path", d=steps, class_=class_)


def bottom_axis(scale: Scale, box: Box, title: str, shown: Callable[[float], str] = round_number) -> Markup:
    """Return the axis below a plot: ticks with as many labels as fit, its title below them to the right."""
    parts = [line(box.left, box.bottom, box.right, box.bottom, "axis")]
    free_from = float("-inf")
    for tick in scale.ticks:
        x, words = scale.at(tick), shown(tick)
        parts.append(line(x, box.bottom, x, box.bottom + _TICK_PX, "axis"))
        half = len(words) * LETTER_PX / 2
        if x - half >= free_from:
            parts.append(label(words, x, box.bottom + 19, "tick", "middle"))
            free_from = x + half + 6
    return join(*parts, label(title, box.right, box.bottom + 38, "axis-title", "end"))


def left_axis(scale: Scale, box: Box, title: str, shown: Callable[[float], str] = round_number) -> Markup:
    """Return the axis beside a plot: a faint line and a label at each tick, its title above."""
    parts = []
    for tick in scale.ticks:
        y = scale.at(tick)
        parts.append(line(box.left, y, box.right, y, "grid"))
        parts.append(label(shown(tick), box.left - 8, y + 4, "tick", "end"))
    return join(*parts, label(title, 0, 13, "axis-title"))


def mark(at: Mark, x: float, y: float, title: str | None = None, *, radius: float = 5.5) -> Markup:
    """Return the shape of a bundle at a place; its title appears under a pointer."""
    shape, hollow = at.number % _N_SHAPES, at.number // _N_SHAPES % 2
    class_ = " ".join(["mark", *(["leads"] if at.leads else []), *(["hollow"] if hollow else [])])
    inside = () if title is None else (element("title", text(title)),)
    if shape == 0:
        return element("circle", *inside, cx=x, cy=y, r=radius, class_=class_)
    return element("path", *inside, d=_outline(shape, x, y, radius), class_=class_)


def _outline(shape: int, x: float, y: float, radius: float) -> str:
    """Return the corners of a square, diamond, triangle up, triangle down or cross bar, of about equal areas."""
    r = radius
    corners: list[tuple[float, float]] = [
        [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        [(0, -1.25), (1.2, 0.9), (-1.2, 0.9)],
        [(0, 1.25), (1.2, -0.9), (-1.2, -0.9)],
        [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2),
         (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)],
    ][shape - 1]  # fmt: skip
    return "M" + "L".join(f"{px(x + dx * r)} {px(y + dy * r)}" for dx, dy in corners) + "Z"
