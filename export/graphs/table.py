"""The embedding table, outside the graph: a token touches one row. A tied head multiplies with the same bytes."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, cast

import numpy as np

from edge.bundle.manifest import TABLE_BLOCK, TableScheme, TensorRecord
from export.arrays import F16, F32
from export.checkpoint.config import TextConfig
from export.checkpoint.names import Weights
from export.errors import GraphError, RecipeError
from export.graph import FLOAT, HALF, Array, DataFile, Graph, Progress
from export.journal import Journal
from export.quantize import blocks, carry, int8, kept_runs, runs
from export.quantize.blocks import Blocks
from export.quantize.carry import Kept
from export.quantize.distance import Distance
from export.recipe import Recipe

FILE: Final = "embedding.bin"
PATH: Final = "decoder.embed"
FORMAT: Final = blocks.Format(8, TABLE_BLOCK)
IN_BLOCKS: Final = "int8-block32"

# Shapes: H hidden, V vocabulary.


def table_scheme(recipe: Recipe, n_layers: int) -> TableScheme:
    """How the recipe stores the table. Raises: RecipeError for a scheme that no table has."""
    scheme = recipe.scheme(PATH, n_layers=n_layers)
    if scheme not in ("fp32", "int8", "int8-block32"):
        raise RecipeError(f"recipe {recipe.name}: {PATH} is {scheme}, expected fp32, int8 or int8-block32")
    return scheme


def is_shared(config: TextConfig, recipe: Recipe) -> bool:
    """Whether the head multiplies with the table's own bytes: tied, and both in the blocks that its kernel reads.

    Not where the stream is rotated: the head then has the gains of the last norm, and the table has not.
    """
    schemes = {recipe.scheme(path, n_layers=config.n_layers) for path in (PATH, "decoder.head")}
    return config.tied and not recipe.rotate and schemes == {IN_BLOCKS}


def write_embedding(
    weights: Weights, config: TextConfig, recipe: Recipe, directory: Path, *, progress: Progress | None,
    journal: Journal | None = None,
) -> dict[str, TensorRecord]:  # fmt: skip
    """Write embedding.bin as the recipe says: rows of float32, or rows of 8 bits and then their scales.

    int8: a float32 scale a row; int8-block32: values with the zero point 128, rows filled up to whole blocks, then a
    float16 scale a block.
    """
    with DataFile(directory / FILE, journal) as data:
        entry = data.found(PATH)
        record = _append(weights, config, recipe, data) if entry is None else entry.record
    if progress:
        progress(PATH, math.prod(weights.shape("text.embed")))
    return {PATH: record}


def _append(weights: Weights, config: TextConfig, recipe: Recipe, data: DataFile) -> TensorRecord:
    scheme, mark = table_scheme(recipe, config.n_layers), data.mark()
    shape, distance = weights.shape("text.embed"), Distance()
    table = runs(weights, "text.embed")
    if scheme == "fp32":
        data.append(table, n_bytes=4 * math.prod(shape))
    elif scheme == IN_BLOCKS:
        n_blocks = shape[0] * FORMAT.blocks(shape[1])
        kept = None
        if carry.keeps(recipe, weights, ["text.embed"], IN_BLOCKS):
            kept = kept_runs(weights, "text.embed", IN_BLOCKS)
        data.append(_scales_last(_blocks(table, distance, kept)), n_bytes=n_blocks * (TABLE_BLOCK + 2))
    else:
        data.append(_scales_last(_rows(table, distance)), n_bytes=math.prod(shape) + 4 * shape[0])
    record = TensorRecord(scheme, distance.relative())
    data.finished(PATH, mark, record)
    return record


def add_shared_head(graph: Graph, x: str, config: TextConfig, *, name: str, half: bool = False) -> str:
    """Add `x @ table.T` over the bytes of embedding.bin. x: (..., H) -> (..., V); half: multiplied as float16."""
    shape = (config.vocab_size, config.hidden_size)
    n_blocks = FORMAT.blocks(config.hidden_size)
    dims = (config.vocab_size, n_blocks, TABLE_BLOCK)
    values = graph.elsewhere(f"{name}.weight", "uint8", dims, file=FILE, offset=0)
    scales = graph.elsewhere(
        f"{name}.scales", "float16", (config.vocab_size * n_blocks,), file=FILE, offset=math.prod(dims)
    )
    if half:
        x = graph.node("Cast", [x], f"{name}.in", to=HALF)
        out = blocks.product(graph, [x, values, scales], FORMAT, shape=shape, name=name)
        return graph.node("Cast", [out], f"{name}.float", to=FLOAT)
    single = graph.node("Cast", [scales], f"{name}.scales.float", to=FLOAT)
    return blocks.product(graph, [x, values, single], FORMAT, shape=shape, name=name)


def _scales_last(quantized: Iterable[tuple[Array, Array]]) -> Iterator[Array]:
    """One run of bytes: the values a run of rows at a time, then all scales without a gap."""
    scales: list[Array] = []
    for values, scale in quantized:
        scales.append(scale)
        yield values
    yield from chain(scales)


def _rows(table: Iterable[F32], distance: Distance) -> Iterator[tuple[Array, F32]]:
    for part in table:
        rows = int8.quantize(part)
        distance.add(part, int8.dequantize(rows))
        yield rows.values, rows.scales


def _blocks(table: Iterable[F32], distance: Distance, kept: Iterator[Kept] | None) -> Iterator[tuple[Array, F16]]:
    for part in table:
        rows = blocks.quantize(part, FORMAT) if kept is None else cast(Blocks, next(kept))
        if rows.scales.max(initial=0) > blocks.LARGEST_SCALE:
            raise GraphError(f"{PATH}: a weight of {np.abs(part).max():g} is too large for {IN_BLOCKS}, expected int8")
        scales = rows.scales.astype(np.float16)
        stored = Blocks(rows.values, scales.astype(np.float32), rows.zero_points)
        distance.add(part, blocks.dequantize(stored, columns=part.shape[1]))
        yield rows.values, scales
