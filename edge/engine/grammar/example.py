"""A short instance of a schema, guessed from what the schema says: the grammar checks it, and a search may shorten it.

Schemas are as `edge.engine.grammar.format.prepare` leaves them.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from edge.engine.grammar.pattern import match_of

_MAX_VISITS = 20_000
_MAX_LEVELS = 64
_MAX_CHARS = 16_384
_OF_FORMATS = {
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "P1D",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "ipv4": "0.0.0.0",
    "ipv6": "::",
    "email": "a@a",
    "hostname": "a",
    "uri": "a:",
}
_MERGED = ("properties", "required", "allOf")

Schema = Mapping[str, object]


def example_of(schema: Schema) -> str | None:
    """Return an instance, most likely, as it is written; None where nothing short comes to mind."""
    definitions = schema.get("$defs")
    guess = _Guess(definitions if isinstance(definitions, Mapping) else {})
    try:
        return guess.value(schema, 0)
    except (RecursionError, ArithmeticError):
        return None


class _Guess:
    """Guesses values, and gives up where it takes long."""

    def __init__(self, definitions: Schema) -> None:
        self._definitions = definitions
        self._n_visits = 0

    def value(self, node: object, level: int) -> str | None:
        """Return a value as it is written, None where none was thought of."""
        self._n_visits += 1
        if level > _MAX_LEVELS or self._n_visits > _MAX_VISITS or node is False:
            return None
        if not isinstance(node, Mapping):
            return "0"
        if "allOf" in node or ("$ref" in node and len(node.keys() - {"$ref", "$defs"}) > 0):
            node = self._merged(node, level)
        if "$ref" in node:
            return self.value(self._target(node), level + 1)
        if "const" in node or "enum" in node:
            values = [node["const"]] if "const" in node else _listed(node["enum"])
            return min((_written(value) for value in values), key=len)
        if "anyOf" in node:
            rest = {key: item for key, item in node.items() if key != "anyOf"}
            options = [{"allOf": [rest, option]} if rest else option for option in _listed(node["anyOf"])]
            return _shortest(self.value(option, level + 1) for option in options)
        said = node.get("type", ["number", "null", "string", "array", "object"])
        kinds = [said] if isinstance(said, str) else _listed(said)
        return _shortest(self._of_type(str(kind), node, level) for kind in kinds)

    def _target(self, node: Schema) -> object:
        return self._definitions.get(str(node["$ref"]).removeprefix("#/$defs/"), False)

    def _merged(self, node: Schema, level: int) -> Schema:
        """Return one schema for several that hold at once; of keywords that differ, what is said last."""
        merged: dict[str, object] = {key: item for key, item in node.items() if key not in ("allOf", "$ref", "$defs")}
        parts = [*_listed(node.get("allOf"))] + ([self._target(node)] if "$ref" in node else [])
        for part in parts:
            self._n_visits += 1
            if not isinstance(part, Mapping) or level > _MAX_LEVELS:
                continue
            flat = self._merged(part, level + 1) if "allOf" in part or "$ref" in part else part
            both = {**_mapped(merged.get("properties"))}
            for name, item in _mapped(flat.get("properties")).items():
                both[name] = item if both.get(name, True) is True else both[name]
            required = [*dict.fromkeys([*_listed(merged.get("required")), *_listed(flat.get("required"))])]
            merged = {**flat, **merged, "properties": both, "required": required}
        return {key: item for key, item in merged.items() if item or key not in _MERGED}

    def _of_type(self, kind: str, node: Schema, level: int) -> str | None:
        match kind:
            case "null":
                return "null"
            case "boolean":
                return "true"
            case "string":
                text = _text(node)
                return None if text is None else json.dumps(text, ensure_ascii=False)
            case "array":
                return self._array(node, level)
            case "object":
                return self._object(node, level)
        return _number(node, is_whole=kind == "integer")

    def _array(self, node: Schema, level: int) -> str | None:
        fewest, items = _count(node, "minItems"), node.get("items", True)
        first = _listed(items) or _listed(node.get("prefixItems"))
        if isinstance(items, list):  # of drafts up to 2019-09
            items = node.get("additionalItems", True)
        if fewest > _MAX_CHARS:
            return None
        values = [self.value(item, level + 1) for item in first[:fewest]]
        if fewest > len(values):
            values += [self.value(items, level + 1)] * (fewest - len(values))
        return None if None in values else "[" + ", ".join(map(str, values)) + "]"

    def _object(self, node: Schema, level: int) -> str | None:
        properties, required = _mapped(node.get("properties")), _listed(node.get("required"))
        others = node.get("additionalProperties", True)
        names = [*(name for name in properties if name in required)]
        names += [str(name) for name in required if name not in properties]
        fewest = _count(node, "minProperties")
        if fewest > _MAX_CHARS:
            return None
        further = _names_of(node, {*properties, *map(str, required)})
        values = {name: self.value(properties.get(name, others), level + 1) for name in names}
        if len(values) < fewest:
            patterns = _mapped(node.get("patternProperties"))
            rest = self.value(others if others is not False else next(iter(patterns.values()), False), level + 1)
            values.update((name, rest) for name, _ in zip(further, range(fewest - len(values)), strict=False))
        if None in values.values():
            return None
        return "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {it}" for name, it in values.items()) + "}"


def _names_of(node: Schema, taken: set[str]) -> Iterator[str]:
    """Yield names that an object may have besides those that its schema says."""
    pattern = next(iter(_mapped(node.get("patternProperties"))), None)
    is_open = node.get("additionalProperties", True) is not False
    stem = "" if is_open or pattern is None else match_of(pattern) or ""
    return (name for name in (f"{stem}{i}" for i in range(_MAX_CHARS)) if name not in taken)


def _text(node: Schema) -> str | None:
    pattern, form = node.get("pattern"), node.get("format")
    fewest = _count(node, "minLength")
    text = match_of(pattern) if isinstance(pattern, str) else _OF_FORMATS.get(str(form), "")
    if text is None or fewest > _MAX_CHARS:
        return None
    return text + "a" * (fewest - len(text))


def _number(node: Schema, *, is_whole: bool) -> str | None:
    """Return the number nearest to zero, or nearly so, within bounds that is a multiple of what is said."""
    low = max(_bounds(node, "minimum", "exclusiveMinimum"), default=None)
    high = min(_bounds(node, "maximum", "exclusiveMaximum"), default=None)
    divisor = node.get("multipleOf")
    step = Decimal(repr(divisor)) if isinstance(divisor, int | float) else Decimal(1)
    if is_whole and step % 1:
        step *= step.as_integer_ratio()[1]
    start = low if low is not None and low > 0 else high if high is not None and high < 0 else Decimal(0)
    nearest = math.floor(start / step) * step
    candidates = [nearest + step * n for n in (0, 1, 2, -1)]
    if divisor is None and not is_whole:
        candidates += [start] + ([(low + high) / 2] if low is not None and high is not None else [])
    return next((format(number, "f") for number in candidates if _is_within(number, node)), None)


def _bounds(node: Schema, *keys: str) -> list[Decimal]:
    return [Decimal(repr(bound)) for bound in map(node.get, keys) if isinstance(bound, int | float)]


def _is_within(number: Decimal, node: Schema) -> bool:
    checks = {"minimum": number.__ge__, "exclusiveMinimum": number.__gt__, "maximum": number.__le__}
    checks["exclusiveMaximum"] = number.__lt__
    return all(
        check(Decimal(repr(node[key]))) for key, check in checks.items() if isinstance(node.get(key), int | float)
    )


def _written(value: object) -> str:
    """Return a value as the grammar writes it: as json.dumps does, numbers without exponents."""
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_written(it)}" for key, it in value.items()) + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)


def _shortest(texts: Iterator[str | None]) -> str | None:
    return min((text for text in texts if text is not None), key=len, default=None)


def _count(node: Schema, key: str) -> int:
    value = node.get(key)
    return value if isinstance(value, int) else 0


def _mapped(value: object) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
