"""Schemas that refer to each other: counted before llguidance follows them, which ends the process beyond its stack."""

import re
from collections.abc import Callable

import pytest

from edge.engine.grammar.format import schema_format
from edge.engine.grammar.references import MAX_LEVELS, check_levels
from edge.errors import SchemaError

Schema = dict[str, object]


def chain(n: int, link: Callable[[Schema], Schema]) -> Schema:
    """A chain of n references, one behind the other."""
    links = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(n - 1)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{n - 1}": {"type": "null"}}}


def n_levels(schema: Schema) -> int:
    """The levels by the refusal; 0 where there is none."""
    try:
        check_levels(schema, field="f")
    except SchemaError as error:
        found = re.fullmatch(r"f: expected at most \d+ levels of .*, got (\d+)", str(error))
        assert found
        return int(found[1])
    return 0


@pytest.mark.parametrize("n", [MAX_LEVELS - 2, MAX_LEVELS - 1, MAX_LEVELS, 3500])
def test_a_chain_of_references_is_as_long_as_the_levels_allow(n: int) -> None:
    assert n_levels(chain(n, lambda to: to)) == (0 if n < MAX_LEVELS else n + 1)


@pytest.mark.parametrize(
    ("link", "n_each"),
    [
        (lambda to: {"type": "array", "items": to}, 2),
        (lambda to: {"anyOf": [to, {"type": "null"}]}, 2),
        (lambda to: {"properties": {"a": to, "b": {"$ref": "#/$defs/d1"}}}, 0),
    ],
)
def test_what_lies_around_a_reference_counts(link: Callable[[Schema], Schema], n_each: int) -> None:
    n = 1000
    assert n_levels(chain(n, link)) == (1 + n_each * (n - 1) + 1 if n_each else 1 + 3 * (n - 1) + 1)


def test_schemas_side_by_side_are_no_levels() -> None:
    wide: Schema = {f"p{i}": {"type": "array", "items": {"$ref": "#/$defs/a"}} for i in range(2000)}
    assert n_levels({"properties": wide, "$defs": {"a": {"type": "string"}}}) == 0


def test_a_circle_counts_each_of_its_schemas_once() -> None:
    tree: Schema = {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    assert n_levels(tree) == 0
    circle = {f"d{i}": {"items": {"$ref": f"#/$defs/d{(i + 1) % 500}"}} for i in range(500)}
    assert n_levels({"$ref": "#/$defs/d0", "$defs": circle}) == 1 + 2 * 500


@pytest.mark.parametrize("name", ["#anchor", "other.json", "#/$defs/none"])
def test_where_a_reference_leads_is_not_guessed(name: str) -> None:
    long: Schema = {f"p{i}": {"type": "string"} for i in range(1000)}
    assert n_levels({"properties": {"a": {"$ref": name}}, "$defs": long}) > 1000
    assert n_levels({"properties": {"a": {"$ref": name}}}) == 0


def test_pointers_are_read_as_they_are_spelt() -> None:
    to = {"a/b~c d": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}
    for name in ("#/$defs/a~1b~0c%20d", "#/$defs/a~1b~0c d/anyOf/0", "#/%24defs/a~1b~0c d"):
        assert n_levels({"$defs": {**to, **{f"p{i}": {} for i in range(1000)}}, "items": {"$ref": name}}) == 0


def test_the_longest_chain_that_is_let_in_can_be_compiled() -> None:
    from llguidance import LLMatcher

    from tests.edge.engine.grammar.test_shortest import BYTES

    longest = chain(MAX_LEVELS // 3, lambda to: {"type": "object", "properties": {"a": to}, "required": ["a"]})
    form = schema_format(longest, field="f")
    assert not LLMatcher(BYTES, form.grammar, log_level=0).is_error()
    with pytest.raises(SchemaError, match="levels of schemas in each other"):
        schema_format(chain(2000, lambda to: to), field="f")
