"""Linear layers in a graph, each stored and computed as the recipe says."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

import numpy as np

from edge.bundle.manifest import Scheme, TensorRecord
from export.arrays import F32
from export.checkpoint.names import Weights
from export.errors import RecipeError
from export.graph import BLOCK_BYTES, FLOAT, HALF, Graph, Progress
from export.quantize import blocks, carry, floats, int4, int8, minimums
from export.quantize.blocks import Blocks, Format
from export.quantize.carry import Kept
from export.quantize.distance import Distance
from export.quantize.minimums import MinBlocks


class Correction(Protocol):
    """Chooses the values of a layer's weights by what they do to calibration data, layer after layer."""

    def covers(self, path: str) -> bool:
        """Whether the data passes through this layer."""

    def quantize(self, path: str, weight: F32, form: Format) -> Blocks:
        """Quantize the layer that the data has come to. weight: (n_out, n_in)."""

    def advance(self, path: str, stored: F32, bias: F32 | None) -> None:
        """Send the data through the layer as it is stored. stored: (n_out, n_in); bias: (n_out,)."""


class Linears:
    """Adds the linear layers of one graph and keeps the record of what was done to each.

    scheme: a recipe path such as "decoder.layers.0.qkv" -> how that tensor is stored; correction: what chooses the
    values of layers that calibration data passes through, None to round each to the nearest; carries: whether layers
    keep the values of a GGUF file; many_rows: whether their inputs have hundreds of rows, as those of a vision tower;
    half: whether products are float16, but for weights that are stored as float32; standard: by ONNX's own operators.
    """

    def __init__(
        self,
        graph: Graph,
        scheme: Callable[[str], Scheme],
        progress: Progress | None,
        correction: Correction | None = None,
        *,
        carries: bool = False,
        many_rows: bool = False,
        half: bool = False,
        standard: bool = False,
    ) -> None:
        self.half = half
        self.standard = standard
        self.records: dict[str, TensorRecord] = {}
        self._graph = graph
        self._scheme = scheme
        self._progress = progress
        self._correction = correction
        self._carries = carries
        self._many_rows = many_rows

    def kept(self, path: str, weights: Weights, role: str) -> Iterator[Kept] | None:
        """The runs of a layer of one weight that keeps the values of a GGUF file, None for another."""
        scheme = self._scheme(path)
        if not self._carries or weights.kind(role) not in carry.HOLDS.get(scheme, frozenset()):
            return None
        return kept_runs(weights, role, scheme)

    def add(
        self,
        x: str,
        path: str,
        parts: Iterable[F32],
        *,
        shape: tuple[int, int],
        bias: F32 | None,
        kept: Iterable[Kept] | None = None,
        takes_half: bool = False,
        gives_half: bool = False,
    ) -> str:
        """Add `x @ weight.T + bias`; the weight comes in runs of rows and only one of them is held.

        x: (..., n_in) -> (..., n_out); shape: (n_out, n_in); parts: (rows of the part, n_in) each; bias: (n_out,);
        kept: the same runs in the layer's scheme, for a layer that keeps the values of a GGUF file.
        takes_half, gives_half: whether x, and the result, are float16: of layers whose products are.
        A layer that is corrected is held whole.
        """
        is_half = self.half and self._scheme(path) != "fp32"
        x = self._cast(x, f"{path}.in", takes_half, is_half)
        out, record = self._graph.found(path) or self._add(x, path, parts, shape, bias, kept)
        out = self._cast(out, f"{path}.cast", is_half, gives_half)
        self.records[path] = record
        if self._progress:
            self._progress(path, shape[0] * shape[1])
        if bias is None:
            return out
        added = self._graph.half(f"{path}.bias", bias) if gives_half else self._graph.weight(f"{path}.bias", bias)
        return self._graph.node("Add", [out, added], f"{path}.biased")

    def _cast(self, x: str, name: str, is_half: bool, becomes_half: bool) -> str:
        if is_half == becomes_half:
            return x
        return self._graph.node("Cast", [x], name, to=HALF if becomes_half else FLOAT)

    def _add(
        self,
        x: str,
        path: str,
        parts: Iterable[F32],
        shape: tuple[int, int],
        bias: F32 | None,
        kept: Iterable[Kept] | None,
    ) -> tuple[str, TensorRecord]:
        """Add the product without its bias; returns the result's name and the weight's record."""
        scheme, mark = self._scheme(path), self._graph.mark()
        if kept is not None:
            out, error = _kept(self._graph, x, parts, kept, scheme, shape=shape, name=path)
        elif self._correction is not None and self._correction.covers(path):
            out, error = self._corrected(x, path, _whole(parts, shape), bias, self._correction)
        else:
            out, error = self._stored(x, path, parts, shape, scheme)
        record = TensorRecord(scheme, error)
        self._graph.finished(path, mark, out, record)
        return out, record

    def _stored(
        self, x: str, path: str, parts: Iterable[F32], shape: tuple[int, int], scheme: Scheme
    ) -> tuple[str, float]:
        """Add a layer whose weights are rounded as they come; returns the result's name and the weight's error."""
        if scheme in ("fp16", "fp32"):
            return floats.matmul(self._graph, x, parts, scheme, shape=shape, name=path, standard=self.standard)
        return _stored(self._graph, x, parts, scheme, shape=shape, name=path, many_rows=self._many_rows, half=self.half)

    def _corrected(self, x: str, path: str, weight: F32, bias: F32 | None, correction: Correction) -> tuple[str, float]:
        """Add a layer that the calibration data passes through; returns the result's name and the weight's error."""
        scheme, shape = self._scheme(path), (weight.shape[0], weight.shape[1])
        form = blocks.format_of(scheme)
        if form is None:
            correction.advance(path, _dequantized(weight, scheme), bias)
            return self._stored(x, path, [weight], shape, scheme)
        chosen = correction.quantize(path, weight, form)
        stored, distance = blocks.dequantize(chosen, columns=shape[1]), Distance()
        distance.add(weight, stored)
        correction.advance(path, stored, bias)
        out = blocks.matmul(self._graph, x, [chosen], form, shape=shape, name=path, half=self.half)
        return out, distance.relative()


def _whole(parts: Iterable[F32], shape: tuple[int, int]) -> F32:
    """A matrix of its runs of rows, never held twice."""
    whole = np.empty(shape, np.float32)
    first = 0
    for part in parts:
        whole[first : first + len(part)] = part
        first += len(part)
    return whole


def runs(weights: Weights, role: str, *, multiple: int = 1) -> Iterator[F32]:
    """A matrix as runs of rows, each a whole number of `multiple` rows, so that only one of them is in memory."""
    return (weights.tensor(role, rows=rows) for rows in _slices(weights, role, multiple))


def kept_runs(weights: Weights, role: str, scheme: Scheme, *, multiple: int = 1) -> Iterator[Kept]:
    """The same runs of a GGUF file's matrix in a scheme that keeps its values."""
    return (carry.kept_rows(weights, role, rows, scheme) for rows in _slices(weights, role, multiple))


def _slices(weights: Weights, role: str, multiple: int) -> Iterator[slice]:
    n_rows, *rest = weights.shape(role)
    step = max(1, BLOCK_BYTES // (4 * multiple * math.prod(rest))) * multiple
    return (slice(first, min(first + step, n_rows)) for first in range(0, n_rows, step))


def _kept(
    graph: Graph, x: str, parts: Iterable[F32], kept: Iterable[Kept], scheme: Scheme, *, shape: tuple[int, int],
    name: str,
) -> tuple[str, float]:  # fmt: skip
    """Add a layer whose values are those of a file; returns the result's name and how far they are from it."""
    distance, form = Distance(), blocks.format_of(scheme)

    def compared() -> Iterator[Kept]:
        for part, rows in zip(parts, kept, strict=True):
            distance.add(part, carry.dequantize(rows, columns=shape[1]))
            yield rows

    if form is None:
        out = minimums.matmul(graph, x, cast(Iterator[MinBlocks], compared()), shape=shape, name=name)
    else:
        out = blocks.matmul(graph, x, cast(Iterator[Blocks], compared()), form, shape=shape, name=name)
    return out, distance.relative()


def _stored(
    graph: Graph,
    x: str,
    parts: Iterable[F32],
    scheme: Scheme,
    *,
    shape: tuple[int, int],
    name: str,
    many_rows: bool = False,
    half: bool = False,
) -> tuple[str, float]:
    """Add a quantized layer, its weights rounded as they come; returns the result's name and the weight's error."""
    if scheme == "int8":
        return int8.matmul(graph, x, parts, shape=shape, name=name, many_rows=many_rows)
    if scheme == "int4":
        return int4.matmul(graph, x, parts, shape=shape, name=name)
    distance = Distance()
    if scheme == minimums.SCHEME:
        out = minimums.matmul(graph, x, minimums.rounded(parts, distance), shape=shape, name=name)
        return out, distance.relative()
    form = blocks.format_of(scheme)
    if form is None:
        raise RecipeError(f"{name}: {scheme} is no scheme of weights in blocks")
    out = blocks.matmul(graph, x, blocks.rounded(parts, form, distance), form, shape=shape, name=name, half=half)
    return out, distance.relative()


def _dequantized(weight: F32, scheme: Scheme) -> F32:
    """What a matrix in a scheme without blocks of a recipe's choice stands for."""
    if scheme == "int8":
        return int8.dequantize(int8.quantize(weight))
    if scheme == "int4":
        return int4.dequantize(int4.quantize(weight), columns=weight.shape[1])
    if scheme == minimums.SCHEME:
        return minimums.dequantize(minimums.quantize(weight), columns=weight.shape[1])
    return floats.dequantize(weight, scheme)
