"""The shortest end of a JSON text, found on the grammar itself: an end indeed, short, and looking moves nothing."""

import json
from collections.abc import Mapping

import pytest
from llguidance import LLMatcher

from edge.engine.grammar.constraint import _quoted
from edge.engine.grammar.format import inline, prepare, schema_format
from edge.engine.grammar.keywords import Where
from edge.engine.grammar.shortest import Completion, Place, allowed
from edge.engine.grammar.vocabulary import vocabulary
from edge.errors import SchemaError

BYTES = vocabulary([*(bytes((byte,)) for byte in range(256)), b"<end>"], [256], [256], encode=None)
Schema = Mapping[str, object]


def matcher_of(schema: Schema, begun: bytes = b"") -> LLMatcher:
    matcher = LLMatcher(BYTES, f"start: {inline(prepare(schema, Where('f')))}\n", log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    assert matcher.try_consume_tokens([*begun]) == len(begun)
    return matcher


def place_of(begun: bytes) -> Place:
    place = Place()
    for byte in begun:
        place = place.after(byte)
    return place


def end_of(schema: Schema, begun: bytes = b"", *, most: int = 2000) -> bytes | None:
    form = schema_format(schema, field="f")
    search = Completion(
        matcher_of(schema, begun),
        place_of(begun),
        names=_quoted(form.names),
        texts=_quoted(form.texts),
        unions=form.unions,
    )
    return search.shortest(most=most)


CITY: Schema = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TAGGED: Schema = {
    "anyOf": [
        {"type": "object", "properties": {"kind": {"const": kind}, "value": value}, "required": ["kind", "value"]}
        for kind, value in (("verbose", {"type": "integer"}), ("v", {"type": "string", "minLength": 30}))
    ]
}


@pytest.mark.parametrize(
    ("schema", "end"),
    [
        ({"type": "string"}, b'""'),
        ({"type": "null"}, b"null"),
        ({"type": "array"}, b"[]"),
        ({"type": "object"}, b"{}"),
        ({"enum": ["long", "ab", [1, 2]]}, b'"ab"'),
        (CITY, b'{"city": "", "days": 0}'),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, b"[true, true]"),
        ({"type": "string", "minLength": 3}, 5),
        ({"type": "integer", "minimum": 1000}, 4),
        ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, 6),
        ({"type": "string", "format": "date"}, 12),
        ({"type": "array", "items": {"type": "integer", "minimum": 10}, "minItems": 3}, len(b"[10, 10, 10]")),
    ],
)
def test_the_shortest_instance(schema: Schema, end: bytes | int) -> None:
    found = end_of(schema)
    assert found is not None
    assert (len(found) if isinstance(end, int) else found) == end


@pytest.mark.parametrize("n", range(len(b'{"city": "Rome", "days": 12}')))
def test_from_everywhere_in_an_instance(n: int) -> None:
    begun = b'{"city": "Rome", "days": 12}'[:n]
    end = end_of(CITY, begun)
    assert end is not None and set(json.loads(begun + end)) == {"city", "days"}
    assert len(begun + end) <= len(b'{"city": "Rome", "days": 12}') + 1


@pytest.mark.parametrize(
    ("schema", "begun"),
    [
        ({"type": "string"}, b'"half \\'),
        ({"type": "string"}, b'"half \\u00'),
        ({"type": "string"}, b'"half \xf0\x9f'),
        ({"type": "number"}, b"-"),
        ({"type": "number"}, b"1."),
        ({"type": "number"}, b"1e"),
        ({"type": "boolean"}, b"fa"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, b'{"a'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, b'{"a": 1,'),
        ({"type": "array", "items": {"type": "array"}}, b"[[[[[[["),
    ],
)
def test_from_the_middle_of_anything(schema: Schema, begun: bytes) -> None:
    end = end_of(schema, begun)
    assert end is not None
    json.loads(begun + end)


@pytest.mark.parametrize("less", [0, 1, 5])
def test_no_end_is_longer_than_it_may_be(less: int) -> None:
    shortest = len(b'{"city": "", "days": 0}')
    found = end_of(CITY, most=shortest - less)
    assert found is None if less else found is not None and len(found) == shortest


def test_the_cheaper_alternative_is_taken_though_its_name_is_longer() -> None:
    found = end_of(TAGGED)
    assert found is not None and json.loads(found) == {"kind": "verbose", "value": 0}


def test_a_key_is_not_written_twice() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3}
    found = end_of(schema, b'{"": 1, ')
    assert found is not None and len(json.loads(b'{"": 1, ' + found)) == 3


def test_a_schema_that_never_ends_has_none() -> None:
    endless = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}
    with pytest.raises(SchemaError, match="no instance"):
        end_of({"$ref": "#/$defs/n", "$defs": {"n": endless}})


def test_looking_moves_nothing() -> None:
    matcher = matcher_of(CITY, b'{"ci')
    before = matcher.compute_bitmask()
    Completion(matcher, place_of(b'{"ci'), names=(b"city", b"days")).shortest(most=100)
    assert matcher.compute_bitmask() == before and not matcher.is_error()
    assert matcher.try_consume_tokens([*b'ty": "", "days": 0}']) == len(b'ty": "", "days": 0}')


def test_allowed_are_bytes_and_never_the_end() -> None:
    assert allowed(matcher_of({"enum": ["a", "b"]}, b'"')) == b"ab"
    assert allowed(matcher_of({"type": "null"}, b"null")) == b""


@pytest.mark.parametrize(
    ("begun", "mode", "depth"),
    [
        (b"", "value", 0),
        (b"[", "value", 1),
        (b"{", "key", 1),
        (b'{"a', "in key", 1),
        (b'{"a"', "colon", 1),
        (b'{"a":', "value", 1),
        (b'{"a": [1', "in number", 2),
        (b'{"a": [1]', "after", 1),
        (b'{"a": tru', "in word", 1),
        (b'{"a": "x\\"', "in string", 1),
        (b'{"a": "x\\""', "after", 1),
        (b'{"a": 1, "b": {"a"', "colon", 2),
        (b'{"a": 1, "a"', "twice", 1),
        (b'{"a": 1, "\\u0061"', "twice", 1),
        (b'{"a": {"b": 1}, "b"', "colon", 1),
        (b'[{"a": 1}, {"a"', "colon", 2),
    ],
)
def test_places(begun: bytes, mode: str, depth: int) -> None:
    place = place_of(begun)
    assert (place.mode, len(place.open)) == (mode, depth)
