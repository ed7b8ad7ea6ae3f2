"""The recipes that ship with the exporter, as far as sizes depend on them: which scheme each part of a model has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.bundle.manifest import Activations
from edge.errors import ParameterError


@dataclass(frozen=True)
class RecipeSchemes:
    """Schemes of a decoder's layers, of their last quarter (at least one layer), of head and table, and of towers.

    Where a recipe searches for the layers that need more bits, it finds as many as the last quarter at most.
    activations: fp16 for GPUs, with keys and values in float16.
    """

    layers: str
    last_quarter: str
    head: str
    table: str
    towers: str
    activations: Activations = "fp32"


RECIPES: Final[Mapping[str, RecipeSchemes]] = {
    "int4": RecipeSchemes("int4-block32", "int4-block32", "int8-block32", "int8-block32", "int8"),
    "int4-mixed": RecipeSchemes("int4-block32", "int8-block32", "int8-block32", "int8-block32", "int8"),
    "int8": RecipeSchemes("int8-block32", "int8-block32", "int8-block32", "int8-block32", "int8"),
    "w8a8": RecipeSchemes("int8", "int8", "int8", "int8", "int8"),
    "fp32": RecipeSchemes("fp32", "fp32", "fp32", "fp32", "fp32"),
    "fp16": RecipeSchemes("fp16", "fp16", "fp16", "int8-block32", "fp16", "fp16"),
    "int4-fp16": RecipeSchemes("int4-block32", "int4-block32", "int8-block32", "int8-block32", "fp16", "fp16"),
}
DEFAULT: Final = "int4-mixed"  # of a checkpoint that is planned for


def schemes_of(recipe: str) -> RecipeSchemes:
    """Return the schemes of a recipe by its name. Raises: ParameterError naming those there are."""
    if recipe not in RECIPES:
        raise ParameterError(f"recipe {recipe!r:.200}: expected one of {', '.join(RECIPES)}", field="recipe")
    return RECIPES[recipe]
