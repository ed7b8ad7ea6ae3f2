"""Random JSON schemas, every one with an instance: what llguidance covers, in all its corners, and what checks it."""

import datetime
import random
import re
from collections.abc import Callable

import jsonschema

Schema = dict[str, object]

_NAMES = ("a", "b", "name", "value", "x y", "é", 'q"u', "long_property_name", "zz", "0")
_WORDS = ("", "red", "green", "a longer word", "naïve", 'quo"te', "back\\slash", "tab\t", "新", "1.5")
_PATTERNS = ("^[a-z]{2,5}$", "^(red|green|blue)$", "^[A-Z]+-[0-9]{3}$", "a.c", "^x*y$", "[0-9]")
_FORMATS = ("date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "email", "hostname", "uri")

FORMATS = jsonschema.FormatChecker()  # those of Python's own readers, and those below
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
_DURATION = r"P(?=.)(\d+W|(\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D)?(T(?=.)(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S))?)"


@FORMATS.checks("time", ValueError)
def is_time(text: object) -> bool:
    """RFC 3339's: with an offset."""
    return not isinstance(text, str) or datetime.time.fromisoformat(text).tzinfo is not None


@FORMATS.checks("date-time", ValueError)
def is_date_time(text: object) -> bool:
    return not isinstance(text, str) or ("T" in text and datetime.datetime.fromisoformat(text).tzinfo is not None)


@FORMATS.checks("hostname")
def is_hostname(text: object) -> bool:
    return not isinstance(text, str) or (
        len(text) <= 253 and re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", text, re.ASCII) is not None
    )


@FORMATS.checks("duration")
def is_duration(text: object) -> bool:
    """RFC 3339's, appendix A."""
    return not isinstance(text, str) or re.fullmatch(_DURATION, text, re.ASCII) is not None


@FORMATS.checks("uri")
def is_uri(text: object) -> bool:
    return not isinstance(text, str) or re.fullmatch(_URI, text) is not None


def random_schema(seed: int) -> Schema:
    """Return a schema with recursion through $defs in one of eight."""
    rng = random.Random(seed)
    schema = _schema(rng, 3)
    if rng.randrange(8):
        return schema
    tree: Schema = {
        "type": "object",
        "properties": {"value": _schema(rng, 1), "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
        "required": ["value", "next"],
        "additionalProperties": False,
    }
    return {"$defs": {"tree": tree}, "type": "object", "properties": {"root": {"$ref": "#/$defs/tree"}, "rest": schema},
            "required": rng.choice((["root"], ["root", "rest"])), "additionalProperties": False}  # fmt: skip


def _schema(rng: random.Random, depth: int) -> Schema:
    leaves: tuple[Callable[[random.Random], Schema], ...] = (_string, _integer, _number, _choice, _plain)
    nodes: tuple[Callable[[random.Random, int], Schema], ...] = (_object, _object, _array, _union)
    return rng.choice(leaves)(rng) if depth == 0 or rng.random() < 0.3 else rng.choice(nodes)(rng, depth - 1)


def _plain(rng: random.Random) -> Schema:
    kinds = ("null", "boolean", "string", "integer", "number", "object", "array")
    return rng.choice(({}, {"type": rng.choice(kinds)}, {"type": rng.sample(kinds, 2)}))


def _string(rng: random.Random) -> Schema:
    low = rng.randrange(6)
    lengths: Schema = {"minLength": low, "maxLength": low + rng.randrange(20)}
    kinds: tuple[Schema, ...] = ({}, lengths, {"pattern": rng.choice(_PATTERNS)}, {"format": rng.choice(_FORMATS)})
    return {"type": "string", **rng.choice(kinds)}


def _integer(rng: random.Random) -> Schema:
    low = rng.randrange(-1000, 1000)
    ranges: Schema = {"minimum": low, "maximum": low + rng.randrange(500)}
    kinds: tuple[Schema, ...] = ({}, ranges, {"exclusiveMinimum": low}, {"multipleOf": rng.choice((2, 5, 7, 10))})
    return {"type": "integer", **rng.choice(kinds)}


def _number(rng: random.Random) -> Schema:
    low = round(rng.uniform(-100, 100), 2)
    kinds: tuple[Schema, ...] = ({}, {"minimum": low}, {"maximum": low}, {"minimum": low, "maximum": low + 1.5},
                                {"exclusiveMinimum": 0, "maximum": rng.choice((1e-9, 0.5, 3.5))})  # fmt: skip
    return {"type": "number", **rng.choice(kinds)}


def _choice(rng: random.Random) -> Schema:
    values: list[object] = [*rng.sample(_WORDS, 3), 7, -2.5, None, True, {"k": [1, "two"]}, []]
    return rng.choice(({"enum": rng.sample(values, rng.randint(1, 5))}, {"const": rng.choice(values)}))


def _array(rng: random.Random, depth: int) -> Schema:
    low = rng.randrange(4)
    lengths: tuple[Schema, ...] = ({}, {"minItems": low}, {"minItems": low, "maxItems": low + rng.randrange(3)})
    array: Schema = {"type": "array", "items": _schema(rng, depth), **rng.choice(lengths)}
    return {**array, "prefixItems": [_schema(rng, 0), _schema(rng, 0)]} if rng.random() < 0.2 else array


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_NAMES, rng.randint(0, 5))
    properties = {name: _schema(rng, depth) for name in names}
    others: tuple[Schema, ...] = ({}, {"additionalProperties": False}, {"additionalProperties": _schema(rng, 0)})
    schema: Schema = {"type": "object", "properties": properties, **rng.choice((*others, others[1]))}
    if rng.random() < 0.15:
        keyed: Schema = {"type": "object", "patternProperties": {"^k[0-9]+$": _schema(rng, depth)}}
        return {**keyed, "minProperties": rng.randrange(3), "additionalProperties": False}
    return {**schema, "required": [name for name in names if rng.random() < 0.6]}


def _union(rng: random.Random, depth: int) -> Schema:
    if rng.random() < 0.2:
        both = [{"type": "object", "properties": {name: _schema(rng, 0)}, "required": [name]} for name in "pq"]
        return {"allOf": both}
    kinds = [
        {"type": "object", "properties": {"kind": {"const": word}, "value": _schema(rng, depth)},
         "required": ["kind", "value"], "additionalProperties": False}
        for word in ("circle", "cube", "line")
    ]  # fmt: skip
    others = [_schema(rng, depth), {"type": "null"}], [_schema(rng, 0), _schema(rng, depth)]
    return {"anyOf": rng.choice((kinds, *others))}
