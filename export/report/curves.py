"""The divergence at every position, sorted: a curve for each bundle, drawn out towards the worst positions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from export.report.axes import NARROW, WIDE, Mark, bottom_axis, label, left_axis, line, mark, path, picture
from export.report.labels import LETTER_PX, LINE_PX, Box, spread
from export.report.markup import Markup, element, join, text
from export.report.numbers import percent, printed
from export.report.scales import Scale, lossy

QUANTILES = (0.5, 0.9, 0.99, 0.999)

_N_POINTS = 96
_HEIGHTS = {"wide": 380.0, "narrow": 300.0, "panel": 280.0}


@dataclass(frozen=True)
class Curve:
    """A bundle's divergences in nats, ascending, at least one; its mark and its name."""

    mark: Mark
    label: str
    kl: Sequence[float]


def draw(curves: Sequence[Curve], title: str) -> Markup:
    """Return one plot of all curves, for wide and for narrow pages."""
    scale = [value for curve in curves for value in (quantile(curve.kl, 0.5), curve.kl[-1])]
    return join(_draw(curves, scale, title, WIDE, "wide"), _draw(curves, scale, title, NARROW, "narrow"))


def panels(sets: Sequence[tuple[str, Sequence[Curve]]], title: str) -> Markup:
    """Return a plot for each set of positions, all with the same axis."""
    every = [curve for _, curves in sets for curve in curves]
    scale = [value for curve in every for value in (quantile(curve.kl, 0.5), curve.kl[-1])]
    return element("div", *(
        element(
            "div", element("h3", text(name)), _draw(curves, scale, f"{title}: {name}", NARROW, "panel"), class_="panel"
        )
        for name, curves in sets
    ), class_="panels")  # fmt: skip


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value that a share of the positions does not exceed, between two of them in proportion."""
    place = share * (len(ascending) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


def _draw(curves: Sequence[Curve], values: Sequence[float], title: str, width: float, size: str) -> Markup:
    height = _HEIGHTS[size]
    room = max(len(curve.label) for curve in curves) * LETTER_PX + 26 if size == "wide" else 14
    box = Box(58, 30, width - room, height - 48)
    across = _shares(max(len(curve.kl) for curve in curves), box)
    up = lossy(values, box.bottom, box.top)
    return picture(
        width,
        height,
        title,
        left_axis(up, box, "KL divergence, nats"),
        bottom_axis(across, box, "share of positions with less", _share),
        *(_curve(curve, across, up) for curve in curves),
        *(_names(curves, up, box) if size == "wide" else ()),
        class_=size if size != "panel" else None,
    )


def _shares(n_positions: int, box: Box) -> Scale:
    """Return the axis of shares q at -log10(1 - q): as much room for 90 to 99 % as for 99 to 99.9 %."""
    end = max(1.3, math.log10(n_positions))
    ticks = tuple(tick for share in QUANTILES if (tick := -math.log10(1 - share)) <= end)
    return Scale(0.0, end, box.left, box.right, ticks)


def _share(tick: float) -> str:
    return f"{100 * (1 - 10**-tick):.4g} %"


def _curve(curve: Curve, across: Scale, up: Scale) -> Markup:
    end = math.log10(max(2, len(curve.kl)))
    places = [end * step / _N_POINTS for step in range(_N_POINTS + 1)]
    points = [(across.at(place), up.at(quantile(curve.kl, 1 - 10**-place))) for place in places]
    marks = []
    for share in QUANTILES:
        place = -math.log10(1 - share)
        if place <= end:
            value = quantile(curve.kl, share)
            words = f"{curve.label}: {percent(share)} of the positions below {printed(value)}"
            marks.append(mark(curve.mark, across.at(place), up.at(value), words, radius=4))
    return join(path(points, "curve leads" if curve.mark.leads else "curve"), *marks)


def _names(curves: Sequence[Curve], up: Scale, box: Box) -> list[Markup]:
    """Return the curves' names at their ends, moved apart where they would touch."""
    ends = [up.at(curve.kl[-1]) for curve in curves]
    heights = spread(ends, top=box.top, bottom=box.bottom, gap=LINE_PX)
    parts = []
    for curve, end, height in zip(curves, ends, heights, strict=True):
        if abs(end - height) > 2:
            parts.append(line(box.right + 2, end, box.right + 14, height, "leader"))
        class_ = "name" if curve.mark.leads else "name faint"
        parts.append(label(curve.label, box.right + 18, height + 4, class_))
    return parts
