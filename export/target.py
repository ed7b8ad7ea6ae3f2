"""What a search for the schemes of a decoder's layers keeps within, and a recipe as that and --calibrate leave it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from export.errors import RecipeError
from export.quantize.blocks import format_of
from export.recipe import Recipe

_UNITS: Final = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Target:
    """What a search for the schemes of the decoder's layers keeps within: the bundle's bytes, or the mean KL
    divergence that it expects, in nats. One of the two.
    """

    n_bytes: float | None = None
    kl: float | None = None


def target(size: str | None, kl: float | None) -> Target | None:
    """The target of a command line, None without one. size: bytes, or with K, M or G (powers of 1 000).

    Raises: RecipeError.
    """
    if size is None and kl is None:
        return None
    if size is not None and kl is not None:
        raise RecipeError("--target-size and --target-kl: expected one of them")
    if kl is not None and not kl > 0:
        raise RecipeError(f"--target-kl is {kl:g}: expected a number above 0")
    return Target(None if size is None else _bytes(size), kl)


def settled(recipe: Recipe, calibrate: Path | Literal["off"] | None, target: Target | None) -> Recipe:
    """The recipe as the other choices leave it. Raises: RecipeError for those that do not go together, or do nothing.

    calibrate: a file of texts, "off", or None for what the recipe says.
    """
    if target is not None and (calibrate == "off" or recipe.carry):
        found = f"recipe {recipe.name}" if recipe.carry else "--calibrate off"
        raise RecipeError(f"a search for a size or a divergence calibrates and chooses anew, got {found}")
    if calibrate == "off":
        return replace(recipe, calibrate=False, search=None)
    if target is None and calibrate is not None and not _has_blocks(recipe):
        raise RecipeError(
            f"--calibrate FILE: recipe {recipe.name} has no scheme whose values calibration chooses (int4-block32 and"
            " the like): expected another recipe, such as int4"
        )
    return recipe if target is None and calibrate is None else replace(recipe, calibrate=True)


def _has_blocks(recipe: Recipe) -> bool:
    """Whether anything may be in blocks; kept values are refused by who keeps them."""
    return recipe.carry or any(format_of(rule.scheme) is not None for rule in recipe.rules)


def _bytes(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise RecipeError(f"--target-size is {text[:40]!r}: expected a size such as 900M or 4.5G")
    return float(match[1]) * _UNITS[match[2].upper()]
