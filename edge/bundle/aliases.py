"""Further names for models: as they are written in an option, in EDGE_ALIAS and beside the bundles."""

import os
from collections.abc import Mapping

from edge.errors import ParameterError

VARIABLE = "EDGE_ALIAS"

_MAX_CHARS = 200  # of a name


def pair(text: str, *, field: str) -> tuple[str, str]:
    """Return the two names of NAME=MODEL. field: what the error calls the place. Raises: ParameterError."""
    name, separator, target = (part.strip() for part in text.partition("="))
    if not (separator and _is_name(name) and _is_name(target)):
        raise ParameterError(f"{field} {text!r:.200}: expected NAME=MODEL, such as reka-core=reka-edge", field=field)
    return name, target


def parse(text: str, *, field: str) -> dict[str, str]:
    """Return models by name of NAME=MODEL,NAME=MODEL...; the last of a name counts. Raises: ParameterError."""
    return dict(pair(item, field=field) for item in text.split(",") if item.strip())


def of_environment() -> dict[str, str]:
    """Return what EDGE_ALIAS says, nothing where it is not set. Raises: ParameterError."""
    return parse(os.environ.get(VARIABLE, ""), field=VARIABLE)


def lines(named: Mapping[str, str]) -> str:
    """Return names and models as a file holds them: NAME=MODEL, a line each, sorted."""
    return "\n".join(f"{name}={target}" for name, target in sorted(named.items()))


def of_lines(text: str) -> dict[str, str]:
    """Return what a file of `lines` holds; a line that is none is passed over."""
    found = (line.partition("=") for line in text.splitlines())
    return {name: target for name, _, target in found if _is_name(name) and _is_name(target)}


def _is_name(text: str) -> bool:
    """Whether a text can be a model's name: printable, without what separates names from each other."""
    return 0 < len(text) <= _MAX_CHARS and text.isprintable() and not set(text) & set(",= ")
