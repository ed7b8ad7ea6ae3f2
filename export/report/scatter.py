"""Size against loss: a mark for each bundle, and a line through those that no other beats."""

from collections.abc import Sequence
from dataclasses import dataclass

from export.report.axes import Mark, both, bottom_axis, label, left_axis, line, mark, path, picture
from export.report.labels import Box, beside
from export.report.markup import Markup, join
from export.report.numbers import megabytes, printed, tick
from export.report.scales import lossy, sized

_HEIGHTS = {"wide": 400.0, "narrow": 340.0}
_GB = 2e9  # from here on the axis counts gigabytes


@dataclass(frozen=True)
class Dot:
    """A bundle in the plot: its mark, its name, bytes, and mean divergence in nats."""

    mark: Mark
    label: str
    n_bytes: float
    kl: float


def draw(dots: Sequence[Dot], title: str) -> Markup:
    """Return the plot of one dot or more, for wide and for narrow pages."""
    return both(lambda width, size: _draw(dots, title, width, size))


def _draw(dots: Sequence[Dot], title: str, width: float, size: str) -> Markup:
    height = _HEIGHTS[size]
    box = Box(58, 30, width - 12, height - 48)
    across = sized([dot.n_bytes for dot in dots], box.left, box.right)
    up = lossy([dot.kl for dot in dots], box.bottom, box.top)
    unit, divisor = ("GB", 1e9) if max(dot.n_bytes for dot in dots) >= _GB else ("MB", 1e6)
    points = [(across.at(dot.n_bytes), up.at(dot.kl)) for dot in dots]
    leading = sorted(point for point, dot in zip(points, dots, strict=True) if dot.mark.leads)
    names = [dot.label if up.holds(dot.kl) else f"{dot.label} ↓ {printed(dot.kl, 2)}" for dot in dots]
    return picture(
        width,
        height,
        title,
        left_axis(up, box, "mean KL divergence, nats"),
        bottom_axis(across, box, f"size on disk, {unit}", lambda value: tick(value / divisor)),
        label("↙ smaller and closer is better", box.left + 8, box.bottom - 10, "hint"),
        path(leading, "frontier") if len(leading) > 1 else join(),
        *_marks(dots, points, names, box, [leading]),
        class_=size,
    )


def _marks(
    dots: Sequence[Dot],
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    box: Box,
    lines: Sequence[Sequence[tuple[float, float]]],
) -> list[Markup]:
    hint = [(box.left + x, box.bottom - 14) for x in range(0, 190, 6)]
    parts = []
    for dot, (x, y), name, at in zip(dots, points, names, beside(points, names, box, [*lines, hint]), strict=True):
        words = f"{dot.label}: {megabytes(dot.n_bytes)}, mean KL {printed(dot.kl)}"
        lead = line(x, y, at.x, at.y - 4, "leader") if at.leads else join()
        class_ = "name" if dot.mark.leads else "name faint"
        parts += [lead, mark(dot.mark, x, y, words), label(name, at.x, at.y, class_, at.anchor)]
    return parts
