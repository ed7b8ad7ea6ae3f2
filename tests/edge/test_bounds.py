"""Bounds of numbers as llguidance reads them, tightened where it reads them too widely."""

import json
import random
from decimal import Decimal

import pytest
from llguidance import LLMatcher

from edge.bounds import tightened
from edge.chat import read_request
from edge.errors import SchemaError
from edge.grammar import _inline, _vocabulary
from edge.messages import Limits
from edge.types import ApiError

BYTES = _vocabulary([*(bytes((byte,)) for byte in range(256)), b"<end>"], [256], [256], encode=None)
KEYS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def takes(schema: dict[str, object], text: str, *, raw: bool = False) -> bool:
    grammar = "%json " + json.dumps(schema) if raw else _inline(schema, "f")
    matcher = LLMatcher(BYTES, f"start: {grammar}\n", log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return bool(matcher.try_consume_tokens([*text.encode()]) == len(text) and matcher.is_accepting())


def is_within(schema: dict[str, object], text: str) -> bool:
    value, bounds = Decimal(text), {key: Decimal(repr(schema[key])) for key in KEYS if key in schema}
    checks = dict(zip(KEYS, (value.__ge__, value.__gt__, value.__le__, value.__lt__), strict=True))
    return all(checks[key](bound) for key, bound in bounds.items())


@pytest.mark.parametrize(
    ("bounds", "bound", "inside"),
    [
        ({"exclusiveMinimum": 0, "maximum": 1e-9}, "0", "0.000000001"),
        ({"exclusiveMinimum": 0, "maximum": 1e-9}, "0", "0.0000000005"),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, "0", "0.0001"),
        ({"exclusiveMinimum": 1.0, "maximum": 1.25}, "1", "1.001"),
        ({"exclusiveMaximum": 0, "minimum": -0.5}, "-0", "-0.25"),
        ({"exclusiveMaximum": -1, "minimum": -1.25}, "-1", "-1.1"),
    ],
)
def test_an_exclusive_bound_is_not_taken(bounds: dict[str, object], bound: str, inside: str) -> None:
    schema = {"type": "number", **bounds}
    assert takes(schema, bound, raw=True), "llguidance reads it rightly now: edge.bounds has had its time"
    assert not takes(schema, bound) and takes(schema, inside)


def test_bounds_that_meet_by_all_of_or_a_reference_are_seen() -> None:
    half = {"$defs": {"half": {"maximum": 0.5}}}
    for schema in (
        {"type": "number", "allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]},
        {**half, "type": "number", "exclusiveMinimum": 0, "$ref": "#/$defs/half"},
    ):
        assert not takes(schema, "0") and takes(schema, "0.25")


def test_random_bounds_hold() -> None:
    rng = random.Random(0)
    values = (0, 1, 2, -1, -2, 0.5, -0.5, 0.25, 1.5, -1.5, 9.75, 0.001, 1e-9, -1e-9, 0.1, 99.5, 1e3)
    for _ in range(150):
        low, high = sorted(rng.sample(values, 2))
        schema: dict[str, object] = {"type": "number", rng.choice(KEYS[:2]): low, rng.choice(KEYS[2:]): high}
        matcher = LLMatcher(BYTES, f"start: {_inline(schema, 'f')}\n", log_level=0)
        for bound in (Decimal(repr(low)), Decimal(repr(high)), Decimal(0)):
            for step in ("0", "1e-12", "-1e-12", "0.001", "-0.001", "1", "-1"):
                text = format(bound + Decimal(step), "f")
                state = matcher.deep_copy()
                if state.try_consume_tokens([*text.encode()]) == len(text) and state.is_accepting():
                    assert is_within(schema, text), (schema, text)


def test_other_schemas_stay_as_they_are() -> None:
    for schema in (
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 0.5, "maximum": 0.75},
        {"enum": [{"exclusiveMinimum": 0, "maximum": 0.5}]},
        {"properties": {"exclusiveMinimum": {"const": 0}, "enum": {"maximum": 0.5}}},
        {"exclusiveMinimum": True, "maximum": 0.5},
    ):
        assert tightened(schema, field="f") == schema


def test_a_schema_of_a_property_with_a_keywords_name_is_tightened() -> None:
    schema = {"properties": {"enum": {"exclusiveMinimum": 0, "maximum": 0.5}}}
    assert tightened(schema, field="f") == {"properties": {"enum": {"minimum": 5e-7, "maximum": 0.5}}}
    assert schema == {"properties": {"enum": {"exclusiveMinimum": 0, "maximum": 0.5}}}


def test_bounds_without_a_float_between_them_are_a_400_that_names_the_keyword() -> None:
    schema = {"type": "number", "exclusiveMinimum": 1, "maximum": 1.0000000000000002}
    with pytest.raises(SchemaError, match="exclusiveMinimum"):
        tightened(schema, field="f")
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    body = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "response_format": form}
    with pytest.raises(ApiError) as caught:
        read_request(body, limits=Limits())
    assert caught.value.status_code == 400 and "exclusiveMinimum" in caught.value.body["detail"]


def test_endless_nesting_is_refused() -> None:
    schema: dict[str, object] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(SchemaError, match="levels"):
        tightened(schema, field="f")
