"""A plot of points on a linear and a logarithmic axis, a curve for each side, as SVG without outside resources."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
HEIGHT: Final = 460
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 30, 60
COLOURS: Final = ("#0b62a4", "#c2410c", "#15803d", "#7e22ce")
Placing = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """A named point of one side's curve; y is greater than 0."""

    name: str
    side: str
    x: float
    y: float


def svg(points: Sequence[Point], *, x_title: str, y_title: str) -> str:
    """The plot; each side's points are joined in the order of x."""
    low, high = (step * 25 for step in (min(p.x for p in points) // 25, max(p.x for p in points) // 25 + 1))
    first, last = math.floor(math.log10(min(p.y for p in points))), math.ceil(math.log10(max(p.y for p in points)))
    last = max(last, first + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        up = (math.log10(y) - first) / (last - first) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(y_title)} against {escape(x_title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for exponent in range(first, last + 1):
        _, y = at(low, 10.0**exponent)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ccc"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#333">{10.0**exponent:g}</text>')
    for x_value in range(int(low), int(high) + 1, 25):
        x, bottom = at(x_value, 10.0**first)
        parts.append(f'<path d="M{x} {TOP}V{bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle" fill="#333">{x_value}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle" fill="#111">{escape(x_title)}</text>')
    parts.append(
        f'<text transform="translate(20 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#111">'
        f"{escape(y_title)}</text>"
    )
    for number, side in enumerate(dict.fromkeys(point.side for point in points)):
        curve = sorted((p for p in points if p.side == side), key=lambda p: p.x)
        parts += _curve(curve, at, COLOURS[number % 4], below=number % 2 == 0)
        parts.append(
            f'<text x="{WIDTH - RIGHT - 6}" y="{TOP + 16 + 18 * number}" text-anchor="end" '
            f'fill="{COLOURS[number % 4]}" font-weight="bold">{escape(side)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(points: Sequence[Point], at: Placing, colour: str, *, below: bool) -> list[str]:
    """A side's line, its dots and their names: below to the left, or above to the right, for points that coincide."""
    places = [at(point.x, point.y) for point in points]
    line = "M" + "L".join(f"{x} {y}" for x, y in places)
    parts = [f'<path d="{line}" fill="none" stroke="{colour}" stroke-opacity="0.5" stroke-width="1.5"/>']
    for point, (x, y) in zip(points, places, strict=True):
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        place = f'x="{x - 7}" y="{y + 14}" text-anchor="end"' if below else f'x="{x + 7}" y="{y - 6}"'
        parts.append(f'<text {place} fill="{colour}">{escape(point.name)}</text>')
    return parts
