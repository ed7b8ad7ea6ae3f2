"""Lines and bars as SVG without outside resources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 760
HEIGHT: Final = 380
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
BAR: Final = 22
COLOURS: Final = ("#0b62a4", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0e7490")

Line = Sequence[tuple[float, float]]


def lines(curves: Mapping[str, Line], *, title: str, x_title: str, y_title: str) -> str:
    """Curves over a logarithmic x axis, each with its name at its end; y begins at 0."""
    points = [point for curve in curves.values() for point in curve]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    top = _rounded_up(max(y for _, y in points))
    span = math.log(last / first) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + math.log(x / first) / span * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1)

    parts = [*_head(title, HEIGHT)]
    for share in range(5):
        value = top * share / 4
        _, y = at(first, value)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:g}", anchor="end"))
    for x_value in sorted({x for x, _ in points}):
        x, _ = at(x_value, 0)
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{x_value:g}", anchor="middle"))
    parts.append(_text((WIDTH - RIGHT + LEFT) / 2, HEIGHT - 12, x_title, anchor="middle"))
    parts.append(
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>'
    )
    taken: list[float] = []
    for number, (name, curve) in enumerate(curves.items()):
        colour, places = COLOURS[number % len(COLOURS)], [at(x, y) for x, y in curve]
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
        y = places[-1][1] + 4
        while any(abs(y - other) < 14 for other in taken):
            y += 14
        taken.append(y)
        parts.append(_text(places[-1][0] + 10, y, name, colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def bars(values: Mapping[str, float], *, title: str, unit: str) -> str:
    """Horizontal bars from 0, the value behind each."""
    height = TOP + BAR * len(values) + 20
    largest = max(values.values()) or 1.0
    parts = [*_head(title, height)]
    for number, (name, value) in enumerate(values.items()):
        y = TOP + BAR * number
        width = round(value / largest * (WIDTH - 2 * RIGHT - 70), 1)
        colour = COLOURS[0] if name.startswith("edge") else COLOURS[1]
        parts.append(_text(RIGHT - 8, y + 14, name, anchor="end"))
        parts.append(f'<rect x="{RIGHT}" y="{y + 2}" width="{width}" height="{BAR - 6}" fill="{colour}"/>')
        parts.append(
            _text(RIGHT + width + 6, y + 14, f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}")
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(title: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _rounded_up(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return next(factor * step for factor in (1, 2, 4, 6, 8, 10) if factor * step >= value)
