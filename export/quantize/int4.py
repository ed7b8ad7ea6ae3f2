"""4-bit weights: one scale for every 128 inputs of an output, two weights in a byte."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from export.arrays import F32, U8
from export.graph import MICROSOFT, Graph
from export.quantize.distance import Distance

BLOCK = 128
ZERO_POINT = 8  # stored weights are 0 .. 15 and stand for -8 .. 7
ACCURACY_LEVEL = 4  # activations in 8 bits: the default is 8 times slower at one row
SHRINK = (8.0, 7.75, 7.5, 7.25, 7.0, 6.75)  # the levels that a block's largest weight may be given


@dataclass(frozen=True)
class Int4Rows:
    """A matrix in blocks along its rows: packed (rows, blocks, 64) bytes, scales (rows, blocks)."""

    packed: U8
    scales: F32


def quantize(weight: F32) -> Int4Rows:
    """Quantize blocks of 128, each with the scale that misses least among a few. weight: (rows, columns)."""
    blocks = _blocks(weight)
    at = np.abs(blocks).argmax(axis=2)[..., None]
    peaks = np.take_along_axis(blocks, at, axis=2)  # (rows, blocks, 1), signed: it gets the level -8, or near it
    best = np.zeros(peaks.shape, np.float32)
    least = np.full(peaks.shape, np.inf, np.float32)
    for level in SHRINK:
        scales = peaks / np.float32(-level)
        missed = np.square(blocks - _levels(blocks, scales) * scales).sum(axis=2, keepdims=True)
        best, least = np.where(missed < least, scales, best), np.minimum(missed, least)
    levels = (_levels(blocks, best) + ZERO_POINT).astype(np.uint8)
    packed: U8 = levels[..., 0::2] | np.left_shift(levels[..., 1::2], 4, dtype=np.uint8)
    return Int4Rows(packed, best[..., 0])


def dequantize(rows: Int4Rows, *, columns: int) -> F32:
    """The matrix (rows, columns) that the quantized one stands for."""
    low, high = rows.packed & 15, rows.packed >> 4
    levels = np.stack([low, high], axis=-1).reshape(*rows.scales.shape, BLOCK).astype(np.float32) - ZERO_POINT
    whole = (levels * rows.scales[..., None]).reshape(rows.scales.shape[0], -1)
    return np.ascontiguousarray(whole[:, :columns], np.float32)


def matmul(graph: Graph, x: str, parts: Iterable[F32], *, shape: tuple[int, int], name: str) -> tuple[str, float]:
    """Add `x @ weight.T` with the weight in 4 bits.

    x: (..., shape[1]) -> (..., shape[0]); parts: runs of rows. Returns the result's name, the weight's error.
    """
    n_out, n_in = shape
    n_blocks = -(-n_in // BLOCK)
    scales: list[F32] = []
    distance = Distance()
    packed = _quantized(parts, scales, distance)
    weight = graph.tensor(f"{name}.weight", "uint8", (n_out, n_blocks, BLOCK // 2), packed)
    steps = graph.weight(f"{name}.scales", np.concatenate(scales).reshape(-1))
    out = graph.node(
        "MatMulNBits", [x, weight, steps], f"{name}.out", domain=MICROSOFT,
        K=n_in, N=n_out, bits=4, block_size=BLOCK, accuracy_level=ACCURACY_LEVEL,
    )  # fmt: skip
    return out, distance.relative()


def _quantized(parts: Iterable[F32], scales: list[F32], distance: Distance) -> Iterator[U8]:
    """The packed bytes of one run of rows after another; their scales and errors are gathered on the way."""
    for part in parts:
        rows = quantize(part)
        scales.append(rows.scales)
        distance.add(part, dequantize(rows, columns=part.shape[1]))
        yield rows.packed


def _blocks(weight: F32) -> F32:
    """(rows, columns) -> (rows, blocks, 128), the last block filled up with zeros."""
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -columns % BLOCK)))
    return padded.reshape(rows, -1, BLOCK)


def _levels(blocks: F32, scales: F32) -> F32:
    """The nearest of -8 .. 7 for each weight; blocks of zeros have the scale 0 and the level 0."""
    divisors = np.where(scales != 0, scales, np.float32(1))
    levels: F32 = np.clip(np.rint(blocks / divisors), -ZERO_POINT, ZERO_POINT - 1)
    return levels
