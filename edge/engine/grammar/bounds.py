"""Bounds of numbers, and some formats of strings, that llguidance reads too widely, tightened before it sees them.

Where an exclusive bound is a whole number and the opposite bound lies within one of it, away from zero, as in
`{"exclusiveMinimum": 0, "maximum": 0.5}`, llguidance 1.9 takes the bound itself, too: 0 there, 1 in (1, 1.25), -0 in
[-0.5, 0). The exclusive bound is given as an inclusive one a millionth of the way inside: what is taken is valid.

Of dates it takes 29 February of every year, and the year 0; of times the second 60 of every minute, and a small t and
z. Python's own readers take none of them, so a pattern is put beside such a format. Names of hosts and addresses of
mail it takes at any length: RFC 1035 has 253 characters, RFC 5321 254.
"""

import bisect
from collections.abc import Iterator, Mapping
from decimal import Decimal

from edge.errors import SchemaError

Schema = Mapping[str, object]

_STEPS = 1_000_000
_DATA = frozenset({"const", "enum", "default", "examples"})  # JSON that is no schema
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_MONTH_AND_DAY = (
    "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"  # of any year
)
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = f"(?:{_YEAR}-{_MONTH_AND_DAY}|{_LEAP_YEAR}-02-29)"
_HOUR_AND_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_HOUR_AND_MINUTE}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{_HOUR_AND_MINUTE})"
_BESIDE: Mapping[str, Schema] = {  # what a format says besides
    "date": {"pattern": f"^{_DATE}$"},
    "time": {"pattern": f"^{_TIME}$"},
    "date-time": {"pattern": f"^{_DATE}T{_TIME}$"},
    "hostname": {"maxLength": 253},
    "email": {"maxLength": 254},
}
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})


def tightened(schema: Schema, *, field: str) -> Schema:
    """Return a schema whose numbers, dates and times llguidance holds to what it says; it is not changed itself.

    Any two bounds of a schema may meet in one number, by allOf or $ref: so all are looked at together.
    Raises: SchemaError for bounds too near to each other for a float between them, and for endless nesting.
    """
    try:
        nodes = list(_nodes(schema))
        lows = sorted(low for node in nodes for low in _numbers(node, "minimum", "exclusiveMinimum"))
        highs = sorted(high for node in nodes for high in _numbers(node, "maximum", "exclusiveMaximum"))
        copy = _copy(schema, lows, highs, field)
    except RecursionError as error:
        raise SchemaError(f"{field}: expected fewer levels of nested schemas") from error
    return copy if isinstance(copy, Mapping) else schema


def _nodes(value: object) -> Iterator[Schema]:
    """Yield every schema in a schema."""
    if isinstance(value, Mapping):
        yield value
        for key, item in value.items():
            if key in _NAMED and isinstance(item, Mapping):
                for inner in item.values():
                    yield from _nodes(inner)
            elif key not in _DATA:
                yield from _nodes(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)


def _numbers(node: Schema, *keys: str) -> list[Decimal]:
    values = [node.get(key) for key in keys]
    return [Decimal(repr(value)) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _copy(value: object, lows: list[Decimal], highs: list[Decimal], field: str) -> object:
    if isinstance(value, list | tuple):
        return [_copy(item, lows, highs, field) for item in value]
    if not isinstance(value, Mapping):
        return value
    copied: dict[str, object] = {}
    for key, item in value.items():
        if key in _NAMED and isinstance(item, Mapping):
            copied[key] = {name: _copy(inner, lows, highs, field) for name, inner in item.items()}
        else:
            copied[key] = item if key in _DATA else _copy(item, lows, highs, field)
    _tighten(copied, "exclusiveMinimum", "minimum", highs, 1, field)
    _tighten(copied, "exclusiveMaximum", "maximum", lows, -1, field)
    _say_format(copied)
    return copied


def _tighten(node: dict[str, object], key: str, inclusive: str, opposite: list[Decimal], sign: int, field: str) -> None:
    """Replace an exclusive bound by an inclusive one, if it is one of those that are read too widely.

    opposite: in rising order.
    """
    for bound in _numbers(node, key):
        room = _room(bound, opposite, sign)
        if room is None or bound % 1 or sign * bound < 0:
            continue
        inside = float(bound + sign * room / _STEPS)
        if sign * (Decimal(inside) - bound) <= 0:
            raise SchemaError(f"{field}: {key}: expected a bound further from the opposite one, got {bound}")
        given = [float(number) for number in _numbers(node, inclusive)]
        del node[key]
        node[inclusive] = sign * max(sign * number for number in (inside, *given))


def _room(bound: Decimal, opposite: list[Decimal], sign: int) -> Decimal | None:
    """Return how far away the next opposite bound is, None where none is less than one away."""
    i = bisect.bisect_right(opposite, bound) if sign > 0 else bisect.bisect_left(opposite, bound) - 1
    room = sign * (opposite[i] - bound) if 0 <= i < len(opposite) else None
    return room if room is not None and room < 1 else None


def _say_format(node: dict[str, object]) -> None:
    """Put what its format says besides beside what a schema says already."""
    name, others = node.get("format"), node.get("allOf", [])
    if isinstance(name, str) and name in _BESIDE and isinstance(others, list):
        node["allOf"] = [*others, _BESIDE[name]]
