"""Schemas made ready for a grammar: which objects are closed, over which names, and what references become."""

import pytest

from edge.engine.grammar.closing import closed
from edge.engine.grammar.keywords import Where
from edge.errors import SchemaError

Schema = dict[str, object]
NUMBER: Schema = {"type": "number"}


def read(schema: Schema) -> Schema:
    return closed(schema, Where("f"))


def obj(*names: str, **more: object) -> Schema:
    return {"type": "object", "properties": dict.fromkeys(names, NUMBER), **more}


@pytest.mark.parametrize(
    ("schema", "rest"),
    [
        (obj("a"), False),
        (obj(), False),
        ({"properties": {"a": NUMBER}}, False),
        ({**obj("a"), "type": ["object", "null"]}, False),
        (obj("a", additionalProperties=True), True),
        (obj("a", additionalProperties=NUMBER), NUMBER),
        (obj("a", additionalProperties=False), False),
        (obj("a", patternProperties={"^x": {}}), None),
        (obj("a", unevaluatedProperties=True), True),
        (obj("a", unevaluatedProperties=False), False),
        (obj("a", minProperties=2), None),
        (obj("a", minProperties=1), False),
        ({"type": "object"}, None),
        ({"type": "object", "required": ["a"]}, None),
        ({"type": "object", "unevaluatedProperties": False}, False),
        ({**obj("a"), "type": "array"}, None),
        ({}, None),
    ],
)
def test_an_object_that_says_nothing_of_other_keys_is_closed(schema: Schema, rest: object) -> None:
    assert read(schema).get("additionalProperties") == rest
    inner = read({"type": "array", "items": schema})["items"]
    assert isinstance(inner, dict) and inner.get("additionalProperties") == rest


def test_what_is_required_may_be_written() -> None:
    assert read(obj("a", required=["b"]))["properties"] == {"a": NUMBER, "b": True}


def test_the_schema_itself_is_not_changed() -> None:
    schema = {"allOf": [obj("a"), {"$ref": "#/$defs/x"}], "$defs": {"x": obj("b")}}
    before = str(schema)
    read(schema)
    assert str(schema) == before


def test_a_conjunction_is_closed_over_the_names_of_all() -> None:
    found = read({"allOf": [obj("a"), {"$ref": "#/$defs/x"}], "properties": {"c": NUMBER}, "$defs": {"x": obj("b")}})
    assert found["additionalProperties"] is False and found["properties"] == {"c": NUMBER, "a": True, "b": True}
    assert found["allOf"] == [obj("a"), {"$ref": "#/$defs/0"}] and found["$defs"] == {"0": obj("b")}


@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_each_alternative_is_closed_over_its_own_names_and_those_around_it(key: str) -> None:
    kinds = [obj(name, required=[name]) for name in "xy"]
    found = read({"properties": {"a": NUMBER}, "required": ["a"], key: kinds})
    options = found["anyOf"]
    assert isinstance(options, list) and "additionalProperties" not in found
    assert [sorted(option["properties"]) for option in options] == [["a", "x"], ["a", "y"]]
    assert all(option["additionalProperties"] is False for option in options)


def test_a_conjunction_one_part_of_which_speaks_of_other_keys_stays_open() -> None:
    found = read({"allOf": [obj("a"), obj("b", additionalProperties=True)]})
    assert found["allOf"] == [obj("a"), obj("b", additionalProperties=True)] and "additionalProperties" not in found


def test_objects_that_several_parts_describe_stay_open_and_others_are_closed() -> None:
    one = {"type": "object", "properties": {"same": obj("x"), "own": obj("x")}}
    two = {"type": "object", "properties": {"same": obj("y")}}
    parts = read({"allOf": [one, two]})["allOf"]
    assert parts == [
        {"type": "object", "properties": {"same": obj("x"), "own": obj("x", additionalProperties=False)}},
        {"type": "object", "properties": {"same": obj("y")}},
    ]


def test_one_part_alone_is_closed_itself() -> None:
    found = read({"title": "t", "allOf": [{"$ref": "#/definitions/x"}], "definitions": {"x": obj("a")}})
    assert found == {"allOf": [{"$ref": "#/$defs/0"}], "$defs": {"0": obj("a", additionalProperties=False)}}


def test_one_schema_that_is_closed_here_and_open_there_is_two() -> None:
    found = read({"properties": {"p": {"$ref": "#/$defs/x"}, "q": {"allOf": [{"$ref": "#/$defs/x"}, obj("b")]}},
                  "$defs": {"x": obj("a")}})  # fmt: skip
    assert isinstance(found["$defs"], dict)
    assert sorted(map(str, found["$defs"].values())) == sorted(
        map(str, [obj("a", additionalProperties=False), obj("a")])
    )


def test_a_schema_that_refers_to_itself_ends() -> None:
    tree = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    found = read(tree)
    inner = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/0"}, {"type": "null"}]}},
             "additionalProperties": False}  # fmt: skip
    assert found == {**inner, "$defs": {"0": inner}}
    read({"allOf": [{"$ref": "#"}, obj("a")]})


@pytest.mark.parametrize(
    "reference",
    ["#/$defs/a~1b%20c", "#/$defs/a~1b c", "#anchor", "#/components/schemas/x", "https://here/s#/$defs/a~1b c"],
)
def test_references_are_followed_wherever_they_lead_inside(reference: str) -> None:
    null = {"type": "null"}
    places: Schema = {
        "$defs": {"a/b c": null, "n": {"$anchor": "anchor", **null}},
        "components": {"schemas": {"x": null}},
    }
    found = read({"$id": "https://here/s", **places, "items": {"$ref": reference}})
    assert found == {"items": {"$ref": "#/$defs/0"}, "$defs": {"0": null}}


@pytest.mark.parametrize("reference", ["#/$defs/no", "#no", "https://elsewhere/s", "other.json#/a", "#/items/$ref"])
def test_references_that_lead_nowhere_are_named(reference: str) -> None:
    with pytest.raises(SchemaError, match=r"f: \[\]: \$ref: .*" + reference.replace("$", r"\$")):
        read({"items": {"$ref": reference}})


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [obj("a", patternProperties={"^x": {}}), obj("b")], "unevaluatedProperties": False},
        {"allOf": [obj("a"), obj("b")], "unevaluatedProperties": NUMBER},
        {"allOf": [obj("a"), {"required": ["b"]}], "unevaluatedProperties": False},
        {"anyOf": [obj("a"), {"type": "object"}], "unevaluatedProperties": False},
        {"allOf": [obj("a"), obj("b")], "minProperties": 3, "unevaluatedProperties": False},
        {"$ref": "#/$defs/x", "unevaluatedProperties": NUMBER, "$defs": {"x": obj("a")}},
    ],
)
def test_unevaluated_properties_that_cannot_be_told_are_refused(schema: Schema) -> None:
    with pytest.raises(SchemaError, match="unevaluatedProperties is not supported: use additionalProperties"):
        read(schema)


def test_unevaluated_properties_close_what_holds_at_once() -> None:
    alone = read({"$ref": "#/$defs/x", "unevaluatedProperties": False, "$defs": {"x": obj("a")}})
    assert alone["additionalProperties"] is False and alone["properties"] == {"a": True}
    found = read({"allOf": [obj("a"), obj("b")], "unevaluatedProperties": False})
    assert found["additionalProperties"] is False and found["properties"] == {"a": True, "b": True}


def test_schemas_that_multiply_are_refused_early() -> None:
    definitions: Schema = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{(i * k + k) % 300}"} for k in range(2, 40)],
                                     "properties": {f"p{i}": {}}} for i in range(300)}  # fmt: skip
    with pytest.raises(SchemaError, match="fewer references"):
        read({"$ref": "#/$defs/d0", "$defs": definitions})
