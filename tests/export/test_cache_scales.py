"""Scales of a cache of 8 bits: what they cover, at which positions, and what is in a bundle."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.bundle import Bundle, verify
from edge.bundle.manifest import DECODER_INT8_CACHE, TextSpec
from export import cache_scales
from export.cache_scales import FLOOR, LARGEST, MARGIN, n_pairs, n_positions, ranges, scale
from export.texts.read import Text

SPEC = TextSpec(
    hidden_size=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32, intermediate_size=96, vocab_size=100,
    context=4096, rotary_share=1.0, rope_base=10_000.0, norm_eps=1e-5, logit_scale=1.0, embedding="fp32",
)  # fmt: skip


def rotated(keys: np.ndarray, positions: np.ndarray, n: int) -> np.ndarray:
    """Keys (heads, S, head_dim), channel i turned with channel i + n as rotary embeddings do."""
    angles = positions[:, None] * 10_000.0 ** (-np.arange(n) / n)
    first, second, rest = keys[..., :n], keys[..., n : 2 * n], keys[..., 2 * n :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], -1)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_range_of_keys_near_the_start_covers_them_at_any_position(share: float) -> None:
    spec = dataclasses.replace(SPEC, rotary_share=share)
    keys = np.random.default_rng(0).standard_normal((2, 50, 32))
    keys[..., : n_pairs(spec)] *= 20  # the first of each pair, where the text is short
    near = rotated(keys, np.arange(50), n_pairs(spec))
    found, _ = ranges(spec, near, near)
    for start in (0, 1000, 100_000, 1_000_000):
        far = np.abs(rotated(keys, start + np.arange(50), n_pairs(spec))).max(1)
        assert (far <= found * (1 + 1e-5)).all()
    alone = np.abs(near).max(1)
    assert (np.abs(rotated(keys, 100_000 + np.arange(50), n_pairs(spec))).max(1) > 2 * alone).any()


def test_channels_that_are_not_rotated_have_ranges_of_their_own() -> None:
    spec = dataclasses.replace(SPEC, rotary_share=0.5)
    keys = np.random.default_rng(1).standard_normal((2, 9, 32))
    values = np.random.default_rng(2).standard_normal((2, 9, 32))
    of_keys, of_values = ranges(spec, keys, values)
    assert np.array_equal(of_keys[:, 16:], np.abs(keys[..., 16:]).max(1))
    assert np.array_equal(of_values, np.abs(values).max(1))


def test_a_share_that_the_kernel_does_not_take_is_rotated_over_the_whole_head() -> None:
    assert [n_pairs(dataclasses.replace(SPEC, rotary_share=share)) for share in (1.0, 0.5, 0.25)] == [16, 8, 16]


def test_scales_leave_a_margin_and_no_channel_without_a_range() -> None:
    largest = np.array([[10.0, 1.0, 0.0, 0.001], [0.0, 0.0, 0.0, 0.0]], np.float32)
    found = scale(largest)
    assert found[:4] * LARGEST == pytest.approx([10 * MARGIN, MARGIN, 10 * FLOOR * MARGIN, 10 * FLOOR * MARGIN])
    assert (found[4:] > 0).all()


def test_large_models_are_measured_on_fewer_positions() -> None:
    large = dataclasses.replace(
        SPEC, hidden_size=4096, n_layers=32, n_heads=32, n_kv_heads=8, head_dim=128, intermediate_size=11008
    )
    assert n_positions(SPEC) == cache_scales.POSITIONS
    assert cache_scales.WINDOW < n_positions(large) < cache_scales.POSITIONS


def test_export_adds_the_graph_and_names_it_in_the_manifest(int8_bundle: Path) -> None:
    manifest = Bundle.open(int8_bundle).manifest
    assert manifest.int8_cache is not None
    assert manifest.int8_cache.positions > 100
    assert manifest.int8_cache.margin == MARGIN
    assert DECODER_INT8_CACHE in manifest.files
    assert verify(int8_bundle) == []


def test_no_text_that_can_be_read_is_no_scales(text_bundle: Path) -> None:
    bundle = Bundle.open(text_bundle)
    assert cache_scales.measure(bundle, [], lambda *_: None) is None


def test_text_gives_scales_of_every_channel(text_bundle: Path) -> None:
    bundle = Bundle.open(text_bundle)
    spec = bundle.manifest.text
    found = cache_scales.measure(bundle, [Text("one two three four five six " * 20, "here")], lambda *_: None)
    assert found is not None
    scales, n = found
    assert n > 20
    assert len(scales) == spec.n_layers
    for each in scales:
        assert each.keys.shape == each.values.shape == (spec.n_kv_heads * spec.head_dim,)
        assert each.keys.dtype == each.values.dtype == np.float32
        assert (each.keys > 0).all()
        assert (each.values > 0).all()
