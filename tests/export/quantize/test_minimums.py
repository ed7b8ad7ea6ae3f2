"""4-bit blocks with minimums: what is stored, and that the graph computes with it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge.engine.session import open_session
from export.arrays import F32
from export.errors import GraphError
from export.graph import DataFile, Graph
from export.quantize import Linears, blocks, minimums
from export.quantize.distance import Distance

ROWS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 100)), elements=st.floats(-1000, 1000, width=32)
)


def random(*shape: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def session(folder: Path, weight: F32, *, rank: int, threads: int = 1) -> Callable[[F32], F32]:
    """One linear layer in this scheme, of inputs of some rank."""
    with DataFile(folder / "layer.bin") as data:
        graph = Graph("layer", data)
        leading = ["a", "b", "c"][: rank - 1]
        graph.input("x", "float32", [*leading, weight.shape[1]])
        graph.output("y", "float32", [*leading, weight.shape[0]])
        linears = Linears(graph, lambda _: minimums.SCHEME, None)
        out = linears.add("x", "layer", np.array_split(weight, 3), shape=weight.shape, bias=None)
        graph.node("Identity", [out], "y")
        graph.save(folder / "layer.onnx")
    opened = open_session(folder / "layer.onnx", threads=threads)
    return lambda x: opened.run(None, {"x": x})[0]


@settings(deadline=None)
@given(ROWS)
def test_no_weight_is_further_off_than_a_step(weight: F32) -> None:
    found = minimums.quantize(weight)
    step = np.repeat(found.scales, minimums.BLOCK, axis=1)[:, : weight.shape[1]]
    rounding = np.abs(weight) * 2.0**-10 + 2.0**-24  # of scale and minimum to float16
    largest = np.abs(weight).max() * 2.0**-10
    off = np.abs(minimums.dequantize(found, columns=weight.shape[1]) - weight)
    assert (off <= 2 * step + rounding + largest).all()


def test_it_is_closer_than_zero_points_and_than_q4_1() -> None:
    weight = random(64, 256) + np.float32(0.3)
    form = blocks.format_of("int4-block32-zp")
    assert form is not None
    kind = GGMLQuantizationType.Q4_1
    others = [
        blocks.dequantize(blocks.quantize(weight, form), columns=256),
        quants.dequantize(quants.quantize(weight, kind), kind),
    ]
    found = minimums.dequantize(minimums.quantize(weight), columns=256)
    for other in others:
        assert np.linalg.norm(found - weight) < np.linalg.norm(other - weight)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_unit_vectors_read_the_stored_weights_back(rank: int, tmp_path: Path) -> None:
    weight = random(6, 96) * np.float32(0.05) + np.float32(0.01)
    run = session(tmp_path, weight, rank=rank)
    stored = minimums.dequantize(minimums.quantize(weight), columns=96)
    read = run(np.eye(96, dtype=np.float32).reshape(*[1] * (rank - 2), 96, 96))
    np.testing.assert_allclose(read.reshape(96, 6).T, stored, atol=1e-5)


def test_products_are_those_of_the_stored_weights(tmp_path: Path) -> None:
    weight = random(40, 256) + np.float32(2)  # minimums far from zero: what the sums of the inputs are for
    run, x = session(tmp_path, weight, rank=2), random(50, 256, seed=1)
    stored = minimums.dequantize(minimums.quantize(weight), columns=256)
    off = np.linalg.norm(run(x) - x @ stored.T) / np.linalg.norm(x @ stored.T)
    assert off < 0.005  # activations in 8 bits


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_the_same_bits_in_any_chunks(threads: int, tmp_path: Path) -> None:
    run, x = session(tmp_path, random(320, 576), rank=2, threads=threads), random(40, 576, seed=1)
    whole = run(x)
    for size in (1, 2, 3, 7, 16):
        parts = [run(x[first : first + size]) for first in range(0, 40, size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_the_error_is_recorded(tmp_path: Path) -> None:
    weight, distance = random(8, 64), Distance()
    parts = list(minimums.rounded([weight], distance))
    off = np.linalg.norm(minimums.dequantize(parts[0], columns=64) - weight) / np.linalg.norm(weight)
    assert distance.relative() == pytest.approx(off, rel=1e-4)


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="layer: rows of 40 weights, int4-block32-min expects a multiple of 32"):
        session(tmp_path, random(8, 40), rank=2)
