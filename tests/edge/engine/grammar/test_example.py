"""Examples of schemas: what comes to mind is an instance, nearly always, and the grammar checks it."""

import json
import random

import pytest

from edge.engine.grammar.example import example_of
from edge.engine.grammar.format import schema_format
from edge.engine.grammar.least import check_least
from edge.errors import SchemaError
from tests.edge.engine.grammar.any_schema import VALIDATES, any_schema
from tests.edge.engine.grammar.test_any_schema import GRAMMARS, written

LONG = [
    {"type": "array", "items": {"type": "integer"}, "minItems": 4000},
    {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 300},
    {"type": "array", "items": {"type": "number", "multipleOf": 7, "minimum": 1000}, "minItems": 600},
    {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(800)},
     "required": [f"p{i}" for i in range(800)]},
    {"type": "object", "minProperties": 500},
]  # fmt: skip


@pytest.mark.parametrize("schema", LONG)
def test_an_answer_that_must_be_long_is_known_before_it_begins(schema: dict[str, object]) -> None:
    form = schema_format(schema, field="f")
    with pytest.raises(SchemaError, match="expected at least") as caught:
        GRAMMARS.constraint(form, most=1)
    n_needed = int(str(caught.value).partition("at least ")[2].partition(",")[0])
    assert GRAMMARS.constraint(form, most=n_needed).n_needed == n_needed
    with pytest.raises(SchemaError, match=f"expected at least {n_needed}"):
        GRAMMARS.constraint(form, most=n_needed - 1)


@pytest.mark.parametrize("extra", [0, 5, 40])
def test_a_long_answer_ends_where_every_token_counts(extra: int) -> None:
    schema: dict[str, object] = {"type": "array", "items": {"type": "integer", "minimum": 5}, "minItems": 60}
    form = schema_format(schema, field="f")
    n_needed = GRAMMARS.constraint(form, most=1000).n_needed
    assert VALIDATES.problem(schema, json.loads(written(form, n_needed + extra, 0))) is None


def test_most_examples_are_instances() -> None:
    n_good = n_bad = 0
    for seed in range(600):
        schema = any_schema(random.Random(seed))
        try:
            text = schema_format(schema, field="f").example
        except SchemaError:
            continue
        good = text is not None and VALIDATES.problem(schema, json.loads(text, parse_float=VALIDATES.number)) is None
        n_good, n_bad = n_good + good, n_bad + (not good)
    assert n_good > 4 * n_bad


def test_nothing_comes_to_mind_for_what_never_ends() -> None:
    assert example_of({"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"},
                                                            "minItems": 1}}}) is None  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "is_refused"),
    [
        ({"type": "array", "minItems": 5461}, False),
        ({"type": "array", "minItems": 5462}, True),
        ({"type": "array", "minItems": 10**9}, True),
        ({"type": "string", "minLength": 16_382}, False),
        ({"type": "string", "minLength": 16_383}, True),
        ({"type": "object", "minProperties": 10**6}, True),
        ({"anyOf": [{"type": "array", "minItems": 10**9}, {"type": "null"}]}, False),
        ({"allOf": [{"minLength": 10**9}, {"type": "string"}]}, False),
        ({"$ref": "#/$defs/0", "$defs": {"0": {"type": "array", "items": {"$ref": "#/$defs/0"}, "minItems": 1}}}, True),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, True),
    ],
)
def test_the_shortest_instance_is_reckoned_first(schema: dict[str, object], is_refused: bool) -> None:
    if not is_refused:
        check_least(schema, field="f")
        return
    with pytest.raises(SchemaError, match=r"^f: (expected a schema whose shortest instance|there is no instance)"):
        check_least(schema, field="f")
