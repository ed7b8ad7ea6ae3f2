"""Tensors in grids: the decoder by layers, towers by stages, and shades of their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bundle.manifest import TensorRecord
from export.report import heat, subject
from export.report.heat import N_SHADES, shade, shades
from export.report.tensors import MAX_COLUMNS, arrange, marks
from tests.export.report import made


def records(*names: str, scheme: str = "int8", error: float = 0.25) -> dict[str, TensorRecord]:
    return {name: TensorRecord(scheme, error) for name in names}  # type: ignore[arg-type]


def test_the_decoder_is_shown_layer_by_layer(tmp_path: Path) -> None:
    (found,) = subject.read([made.bundle(tmp_path, "a", scheme=lambda layer, kind: "int8" if layer > 23 else "int4")])
    layout = arrange(found.manifest.recipe.tensors)
    (grid,) = layout.grids
    assert (grid.tower, grid.rows, grid.by, len(grid.columns)) == ("decoder", made.KINDS, "layer", 32)
    assert len(grid.cells) == 128
    assert grid.cells[3, 0].error == pytest.approx(0.1 * 1.3 * 1.5) and grid.cells[0, 31].schemes == ("int8",)
    assert [name for name, _ in layout.singles] == ["decoder.embed", "decoder.head"] and layout.n_left_out == 0


def test_a_convolutional_tower_is_shown_by_its_stages() -> None:
    tensors = records("vision.stages.2.blocks.0.pwconv1", "vision.stages.0.blocks.0.pwconv2") | records(
        "vision.stages.2.blocks.8.pwconv1", scheme="int4", error=0.5
    )
    (grid,) = arrange(tensors).grids
    assert (grid.rows, grid.columns, grid.by) == (("pwconv1", "pwconv2"), ("0", "1", "2"), "stage")
    cell = grid.cells[0, 2]
    assert (cell.error, set(cell.schemes), cell.n) == (0.5, {"int8", "int4"}, 2)


def test_a_tower_of_layers_is_shown_in_stages_of_them() -> None:
    (grid,) = arrange(records(*(f"vision.layers.{layer}.fc1" for layer in range(27)))).grids
    assert grid.columns == ("0–6", "7–13", "14–20", "21–26")
    assert [grid.cells[0, column].n for column in range(4)] == [7, 7, 7, 6]


def test_both_halves_of_a_speech_bundle_are_shown_layer_by_layer() -> None:
    names = [f"{half}.layers.{layer}.{kind}" for half in ("encoder", "decoder") for layer in range(12)
             for kind in ("fc1", "self_attn.q_proj")]  # fmt: skip
    grids = arrange(records(*names)).grids
    assert [(grid.tower, len(grid.columns), grid.rows) for grid in grids] == [
        ("decoder", 12, ("self_attn.q_proj", "fc1")),
        ("encoder", 12, ("self_attn.q_proj", "fc1")),
    ]


def test_names_without_end_are_counted_not_drawn() -> None:
    layers = records(*(f"decoder.layers.{layer}.qkv" for layer in range(MAX_COLUMNS + 10)))
    layout = arrange({**layers, **records(*(f"odd {index}" for index in range(100)))})
    assert len(layout.grids[0].columns) == MAX_COLUMNS and len(layout.singles) == 24
    assert layout.n_left_out == 10 + 76


def test_marks_tell_schemes_of_the_same_bits_apart() -> None:
    assert marks(["int4", "int8", "fp32", "int4"]) == {"fp32": "32", "int8": "8", "int4": "4"}
    assert marks(["int4-block32-zp", "int4", "int8-block32"]) == {
        "int8-block32": "8",
        "int4": "4a",
        "int4-block32-zp": "4b",
    }
    assert marks(["odd"]) == {"odd": "?"}


def test_shades_are_cut_between_schemes_first() -> None:
    errors = [0.006, 0.0061, 0.0062, 0.1, 0.11, 0.0]
    assert [(each.low, each.high) for each in shades(errors)] == [(0.006, 0.0062), (0.1, 0.11)]
    many = [0.005 + 0.0001 * step for step in range(40)] + [0.08 + 0.001 * step for step in range(120)]
    found = shades(many)
    assert len(found) == N_SHADES and all(one.high < other.low for one, other in zip(found, found[1:], strict=False))
    assert any(one.high < 0.01 and other.low >= 0.08 for one, other in zip(found, found[1:], strict=False))


def test_every_error_has_a_shade() -> None:
    found = shades([0.0, 0.01, 0.2])
    assert [shade(error, found) for error in (0.0, 0.01, 0.2)] == [0, 1, len(found)]
    assert shades([0.0, 0.0]) == () and shade(0.0, ()) == 0
    assert [(each.low, each.high) for each in shades([0.3] * 5)] == [(0.3, 0.3)]


@pytest.mark.parametrize(("width", "n_bands"), [(880, 1), (350, 2)])
def test_strips_go_on_below_where_they_are_too_long(width: float, n_bands: int, tmp_path: Path) -> None:
    (found,) = subject.read([made.bundle(tmp_path, "a")])
    (grid,) = arrange(found.manifest.recipe.tensors).grids
    drawn = heat._strips(grid, shades([0.006]), {"int8": "8"}, "errors", width, "wide")
    assert drawn.count(">layer<") == n_bands
    assert drawn.count("<rect") == 128
