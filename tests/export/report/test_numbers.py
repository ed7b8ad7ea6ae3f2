"""Figures as text."""

from __future__ import annotations

import pytest

from export.report import numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0415, "0.0415"), (0.04, "0.0400"), (1.5, "1.50"), (23.16, "23.2"), (576, "576"), (2785.4, "2785"),
     (0.00043, "4.30e-4"), (3.7e-13, "3.70e-13"), (0.001, "0.00100")],
)  # fmt: skip
def test_three_significant_digits(value: float, shown: str) -> None:
    assert numbers.significant(value) == shown


def test_powers_of_ten_are_raised_in_print() -> None:
    assert numbers.printed(3.7e-13) == "3.70×10⁻¹³"
    assert numbers.raised("4.36e-4 and 1e3") == "4.36×10⁻⁴ and 1×10³"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.05, "0.05"), (0.0002, "0.0002"), (1e-5, "10⁻⁵"), (2e-5, "2×10⁻⁵"), (150, "150"), (2.5, "2.5"),
     (1000, "1000"), (2e6, "2×10⁶")],
)  # fmt: skip
def test_ticks_have_no_digits_to_spare(value: float, shown: str) -> None:
    assert numbers.tick(value) == shown


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(110_600_000, "110.6 MB"), (1_880_000, "1.88 MB"), (4_500_000_000, "4.50 GB"), (52_000, "52 kB")],
)
def test_sizes_count_powers_of_ten(n_bytes: int, shown: str) -> None:
    assert numbers.megabytes(n_bytes) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(1, "100 %"), (0.99999, "99.99 %"), (0.9996, "99.96 %"), (0.9642, "96.4 %"), (0, "0.0 %")]
)
def test_only_the_whole_reads_100(share: float, shown: str) -> None:
    assert numbers.percent(share) == shown
