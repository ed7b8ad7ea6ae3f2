"""The keywords of JSON Schema: those that are supported, those that say nothing about an instance, and the others.

A keyword that no draft knows and one that a draft calls an annotation are left out, as is a `format` that is not one of
`FORMATS`. A keyword that says something about an instance and is not supported is refused by name.
Source: JSON Schema 2020-12, Core and Validation; drafts 4 to 2019-09 where they differ.
"""

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import NamedTuple

from edge.engine.grammar.expansion import checked_pattern
from edge.errors import SchemaError, shown

FORMATS = frozenset(
    {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)  # each is a regular expression in llguidance
TYPES = frozenset({"null", "boolean", "number", "integer", "string", "array", "object"})
LARGEST = 2**53  # up to here a float holds every integer
MAX_DECIMALS = 30  # of a bound: llguidance writes it out
_MAX_WRITTEN = 64  # characters of a number that is given, as of one that is generated

Node = Mapping[str, object]

_NOTHING = object()  # in place of a value that says nothing
_LEAVE_OUT = "leave it out, and check the answer for it"
# What to do instead of each keyword that is not supported.
_INSTEAD: Mapping[str, str] = {
    "not": "list what is allowed with enum or anyOf instead",
    "if": "describe each case as a schema of its own in anyOf",
    "uniqueItems": _LEAVE_OUT,
    "contains": _LEAVE_OUT,
    "propertyNames": "list the names in properties, or give a pattern of them in patternProperties",
    "dependentRequired": "describe each case as a schema of its own in anyOf",
    "dependentSchemas": "describe each case as a schema of its own in anyOf",
    "dependencies": "describe each case as a schema of its own in anyOf",
    "unevaluatedItems": "use items instead",
    "unevaluatedProperties": "use additionalProperties instead",
    "$dynamicRef": "use $ref instead",
    "$recursiveRef": "use $ref instead",
}


class Where(NamedTuple):
    """Where a schema is: the request's field, and the way to it by names of tools and properties."""

    field: str
    path: str = ""

    def named(self, name: str) -> "Where":
        """Return the place of a property."""
        return Where(self.field, f"{self.path}.{name}" if self.path else name)

    def items(self) -> "Where":
        """Return the place of an array's items."""
        return Where(self.field, f"{self.path}[]")

    def error(self, message: str) -> SchemaError:
        """Return the error that names this place."""
        return SchemaError(f"{self.field}: {shown(self.path)[1:-1] + ': ' if self.path else ''}{message}")


def checked(node: Node, where: Where) -> dict[str, object]:
    """Return a schema's own keywords that matter, each with a value of its kind; schemas in it are not looked at.

    Raises: SchemaError that names the place, the keyword, what was found and what is supported.
    """
    for key, instead in _INSTEAD.items():
        if key in node and key != "unevaluatedProperties" and not _is_void(key, node):
            raise where.error(f"{key} is not supported: {instead}")
    read: dict[str, object] = {}
    for key, value in node.items():
        check = _CHECKS.get(key)
        if check is not None:
            checked_value = check(key, value, where)
            read.update({} if checked_value is _NOTHING else {key: checked_value})
    return _narrowed(read, where)


def not_supported(key: str, where: Where) -> SchemaError:
    """Return the refusal of a keyword that is not supported."""
    return where.error(f"{key} is not supported: {_INSTEAD[key]}")


def _is_void(key: str, node: Node) -> bool:
    """Tell whether a keyword that is not supported says nothing, as it stands."""
    value = node[key]
    if key == "if":
        return "then" not in node and "else" not in node
    if key == "not":
        return value is False
    if key == "contains":
        return node.get("minContains") == 0 and "maxContains" not in node
    if key == "uniqueItems":
        most = node.get("maxItems")
        return value is False or (isinstance(most, int) and most <= 1)
    if key == "propertyNames":
        return value is True or value in ({}, {"type": "string"})
    return value is True or value == {}


def _schema(key: str, value: object, where: Where) -> object:
    if not isinstance(value, Mapping | bool):
        raise where.error(f"{key}: expected a JSON schema, got {_got(value)}")
    return value


def _schemas(key: str, value: object, where: Where) -> object:
    if not isinstance(value, list | tuple) or not value:
        raise where.error(f"{key}: expected a list of JSON schemas, at least one, got {_got(value)}")
    return [_schema(key, item, where) for item in value]


def _items(key: str, value: object, where: Where) -> object:
    return (
        [_schema(key, item, where) for item in value] if isinstance(value, list | tuple) else _schema(key, value, where)
    )


def _named_schemas(key: str, value: object, where: Where) -> object:
    if not isinstance(value, Mapping):
        raise where.error(f"{key}: expected an object of JSON schemas, got {_got(value)}")
    named = {str(name): _schema(key, item, where.named(str(name))) for name, item in value.items()}
    if key == "patternProperties":
        return {
            checked_pattern(name, lambda problem: where.error(f"{key}: {problem}")): it for name, it in named.items()
        }
    return named


def _type(key: str, value: object, where: Where) -> object:
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name in TYPES for name in names):
        raise where.error(f"{key}: expected one or more of {', '.join(sorted(TYPES))}, got {_got(value)}")
    return [*names] if isinstance(value, list | tuple) else value


def _names(key: str, value: object, where: Where) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise where.error(f"{key}: expected a list of names, got {_got(value)}")
    return [*dict.fromkeys(value)]


def _text(key: str, value: object, where: Where) -> object:
    if not isinstance(value, str):
        raise where.error(f"{key}: expected a string, got {_got(value)}")
    if key == "pattern":
        return checked_pattern(value, lambda problem: where.error(f"{key}: {problem}"))
    return value


def _format(key: str, value: object, where: Where) -> object:
    return value if isinstance(value, str) and value in FORMATS else _NOTHING


def _count(key: str, value: object, where: Where) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise where.error(f"{key}: expected a whole number >= 0, got {_got(value)}")
    return int(value)


def _number(key: str, value: object, where: Where) -> object:
    if isinstance(value, bool) and key.startswith("exclusive"):  # of draft 4: whether the bound beside it is exclusive
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or (key == "multipleOf" and value <= 0):
        wanted = "a number > 0" if key == "multipleOf" else "a number"
        raise where.error(f"{key}: expected {wanted}, got {_got(value)}")
    return value


def _values(key: str, value: object, where: Where) -> object:
    if not isinstance(value, list | tuple) or not value:
        raise where.error(f"{key}: expected a list of values, at least one, got {_got(value)}")
    return [_value(key, item, where) for item in value]


def _value(key: str, value: object, where: Where) -> object:
    """Return a value that an instance may be; every number in it must be one that is written as it is given."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, int | float) and not isinstance(item, bool) and not _is_exact(item):
            raise where.error(
                f"{key}: expected a number of at most {_MAX_WRITTEN} digits that a float holds exactly, got "
                f"{_got(item)}: give it as a string"
            )
    return value


def _is_exact(number: int | float) -> bool:
    try:
        return int(float(number)) == number if isinstance(number, int) else _n_written(number) <= _MAX_WRITTEN
    except (OverflowError, ValueError):
        return False


def _n_written(number: float) -> int:
    return len(format(Decimal(repr(number)), "f"))


def _got(value: object) -> str:
    return shown(value) if isinstance(value, str) else shown(str(value))[1:-1]


_CHECKS: Mapping[str, Callable[[str, object, Where], object]] = {
    **dict.fromkeys(("additionalProperties", "additionalItems"), _schema),
    "unevaluatedProperties": _schema,
    "items": _items,
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _schemas),
    "prefixItems": _items,
    **dict.fromkeys(("properties", "patternProperties"), _named_schemas),
    "type": _type,
    "required": _names,
    **dict.fromkeys(("$ref", "pattern"), _text),
    "format": _format,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _number),
    "enum": _values,
    "const": _value,
}


def _narrowed(node: dict[str, object], where: Where) -> dict[str, object]:
    """Return a schema whose bounds a float holds: one that is out of reach is moved inwards, so that less is allowed.

    Draft 4's exclusive bounds become those of later drafts.
    """
    for inclusive, exclusive, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        if isinstance(node.get(exclusive), bool):
            is_exclusive = node.pop(exclusive)
            if is_exclusive and inclusive in node:
                node[exclusive] = node.pop(inclusive)
        for key in (inclusive, exclusive):
            bound = node.get(key)
            if not isinstance(bound, int | float):
                continue
            if sign * bound > LARGEST:
                raise where.error(f"{key}: expected a number from {-LARGEST} to {LARGEST}, got {_got(bound)}")
            if sign * bound < -LARGEST:
                del node[key]
                others = node.get(inclusive)
                far = -sign * LARGEST
                node[inclusive] = sign * max(sign * other for other in (far, others) if isinstance(other, int | float))
            elif isinstance(bound, float):
                node[key] = _rounded(bound, sign)
    return node


def _rounded(bound: float, sign: int) -> float:
    """Return a bound with no more decimals than llguidance writes, moved inwards."""
    exact = Decimal(repr(bound))
    if -int(exact.as_tuple().exponent) <= MAX_DECIMALS:
        return bound
    rounding = ROUND_CEILING if sign > 0 else ROUND_FLOOR
    return float(exact.quantize(Decimal(1).scaleb(-MAX_DECIMALS), rounding, Context(prec=100)))
