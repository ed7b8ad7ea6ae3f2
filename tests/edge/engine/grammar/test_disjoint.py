"""Whether oneOf can be anyOf: told where it is certain, and never where an instance fits two schemas."""

import itertools
import random

import jsonschema
import pytest

from edge.engine.grammar.disjoint import Comparison, Definition
from tests.edge.engine.grammar.schemas import random_schema

Schema = dict[str, object]


def kind(word: str, **more: object) -> Schema:
    return {"type": "object", "properties": {"kind": {"const": word}, **more}, "required": ["kind"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "string"}, {"type": "integer"}),
        ({"type": ["string", "null"]}, {"type": "object"}),
        ({"const": 1}, {"const": 2}),
        ({"const": True}, {"const": 1}),
        ({"enum": ["a", "b"]}, {"enum": ["c"]}),
        ({"const": "a"}, {"type": "number"}),
        ({"type": "number", "maximum": 1}, {"type": "integer", "minimum": 2}),
        ({"type": "string", "maxLength": 1}, {"type": "string", "minLength": 2}),
        ({"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}),
        (kind("a"), kind("b")),
        ({"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}),
        ({"allOf": [{"$ref": "#/$defs/a"}]}, kind("c")),
        ({"anyOf": [kind("a"), kind("b")]}, kind("c")),
        ({**kind("a"), "additionalProperties": False}, {**kind("a"), "required": ["x"]}),
        ({"type": "object", "properties": {"kind": {"const": "a"}}}, kind("b")),
        (False, {}),
    ],
)
def test_what_has_nothing_in_common(one: object, other: object) -> None:
    definitions = {"#/$defs/a": kind("a"), "#/$defs/b": kind("b")}
    comparison = Comparison({}, definitions.get)
    assert comparison.are_disjoint([one, other], [one, other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "integer"}, {"type": "number"}),
        ({}, {"type": "null"}),
        ({"const": 1}, {"const": 1.0}),
        ({"type": "number", "maximum": 2}, {"type": "integer", "minimum": 2}),
        (kind("a"), {"type": "object", "properties": {"other": {"const": 1}}, "required": ["other"]}),
        ({"anyOf": [kind("a"), kind("b")]}, kind("b")),
        ({"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"}),
        ({"patternProperties": {"^k": {}}, "additionalProperties": False, "type": "object"}, kind("a")),
    ],
)
def test_what_may_have_something_in_common(one: object, other: object) -> None:
    assert not Comparison({}, lambda reference: {"$ref": reference}).are_disjoint([one, other], [one, other])


def test_what_is_written_is_compared_with_what_is_given() -> None:
    given = [{"type": "object", "required": ["a"]}, {"type": "object"}]
    written = [{**given[0], "properties": {"a": True}, "additionalProperties": False},
               {**given[1], "properties": {}, "additionalProperties": False}]  # fmt: skip
    assert not Comparison({}).are_disjoint(written, given)
    assert Comparison({}).are_disjoint(written, written)


def test_definitions_of_ours_are_not_those_of_the_schema() -> None:
    comparison = Comparison({"0": {"type": "string"}}, {"#/$defs/0": {"type": "null"}}.get)
    ours, theirs = {"$ref": Definition("#/$defs/0")}, {"$ref": "#/$defs/0"}
    assert comparison.disjoint(ours, theirs) and not comparison.disjoint(ours, ours)


def test_no_two_random_schemas_that_are_told_apart_share_an_instance() -> None:
    rng = random.Random(0)
    instances: list[object] = [
        None, True, 0, 1, -2.5, 7, "", "red", "abc", "1.5", [], [1], [1, "a"], {}, {"a": 1}, {"kind": "cube"}, {"p": 1},
    ]  # fmt: skip
    schemas = [random_schema(rng.randrange(10_000)) for _ in range(60)]
    comparison = Comparison({})
    fits = [
        {i for i, it in enumerate(instances) if jsonschema.Draft202012Validator(schema).is_valid(it)}
        for schema in schemas
    ]
    n_apart = 0
    for (one, fits_one), (other, fits_other) in itertools.combinations(zip(schemas, fits, strict=True), 2):
        if comparison.are_disjoint([one, other], [one, other]):
            n_apart += 1
            assert not fits_one & fits_other, (one, other)
    assert n_apart > 100
