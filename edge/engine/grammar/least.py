"""How many bytes the instances of a schema have at least, reckoned before anything is compiled.

What is reckoned is never more than what is needed: a schema that is refused here has no instance that short. Schemas
are as `edge.engine.grammar.closing` leaves them.
"""

import math
from collections.abc import Iterable, Mapping

from edge.engine.grammar.expansion import size_of
from edge.errors import SchemaError

MOST_BYTES = 16_384  # of a shortest instance
_MAX_VISITS = 200_000

Definitions = dict[str, float]


def check_least(schema: Mapping[str, object], *, field: str) -> None:
    """Refuse a schema whose shortest instance is too long, or that has none. Raises: SchemaError."""
    least = _least_of(schema)
    if math.isinf(least):
        raise SchemaError(f"{field}: there is no instance of this schema that ends")
    if least > MOST_BYTES:
        raise SchemaError(
            f"{field}: expected a schema whose shortest instance has at most {MOST_BYTES} bytes, got one of "
            f"{least:.0f}: make minItems, minLength or minProperties smaller"
        )


def _least_of(schema: Mapping[str, object]) -> float:
    """Return the bytes of the shortest instance at least; 0 where reckoning takes too long."""
    definitions = schema.get("$defs")
    named = list(definitions.items())[::-1] if isinstance(definitions, Mapping) else []
    reckoning = _Reckoning(dict.fromkeys((str(name) for name, _ in named), math.inf))
    has_changed = True
    while has_changed and reckoning.n_visits < _MAX_VISITS:
        has_changed = False
        for name, node in named:
            least = reckoning.least(node)
            has_changed = has_changed or least < reckoning.known[str(name)]
            reckoning.known[str(name)] = least
    return 0 if has_changed else reckoning.least(schema)


class _Reckoning:
    """Reckons schemas by what is known of the definitions they refer to."""

    def __init__(self, known: Definitions) -> None:
        self.known = known
        self.n_visits = 0
        self._shortest: dict[str, int] = {}

    def least(self, node: object) -> float:
        """Return how many bytes an instance of a schema has at least, infinity where there is none that ends."""
        self.n_visits += 1
        if not isinstance(node, Mapping):
            return math.inf if node is False else 1
        parts = [self._own(node)]
        parts += [self.least(part) for part in node.get("allOf", ())]
        if "$ref" in node:
            parts.append(self.known.get(str(node["$ref"]).removeprefix("#/$defs/"), 0))
        if "anyOf" in node:
            parts.append(min(self.least(part) for part in node["anyOf"]))
        return max(parts)

    def _own(self, node: Mapping[str, object]) -> float:
        if "const" in node:
            return _written(node["const"])
        values = node.get("enum")
        if isinstance(values, list):
            return min(map(_written, values))
        said = node.get("type")
        kinds = [said] if isinstance(said, str) else said if isinstance(said, list) else ["number"]
        return min(self._of_type(kind, node) for kind in kinds)

    def _of_type(self, kind: object, node: Mapping[str, object]) -> float:
        if kind == "string":
            return 2 + max(_count(node, "minLength"), self._of_pattern(node.get("pattern")))
        if kind == "array":
            return self._of_array(node)
        if kind == "object":
            return self._of_object(node)
        return 1 if kind in ("number", "integer") else 4

    def _of_pattern(self, pattern: object) -> int:
        if not isinstance(pattern, str):
            return 0
        if pattern not in self._shortest:
            self._shortest[pattern] = size_of(pattern).n_shortest
        return self._shortest[pattern]

    def _of_array(self, node: Mapping[str, object]) -> float:
        fewest, items, first = _count(node, "minItems"), node.get("items", True), node.get("prefixItems", [])
        if isinstance(items, list):  # of drafts up to 2019-09
            items, first = node.get("additionalItems", True), items
        leading = first[:fewest] if isinstance(first, list) else []
        n_others = fewest - len(leading)
        return 2 + _joined([self.least(item) for item in leading], self.least(items) if n_others else 0, n_others)

    def _of_object(self, node: Mapping[str, object]) -> float:
        properties, required = node.get("properties"), node.get("required", [])
        named = properties if isinstance(properties, Mapping) else {}
        others = True if "patternProperties" in node else node.get("additionalProperties", True)
        names = required if isinstance(required, list) else []
        values = [len(name) + 4 + self.least(named.get(name, others)) for name in names]
        return 2 + _joined(values, 5, max(0, _count(node, "minProperties") - len(values)))


def _joined(values: list[float], other: float, n_others: int) -> float:
    """Return the bytes of values with ", " between them: those listed, and further ones that are alike."""
    n = len(values) + n_others
    return sum(values) + (other * n_others if n_others else 0) + 2 * max(0, n - 1)


def _count(node: Mapping[str, object], key: str) -> int:
    value = node.get(key)
    return value if isinstance(value, int) else 0


def _written(value: object) -> float:
    """Return how many bytes a value takes at least."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, Mapping):
        return 2 + _joined([len(str(key)) + 4 + _written(item) for key, item in value.items()], 0, 0)
    if isinstance(value, Iterable):
        return 2 + _joined([_written(item) for item in value], 0, 0)
    return 1 if isinstance(value, int | float) and not isinstance(value, bool) else 4
