"""Keywords of schemas: supported ones checked, annotations left out, the others refused by name, place and remedy."""

import pytest

from edge.engine.grammar.format import call_format, prepare, schema_format
from edge.engine.grammar.keywords import LARGEST, Where, checked
from edge.errors import SchemaError

Schema = dict[str, object]
HERE = Where("tools", "save").named("tags")


@pytest.mark.parametrize(
    "name",
    ["password", "path", "binary", "byte", "uri-reference", "regex", "uuid4", "ipvanyaddress", "color", "x-custom", 5],
)
def test_an_unknown_format_is_an_annotation(name: object) -> None:
    assert checked({"type": "string", "format": name}, HERE) == {"type": "string"}


@pytest.mark.parametrize("name", ["date", "uuid", "email"])
def test_a_known_format_stays(name: str) -> None:
    assert checked({"format": name}, HERE) == {"format": name}


@pytest.mark.parametrize(
    "key",
    ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id",
     "contentEncoding", "contentMediaType", "contentSchema", "x-order", "discriminator", "nullable", "example", "xml",
     "externalDocs", "propertyOrdering", "strict", "then", "else", "minContains", "$vocabulary"],
)  # fmt: skip
def test_an_annotation_is_left_out_whatever_it_says(key: str) -> None:
    for value in (None, True, "a", 3, {"not": {}}, [1]):
        assert checked({"type": "null", key: value}, HERE) == {"type": "null"}


REFUSED: dict[str, object] = {
    "not": {"type": "string"},
    "uniqueItems": True,
    "contains": {"const": 1},
    "propertyNames": {"pattern": "^a"},
    "dependentRequired": {"a": ["b"]},
    "dependentSchemas": {"a": {}},
    "dependencies": {"a": ["b"]},
    "unevaluatedItems": False,
    "$dynamicRef": "#a",
    "$recursiveRef": "#",
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_keyword_that_is_not_supported_is_named_with_tool_property_and_remedy(key: str) -> None:
    parameters: Schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {key: REFUSED[key]}}}}
    with pytest.raises(SchemaError) as caught:
        call_format({"other": {"type": "object"}, "save": parameters}, field="tools")
    assert str(caught.value).startswith(f"tools: save.tags[]: {key} is not supported: ")
    assert len(str(caught.value).partition("not supported: ")[2]) > 10


def test_a_condition_is_not_supported_and_half_a_one_says_nothing() -> None:
    with pytest.raises(SchemaError, match="response_format: if is not supported"):
        schema_format({"if": {"type": "string"}, "then": {"minLength": 3}}, field="response_format")
    assert checked({"if": {"type": "string"}}, HERE) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("uniqueItems", False), ("not", False), ("propertyNames", {}), ("propertyNames", {"type": "string"}),
     ("unevaluatedItems", True), ("dependentRequired", {})],
)  # fmt: skip
def test_a_keyword_that_says_nothing_as_it_stands_is_left_out(key: str, value: object) -> None:
    assert checked({"type": "array", key: value}, HERE) == {"type": "array"}


@pytest.mark.parametrize(
    ("key", "value"),
    [("type", "text"), ("type", []), ("type", 5), ("properties", []), ("properties", {"a": 3}), ("items", "string"),
     ("anyOf", []), ("anyOf", {}), ("allOf", [5]), ("required", True), ("required", [1]), ("minItems", -1),
     ("minLength", 1.5), ("maxLength", "3"), ("minimum", "3"), ("multipleOf", 0), ("multipleOf", -2), ("pattern", 5),
     ("enum", []), ("enum", "a"), ("$ref", 5), ("additionalProperties", 5), ("minItems", True)],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_named(key: str, value: object) -> None:
    with pytest.raises(SchemaError, match=rf"^tools: save\.tags(\.a)?: \{key}: expected .*, got " if key[0] == "$" else
                       rf"^tools: save\.tags(\.a)?: {key}: expected .*, got "):  # fmt: skip
        checked({key: value}, HERE)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"minimum": -1e300, "maximum": 1.7976931348623157e308}, {"minimum": -LARGEST, "maximum": LARGEST}),
        ({"maximum": 2**64 - 1, "exclusiveMaximum": 10}, {"maximum": LARGEST, "exclusiveMaximum": 10}),
        ({"exclusiveMinimum": -(10**30), "minimum": 5}, {"minimum": 5}),
        ({"minimum": 5, "exclusiveMinimum": True}, {"exclusiveMinimum": 5}),
        ({"minimum": 5, "exclusiveMinimum": False}, {"minimum": 5}),
        ({"minimum": 1.25e-40}, {"minimum": 1e-30}),
        ({"minimum": -1.25e-40, "maximum": 1.25e-40}, {"minimum": 0.0, "maximum": 0.0}),
        ({"minLength": 5.0}, {"minLength": 5}),
        ({"const": None}, {"const": None}),
        ({"required": ("a", "a")}, {"required": ["a"]}),
    ],
)
def test_values_are_read_as_llguidance_holds_them(given: Schema, read: Schema) -> None:
    assert checked(given, HERE) == read


@pytest.mark.parametrize("bounds", [{"minimum": 2**53 + 1}, {"maximum": -(10**30)}, {"exclusiveMinimum": 1e300}])
def test_bounds_that_no_float_reaches_are_refused(bounds: Schema) -> None:
    with pytest.raises(SchemaError, match="expected a number from -9007199254740992 to 9007199254740992"):
        checked(bounds, HERE)


@pytest.mark.parametrize("number", [2**53 + 1, 10**70, 10**400, 5e-324, 1e300, 123456789012345678901])
def test_numbers_that_are_not_written_as_they_are_given_are_refused(number: float) -> None:
    for schema in ({"const": number}, {"enum": ["a", number]}, {"const": {"a": [number]}}):
        with pytest.raises(SchemaError, match="expected a number of at most 64 digits that a float holds exactly"):
            checked(schema, HERE)


@pytest.mark.parametrize("number", [0, 1.5, -(2**53), 1e22, 0.1, 10**20])
def test_numbers_that_are_written_exactly_may_be_given(number: float) -> None:
    assert checked({"enum": [number]}, HERE) == {"enum": [number]}


def test_places_are_named_through_references_and_alternatives() -> None:
    bad = {"type": "object", "properties": {"x": {"uniqueItems": True}}}
    schema: Schema = {"properties": {"people": {"items": {"anyOf": [{"$ref": "#/$defs/bad"}]}}}, "$defs": {"bad": bad}}
    with pytest.raises(SchemaError, match=r"^response_format: people\[\]\.x: uniqueItems is not supported"):
        prepare(schema, Where("response_format"))


def test_a_definition_that_nothing_refers_to_is_not_read() -> None:
    assert prepare({"type": "null", "$defs": {"bad": {"not": {}}}}, Where("f")) == {"type": "null"}


def test_names_of_properties_are_no_keywords() -> None:
    named = {"not": {"type": "null"}, "uniqueItems": {"type": "null"}, "title": {"type": "null"}}
    found = prepare({"type": "object", "properties": named}, Where("f"))
    assert found == {"type": "object", "properties": named, "additionalProperties": False}
