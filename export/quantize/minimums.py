"""4-bit weights in blocks of 32, each with a scale and a minimum: a stored value q stands for q * scale + minimum.

`MatMulNBits` has no minimums, so the product is of (q - 8) * scale, and what is missing is added: the sum of each block
of inputs times (minimum + 8 * scale), in float32. This holds what GGUF's Q4_1 holds, to the last bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.bundle.manifest import Scheme
from export.arrays import F32, U8
from export.errors import GraphError
from export.graph import FLOAT, MICROSOFT, Graph
from export.quantize.blocks import Format, packed, product, scale_input
from export.quantize.distance import Distance

SCHEME: Final[Scheme] = "int4-block32-min"
BLOCK: Final = 32
MIDDLE: Final = 8
LARGEST: Final = 15
SHARES: Final = (1.0, 0.95, 0.9, 0.85)  # of a block's range that its levels may span

_FORMAT = Format(4, BLOCK)


@dataclass(frozen=True)
class MinBlocks:
    """A quantized matrix: values (rows, blocks, 32), scales and minimums (rows, blocks) that float16 holds."""

    values: U8
    scales: F32
    minimums: F32


def quantize(weight: F32) -> MinBlocks:
    """Round each block with the scale and minimum that miss least among a few. weight: (rows, columns)."""
    rows, columns = weight.shape
    # Filled up with a row's last weight: zeros would widen the range of the last block.
    parts = np.pad(weight, ((0, 0), (0, -columns % BLOCK)), mode="edge").reshape(rows, -1, BLOCK)
    low, high = parts.min(2, keepdims=True), parts.max(2, keepdims=True)
    least: F32 = np.full(low.shape, np.inf, np.float32)
    best = MinBlocks(np.zeros(parts.shape, np.uint8), np.zeros_like(low), np.zeros_like(low))
    for share in SHARES:
        cut = (high - low) * np.float32((1 - share) / 2)
        tried = _nearest(parts, _half(np.maximum((high - low - 2 * cut) / LARGEST, 0)), _half(low + cut))
        missed = np.square(parts - tried.values * tried.scales - tried.minimums).sum(2, keepdims=True)
        better = missed < least
        pairs = ((tried.values, best.values), (tried.scales, best.scales), (tried.minimums, best.minimums))
        best = MinBlocks(*(np.where(better, new, old) for new, old in pairs))
        least = np.minimum(missed, least)
    return MinBlocks(best.values, best.scales[..., 0], best.minimums[..., 0])


def dequantize(blocks: MinBlocks, *, columns: int) -> F32:
    """The matrix (rows, columns) that the quantized one stands for."""
    whole = blocks.values.astype(np.float32) * blocks.scales[..., None] + blocks.minimums[..., None]
    return np.ascontiguousarray(whole.reshape(len(blocks.scales), -1)[:, :columns], np.float32)


def rounded(parts: Iterable[F32], distance: Distance) -> Iterator[MinBlocks]:
    """Runs of rows, quantized one after another; their errors are gathered on the way."""
    for part in parts:
        blocks = quantize(part)
        distance.add(part, dequantize(blocks, columns=part.shape[1]))
        yield blocks


def matmul(graph: Graph, x: str, parts: Iterable[MinBlocks], *, shape: tuple[int, int], name: str) -> str:
    """Add `x @ weight.T` for a weight that comes in quantized runs of rows; only scales and minimums are held.

    x: (..., shape[1]) -> (..., shape[0]). Returns the result's name. Raises: GraphError for rows of parts of blocks.
    """
    n_out, n_blocks = shape[0], _FORMAT.blocks(shape[1])
    if shape[1] % BLOCK:
        raise GraphError(f"{name}: rows of {shape[1]} weights, {SCHEME} expects a multiple of {BLOCK}")
    scales: list[F32] = []
    minimums: list[F32] = []
    weight = graph.tensor(f"{name}.weight", "uint8", (n_out, n_blocks, BLOCK // 2), _packed(parts, scales, minimums))
    scale = scale_input(graph, np.concatenate(scales), name=name)
    least = np.concatenate(minimums).astype(np.float16).reshape(-1)
    half = graph.tensor(f"{name}.minimums", "float16", least.shape, [least])
    centred = product(graph, [x, weight, scale], _FORMAT, shape=shape, name=f"{name}.centred")
    offsets = _offsets(graph, scale, half, (n_out, n_blocks), name)
    missing = graph.node("FusedMatMul", [_sums(graph, x, n_blocks, name), offsets], f"{name}.missing.flat",
                         domain=MICROSOFT, transB=1)  # fmt: skip
    placed = graph.node("Reshape", [missing, graph.node("Shape", [centred], f"{name}.shape")], f"{name}.missing")
    return graph.node("Add", [centred, placed], f"{name}.out")


def _offsets(graph: Graph, scale: str, half: str, shape: tuple[int, int], name: str) -> str:
    """minimum + 8 * scale of each block, folded at load. (rows, blocks)"""
    least = graph.node("Cast", [half], f"{name}.minimums.float", to=FLOAT)
    eight = graph.shared("min.middle", np.array(MIDDLE, np.float32))
    moved = graph.node("Add", [least, graph.node("Mul", [scale, eight], f"{name}.middles")], f"{name}.offsets.flat")
    return graph.node("Reshape", [moved, graph.constant(f"{name}.offsets.shape", np.array(shape, np.int64))],
                      f"{name}.offsets")  # fmt: skip


def _sums(graph: Graph, x: str, n_blocks: int, name: str) -> str:
    """The sum of each block of inputs. (..., columns) -> (rows, blocks)"""
    shape = graph.shared(f"min.blocks.{n_blocks}", np.array([-1, n_blocks, BLOCK], np.int64))
    last = graph.shared("axis.last", np.array([-1], np.int64))
    parts = graph.node("Reshape", [x, shape], f"{name}.in_blocks")
    return graph.node("ReduceSum", [parts, last], f"{name}.sums", keepdims=0)


def _packed(parts: Iterable[MinBlocks], scales: list[F32], minimums: list[F32]) -> Iterator[U8]:
    for blocks in parts:
        scales.append(blocks.scales)
        minimums.append(blocks.minimums)
        yield packed(blocks.values, _FORMAT)


def _nearest(parts: F32, scales: F32, minimums: F32) -> MinBlocks:
    divisors = np.where(scales > 0, scales, np.float32(1))
    return MinBlocks(np.clip(np.rint((parts - minimums) / divisors), 0, LARGEST).astype(np.uint8), scales, minimums)


def _half(values: F32) -> F32:
    """Rounded to what is stored."""
    return values.astype(np.float16).astype(np.float32)
