"""Tools, tool_choice and response_format: what is taken, and what is wrong by place, at the limits and beyond."""

import json
from collections.abc import Mapping

import pytest
import reka

from edge.chat import tools
from edge.chat.messages import Problems
from edge.chat.prompt import Tool
from edge.chat.tools import MAX_SCHEMA_BYTES, MAX_TOOLS, read_choice, read_form, read_tools
from edge.engine.grammar.format import Format
from edge.errors import SchemaError

COUNT = {"name": "count", "description": "Counts.", "parameters": {"type": "object", "properties": {}}}


def wrong(value: object) -> list[tuple[tuple[object, ...], str]]:
    problems = Problems()
    read_tools(value, problems)
    return [(tuple(problem.loc), problem.type) for problem in problems.found]


def form(response_format: object, choice: tools.Choice = "auto", on_offer: tuple[Tool, ...] = ()) -> Format | None:
    problems = Problems()
    found = read_form(response_format, choice, on_offer, problems)
    problems.raise_any()
    return found


def misformed(response_format: object, choice: tools.Choice = "auto") -> tuple[object, ...]:
    problems = Problems()
    assert read_form(response_format, choice, (Tool("count", None, None),), problems) is None or choice == "tool"
    (problem,) = problems.found
    return tuple(problem.loc)


def test_tools_are_read_from_dicts_and_the_sdks_own() -> None:
    wanted = (Tool("count", "Counts.", COUNT["parameters"]),)  # type: ignore[arg-type]
    for given in ([COUNT], (COUNT,), [reka.Tool(**COUNT)]):  # type: ignore[arg-type]
        problems = Problems()
        assert read_tools(given, problems) == wanted and not problems.found


@pytest.mark.parametrize("value", [None, []])
def test_no_tools_are_none(value: object) -> None:
    assert wrong(value) == [] and read_tools(value, Problems()) == ()


def test_description_and_parameters_may_be_left_out() -> None:
    assert read_tools([{"name": "now", "description": None, "parameters": None}], Problems()) == (
        Tool("now", None, None),
    )


@pytest.mark.parametrize("name", ["a", "get_weather-2", "A" * 64])
def test_names_that_are_taken(name: str) -> None:
    assert wrong([{**COUNT, "name": name}]) == []


@pytest.mark.parametrize("name", ["", "A" * 65, "two words", "ünl", "a.b", None, 5, ["a"]])
def test_names_that_are_not(name: object) -> None:
    assert wrong([{**COUNT, "name": name}]) == [(("body", "tools", 0, "name"), "value_error")]


def test_each_name_once() -> None:
    assert wrong([COUNT, {**COUNT, "name": "other"}, COUNT]) == [(("body", "tools", 2, "name"), "value_error")]


@pytest.mark.parametrize(("n", "good"), [(MAX_TOOLS - 1, True), (MAX_TOOLS, True), (MAX_TOOLS + 1, False)])
def test_the_number_of_tools(n: int, good: bool) -> None:
    found = wrong([{"name": f"tool{i}"} for i in range(n)])
    assert found == ([] if good else [(("body", "tools"), "too_long")])


@pytest.mark.parametrize(("extra", "good"), [(-1, True), (0, True), (1, False)])
def test_the_bytes_of_a_schema(extra: int, good: bool) -> None:
    schema = {"type": "object", "description": ""}
    schema["description"] = "a" * (MAX_SCHEMA_BYTES + extra - len(json.dumps(schema)))
    found = wrong([{**COUNT, "parameters": schema}])
    assert found == ([] if good else [(("body", "tools", 0, "parameters"), "too_long")])


def endless() -> Mapping[str, object]:
    schema: dict[str, object] = {}
    schema["items"] = schema
    return schema


@pytest.mark.parametrize(
    ("parameters", "place", "kind"),
    [
        ("object", (), "dict_type"),
        ([], (), "dict_type"),
        (True, (), "dict_type"),
        ({"type": "string"}, ("type",), "value_error"),
        ({"type": ["object", "null"]}, ("type",), "value_error"),
        ({"default": float("nan")}, (), "value_error"),
        ({"default": {1, 2}}, (), "value_error"),
        (endless(), (), "value_error"),
    ],
)
def test_parameters_are_the_schema_of_an_object(parameters: object, place: tuple[str, ...], kind: str) -> None:
    assert wrong([{**COUNT, "parameters": parameters}]) == [(("body", "tools", 0, "parameters", *place), kind)]


@pytest.mark.parametrize("item", [None, 5, "count", []])
def test_what_is_no_tool_is_named(item: object) -> None:
    assert (("body", "tools", 0, "name"), "value_error") in wrong([item])


@pytest.mark.parametrize(("choice", "read"), [(None, "auto"), ("auto", "auto"), ("none", "none"), ("tool", "tool")])
def test_choices(choice: object, read: str) -> None:
    problems = Problems()
    assert read_choice(choice, [Tool("count", None, None)], problems) == read and not problems.found


@pytest.mark.parametrize("choice", ["required", "", 1, {}, ["tool"]])
def test_other_choices_are_named(choice: object) -> None:
    problems = Problems()
    read_choice(choice, (), problems)
    assert [tuple(problem.loc) for problem in problems.found] == [("body", "tool_choice")]


def test_a_call_needs_something_to_call() -> None:
    problems = Problems()
    read_choice("tool", (), problems)
    assert [tuple(problem.loc) for problem in problems.found] == [("body", "tool_choice")]


@pytest.mark.parametrize("value", [None, {"type": "text"}])
def test_free_text_has_no_form(value: object) -> None:
    assert form(value) is None


def test_forms() -> None:
    schema = {"type": "array"}
    whole, held = form({"type": "json_object"}), form({"type": "json_schema", "json_schema": {"schema": schema}})
    call = form(None, "tool", (Tool("count", None, None),))
    assert whole is not None and held is not None and call is not None
    assert (whole.is_call, held.is_call, call.is_call) == (False, False, True)
    assert (whole.field, held.field, call.field) == ("response_format", "response_format", "tools")
    assert '"type": "object"' in whole.grammar and '"type": "array"' in held.grammar and "count" in call.grammar


def test_a_schema_may_be_true_or_false() -> None:
    assert form({"type": "json_schema", "json_schema": {"schema": True}}) is not None
    with pytest.raises(SchemaError, match="no instance"):
        form({"type": "json_schema", "json_schema": {"schema": False}})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("json_object", ("type",)),
        (5, ("type",)),
        ({}, ("type",)),
        ({"type": "xml"}, ("type",)),
        ({"type": "json_schema"}, ("json_schema", "schema")),
        ({"type": "json_schema", "json_schema": "schema"}, ("json_schema", "schema")),
        ({"type": "json_schema", "json_schema": {"schema": None}}, ("json_schema", "schema")),
        ({"type": "json_schema", "json_schema": {"schema": [1]}}, ("json_schema", "schema")),
        ({"type": "json_schema", "json_schema": {"schema": {"const": float("inf")}}}, ("json_schema", "schema")),
    ],
)
def test_forms_that_are_none_are_named(value: object, place: tuple[str, ...]) -> None:
    assert misformed(value) == ("body", "response_format", *place)


def test_a_form_beside_a_call_is_named() -> None:
    assert misformed({"type": "json_object"}, "tool") == ("body", "response_format")
