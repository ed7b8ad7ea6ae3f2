"""The names of a bundle: its id, from its checkpoint and recipe, and its aliases."""

import re
from collections.abc import Sequence
from typing import Final

from export.errors import OutputError

FAMILY_ALIASES: Final = ("reka-edge", "reka-flash")  # what a bundle of such a name answers to

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def default_id(name: str, recipe: str) -> str:
    """The name of a checkpoint, and the recipe behind it unless it is there already."""
    return name if name.endswith(f"-{recipe}") else f"{name}-{recipe}"


def checked_aliases(bundle_id: str, aliases: Sequence[str]) -> tuple[str, ...]:
    """The aliases of a bundle, those of its family unless some are given, checked together with its id.

    Raises: OutputError for what is no name.
    """
    aliases = aliases or tuple(alias for alias in FAMILY_ALIASES if bundle_id.startswith(alias))
    for each in (bundle_id, *aliases):
        if not _NAME.fullmatch(each):
            raise OutputError(f"{each!r} as id or alias: expected letters, digits, dots and dashes, at most 100 (--id)")
    return tuple(sorted(set(aliases) - {bundle_id}))
