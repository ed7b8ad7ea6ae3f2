"""Weights in blocks: the formats, their rounding, their bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.arrays import F32
from export.quantize import blocks
from export.quantize.blocks import Format
from export.quantize.distance import Distance

FORMATS = [Format(8, 32), Format(4, 32), Format(4, 32, zero_points=True), Format(4, 64), Format(4, 64, True)]
MATRICES = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 150)), elements=st.floats(-(2.0**40), 2.0**40, width=32)
)


def random(*shape: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def error(weight: F32, form: Format) -> float:
    distance = Distance()
    distance.add(weight, blocks.dequantize(blocks.quantize(weight, form), columns=weight.shape[1]))
    return distance.relative()


@pytest.mark.parametrize(
    ("scheme", "form"),
    [
        ("int8-block32", Format(8, 32)),
        ("int4-block64-zp", Format(4, 64, zero_points=True)),
        ("int4", None),
        ("int8", None),
        ("fp32", None),
    ],
)
def test_scheme_names_its_format(scheme: str, form: Format | None) -> None:
    assert blocks.format_of(scheme) == form


@settings(deadline=None, max_examples=60)
@given(MATRICES, st.sampled_from(FORMATS))
def test_no_value_is_far_off_and_none_is_lost(weight: F32, form: Format) -> None:
    stored = blocks.dequantize(blocks.quantize(weight, form), columns=weight.shape[1])
    assert stored.shape == weight.shape
    assert np.isfinite(stored).all()
    for first in range(0, weight.shape[1], form.block):
        part, back = weight[:, first : first + form.block], stored[:, first : first + form.block]
        spread = np.abs(part).max(axis=1, keepdims=True)
        assert (np.abs(part - back) <= spread * (0.005 if form.bits == 8 else 0.35) + 1e-30).all()


@pytest.mark.parametrize("form", FORMATS)
def test_blocks_of_zeros_stay_zero(form: Format) -> None:
    weight = random(3, 2 * form.block)
    weight[1, : form.block] = 0
    stored = blocks.dequantize(blocks.quantize(weight, form), columns=weight.shape[1])
    assert not stored[1, : form.block].any()
    assert stored[1, form.block :].any()


def test_smaller_blocks_zero_points_and_more_bits_are_nearer() -> None:
    weight = random(64, 512) + np.float32(0.5)  # off centre, where zero points help
    wide, narrow = error(weight, Format(4, 64)), error(weight, Format(4, 32))
    pointed, fine = error(weight, Format(4, 32, zero_points=True)), error(weight, Format(8, 32))
    assert fine < 0.1 * pointed < pointed < narrow < wide


def test_importance_moves_the_error_to_columns_that_matter_less() -> None:
    weight, form = random(32, 64), Format(4, 32)
    importance = np.ones(64, np.float32)
    importance[::2] = 100
    plain = blocks.dequantize(blocks.quantize(weight, form), columns=64)
    weighed = blocks.dequantize(blocks.quantize(weight, form, importance=importance), columns=64)

    def missed(stored: F32) -> float:
        return float(np.square(weight - stored)[:, ::2].sum())

    assert missed(weighed) < missed(plain)


def test_tiny_scales_are_kept_in_float32_and_others_in_float16() -> None:
    assert blocks.stored_scales(np.array([[1e-3, 0]], np.float32)).dtype == np.float16
    assert blocks.stored_scales(np.array([[1e-3, 1e-7]], np.float32)).dtype == np.float32
    assert blocks.stored_scales(np.array([[1e6]], np.float32)).dtype == np.float32


def test_scales_are_those_that_float16_can_hold() -> None:
    scales = blocks.quantize(random(8, 64), Format(4, 32)).scales
    assert np.array_equal(scales, scales.astype(np.float16).astype(np.float32))


def test_four_bits_are_packed_with_the_earlier_value_in_the_lower_half() -> None:
    values = np.array([[1, 2, 15]], np.uint8)
    assert blocks.packed(values, Format(4, 32)).tolist() == [[0x21, 0x0F]]
    assert blocks.packed(values, Format(8, 32)).tolist() == [[1, 2, 15]]
