"""Random JSON schemas of every keyword, supported or not, with an instance or without; and what checks instances."""

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import jsonschema

from edge.engine.grammar.keywords import FORMATS as SUPPORTED
from tests.edge.engine.grammar.schemas import FORMATS, Schema

_NAMES = ("a", "b", "kind", "value", "x y", "é", 'q"u', "items", "0", "enum")
_WORDS = ("", "red", "a longer word", "naïve", 'quo"te', "back\\slash", "tab\t", "新", "1.5", "null")
_NUMBERS = (
    0, 1, -1, 7, 100, 2.5, -0.5, 0.1, 1e-9, 123456789, 10**15, 2**53, 10**18, 10**30, 10**70, 1e300, 5e-324, -1e-7,
)  # fmt: skip
_DIVISORS = (1, 2, 3, 5, 7, 10, 12, 100, 360, 0.1, 0.01, 0.5, 0.25, 1.5, 0.003, 1000)
_PATTERNS = (
    "^[a-z]{2,5}$", "^(red|green|blue)$", "^[A-Z]+-[0-9]{3}$", "a.c", "^x*y$", "[0-9]",
    "^(a{0,50}b{0,50}c{0,50}){0,50}$", "^(a{100}){10}$", "^\\w+@\\w+\\.com$", "^$", "^(a|aa){1,40}$", "^[^0-9]*$",
    "^(ab?){3,}$", "\\.", "^\\d{4}-\\d{2}$",
    "^.{3}$", "^(?:yes|no)?$", "(?=a)", "^(a{1000}){1000}$", "^a?a?a?a?aaaa$", "^[é-ü]{2}$", "^(x{2,4}){2,4}$",
)  # fmt: skip
_FORMATS = (
    "date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "email", "hostname", "uri",
    "password", "regex", "x",
)  # fmt: skip
_UNSUPPORTED: tuple[Schema, ...] = (
    {"not": {"type": "string"}}, {"uniqueItems": True}, {"contains": {}}, {"propertyNames": {"maxLength": 3}},
    {"if": {"type": "null"}, "then": {}}, {"dependentRequired": {"a": ["b"]}}, {"unevaluatedItems": False},
)  # fmt: skip
_ANNOTATIONS: tuple[Schema, ...] = (
    {"title": "T"}, {"description": "d"}, {"default": None}, {"examples": [1]}, {"deprecated": True}, {"$comment": "c"},
    {"readOnly": True}, {"contentEncoding": "base64"}, {"x-more": {"not": {}}}, {"nullable": True},
)  # fmt: skip


class _Number(float):
    """A float that knows how it was written."""

    text: str

    def __new__(cls, text: str) -> "_Number":
        number = super().__new__(cls, text)
        number.text = text
        return number


class _Validates:
    """jsonschema's validator, with divisions that are exact."""

    number = _Number

    def __init__(self) -> None:
        kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"multipleOf": self._multiple})
        self._kind: Any = kind

    def problem(self, schema: Schema, value: object) -> object:
        """Return what is wrong with an instance, None for nothing."""
        try:
            return next(iter(self._kind(schema, format_checker=_CHECKED).iter_errors(value)), None)
        except RecursionError:  # a schema that refers to itself and nothing else: no validator tells
            return None

    @staticmethod
    def _multiple(
        validator: object, divisor: float, value: object, schema: object
    ) -> Iterator[jsonschema.ValidationError]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            exact = Fraction(value.text) if isinstance(value, _Number) else Fraction(repr(value))
            if exact % Fraction(repr(divisor)):
                yield jsonschema.ValidationError(f"{value} is not a multiple of {divisor}")


_CHECKED = jsonschema.FormatChecker(())
_CHECKED.checkers = {name: check for name, check in FORMATS.checkers.items() if name in SUPPORTED}
VALIDATES = _Validates()


def any_schema(rng: random.Random) -> Schema:
    """Return a schema, in one of six with references, some of which go round."""
    schema = _schema(rng, 3)
    if rng.randrange(6):
        return schema
    definitions = {name: _schema(rng, 2, refers=True) for name in ("one", "two")}
    return {**_schema(rng, 2, refers=True), "$defs": definitions}


def _schema(rng: random.Random, depth: int, *, refers: bool = False) -> Schema:
    if refers and rng.random() < 0.3:
        return {"$ref": rng.choice(("#", "#/$defs/one", "#/$defs/two"))}
    if depth == 0 or rng.random() < 0.35:
        schema = rng.choice((_string, _string, _number, _number, _values, _plain))(rng)
    else:
        schema = rng.choice((_object, _object, _array, _composed))(rng, depth - 1, refers)
    if rng.random() < 0.1:
        schema = {**schema, **rng.choice(_ANNOTATIONS)}
    if rng.random() < 0.01:
        schema = {**schema, **rng.choice(_UNSUPPORTED)}
    return schema


def _plain(rng: random.Random) -> Schema:
    kinds = ("null", "boolean", "string", "integer", "number", "object", "array")
    return rng.choice(({}, {"type": rng.choice(kinds)}, {"type": rng.sample(kinds, 2)}))


def _some(rng: random.Random, schema: Schema, share: float = 0.35) -> Schema:
    """Return some of the keywords."""
    return {key: value for key, value in schema.items() if rng.random() < share}


def _string(rng: random.Random) -> Schema:
    low = rng.choice((0, 1, 3, 10, 200, 5000))
    lengths: Schema = {"minLength": low, "maxLength": low + rng.randrange(30)}
    more = {**lengths, "pattern": rng.choice(_PATTERNS), "format": rng.choice(_FORMATS)}
    return {"type": "string", **_some(rng, more)}


def _number(rng: random.Random) -> Schema:
    low, high = sorted(rng.sample(_NUMBERS, 2))
    if rng.random() < 0.5:
        low = rng.randrange(-1000, 1000)
        high = low + rng.choice((0, 1, 7, 500, 0.5))
    bounds: Schema = {
        rng.choice(("minimum", "exclusiveMinimum")): low,
        rng.choice(("maximum", "exclusiveMaximum")): high,
    }
    return {
        "type": rng.choice(("integer", "number")),
        **_some(rng, {**bounds, "multipleOf": rng.choice(_DIVISORS)}, 0.5),
    }


def _value(rng: random.Random, depth: int = 2) -> object:
    if depth and rng.random() < 0.25:
        if rng.random() < 0.5:
            return [_value(rng, depth - 1) for _ in range(rng.randrange(3))]
        return {name: _value(rng, depth - 1) for name in rng.sample(_NAMES, rng.randrange(3))}
    return rng.choice((*_WORDS, *_NUMBERS, None, True, False))


def _values(rng: random.Random) -> Schema:
    if rng.random() < 0.4:
        return {"const": _value(rng)}
    values = {"enum": [_value(rng) for _ in range(rng.randint(1, 5))]}
    return {**values, "type": rng.choice(("string", "integer", "number"))} if rng.random() < 0.2 else values


def _array(rng: random.Random, depth: int, refers: bool) -> Schema:
    low = rng.choice((0, 1, 2, 3, 40))
    lengths: Schema = {"minItems": low, "maxItems": low + rng.randrange(3)}
    array: Schema = {"type": "array", "items": _schema(rng, depth, refers=refers), **_some(rng, lengths)}
    if rng.random() < 0.2:
        array["prefixItems"] = [_schema(rng, 0), _schema(rng, depth, refers=refers)]
    if rng.random() < 0.05:
        array["items"] = False
    return array


def _object(rng: random.Random, depth: int, refers: bool) -> Schema:
    names = rng.sample(_NAMES, rng.randint(0, 4))
    schema: Schema = {"type": "object"} if rng.random() < 0.9 else {}
    if rng.random() < 0.85:
        schema["properties"] = {name: _schema(rng, depth, refers=refers) for name in names}
    required = [name for name in names if rng.random() < 0.5] + rng.sample(_NAMES, rng.random() < 0.1)
    more: Schema = {
        "additionalProperties": rng.choice((True, False, _schema(rng, 0))),
        "patternProperties": {rng.choice(("^k[0-9]+$", "^[a-c]$", "é")): _schema(rng, 0)},
        "minProperties": rng.randrange(4),
        "maxProperties": rng.randrange(5),
        "unevaluatedProperties": rng.choice((True, False)),
    }
    return {**schema, "required": required, **_some(rng, more, 0.12)}


def _composed(rng: random.Random, depth: int, refers: bool) -> Schema:
    base = rng.choice((_object(rng, depth, refers), {}, _plain(rng)))
    kinds = [
        {"type": "object", "properties": {"kind": {"const": word}, "value": _schema(rng, depth)}, "required": ["kind"]}
        for word in ("circle", "cube", "line")
    ]
    parts: list[Schema] = [_schema(rng, depth, refers=refers) for _ in range(rng.randint(1, 3))]
    objects: list[Schema] = [_object(rng, depth, refers) for _ in range(2)]
    key = rng.choice(("anyOf", "oneOf", "allOf"))
    options = rng.choice((kinds, parts, objects)) if key != "allOf" else rng.choice((parts, objects, objects))
    return {**base, key: options} if rng.random() < 0.5 else {key: options}
