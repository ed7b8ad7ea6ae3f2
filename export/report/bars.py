"""Bars from zero: one figure of every bundle, or the parts that a bundle's bytes consist of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from export.report.axes import NARROW, WIDE, Mark, label, mark, picture
from export.report.labels import LETTER_PX
from export.report.markup import Markup, element, join, text
from export.report.numbers import megabytes

_ROW_PX = 44.0
_BAR_PX = 12.0


@dataclass(frozen=True)
class Bar:
    """One bundle's figure, None where it was not measured."""

    mark: Mark
    label: str
    value: float | None


@dataclass(frozen=True)
class Stack:
    """One bundle's bytes by part, in the order of the parts' shades."""

    mark: Mark
    label: str
    parts: Sequence[tuple[str, int]]


def panel(bars: Sequence[Bar], title: str, shown: Callable[[float], str]) -> Markup:
    """Return the bars of one figure, as wide as half a page."""
    known = [bar.value for bar in bars if bar.value is not None]
    longest = max(known) or 1.0
    room = NARROW - 12 - max(len(shown(value)) for value in known) * LETTER_PX
    parts = []
    for row, bar in enumerate(bars):
        y = row * _ROW_PX
        parts.append(_name(bar.mark, bar.label, y))
        if bar.value is None:
            parts.append(label("not measured", 0, y + 33, "faint"))
            continue
        length = max(1.0, room * bar.value / longest)
        class_ = "bar leads" if bar.mark.leads else "bar"
        parts.append(element("rect", x=0, y=y + 23, width=length, height=_BAR_PX, class_=class_))
        parts.append(label(shown(bar.value), length + 7, y + 33, "value"))
    return picture(NARROW, len(bars) * _ROW_PX, title, *parts)


def stacks(rows: Sequence[Stack], title: str) -> Markup:
    """Return what each bundle's bytes are, for wide and for narrow pages."""
    return join(_stacks(rows, title, WIDE, "wide"), _stacks(rows, title, NARROW, "narrow"))


def _stacks(rows: Sequence[Stack], title: str, width: float, size: str) -> Markup:
    longest = max(sum(n_bytes for _, n_bytes in row.parts) for row in rows) or 1
    parts = []
    for number, row in enumerate(rows):
        x, y = 0.0, number * _ROW_PX
        parts.append(_name(row.mark, row.label, y))
        total = megabytes(sum(n_bytes for _, n_bytes in row.parts))
        parts.append(label(total, width, y + 14, "value", "end"))
        for shade, (name, n_bytes) in enumerate(row.parts):
            length = width * n_bytes / longest
            inside = element("title", text(f"{row.label}, {name}: {megabytes(n_bytes)}"))
            if length >= 0.5:
                drawn = max(0.5, length - 1)
                parts.append(
                    element("rect", inside, x=x, y=y + 22, width=drawn, height=_BAR_PX + 2, class_=f"part p{shade}")
                )
            x += length
    return picture(width, len(rows) * _ROW_PX, title, *parts, class_=size)


def _name(at: Mark, name: str, y: float) -> Markup:
    return join(mark(at, 7, y + 10), label(name, 20, y + 14, "name"))
