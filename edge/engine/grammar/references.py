"""How deep the schemas of a schema lie in each other, through references too: llguidance's stack holds only so many.

llguidance 1.9 follows references by recursion, each target once: a chain of a thousand of them overruns a stack of
8 MiB, and that ends the process. Here nothing recurses through a reference.
"""

import graphlib
import urllib.parse
from collections.abc import Iterator, Mapping

from edge.errors import SchemaError

MAX_LEVELS = 800  # of 2 to 5 KiB of stack each; a thread has 8 MiB

Schema = Mapping[str, object]

_APART = frozenset({"$defs", "definitions"})  # reached by references alone


def check_levels(schema: Schema, *, field: str) -> None:
    """Refuse what llguidance's stack may not hold. Raises: SchemaError with both numbers."""
    try:
        n_levels = _levels(schema)
    except RecursionError as error:
        raise SchemaError(f"{field}: expected fewer levels of nested schemas") from error
    if n_levels > MAX_LEVELS:
        raise SchemaError(
            f"{field}: expected at most {MAX_LEVELS} levels of schemas in each other, references followed, "
            f"got {n_levels}"
        )


def _levels(schema: Schema) -> int:
    """Return a bound of the levels: the very number where references form no circle."""
    deepest: dict[str, int] = {}  # of each target, without its references
    at: dict[str, dict[str, int]] = {}  # of each target, the level of each reference in it
    waiting, known = ["#"], {"#"}
    while waiting:
        name = waiting.pop()
        target = _target(schema, name)
        if target is None:  # an anchor, or another document's name: anything may lie behind it
            return _size(schema)
        deepest[name], at[name] = 0, {}
        for node, level in _nodes(target, 1):
            if "$id" in node and node is not schema:  # what its references stand for is another question
                return _size(schema)
            deepest[name] = max(deepest[name], level)
            to = node.get("$ref")
            if isinstance(to, str):
                waiting += {to} - known
                known.add(to)
                at[name][to] = max(level, at[name].get(to, 0))
    try:
        order = [*graphlib.TopologicalSorter(at).static_order()]
    except graphlib.CycleError:  # on its way each target is gone through once
        return sum(deepest.values())
    for name in order:
        deepest[name] = max((deepest[name], *(level + deepest[to] for to, level in at[name].items())))
    return deepest["#"]


def _target(schema: Schema, name: str) -> object:
    """Return what a reference points at, None where that is not plain."""
    if not name.startswith("#/"):
        return schema if name == "#" else None
    value: object = schema
    for step in urllib.parse.unquote(name[2:]).split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping):
            value = value.get(key)
    return value


def _nodes(value: object, level: int, *, whole: bool = False) -> Iterator[tuple[Schema, int]]:
    """Yield every object in a schema with its level; whole: those that only references reach, too."""
    if isinstance(value, Mapping):
        yield value, level
        for key, item in value.items():
            if whole or key not in _APART:
                yield from _nodes(item, level + 1, whole=whole)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item, level, whole=whole)


def _size(schema: Schema) -> int:
    return sum(1 for _ in _nodes(schema, 1, whole=True))
