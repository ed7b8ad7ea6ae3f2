"""From values to pixels: linear and logarithmic axes, and the round numbers at their ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_DECADES: Final = 5

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` at the pixel `start` to `high` at `end`; what is outside is drawn at its edge."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self._on(self.low), self._on(self.high)
        share = (self._on(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether a value is on the axis and not beyond its ends."""
        return self.low <= value <= self.high

    def _on(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def linear(low: float, high: float, start: float, end: float, *, n_ticks: int = 5) -> Scale:
    """Return a scale whose ends are ticks of round numbers around low and high."""
    if high <= low:
        low, high = min(0.0, low), (2 * low if low > 0 else low + 1)
    step = _step((high - low) / n_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Return a scale from the round number below low to the one above high, both above 0."""
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2.5 else (1,)
    rounds = _rounds(low, high, steps)
    below = max((value for value in rounds if value <= low * (1 + 1e-9)), default=low)
    above = min((value for value in rounds if value >= high * (1 - 1e-9)), default=high)
    if below == above:
        above = min(value for value in rounds if value > below)
    return Scale(below, above, start, end, tuple(value for value in rounds if below <= value <= above), is_log=True)


def sized(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale for sizes: logarithmic where the largest is three times the smallest or more."""
    low, high = min(values), max(values)
    margin = 0.08
    if low > 0 and high / low >= 3:
        low, high = low * (1 - margin), high * (1 + margin)
        steps = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 5, 7)
        ticks = tuple(value for value in _rounds(low, high, steps) if low <= value <= high)
        return Scale(low, high, start, end, ticks, is_log=True)
    spread = (high - low) or high or 1
    return linear(max(0, low - margin * spread), high + margin * spread, start, end)


def lossy(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a logarithmic scale for divergences, over those within MOST_DECADES below the largest.

    The others are as good as none, and are drawn at its edge.
    """
    high = max(values)
    if high <= 0:
        return Scale(1e-6, 1, start, end, (1e-6, 1e-4, 1e-2, 1.0), is_log=True)
    low = min(value for value in values if value >= high / 10**MOST_DECADES)
    return logarithmic(low * 0.9, high * 1.1, start, end)


def _rounds(low: float, high: float, steps: Sequence[float]) -> list[float]:
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    # Written and read again: 3 * 1e-5 is not 3e-5, and ticks are printed.
    return [float(f"{step}e{exponent}") for exponent in range(first, last + 1) for step in steps]


def _step(rough: float) -> float:
    """Return the round number at or above a rough step."""
    exponent = math.floor(math.log10(rough))
    return next(float(f"{step}e{exponent}") for step in _STEPS if float(f"{step}e{exponent}") >= rough * (1 - 1e-9))
