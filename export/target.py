"""What a search for the schemes of a decoder's layers keeps within."""

import re
from dataclasses import dataclass
from typing import Final

from export.errors import RecipeError

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


def _bytes(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise RecipeError(f"--target-size is {text[:40]!r}: expected a size such as 900M or 4.5G")
    return float(match[1]) * _UNITS[match[2].upper()]
