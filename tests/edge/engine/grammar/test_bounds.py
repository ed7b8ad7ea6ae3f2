"""Bounds of numbers, dates and times as llguidance reads them, tightened where it reads them too widely."""

import datetime
import itertools
import json
import random
from decimal import Decimal

import pytest
from llguidance import LLMatcher

from edge.chat.request import read_request
from edge.engine.grammar.bounds import tightened
from edge.engine.grammar.format import inline, prepare
from edge.engine.grammar.keywords import Where
from edge.engine.grammar.vocabulary import vocabulary
from edge.errors import SchemaError
from edge.limits import Limits
from edge.types import ApiError

BYTES = vocabulary([*(bytes((byte,)) for byte in range(256)), b"<end>"], [256], [256], encode=None)
KEYS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def takes(schema: dict[str, object], text: str, *, raw: bool = False) -> bool:
    grammar = "%json " + json.dumps(schema) if raw else inline(prepare(schema, Where("f")))
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
    assert takes(schema, bound, raw=True), (
        "llguidance reads it rightly now: edge.engine.grammar.bounds has had its time"
    )
    assert not takes(schema, bound) and takes(schema, inside)


def test_bounds_that_meet_by_all_of_or_a_reference_are_seen() -> None:
    half = {"$defs": {"half": {"maximum": 0.5}}}
    for schema in (
        {"type": "number", "allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]},
        {**half, "type": "number", "exclusiveMinimum": 0, "$ref": "#/$defs/half"},
    ):
        assert not takes(schema, "0") and takes(schema, "0.25")


@pytest.mark.parametrize(
    ("form", "bad", "good"),
    [
        ("date", ("2023-02-29", "1900-02-29", "0000-01-01"), ("2024-02-29", "2000-02-29", "0004-02-29", "2023-02-28")),
        ("time", ("00:24:60Z", "00:24:59z"), ("23:59:59.25Z", "00:00:00+05:30")),
        (
            "date-time",
            ("2023-02-29T00:00:00Z", "2023-01-31T00:00:60Z", "2023-01-31t00:00:00Z"),
            ("2023-01-31T00:00:00Z",),
        ),
    ],
)
def test_dates_and_times_are_those_there_are(form: str, bad: tuple[str, ...], good: tuple[str, ...]) -> None:
    for schema in (
        {"type": "string", "format": form},
        {"format": form, "allOf": [{"minLength": 1}]},
        {"anyOf": [{"type": ["string", "null"], "format": form, "pattern": "[0-9]"}, {"type": "null"}]},
    ):
        for text in bad:
            assert takes(schema, f'"{text}"', raw=True), (
                "llguidance reads it rightly now: edge.engine.grammar.bounds has had its time"
            )
            assert not takes(schema, f'"{text}"')
        assert all(takes(schema, f'"{text}"') for text in good)


@pytest.mark.parametrize(
    ("form", "longest"),
    [("hostname", ".".join(["a" * 63] * 4)[:253]), ("email", f"me@{'.'.join(['a' * 63] * 4)[:251]}")],
)
def test_names_of_hosts_and_mail_have_their_longest(form: str, longest: str) -> None:
    schema = {"type": "string", "format": form}
    for text, is_taken in ((longest[:-1], True), (longest, True), (f"{longest}a", False)):
        assert takes(schema, f'"{text}"', raw=True), (
            "llguidance reads it rightly now: edge.engine.grammar.bounds has had its time"
        )
        assert takes(schema, f'"{text}"') == is_taken
    assert takes({"format": form}, "5")


def test_every_date_is_taken_and_no_other() -> None:
    date = prepare({"format": "date", "type": "string"}, Where("f"))
    matcher = LLMatcher(BYTES, f"start: {inline(date)}\n", log_level=0)
    for year in (1, 4, 99, 100, 400, 1582, 1900, 1999, 2000, 2023, 2024, 2100, 9996, 9999):
        for month, day in itertools.product(range(14), range(33)):
            state, text = matcher.deep_copy(), f"{year:04}-{month:02}-{day:02}"
            is_taken = state.try_consume_tokens([*f'"{text}"'.encode()]) == 12 and state.is_accepting()
            assert is_taken == is_date(text), text


def is_date(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def test_thousands_of_bounds_are_looked_at_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    n_compared = 0

    class Counted(Decimal):
        def __lt__(self, other: object) -> bool:
            nonlocal n_compared
            n_compared += 1
            return super().__lt__(other)  # type: ignore[operator]

    monkeypatch.setattr("edge.engine.grammar.bounds.Decimal", Counted)
    n = 2000
    tightened({"anyOf": [{"exclusiveMinimum": i, "maximum": i + 0.5} for i in range(n)]}, field="f")
    assert n_compared < 40 * n


def test_random_bounds_hold() -> None:
    rng = random.Random(0)
    values = (0, 1, 2, -1, -2, 0.5, -0.5, 0.25, 1.5, -1.5, 9.75, 0.001, 1e-9, -1e-9, 0.1, 99.5, 1e3)
    for _ in range(150):
        low, high = sorted(rng.sample(values, 2))
        schema: dict[str, object] = {"type": "number", rng.choice(KEYS[:2]): low, rng.choice(KEYS[2:]): high}
        matcher = LLMatcher(BYTES, f"start: {inline(prepare(schema, Where('f')))}\n", log_level=0)
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
        {"type": "string", "format": "uuid"},
        {"enum": [{"format": "date"}]},
        {"type": "object", "properties": {"format": {"const": "date"}}},
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
