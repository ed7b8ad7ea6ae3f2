"""The plot of edge bench: an SVG of its own, every figure in it."""

import re
from xml.etree import ElementTree

import pytest

from edge.commands.bench_plot import svg

FIGURES = {
    "model": "edge <7b>", "cpu": "Some & CPU", "threads": 4, "onnxruntime": "1.2.3", "load_s": 12.34,
    "seconds_per_tile": 1.25, "anonymous_bytes": 7_000_000_000, "mapped_bytes": 100_000_000,
    "decode_tokens_per_s_at": {"256": 41.25, "1024": 37.5, "4096": 24.1}, "prefill_tokens_per_s_at": {"256": 260.0},
}  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"


def texts(figures: dict[str, object]) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg(figures)).iter(f"{SVG}text")]


def test_every_figure_is_written() -> None:
    shown = texts(FIGURES)
    assert {"41.2", "37.5", "24.1", "260", "256", "1024", "4096"} <= set(shown)
    assert "edge <7b> on Some & CPU, 4 threads" in shown
    assert any("load 12.3 s, 1.25 s per image tile, 7000 MB anonymous" in line for line in shown)


def test_slower_points_are_lower_and_longer_contexts_further_right() -> None:
    circles = list(ElementTree.fromstring(svg(FIGURES)).iter(f"{SVG}circle"))[:3]
    across, down = ([float(circle.get(key, "nan")) for circle in circles] for key in ("cx", "cy"))
    assert across == sorted(across) and len(set(across)) == 3
    assert down == sorted(down) and len(set(down)) == 3


def test_everything_is_inside_the_picture() -> None:
    drawn = svg(FIGURES)
    assert all(0 <= float(x) <= 760 for x in re.findall(r'\b(?:cx|x)="([^"]+)"', drawn))
    assert all(0 <= float(y) <= 420 for y in re.findall(r'\b(?:cy|y)="([^"]+)"', drawn))


@pytest.mark.parametrize("curve", [{}, None])
def test_curve_without_points_is_said(curve: object) -> None:
    shown = texts({**FIGURES, "decode_tokens_per_s_at": curve, "seconds_per_tile": None})
    assert "not measured" in shown
    assert not any("image tile" in line for line in shown)


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert re.findall(r"https?://[^\"]+", svg(FIGURES)) == ["http://www.w3.org/2000/svg"]
