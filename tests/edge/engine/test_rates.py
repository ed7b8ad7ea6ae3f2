"""Forecasts from a machine's rates, against figures that were measured with those rates."""

import dataclasses

import pytest

from edge.bundle.checkpoint_shape import of_config
from edge.bundle.shape import ModelShape
from edge.engine.boards import BOARDS, board, rates_of
from edge.engine.rates import Rates, load_s, packing_rates, read_s, step_s, tile_s
from tests.edge.bundle.test_shape import EDGE_7B

SHAPE_1B = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 100352,
    "max_position_embeddings": 16384,
}  # fmt: skip
# Of a Zen 5 with AVX512-VNNI and 2 threads, in the minutes in which the figures below were measured.
MEASURED = Rates(
    bandwidth=38.9e9,
    one_row={"int4-blocks": 58.5e9, "int8-blocks": 45.4e9, "int8": 46.4e9, "fp32": 37.7e9},
    many_rows={"int4-blocks": 513e9, "int8-blocks": 498e9, "int8": 1380e9, "fp32": 446e9},
    cache=17e9, attention=290e9, disk=1e9, packing=packing_rates(1.0), threads=2,
)  # fmt: skip


def shape_1b(recipe: str) -> ModelShape:
    return of_config(SHAPE_1B, recipe=recipe, name="1b", tokenizer_bytes=2_468_236)


@pytest.mark.parametrize(
    ("recipe", "step_ms", "read_per_s", "seconds"),
    [("int4", 26.3, 256, 1.8), ("w8a8", 30.3, 619, 1.6), ("int8", 46.2, 240, 3.3)],
)
def test_forecasts_of_a_billion_weights_are_within_a_fifth(
    recipe: str, step_ms: float, read_per_s: float, seconds: float
) -> None:
    shape = shape_1b(recipe)
    assert 1000 * step_s(shape, MEASURED, position=268) == pytest.approx(step_ms, rel=0.2)
    assert 512 / read_s(shape, MEASURED, 512) == pytest.approx(read_per_s, rel=0.2)
    assert load_s(shape, MEASURED, packed=False, cold=False) == pytest.approx(seconds, rel=0.2)


def test_tile_and_prompt_of_the_released_shape_are_within_a_fifth() -> None:
    shape = of_config(EDGE_7B, recipe="int4-mixed", name="edge-7b")
    assert shape.vision is not None
    assert tile_s(shape.vision, MEASURED) == pytest.approx(1.45, rel=0.2)
    assert 256 / read_s(shape, MEASURED, 256) == pytest.approx(44.3, rel=0.2)
    assert 1000 * step_s(shape, MEASURED, position=268) == pytest.approx(163, rel=0.25)


def test_longer_contexts_are_slower_and_eight_bits_less_so() -> None:
    shape = shape_1b("int4")
    near, far = (step_s(shape, MEASURED, position=n) for n in (256, 8192))
    assert far > 1.5 * near
    assert near < step_s(shape, MEASURED, position=8192, kv="int8") < far
    assert read_s(shape, MEASURED, 4096, kv="int8") > read_s(shape, MEASURED, 4096)


def test_packed_weights_and_the_page_cache_shorten_a_load() -> None:
    shape = shape_1b("int8")
    first = load_s(shape, MEASURED, packed=False, cold=True)
    assert load_s(shape, MEASURED, packed=False, cold=False) < first
    assert load_s(shape, MEASURED, packed=True, cold=False) < load_s(shape, MEASURED, packed=False, cold=False)


def test_twice_the_bandwidth_decodes_nearly_twice_as_fast() -> None:
    shape = shape_1b("int8")
    fast = dataclasses.replace(
        MEASURED, one_row={kind: 2 * rate for kind, rate in MEASURED.one_row.items()}, cache=2 * MEASURED.cache
    )
    assert 1.8 < step_s(shape, MEASURED, position=256) / step_s(shape, fast, position=256) < 2


def test_boards_read_less_than_their_data_sheets_say() -> None:
    assert all(found.read < found.theoretical for found in BOARDS.values())
    assert all(rates_of(found).bandwidth == found.read for found in BOARDS.values())


def test_raspberry_pi_5_decodes_as_fast_as_was_published() -> None:
    # Ollama's llama3.1:8b, 4.9 GB in memory, at 2.17 tokens/s: bytes a second are what counts.
    shape = of_config(EDGE_7B, recipe="int4", name="edge-7b")
    read = sum(matrix.packed_bytes for matrix in shape.decoder)
    published = 2.17 * 4.9e9 / read
    assert 1 / step_s(shape, rates_of(board("pi5-8gb")), position=64) == pytest.approx(published, rel=0.1)
