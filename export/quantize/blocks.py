"""Weights in blocks along their rows, each with a scale of its own: what `MatMulNBits` multiplies.

The kernel rounds activations to 8 bits in blocks, too. A stored value q stands for (q - zero point) * scale.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.arrays import F16, F32, U8
from export.errors import GraphError
from export.graph import BLOCK_BYTES, FLOAT, MICROSOFT, Graph
from export.quantize.distance import Distance

ACCURACY_LEVEL: Final = 4  # activations in 8 bits: the default is 8 times slower at one row
SMALLEST_SCALE: Final = 2.0**-17  # below it a float16 keeps so few bits that the scale itself is off by 1/256
LARGEST_SCALE: Final = float(np.finfo(np.float16).max)
SHRINK: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # shares of a block's range that its levels may span
# Levels that a symmetric block's largest weight may be given, of -8 .. 7: beyond 8 it is clipped for the others' sake.
PEAK_LEVELS: Final = (8.5, 8.25, 8.0, 7.75, 7.5, 7.25, 7.0, 6.75, 6.5)

_FIELDS = ("values", "scales", "zero_points")
_SCHEME = re.compile(r"int(4|8)-block(\d+)(-zp)?")


@dataclass(frozen=True)
class Format:
    """bits: 4 or 8; block: inputs that share a scale; zero_points: whether each block has one (only with 4 bits)."""

    bits: int
    block: int
    zero_points: bool = False

    @property
    def largest(self) -> int:
        """The largest stored value."""
        return int(2**self.bits - 1)

    @property
    def middle(self) -> int:
        """The zero point of blocks without one of their own."""
        return int(2 ** (self.bits - 1))

    def blocks(self, columns: int) -> int:
        """Blocks of a row; the last one is filled up."""
        return -(-columns // self.block)


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix: values (rows, blocks, block), scales (rows, blocks), zero points (rows, blocks)."""

    values: U8
    scales: F32
    zero_points: U8


def format_of(scheme: str) -> Format | None:
    """The format of a scheme such as int4-block32-zp, None for a scheme without blocks of this kind."""
    match = _SCHEME.fullmatch(scheme)
    return None if match is None else Format(int(match[1]), int(match[2]), match[3] is not None)


def quantize(weight: F32, form: Format, *, importance: F32 | None = None) -> Blocks:
    """Round each block with the scale, and zero point, that misses least among a few.

    weight: (rows, columns); importance: what a squared miss of each column costs, (columns,), 1 unless given.
    """
    costs = np.ones((1, 1, form.block), np.float32) if importance is None else _blocks(importance[None], form)
    runs = [_quantized(weight[rows], form, costs) for rows in _row_runs(*weight.shape)]
    return Blocks(*(np.concatenate([getattr(run, name) for run in runs]) for name in _FIELDS))


def _quantized(weight: F32, form: Format, costs: F32) -> Blocks:
    """Some rows of a matrix: the arrays in between are several times as large as they are."""
    parts = _blocks(weight, form)
    candidates = _ranges(parts, form) if form.zero_points else _peaks(parts, form)
    scales, zero_points = _best(parts, candidates, costs, form)
    return Blocks(_round(parts, scales, zero_points, form), scales[..., 0], zero_points[..., 0].astype(np.uint8))


def dequantize(blocks: Blocks, *, columns: int) -> F32:
    """The matrix (rows, columns) that the quantized one stands for."""
    whole = np.empty((len(blocks.scales), columns), np.float32)
    for rows in _row_runs(*whole.shape):
        centred = blocks.values[rows].astype(np.float32) - blocks.zero_points[rows, :, None].astype(np.float32)
        centred *= blocks.scales[rows, :, None]
        whole[rows] = centred.reshape(len(centred), -1)[:, :columns]
    return whole


def packed(values: U8, form: Format) -> U8:
    """Stored values as bytes, the earlier of two 4-bit ones in the lower half. (..., n) -> (..., n * bits / 8)."""
    if form.bits == 8:
        return values
    even = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])
    both: U8 = even[..., 0::2] | np.left_shift(even[..., 1::2], 4, dtype=np.uint8)
    return both


def stored_scales(scales: F32) -> F16 | F32:
    """The scales as float16 where that keeps them within 1/256, else as they are."""
    magnitudes = np.abs(scales[scales != 0])
    if magnitudes.size and (magnitudes.min() < SMALLEST_SCALE or magnitudes.max() > LARGEST_SCALE):
        return scales
    return scales.astype(np.float16)


def stored_bytes(shape: tuple[int, int], form: Format) -> int:
    """The bytes of a matrix: values, float16 scales, zero points. shape: (rows, columns)."""
    n_blocks = form.blocks(shape[1])
    points = -(-n_blocks * form.bits // 8) if form.zero_points else 0
    return shape[0] * (n_blocks * (form.block * form.bits // 8 + 2) + points)


def matmul(
    graph: Graph,
    x: str,
    parts: Iterable[Blocks],
    form: Format,
    *,
    shape: tuple[int, int],
    name: str,
    half: bool = False,
) -> str:
    """Add `x @ weight.T` for a weight that comes in quantized runs of rows; only its scales are held.

    x: (..., shape[1]) -> (..., shape[0]); half: both are float16. Returns the result's name.
    """
    n_out, n_in = shape
    scales: list[F32] = []
    zero_points: list[U8] = []
    n_bytes = form.block * form.bits // 8
    weight = graph.tensor(
        f"{name}.weight", "uint8", (n_out, form.blocks(n_in), n_bytes), _packed(parts, form, scales, zero_points)
    )
    inputs = [x, weight, scale_input(graph, np.concatenate(scales), name=name, half=half)]
    if form.zero_points:
        points = packed(np.concatenate(zero_points), form)
        inputs.append(graph.tensor(f"{name}.zero_points", "uint8", (points.size,), [points]))
    return product(graph, inputs, form, shape=shape, name=name)


def scale_input(graph: Graph, scales: F32, *, name: str, half: bool = False) -> str:
    """Store the scales (rows, blocks); returns the float32 that the kernel asks for: the cast is folded at load.

    half: the kernel asks for float16. Raises: GraphError for scales that float16 does not hold.
    """
    if half:
        return _half_scales(graph, scales, name)
    stored = stored_scales(scales).reshape(-1)
    if stored.dtype == np.float32:
        return graph.tensor(f"{name}.scales", "float32", stored.shape, [stored])
    in_half = graph.tensor(f"{name}.scales", "float16", stored.shape, [stored])
    return graph.node("Cast", [in_half], f"{name}.scales.float", to=FLOAT)


def _half_scales(graph: Graph, scales: F32, name: str) -> str:
    """Store scales as the float16 that a kernel reads; the smallest lose digits, of weights that are next to none."""
    if np.abs(scales).max(initial=0) > LARGEST_SCALE:
        raise GraphError(f"{name}: a scale of {np.abs(scales).max():g} is too large for float16: expected fp32")
    stored = scales.astype(np.float16).reshape(-1)
    return graph.tensor(f"{name}.scales", "float16", stored.shape, [stored])


def product(graph: Graph, inputs: list[str], form: Format, *, shape: tuple[int, int], name: str) -> str:
    """Add the product itself. inputs: x, packed values, scales, and zero points where there are any."""
    return graph.node(
        "MatMulNBits", inputs, f"{name}.out", domain=MICROSOFT,
        K=shape[1], N=shape[0], bits=form.bits, block_size=form.block, accuracy_level=ACCURACY_LEVEL,
    )  # fmt: skip


def rounded(parts: Iterable[F32], form: Format, distance: Distance) -> Iterator[Blocks]:
    """Runs of rows, quantized one after another; their errors are gathered on the way."""
    for part in parts:
        blocks = quantize(part, form)
        distance.add(part, dequantize(blocks, columns=part.shape[1]))
        yield blocks


def _packed(parts: Iterable[Blocks], form: Format, scales: list[F32], zero_points: list[U8]) -> Iterator[U8]:
    for blocks in parts:
        scales.append(blocks.scales)
        zero_points.append(blocks.zero_points)
        yield packed(blocks.values, form)


def _row_runs(n_rows: int, columns: int) -> Iterator[slice]:
    """The rows of a matrix, a few megabytes at a time; one run of none where it has none."""
    step = max(1, BLOCK_BYTES // (4 * max(1, columns)))
    return (slice(first, first + step) for first in range(0, max(1, n_rows), step))


def _blocks(weight: F32, form: Format) -> F32:
    """(rows, columns) -> (rows, blocks, block), the last block filled up with zeros."""
    rows, columns = weight.shape
    return np.pad(weight, ((0, 0), (0, -columns % form.block))).reshape(rows, -1, form.block)


def _peaks(parts: F32, form: Format) -> Iterator[tuple[F32, F32]]:
    """Scales that give a block's largest weight one level or another; the zero point is the middle."""
    middle = np.full((*parts.shape[:2], 1), form.middle, np.float32)
    at = np.abs(parts).argmax(axis=2)[..., None]
    peaks = np.take_along_axis(parts, at, axis=2)  # signed: it gets the level -8, or near it
    if form.bits == 8:
        yield _stored((np.abs(peaks) / np.float32(form.middle - 1)).astype(np.float32)), middle
        return
    for level in PEAK_LEVELS:
        yield _stored(peaks / np.float32(-level)), middle


def _ranges(parts: F32, form: Format) -> Iterator[tuple[F32, F32]]:
    """Scales that spread the levels over a share of a block's range, and the two zero points next to its zero."""
    low, high = np.minimum(parts.min(2, keepdims=True), 0), np.maximum(parts.max(2, keepdims=True), 0)
    for share in SHRINK:
        scales = _stored((high - low) * np.float32(share / form.largest))
        zero = -low * np.float32(share) / _divisors(scales)
        for nearest in (np.floor(zero), np.ceil(zero)):
            yield scales, np.clip(nearest, 0, form.largest)


def _best(parts: F32, candidates: Iterable[tuple[F32, F32]], costs: F32, form: Format) -> tuple[F32, F32]:
    """For each block the candidate that misses least: scales and zero points (rows, blocks, 1)."""
    shape = (*parts.shape[:2], 1)
    scales, zero_points = np.zeros(shape, np.float32), np.full(shape, form.middle, np.float32)
    least = np.full(shape, np.inf, np.float32)
    for scale, zero_point in candidates:
        values = _round(parts, scale, zero_point, form)
        missed = (np.square(parts - (values - zero_point) * scale) * costs).sum(axis=2, keepdims=True)
        better = missed < least
        scales, zero_points = np.where(better, scale, scales), np.where(better, zero_point, zero_points)
        least = np.minimum(missed, least)
    return scales, zero_points


def _round(parts: F32, scales: F32, zero_points: F32, form: Format) -> U8:
    """The nearest stored value of each weight; blocks of zeros have the scale 0 and stay at their zero point."""
    values: U8 = np.clip(np.rint(parts / _divisors(scales) + zero_points), 0, form.largest).astype(np.uint8)
    return values


def _divisors(scales: F32) -> F32:
    divisors: F32 = np.where(scales != 0, scales, np.float32(1))
    return divisors


def _stored(scales: F32) -> F32:
    """Scales rounded to what is stored, so that the values are chosen for those."""
    fits = (np.abs(scales) >= SMALLEST_SCALE) & (np.abs(scales) <= LARGEST_SCALE)
    half = np.where(fits, scales, 0).astype(np.float16).astype(np.float32)
    return np.where(fits, half, scales)
