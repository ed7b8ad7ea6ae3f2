"""W8A8: weights with one scale per output, activations with one scale per row, measured as they come."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from export.arrays import F32, I8
from export.graph import BLOCK_BYTES, MICROSOFT, Graph
from export.quantize.distance import Distance

LEVELS = 127
ZERO_POINT = 128  # unsigned activations: signed ones are many times slower on x86
FLOOR = 1e-30  # of a row's magnitude, so that a row of zeros divides cleanly
SMALLEST = np.finfo(np.float32).tiny  # scale of a row that has any weight: below it the scale itself loses its bits


@dataclass(frozen=True)
class Int8Rows:
    """A matrix (rows, columns) as `values * scales[:, None]`."""

    values: I8
    scales: F32


def quantize(weight: F32) -> Int8Rows:
    """Round each row to 127 levels on either side of zero; a row of zeros gets the scale 0."""
    peaks = np.abs(weight).max(axis=1)
    scales = np.where(peaks > 0, np.maximum(peaks / np.float32(LEVELS), SMALLEST), np.float32(0))
    divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
    values = np.clip(np.rint(weight / divisors), -LEVELS, LEVELS).astype(np.int8)
    return Int8Rows(values, scales)


def dequantize(rows: Int8Rows) -> F32:
    """The matrix that the quantized one stands for."""
    return rows.values.astype(np.float32) * rows.scales[:, None]


def quantize_parts(parts: Iterable[F32], *, shape: tuple[int, int]) -> tuple[Int8Rows, float]:
    """Quantize a matrix that comes in runs of rows; returns it whole, with its relative error.

    parts: F32 (rows of the part, shape[1]); together they have shape[0] rows.
    """
    values, scales, distance = np.empty(shape, np.int8), np.empty(shape[0], np.float32), Distance()
    first = 0
    for part in parts:
        rows, last = quantize(part), first + part.shape[0]
        values[first:last], scales[first:last] = rows.values, rows.scales
        distance.add(part, dequantize(rows))
        first = last
    return Int8Rows(values, scales), distance.relative()


def matmul(
    graph: Graph, x: str, parts: Iterable[F32], *, shape: tuple[int, int], name: str, many_rows: bool = False
) -> tuple[str, float]:
    """Add `x @ weight.T`; each row of x is divided by its own largest magnitude before it is rounded.

    So a row's result does not depend on its neighbours, to the last bit: the sums are of integers.
    x: (..., shape[1]) -> (..., shape[0]). many_rows: x has hundreds of rows, where a pass over them costs more than
    some nodes more. Returns the result's name and the weight's relative error.
    """
    rows, error = quantize_parts(parts, shape=shape)
    weight = graph.tensor(f"{name}.weight", "int8", shape[::-1], _transposed(rows.values))
    scales = graph.weight(f"{name}.scales", rows.scales)
    step = graph.shared("int8.step", np.array(1 / LEVELS, np.float32))
    zero = graph.shared("int8.zero", np.array(ZERO_POINT, np.uint8))
    if many_rows:
        peak = _span(graph, x, name=name)
        inputs = _rounded(graph, x, peak, step, zero, n_in=shape[1], name=name)
    else:
        peak = row_peak(graph, x, name=name)
        inputs = graph.node("Div", [x, peak], f"{name}.unit")
        inputs = graph.node("QuantizeLinear", [inputs, step, zero], f"{name}.rounded")
    product = graph.node(
        "MatMulIntegerToFloat", [inputs, weight, step, scales, zero], f"{name}.unscaled", domain=MICROSOFT
    )
    return graph.node("Mul", [product, peak], f"{name}.out"), error


def row_peak(graph: Graph, x: str, *, name: str) -> str:
    """Add the largest magnitude of each row. x: (..., K) -> (..., 1)."""
    last = graph.shared("axis.last", np.array([-1], np.int64))
    floor = graph.shared("int8.floor", np.array([FLOOR], np.float32))
    magnitude = graph.node("Abs", [x], f"{name}.magnitude")
    peak = graph.node("ReduceMax", [magnitude, last], f"{name}.raw_peak", keepdims=1)
    return graph.node("Max", [peak, floor], f"{name}.peak")


def _span(graph: Graph, x: str, *, name: str) -> str:
    """Add the same as row_peak, without a pass that writes all of x. x: (..., K) -> (..., 1)."""
    last = graph.shared("axis.last", np.array([-1], np.int64))
    floor = graph.shared("int8.floor", np.array([FLOOR], np.float32))
    highest = graph.node("ReduceMax", [x, last], f"{name}.highest", keepdims=1)
    lowest = graph.node("ReduceMin", [x, last], f"{name}.lowest", keepdims=1)
    return graph.node("Max", [highest, graph.node("Neg", [lowest], f"{name}.depth"), floor], f"{name}.peak")


def _rounded(graph: Graph, x: str, peak: str, step: str, zero: str, *, n_in: int, name: str) -> str:
    """Round x in one pass: as a matrix, it may have a scale for each row. x: (..., K) -> (..., K) uint8."""
    flat = graph.shared("int8.flat", np.array([-1], np.int64))
    scales = graph.node("Reshape", [graph.node("Mul", [peak, step], f"{name}.steps"), flat], f"{name}.steps.flat")
    zeros = graph.node("Expand", [zero, graph.node("Shape", [scales], f"{name}.rows")], f"{name}.zeros")
    matrix = graph.shared(f"int8.matrix.{n_in}", np.array([-1, n_in], np.int64))
    rows = graph.node("Reshape", [x, matrix], f"{name}.matrix")
    rounded = graph.node("QuantizeLinear", [rows, scales, zeros], f"{name}.rounded.matrix", axis=0)
    return graph.node("Reshape", [rounded, graph.node("Shape", [x], f"{name}.shape")], f"{name}.rounded")


def _transposed(values: I8) -> Iterator[I8]:
    """The rows of the transposed matrix, a block of columns at a time."""
    columns = max(1, BLOCK_BYTES // values.shape[0])
    return (values[:, first : first + columns].T for first in range(0, values.shape[1], columns))
