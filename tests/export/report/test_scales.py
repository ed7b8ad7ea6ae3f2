"""Axes: values to pixels, and round numbers at the ticks."""

from __future__ import annotations

import math

import pytest

from export.report.scales import MOST_DECADES, linear, logarithmic, lossy, sized


def test_the_ends_of_an_axis_are_its_pixels() -> None:
    for scale in (linear(3, 97, 10, 210), logarithmic(0.003, 4, 210, 10)):
        assert scale.at(scale.low) == pytest.approx(scale.start)
        assert scale.at(scale.high) == pytest.approx(scale.end)
        assert scale.at(scale.high * 10) == pytest.approx(scale.end)


def test_a_logarithmic_axis_gives_every_decade_the_same_room() -> None:
    scale = logarithmic(0.001, 10, 0, 400)
    assert [round(scale.at(tick)) for tick in scale.ticks] == [0, 100, 200, 300, 400]


@pytest.mark.parametrize(("low", "high"), [(0.004, 0.7), (1e-9, 3e-9), (0.1, 0.1), (5e-5, 2), (0.0048, 0.0415)])
def test_ticks_are_round_and_around_the_values(low: float, high: float) -> None:
    scale = logarithmic(low, high, 0, 100)
    assert scale.low <= low * (1 + 1e-9) and scale.high >= high * (1 - 1e-9) and scale.low < scale.high
    assert len(scale.ticks) >= 2
    assert all(f"{tick:e}"[0] in "125" and set(f"{tick:e}"[2:8]) == {"0"} for tick in scale.ticks)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (91.7, 168.1), (0.3, 0.31), (5, 5), (0, 0)])
def test_linear_ticks_are_evenly_apart(low: float, high: float) -> None:
    scale = linear(low, high, 0, 100)
    steps = [after - before for before, after in zip(scale.ticks, scale.ticks[1:], strict=False)]
    assert scale.low <= low and scale.high >= high and 3 <= len(scale.ticks) <= 9
    assert all(math.isclose(step, steps[0]) for step in steps)


def test_sizes_far_apart_have_a_logarithmic_axis() -> None:
    assert sized([100, 120, 168], 0, 1).is_log is False
    wide = sized([105, 655], 0, 1)
    assert wide.is_log and len(wide.ticks) >= 3 and wide.holds(105) and wide.holds(655)
    assert sized([100], 0, 1).holds(100)


def test_what_is_as_good_as_exact_does_not_stretch_the_axis() -> None:
    scale = lossy([2e-13, 0.005, 0.6], 0, 100)
    assert scale.low >= 0.6 / 10 ** (MOST_DECADES + 1) and not scale.holds(2e-13)
    assert scale.at(2e-13) == scale.at(0) == 0
    assert lossy([0.0, 0.0], 0, 100).at(0.0) == 0
