"""Tensors of a GGUF file kept as they are: the same levels, the same scales, in the scheme that has the same grid.

Rotation and calibration would move the values off their grid, so a kept tensor has neither.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np
from gguf.quants import Q4_K

from edge.bundle.manifest import Scheme
from export.arrays import F32, U8
from export.checkpoint.names import Weights, expected
from export.errors import RecipeError
from export.quantize import blocks, minimums
from export.quantize.blocks import Blocks, Format, format_of
from export.quantize.minimums import MinBlocks
from export.recipe import Recipe, Rule

Kept = Blocks | MinBlocks

# Types whose values are a whole number of levels times a float16 at the start of each block of 32: its bytes.
_SCALED: Final[Mapping[str, int]] = {"Q8_0": 34, "Q5_0": 22, "Q4_0": 18, "IQ4_NL": 18}
# Which types each scheme keeps, the smallest scheme first. Q4_K's scales, products of two, are rounded to float16.
HOLDS: Final[Mapping[Scheme, frozenset[str]]] = {
    "int4-block32": frozenset({"Q4_0"}),
    "int4-block32-min": frozenset({"Q4_0", "Q4_1", "Q4_K"}),
    "int8-block32": frozenset(_SCALED),
}
OTHERS: Final[Scheme] = "int8-block32"  # for every other type: the smallest scheme that loses next to nothing
_TABLE: Final = "decoder.embed"
_HEAD: Final = "decoder.head"


def scheme_of(kinds: Sequence[str], *, table: bool = False) -> Scheme:
    """The scheme for rows stored as these types, one layer's together. table: for the embedding table."""
    for scheme, held in HOLDS.items():
        if held.issuperset(kinds) and not (table and scheme != OTHERS):
            return scheme
    return OTHERS


def resolve(recipe: Recipe, weights: Weights, path_of: Callable[[str], str | None]) -> Recipe:
    """The recipe with a rule for every tensor that can keep its values, and for the others of the decoder.

    path_of: the recipe path of a role, None for what no recipe speaks of.
    Raises: RecipeError if the checkpoint is no GGUF file, or the values would be moved besides.
    """
    if recipe.calibrate or recipe.rotate or recipe.search is not None:
        raise RecipeError(
            f"recipe {recipe.name} keeps the values of a file: they are not calibrated, rotated or searched; choose"
            " another, such as --recipe int4"
        )
    if not weights.checkpoint.parts:
        raise RecipeError(f"recipe {recipe.name} keeps the values of a GGUF file, and the checkpoint is none")
    kinds: dict[str, list[str]] = {}
    for role, _ in expected(weights.checkpoint.config):
        path = path_of(role)
        if path is not None:
            kinds.setdefault(path, []).append(weights.kind(role))
    table, tied = scheme_of(kinds.pop(_TABLE), table=True), weights.checkpoint.config.text.tied
    head = table if tied else scheme_of(kinds[_HEAD])
    kinds.pop(_HEAD)
    # Outside of the decoder, what cannot be kept is stored as the recipe's own rules say.
    rules = [
        Rule(path, scheme_of(found)) for path, found in kinds.items() if _is_kept(found) or path.startswith("decoder.")
    ]
    return replace(recipe, rules=(*recipe.rules, *rules, Rule(_TABLE, table), Rule(_HEAD, head)))


def _is_kept(kinds: Sequence[str]) -> bool:
    return any(held.issuperset(kinds) for held in HOLDS.values())


def keeps(recipe: Recipe, weights: Weights, roles: Sequence[str], scheme: Scheme) -> bool:
    """Whether rows of all these roles are kept in a scheme."""
    held = HOLDS.get(scheme, frozenset())
    return recipe.carry and all(weights.kind(role) in held for role in roles)


def kept_rows(weights: Weights, role: str, rows: slice, scheme: Scheme) -> Kept:
    """Some rows in a scheme that keeps them."""
    kind, stored = weights.kind(role), weights.stored_rows(role, rows)
    form = format_of(scheme)
    if form is None:
        return _with_minimums(kind, stored)
    return _scaled(weights.tensor(role, rows=rows), stored.reshape(len(stored), -1, _SCALED[kind]), form)


def dequantize(kept: Kept, *, columns: int) -> F32:
    """The matrix (rows, columns) that kept rows stand for."""
    if isinstance(kept, MinBlocks):
        return minimums.dequantize(kept, columns=columns)
    return blocks.dequantize(kept, columns=columns)


def reordered(kept: Kept, order: Callable[[F32], F32]) -> Kept:
    """The same rows in another order."""
    if isinstance(kept, MinBlocks):
        return MinBlocks(_apply(order, kept.values), order(kept.scales), order(kept.minimums))
    return Blocks(_apply(order, kept.values), order(kept.scales), _apply(order, kept.zero_points))


def _apply(order: Callable[[F32], F32], values: U8) -> U8:
    return cast(U8, order(cast(F32, values)))


def _scaled(values: F32, stored: U8, form: Format) -> Blocks:
    """Levels are what the values are in units of their scales. stored: (rows, blocks, bytes of a block)."""
    scales = _half(stored[..., :2])  # (rows, blocks)
    divisors = np.where(scales != 0, scales, np.float32(1))[..., None]
    levels = np.rint(values.reshape(*scales.shape, form.block) / divisors) + form.middle
    return Blocks(levels.astype(np.uint8), scales, np.full(scales.shape, form.middle, np.uint8))


def _with_minimums(kind: str, stored: U8) -> MinBlocks:
    if kind == "Q4_K":
        return _q4_k(stored.reshape(-1, 144), len(stored))
    parts = stored.reshape(len(stored), -1, 20 if kind == "Q4_1" else 18)
    scales, nibbles = _half(parts[..., :2]), parts[..., -16:]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1)
    return MinBlocks(values, scales, _half(parts[..., 2:4]) if kind == "Q4_1" else scales * np.float32(-8))


def _q4_k(stored: U8, n_rows: int) -> MinBlocks:
    """Blocks of 256, each with a scale and a step of its minimums for all, and eight scales and minimums of 6 bits."""
    steps, levels = Q4_K.get_scale_min(stored[:, 4:16])
    scales = _half(stored[:, :2])[:, None] * steps.astype(np.float32)
    least = -_half(stored[:, 2:4])[:, None] * levels.astype(np.float32)
    pairs = stored[:, 16:].reshape(-1, 4, 1, 32) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    values: U8 = (pairs & np.uint8(15)).astype(np.uint8).reshape(n_rows, -1, 32)
    return MinBlocks(values, _rounded(scales, n_rows), _rounded(least, n_rows))


def _half(stored: U8) -> F32:
    """Two bytes each as a float16. (..., 2) -> (...)"""
    return np.ascontiguousarray(stored).view("<f2")[..., 0].astype(np.float32)


def _rounded(values: F32, n_rows: int) -> F32:
    return values.astype(np.float16).astype(np.float32).reshape(n_rows, -1)
