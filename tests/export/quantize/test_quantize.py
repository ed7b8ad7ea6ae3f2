"""Quantized matrices against plain arithmetic, and the graph's linear layers against the dequantized ones."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.bundle.manifest import TensorRecord
from edge.engine.session import open_session
from export.arrays import F32
from export.graph import DataFile, Graph
from export.quantize import Linears, blocks, int4, int8, runs
from export.quantize.distance import Distance
from export.recipe import Scheme
from tests.export.checkpoint.random_weights import RandomWeights, model

N_OUT, N_IN = 96, 200  # not a whole number of int4's blocks
MATRICES = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 300)), elements=st.floats(-(2.0**60), 2.0**60, width=32)
)


IN_BLOCKS: tuple[Scheme, ...] = (
    "int8-block32", "int4-block32", "int4-block32-zp", "int4-block64", "int4-block64-zp",
)  # fmt: skip


def rounded(weight: F32, scheme: Scheme) -> F32:
    """What a matrix in blocks stands for."""
    form = blocks.format_of(scheme)
    assert form is not None
    return blocks.dequantize(blocks.quantize(weight, form), columns=weight.shape[1])


def random(*shape: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(
    folder: Path,
    scheme: Scheme,
    weight: F32,
    *,
    bias: F32 | None = None,
    n_parts: int = 3,
    many_rows: bool = False,
    rank: int = 2,
) -> tuple[Callable[[F32], F32], TensorRecord]:
    """A session of one linear layer, and the record of it."""
    with DataFile(folder / "layer.bin") as data:
        graph = Graph("layer", data)
        dims = [f"rows{i}" for i in range(rank - 1)]
        graph.input("x", "float32", [*dims, weight.shape[1]])
        graph.output("y", "float32", [*dims, weight.shape[0]])
        linears = Linears(graph, lambda _: scheme, None, many_rows=many_rows)
        parts = np.array_split(weight, n_parts)
        graph.node("Identity", [linears.add("x", "layer", parts, shape=weight.shape, bias=bias)], "y")
        graph.save(folder / "layer.onnx")
    session = open_session(folder / "layer.onnx", threads=1)
    return lambda x: session.run(None, {"x": x})[0], linears.records["layer"]


@given(MATRICES)
@example(np.array([[1e-45]], np.float32))
@example(np.array([[190e-45, 2e-38]], np.float32))
def test_int8_is_half_a_step_off_at_most(weight: F32) -> None:
    rows = int8.quantize(weight)
    half = rows.scales[:, None] * np.float32(0.5)
    assert (np.abs(int8.dequantize(rows) - weight) <= half * np.float32(1.0001)).all()


@settings(deadline=None)
@given(MATRICES)
def test_int4_is_finite_and_no_further_off_than_the_plain_scale(weight: F32) -> None:
    rows = int4.quantize(weight)
    off = Distance()
    off.add(weight, int4.dequantize(rows, columns=weight.shape[1]))
    assert np.isfinite(rows.scales).all()
    assert off.relative() <= plain_int4_error(weight) + 1e-5


def plain_int4_error(weight: F32) -> float:
    """Blocks of 128, the largest weight of each at level -8."""
    off = Distance()
    for row in weight:
        for first in range(0, row.size, 128):
            block = row[first : first + 128]
            scale = -block[np.abs(block).argmax()] / 8
            levels = np.clip(np.rint(block / scale), -8, 7) if scale else np.zeros_like(block)
            off.add(block, (levels * scale).astype(np.float32))
    return off.relative()


@pytest.mark.parametrize("scheme", [int8, int4])
def test_rows_of_zeros_stay_zero(scheme: ModuleType) -> None:
    weight = random(4, 256)
    weight[1] = 0
    rows = scheme.quantize(weight)
    stored = int8.dequantize(rows) if scheme is int8 else int4.dequantize(rows, columns=256)
    assert not stored[1].any()
    assert stored[0].any()


def test_many_rows_are_rounded_as_a_few_are(tmp_path: Path) -> None:
    weight, x = random(N_OUT, N_IN), random(3, 4, 5, N_IN, seed=2) * random(3, 4, 5, 1, seed=3) ** 3
    x[0, 0, 0] = 0
    results = []
    for many_rows in (False, True):
        (folder := tmp_path / str(many_rows)).mkdir()
        results.append(linear(folder, "int8", weight, many_rows=many_rows, rank=4)[0](x))
    one, other = results
    assert one.shape == other.shape == (3, 4, 5, N_OUT) and not other[0, 0, 0].any()
    # The same levels but for those between two, which may be rounded either way.
    levels = np.abs(x).max(axis=-1, keepdims=True) / 127 * np.abs(weight).max()
    assert (np.abs(one - other) <= 2 * levels).all()
    assert np.isclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(one).max()).mean() > 0.9


def test_one_of_many_rows_does_not_depend_on_the_others(tmp_path: Path) -> None:
    layer, _ = linear(tmp_path, "int8", random(N_OUT, N_IN), many_rows=True)
    x = random(9, N_IN, seed=4)
    alone = layer(x[3:4])
    x[5] *= 1000
    assert np.array_equal(layer(x)[3:4], alone)


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4", *IN_BLOCKS])
def test_unit_vectors_read_the_stored_weights_back(tmp_path: Path, scheme: Scheme) -> None:
    weight, bias = random(N_OUT, N_IN), random(N_OUT, seed=1)
    layer, record = linear(tmp_path, scheme, weight, bias=bias)
    stored = {
        "fp32": weight,
        "int8": int8.dequantize(int8.quantize(weight)),
        "int4": int4.dequantize(int4.quantize(weight), columns=N_IN),
        **{scheme: rounded(weight, scheme) for scheme in IN_BLOCKS},
    }[scheme]
    # One activation of 1 and zeros beside it are exact in 8 bits, whatever the scale is taken over.
    assert np.abs(layer(np.eye(N_IN, dtype=np.float32)) - (stored.T + bias)).max() < 1e-5
    assert record.error == pytest.approx(np.linalg.norm(stored - weight) / np.linalg.norm(weight), rel=1e-4)


@pytest.mark.parametrize(
    ("scheme", "limit"),
    [
        ("fp32", 1e-6),
        ("int8", 0.012),
        ("int4", 0.12),
        ("int8-block32", 0.01),
        ("int4-block32", 0.1),
        ("int4-block32-zp", 0.09),
        ("int4-block64", 0.11),
        ("int4-block64-zp", 0.1),
    ],
)
def test_products_are_as_close_as_the_bits_allow(tmp_path: Path, scheme: Scheme, limit: float) -> None:
    weight, x = random(N_OUT, N_IN), random(50, N_IN, seed=1)
    layer, _ = linear(tmp_path, scheme, weight)
    expected = x @ weight.T
    assert np.linalg.norm(layer(x) - expected) / np.linalg.norm(expected) < limit


@pytest.mark.parametrize("n_rows", [1, 2, 7, 64])  # a vector, and the tails of the kernels' groups of rows
@pytest.mark.parametrize("n_in", [N_IN, 259])
def test_int8_sums_are_exact_at_the_extremes(tmp_path: Path, n_rows: int, n_in: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.choice(np.float32([-1, 1]), (N_OUT, n_in))
    x = rng.choice(np.float32([-1, 1]), (n_rows, n_in)) * 10.0 ** rng.integers(-3, 4, (n_rows, 1)).astype(np.float32)
    weight[0], x[0] = 1, 1  # all of one sign: the largest sum there is
    layer, _ = linear(tmp_path, "int8", weight)
    np.testing.assert_allclose(layer(x), exact_int8(weight, x), rtol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 7, 64])
def test_int8_sums_are_exact_in_between(tmp_path: Path, n_rows: int) -> None:
    weight, x = random(N_OUT, N_IN), random(n_rows, N_IN, seed=1)
    layer, _ = linear(tmp_path, "int8", weight)
    expected = exact_int8(weight, x)
    assert np.abs(layer(x) - expected).max() < 1e-5 * np.abs(expected).max()


def exact_int8(weight: F32, x: F32) -> npt.NDArray[np.float64]:
    """`x @ weight.T` in 8 bits, its sums of whole numbers that nothing clips."""
    rows, peaks = int8.quantize(weight), np.abs(x).max(axis=1, keepdims=True)
    rounded = np.rint(x / peaks / np.float32(1 / int8.LEVELS)).astype(np.int64)
    sums = rounded @ rows.values.astype(np.int64).T
    scaled: npt.NDArray[np.float64] = sums * rows.scales.astype(np.float64) * peaks / int8.LEVELS
    return scaled


def test_outlier_row_leaves_its_neighbours_alone_in_int8(tmp_path: Path) -> None:
    layer, _ = linear(tmp_path, "int8", random(N_OUT, N_IN))
    x = random(9, N_IN, seed=1)
    quiet = layer(x)
    x[4] *= 1e4
    assert np.array_equal(np.delete(layer(x), 4, axis=0), np.delete(quiet, 4, axis=0))


def test_row_of_zeros_gives_the_bias_in_int8(tmp_path: Path) -> None:
    bias = random(N_OUT, seed=1)
    layer, _ = linear(tmp_path, "int8", random(N_OUT, N_IN), bias=bias)
    assert np.array_equal(layer(np.zeros((2, N_IN), np.float32)), np.stack([bias, bias]))


def test_row_that_is_not_a_number_stays_so_in_int8(tmp_path: Path) -> None:
    layer, _ = linear(tmp_path, "int8", random(N_OUT, N_IN))
    x = random(3, N_IN)
    x[1] = np.nan  # a norm in front of the layer spreads it over the row
    assert np.isnan(layer(x)[1]).all()
    assert np.isfinite(layer(x)[[0, 2]]).all()


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_runs_of_rows_give_the_same_bytes_as_the_whole(tmp_path: Path, scheme: Scheme) -> None:
    weight, folders = random(N_OUT, N_IN), [tmp_path / "whole", tmp_path / "runs"]
    for folder, n_parts in zip(folders, (1, 7), strict=True):
        folder.mkdir()
        linear(folder, scheme, weight, n_parts=n_parts)
    assert (folders[0] / "layer.bin").read_bytes() == (folders[1] / "layer.bin").read_bytes()


def test_runs_are_whole_heads_and_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.quantize.BLOCK_BYTES", 20_000)
    weights = RandomWeights(model())
    parts = list(runs(weights, "text.layers.0.q.weight", multiple=32))
    assert [part.shape[0] for part in parts] == [32] * 4
    assert np.array_equal(np.concatenate(parts), weights.tensor("text.layers.0.q.weight"))
    assert max(part.nbytes for part in runs(weights, "text.head")) <= 20_000


def test_error_is_the_relative_frobenius_norm() -> None:
    weight, stored = random(30, 40), random(30, 40, seed=1)
    off = Distance()
    for a, b in zip(np.array_split(weight, 4), np.array_split(stored, 4), strict=True):
        off.add(a, b)
    assert off.relative() == pytest.approx(np.linalg.norm(weight - stored) / np.linalg.norm(weight), rel=1e-5)
    assert Distance().relative() == 0
