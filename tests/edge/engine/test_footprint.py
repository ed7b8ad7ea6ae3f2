"""Memory part by part: which contexts fit, and what would where a load does not."""

from dataclasses import replace

import pytest

from edge.bundle.checkpoint_shape import of_config
from edge.bundle.shape import ModelShape
from edge.engine.footprint import Load, alternatives, cache_bytes, footprint, largest_context
from tests.edge.bundle.test_shape import EDGE_7B, TEXT

GB = 10**9


@pytest.fixture(scope="module")
def shape() -> ModelShape:
    return of_config(EDGE_7B, recipe="int4-mixed", name="edge-7b")


def test_parts_add_up(shape: ModelShape) -> None:
    found = footprint(shape, Load(4096))
    assert found.total_bytes == sum(part.n_bytes for part in found.parts)
    assert found.total_bytes == found.anonymous_bytes + found.mapped_bytes
    assert found.peak_bytes >= found.total_bytes


def test_process_of_the_released_shape_takes_what_was_measured(shape: ModelShape) -> None:
    # RssAnon after a tile, 256 positions read and 24 generated: 7373 MiB.
    assert footprint(shape, Load(280, processes=0)).anonymous_bytes == pytest.approx(7373 << 20, rel=0.03)


def test_packed_weights_of_a_file_are_mapped(shape: ModelShape) -> None:
    mapped, own = footprint(shape, Load(4096, packed=True)), footprint(shape, Load(4096))
    assert mapped.anonymous_bytes < 0.35 * own.anonymous_bytes
    assert mapped.total_bytes < own.total_bytes


def test_eight_bit_keys_and_values_take_a_quarter(shape: ModelShape) -> None:
    load = Load(4096, slots=2)
    assert cache_bytes(shape.text, load) == 2 * 4096 * 262144
    assert 4 * cache_bytes(shape.text, replace(load, kv="int8")) == cache_bytes(shape.text, load)


def test_largest_context_fits_and_the_next_does_not(shape: ModelShape) -> None:
    load, room = Load(0), 10 * GB
    context = largest_context(shape, load, room_bytes=room)
    assert 2048 <= context < shape.text.context
    assert footprint(shape, replace(load, context=context)).needed_bytes <= room
    assert footprint(shape, replace(load, context=context + 64)).needed_bytes > room


def test_largest_context_is_the_models_where_there_is_room(shape: ModelShape) -> None:
    assert largest_context(shape, Load(0), room_bytes=64 * GB) == 16384


def test_no_context_fits_where_the_weights_do_not(shape: ModelShape) -> None:
    assert largest_context(shape, Load(0), room_bytes=4 * GB) == 0
    assert list(alternatives(shape, Load(2048), room_bytes=4 * GB)) == []


def test_alternatives_fit_and_change_as_little_as_possible_first(shape: ModelShape) -> None:
    load, room = Load(16384, slots=4), 12 * GB
    assert footprint(shape, load).needed_bytes > room
    found = list(alternatives(shape, load, room_bytes=room))
    assert found
    assert all(footprint(shape, each).needed_bytes <= room for each in found)
    assert load not in found
    kept = [each for each in found if each.slots == 4 and not each.packed]
    assert kept == found[: len(kept)]
    assert found[-1].packed
    assert found[-1].context > found[0].context


def test_small_models_may_have_small_contexts() -> None:
    text = {**TEXT, "max_position_embeddings": 512, "architectures": ["LlamaForCausalLM"]}
    small = of_config(text, recipe="int4", name="x")
    assert largest_context(small, Load(0), room_bytes=20 * GB) == 512
