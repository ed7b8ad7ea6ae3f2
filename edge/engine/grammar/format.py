"""What an answer must be, as a grammar, with what a search for its end and its limits need to know of the schemas."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from edge.engine.grammar.bounds import tightened
from edge.engine.grammar.closing import closed
from edge.engine.grammar.example import example_of
from edge.engine.grammar.expansion import checked_pattern
from edge.engine.grammar.keywords import Where
from edge.engine.grammar.least import check_least
from edge.engine.grammar.pattern import match_of
from edge.engine.grammar.references import check_levels
from edge.engine.grammar.shortest import MAX_SIGNIFICANT
from edge.errors import SchemaError, shown

_WRITTEN = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "lenient": False}
_MOST_TEXTS = 32
_MAX_OPTIONAL = 2000  # properties: compiling takes time by the square of those of one object
_MAX_OPTIONAL_OF_ONE = 500
_MAX_CHOICES = 2000
_MAX_PATTERNS = 64  # of names: by the cube
_MAX_SIGNS = 16_384  # of patterns: by the square of what may be left out
_MAX_DIVISORS = 20_000  # their sum: by a state for each remainder
_MAX_DIGITS_OF_DIVISORS = 9
_MAX_MULTIPLE = 100_000  # of all divisors: those that meet in one number become one

Schema = Mapping[str, object]


@dataclass(frozen=True)
class Format:
    """What an answer must be: an instance of `grammar` (llguidance's Lark), inside tool_call tags if it is a call.

    field: of the request, and limit, what it calls max_tokens, for messages; names: keys that schemas require; texts:
    matches of their patterns; unions: there are alternatives; is_text: it is no JSON, but what one of `texts` is like;
    digits: of a number with a fraction, at most; example: a whole answer, most likely.
    """

    grammar: str
    field: str
    is_call: bool
    names: tuple[str, ...]
    texts: tuple[str, ...]
    unions: bool
    limit: str = "max_tokens"
    is_text: bool = False
    digits: int = MAX_SIGNIFICANT
    example: str | None = None


def schema_format(schema: Schema, *, field: str) -> Format:
    """Return the format of a schema's instances, written as json.dumps writes them, without further white space.

    Raises: SchemaError, as call_format.
    """
    prepared = prepare(schema, Where(field))
    form = _format(f"start: {inline(prepared)}\n", field, [schema], [prepared], is_call=False)
    return replace(form, example=example_of(prepared))


def pattern_format(pattern: str, *, field: str) -> Format:
    """Return the format of the texts that a regular expression matches from their first character to their last.

    Raises: SchemaError for a pattern that is not supported, or too large.
    """
    from llguidance import regex_to_lark

    written = checked_pattern(pattern, lambda problem: SchemaError(f"{field}: {problem}"))
    guess = match_of(pattern)
    texts = () if guess is None else (guess,)
    return Format(f"start: /{regex_to_lark(written, 'dw')}/\n", field, False, (), texts, unions=True, is_text=True)


def call_format(tools: Mapping[str, Schema], *, field: str) -> Format:
    """Return the format of one call; tools: by name, the schema of each one's arguments.

    Raises: SchemaError that names the tool, the property and what is not supported.
    """
    rules = ["start: " + " | ".join(f"call_{i}" for i in range(len(tools)))]
    prepared, examples = [], []
    for i, (name, schema) in enumerate(tools.items()):
        prepared.append(prepare(schema, Where(field, name)))
        head = '{"name": ' + json.dumps(name) + ', "arguments": '
        rules += [f'call_{i}: {json.dumps(head)} arguments_{i} "}}"', f"arguments_{i}: {inline(prepared[-1])}"]
        arguments = example_of(prepared[-1])
        examples += [] if arguments is None else [f"{head}{arguments}}}"]
    form = _format("\n".join(rules) + "\n", field, [*tools.values()], prepared, is_call=True)
    return replace(form, example=min(examples, key=len, default=None))


def prepare(schema: Schema, where: Where) -> Schema:
    """Return a schema as llguidance is given it. Raises: SchemaError."""
    field = where.error("").args[0].removesuffix(": ")
    check_levels(schema, field=field)
    read = closed(schema, where)
    check_least(read, field=field)
    check_levels(read, field=field)
    return tightened(read, field=field)


def inline(prepared: Schema) -> str:
    """Return a schema as a part of a Lark grammar."""
    return "%json " + json.dumps({**prepared, "x-guidance": _WRITTEN}, default=dict)


def _format(grammar: str, field: str, given: Sequence[Schema], prepared: Sequence[Schema], *, is_call: bool) -> Format:
    """Return a format with what its schemas tell a search: names, matches of patterns, whether there are unions."""
    _check_counts(given, prepared, field)
    names: dict[str, None] = {}
    texts: dict[str, None] = {}
    unions = len(prepared) > 1
    for node in _nodes(prepared):
        names.update(dict.fromkeys(name for name in _listed(node.get("required")) if isinstance(name, str)))
        for pattern in _patterns(node):
            text = match_of(pattern)
            texts.update({} if text is None else {text: None})
        unions = unions or "anyOf" in node
    digits = max(MAX_SIGNIFICANT, *(_digits(node) for node in _nodes(prepared)))
    return Format(grammar, field, is_call, tuple(names), tuple(texts)[:_MOST_TEXTS], unions, digits=digits)


def _check_counts(given: Sequence[Schema], prepared: Sequence[Schema], field: str) -> None:
    """Refuse what takes long to compile, over all schemas. Raises: SchemaError with both numbers."""
    n_optional = max(
        sum(_n_optional(node) for node in _nodes(given)),
        sum(_n_optional(node, by_closing=False) for node in _nodes(prepared)),
    )
    if n_optional > _MAX_OPTIONAL:
        raise SchemaError(
            f"{field}: expected at most {_MAX_OPTIONAL} properties that are not required, got {n_optional}"
        )
    most_optional = max(_n_optional(node, by_closing=False) for node in _nodes(prepared))
    if most_optional > _MAX_OPTIONAL_OF_ONE:
        raise SchemaError(
            f"{field}: expected at most {_MAX_OPTIONAL_OF_ONE} properties of one object that are not required, got "
            f"{most_optional}"
        )
    n_choices = max(_n_choices(node) for node in _nodes(prepared))
    if n_choices > _MAX_CHOICES:
        raise SchemaError(
            f"{field}: expected at most {_MAX_CHOICES} schemas in anyOf or oneOf, and objects and lists in enum, got "
            f"{n_choices}"
        )
    n_patterns = sum(len(_mapped(node.get("patternProperties"))) for node in _nodes(given))
    if n_patterns > _MAX_PATTERNS:
        raise SchemaError(f"{field}: expected at most {_MAX_PATTERNS} patternProperties, got {n_patterns}")
    n_signs = sum(len(pattern) for pattern in {it for node in _nodes(prepared) for it in _patterns(node)})
    if n_signs > _MAX_SIGNS:
        raise SchemaError(f"{field}: pattern: expected at most {_MAX_SIGNS} characters in all patterns, got {n_signs}")
    _check_divisors([divisor for node in _nodes(prepared) for divisor in _divisors(node.get("multipleOf"))], field)


def _nodes(value: object) -> Iterator[Schema]:
    """Yield every object in schemas, and the schemas themselves."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node


def _n_choices(node: Schema) -> int:
    """Return how many alternatives of a schema have a grammar of their own; texts and numbers share one."""
    values = [it for it in _listed(node.get("enum")) if isinstance(it, Mapping | list | tuple)]
    return max(len(_listed(node.get("anyOf"))), len(values))


def _patterns(node: Schema) -> list[str]:
    """Return the regular expressions in a schema itself."""
    return [it for it in (node.get("pattern"), *_mapped(node.get("patternProperties"))) if isinstance(it, str)]


def _n_optional(node: Schema, *, by_closing: bool = True) -> int:
    """Return how many properties a schema does not require; by_closing: those without a schema of their own, too."""
    properties = _mapped(node.get("properties"))
    needed = {name for name in _listed(node.get("required")) if isinstance(name, str)}
    return sum(name not in needed and (by_closing or item is not True) for name, item in properties.items())


def _digits(node: Schema) -> int:
    """Return how many digits the numbers have that a schema lists."""
    listed = [*_listed(node.get("enum")), node.get("const")]
    return max(len(Decimal(repr(value)).as_tuple().digits) if isinstance(value, float) else 0 for value in listed)


def _mapped(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _divisors(value: object) -> list[Decimal]:
    return [Decimal(repr(value))] if isinstance(value, int | float) and not isinstance(value, bool) and value else []


def _check_divisors(divisors: Sequence[Decimal], field: str) -> None:
    """Refuse divisions that take too many states: of single numbers, and of those that may meet in one.

    Raises: SchemaError.
    """
    got = shown(", ".join(map(str, divisors)))
    most = f"{field}: multipleOf: expected divisors of at most {_MAX_DIVISORS} in sum"
    finest = min((divisor.normalize().as_tuple().exponent for divisor in divisors if divisor.is_finite()), default=0)
    scale = -min(int(finest), 0)
    if scale > _MAX_DIGITS_OF_DIVISORS or sum(_coefficient(divisor) for divisor in divisors) > _MAX_DIVISORS:
        raise SchemaError(f"{most} (0.01 counts as 1), got {got}")
    multiple = math.lcm(*{abs(int(divisor.scaleb(scale))) for divisor in divisors}) if len(divisors) > 1 else 1
    if multiple > _MAX_MULTIPLE:
        raise SchemaError(f"{most}, and with a common multiple of at most {_MAX_MULTIPLE}, got {got}")


def _coefficient(divisor: Decimal) -> int:
    """Return a divisor without its decimal point; 100 is 100, for it takes as many states."""
    exponent = int(divisor.normalize().as_tuple().exponent)
    return (
        abs(int(divisor.scaleb(max(0, -exponent)))) if abs(exponent) <= _MAX_DIGITS_OF_DIVISORS else _MAX_DIVISORS + 1
    )
