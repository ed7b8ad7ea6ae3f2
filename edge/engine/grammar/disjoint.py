"""Whether no instance that is written for one of several schemas fits another, told from what the schemas say.

What is not seen is taken to overlap. An instance is written by a schema as `closing` leaves it, which allows less
than the schema as it is given; whether it fits the others is a question of those as they are given.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence

Definitions = Mapping[str, object]

_MAX_LEVELS = 12
_MAX_COMPARED = 50_000
_TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})
# Of each type: the keywords of its smallest and largest.
_RANGES = {
    "number": ("minimum", "maximum"),
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


class Definition(str):
    """A reference to a definition of ours, whatever the definitions of the schema as it is given are called."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The definition's name."""
        return self.removeprefix("#/$defs/")


class Comparison:
    """Compares schemas in pairs; gives up, which is to say that they overlap, where it takes long.

    definitions: ours; find: returns what a reference of the schema as it is given leads to.
    """

    def __init__(self, definitions: Definitions, find: Callable[[str], object] = lambda _: None) -> None:
        self._definitions = definitions
        self._find = find
        self._n_compared = 0

    def are_disjoint(self, written: Sequence[object], given: Sequence[object]) -> bool:
        """Tell whether it is certain that no instance of one of `written` fits another one of those given."""
        if self._are_tagged(written, given):
            return True
        return all(self.disjoint(a, b) for i, a in enumerate(written) for j, b in enumerate(given) if i != j)

    def _are_tagged(self, written: Sequence[object], given: Sequence[object]) -> bool:
        """Tell whether a property that all require has other values in each: of hundreds this is soon told."""
        nodes = [self._plain(node) for node in (*written, *given)]
        common = [set(map(str, _listed(node.get("required")))) for node in nodes[: len(written)]]
        for name in sorted(set.intersection(*common)) if common else ():
            properties = [self._plain(_property(node, name)) for node in nodes]
            values = [_values(node) for node in properties]
            given_values = [found for found in values[len(written) :] if found is not None]
            n_values = len(frozenset().union(*given_values))
            if None not in values and n_values == sum(map(len, given_values)):
                return True
        return False

    def _plain(self, node: object) -> Mapping[str, object]:
        """Return what a schema says by itself, references without siblings followed."""
        for _ in range(_MAX_LEVELS):
            if not isinstance(node, Mapping) or "$ref" not in node:
                break
            node = self._target(node["$ref"])
        return node if isinstance(node, Mapping) else {}

    def _target(self, reference: object) -> object:
        if isinstance(reference, Definition):
            return self._definitions.get(reference.name)
        return self._find(reference) if isinstance(reference, str) else None

    def disjoint(self, a: object, b: object, level: int = 0) -> bool:
        """Tell whether it is certain that no instance fits both."""
        self._n_compared += 1
        if level > _MAX_LEVELS or self._n_compared > _MAX_COMPARED:
            return False
        if a is False or b is False:
            return True
        if not isinstance(a, Mapping) or not isinstance(b, Mapping):
            return False
        return self._by_parts(a, b, level) or self._by_parts(b, a, level) or self._by_own(a, b, level)

    def _by_parts(self, a: Mapping[str, object], b: Mapping[str, object], level: int) -> bool:
        """Tell by what a schema is made of: one that must hold is disjoint, or all alternatives are."""
        reference = a.get("$ref")
        if isinstance(reference, str) and self.disjoint(self._target(reference), b, level + 1):
            return True
        if any(self.disjoint(part, b, level + 1) for part in _listed(a.get("allOf"))):
            return True
        choices = [_listed(a[key]) for key in ("anyOf", "oneOf") if key in a]
        return any(all(self.disjoint(part, b, level + 1) for part in options) for options in choices)

    def _by_own(self, a: Mapping[str, object], b: Mapping[str, object], level: int) -> bool:
        """Tell by the keywords of two schemas themselves: by values, types, ranges and properties."""
        values_a, values_b = _values(a), _values(b)
        if values_a is not None and values_b is not None and not values_a & values_b:
            return True
        common = _types(a) & _types(b)
        return all(_apart(a, b, kind) or (kind == "object" and self._by_key(a, b, level)) for kind in common)

    def _by_key(self, a: Mapping[str, object], b: Mapping[str, object], level: int) -> bool:
        """Tell whether two objects differ in a key that one of them requires."""
        required = dict.fromkeys(str(name) for node in (a, b) for name in _listed(node.get("required")))
        return any(self.disjoint(_property(a, name), _property(b, name), level + 1) for name in required)


def _property(node: Mapping[str, object], name: str) -> object:
    properties = node.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return properties[name]
    return True if "patternProperties" in node else node.get("additionalProperties", True)


def _values(node: Mapping[str, object]) -> frozenset[str] | None:
    """Return the only values of a schema, written alike where they are equal; None where it lists none."""
    values = [node["const"]] if "const" in node else node.get("enum")
    return frozenset(map(_written, values)) if isinstance(values, list | tuple) else None


def _written(value: object) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: object) -> object:
    """Return a value whose numbers are floats, for 1 and 1.0 are one number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _types(node: Mapping[str, object]) -> frozenset[str]:
    values = [node["const"]] if "const" in node else node.get("enum")
    if isinstance(values, list | tuple):
        return frozenset(map(_type_of, values))
    said = node.get("type")
    names = [said] if isinstance(said, str) else said if isinstance(said, list) else _TYPES
    return frozenset("number" if name == "integer" else str(name) for name in names)


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        ((int, float), "number"), (str, "string"), ((list, tuple), "array"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")


def _apart(a: Mapping[str, object], b: Mapping[str, object], kind: str) -> bool:
    """Tell whether the ranges of two schemas for one type have nothing in common."""
    keys = _RANGES.get(kind)
    return keys is not None and any(
        _bound(x, keys[1], math.inf) < _bound(y, keys[0], -math.inf) for x, y in ((a, b), (b, a))
    )


def _bound(node: Mapping[str, object], key: str, default: float) -> float:
    value = node.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
