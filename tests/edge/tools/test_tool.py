"""A function becomes a tool: its hints and docstring a schema, and what cannot be one is refused when it is made."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest

import edge
from edge.errors import ParameterError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Node(pydantic.BaseModel):
    """A node."""

    name: str = pydantic.Field(description="its name")
    below: Node | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def tool_of(hint: object, default: object = inspect.Parameter.empty) -> Any:  # noqa: ANN401
    """A tool with one parameter of a type."""

    def function(**arguments: object) -> object:
        return arguments["a"]

    parameter = inspect.Parameter("a", inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
    function.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    function.__annotations__ = {"a": hint}
    return edge.tool(name="it")(function)


@pytest.mark.parametrize(
    ("hint", "given", "taken"),
    [
        (int, 3, 3), (int, "3", 3), (str, "x", "x"), (float, 2, 2.0), (bool, True, True), (list[int], [1], [1]),
        (dict[str, int], {"a": 1}, {"a": 1}), (Literal["a", "b"], "b", "b"), (Colour, "red", Colour.RED),
        (int | None, None, None), (int | str, "x", "x"), (Point, {"x": 1}, Point(1.0)),
        (Node, {"name": "n", "below": {"name": "m"}}, Node(name="n", below=Node(name="m"))),
        (list[Point], [{"x": 1, "y": 2}], [Point(1, 2)]), (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}), (frozenset[str], ["a"], frozenset({"a"})),
        (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], {"kind": "dog"}, Dog(kind="dog")),
        (datetime.date, "2026-03-01", datetime.date(2026, 3, 1)), (decimal.Decimal, 0.5, decimal.Decimal("0.5")),
        (datetime.timedelta, "PT5M", datetime.timedelta(minutes=5)), (Path, "a/b", Path("a/b")),
        (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
        (Any, [{}], [{}]), (object, 1, 1), (Sequence[int], [1], [1]), (Mapping[str, float], {"a": 1}, {"a": 1.0}),
        (list, [1], [1]), (dict, {"a": 1}, {"a": 1}), (Annotated[int, pydantic.Field(ge=0, le=9)], 9, 9),
    ],
)  # fmt: skip
def test_a_type_has_a_schema_and_arguments_are_of_it(hint: object, given: object, taken: object) -> None:
    made = tool_of(hint)
    jsonschema.Draft202012Validator.check_schema(made.parameters)
    if given != "3":
        jsonschema.validate({"a": given}, dict(made.parameters))
    assert made.invoke(made.checked({"a": given})) == taken
    assert type(made.invoke(made.checked({"a": given}))) is type(taken)


@pytest.mark.parametrize(
    "hint", [Callable[[int], int], range, type, "Unknown", Annotated[str, pydantic.Field(pattern="(?=x)")], uuid]
)
def test_a_type_without_a_schema_is_refused_by_name(hint: object) -> None:
    with pytest.raises(ParameterError, match="tool it: .*type hint"):
        tool_of(hint)


def test_a_pattern_that_no_answer_can_be_constrained_to_is_refused_by_parameter() -> None:
    with pytest.raises(ParameterError, match="tool it: a: .*uniqueItems"):
        tool_of(Annotated[list[int], pydantic.Field(json_schema_extra={"uniqueItems": True})])


def everything(city: str, unit: Literal["C", "F"] = "C", *, days: Annotated[int, "How many days"] = 1) -> str:
    """Tell the weather.

    Args:
        city: Its name
        unit: Of the temperature
    """
    return f"{city} {unit} {days}"


def test_a_schema_says_what_the_function_says() -> None:
    made = edge.tool(everything)
    assert (made.name, made.description, made.read_only) == ("everything", "Tell the weather.", False)
    assert made.parameters == {
        "additionalProperties": False,
        "properties": {
            "city": {"description": "Its name", "type": "string"},
            "unit": {"default": "C", "description": "Of the temperature", "enum": ["C", "F"], "type": "string"},
            "days": {"default": 1, "description": "How many days", "type": "integer"},
        },
        "required": ["city"],
        "type": "object",
    }


def test_a_tool_is_called_as_its_function_is() -> None:
    made = edge.tool(everything)
    assert made("Rome", days=2) == "Rome C 2" and made.__name__ == "everything"
    assert made.invoke(made.checked({"city": "Rome"})) == "Rome C 1"


def test_options_win_over_the_function() -> None:
    made = edge.tool(name="sky", description="The sky.", read_only=True, timeout_s=2)(everything)
    assert (made.name, made.description, made.read_only, made.timeout_s) == ("sky", "The sky.", True, 2)


def test_without_parameters_a_tool_takes_an_empty_object() -> None:
    def now() -> str:
        return "noon"

    made = edge.tool(now)
    assert made.parameters["properties"] == {} and made.checked({}) == {} and made.description == ""


def test_a_class_that_is_defined_beside_the_function_is_known() -> None:
    class Local(pydantic.BaseModel):
        n: int

    @edge.tool
    def take(it: Local) -> int:
        return it.n

    assert take.invoke(take.checked({"it": {"n": 2}})) == 2


def test_names_that_pydantic_keeps_for_itself_are_names_of_parameters() -> None:
    @edge.tool
    def odd(model_config: int, json: str, _private: int, schema: bool = False) -> tuple[object, ...]:
        return model_config, json, _private, schema

    assert odd.invoke(odd.checked({"model_config": 1, "json": "j", "_private": 2})) == (1, "j", 2, False)
    assert list(odd.parameters["properties"]) == ["model_config", "json", "_private", "schema"]  # type: ignore[call-overload]


def test_a_field_in_the_place_of_a_default_is_read() -> None:
    @edge.tool
    def brew(cups: int = pydantic.Field(2, ge=1, description="How many")) -> int:
        return cups

    assert brew.parameters["properties"] == {
        "cups": {"default": 2, "description": "How many", "minimum": 1, "type": "integer"}
    }
    assert brew.invoke(brew.checked({})) == 2
    with pytest.raises(ValueError, match="cups: .*greater than or equal to 1"):
        brew.checked({"cups": 0})


def test_methods_are_tools_of_their_object() -> None:
    class Lamp:
        level = 0

        @edge.tool
        def dim(self, level: int) -> int:
            """Dim it."""
            self.level = level
            return level

    lamp = Lamp()
    assert lamp.dim.invoke(lamp.dim.checked({"level": 3})) == 3 and lamp.level == 3
    assert list(edge.tool(lamp.dim).parameters["properties"]) == ["level"]  # type: ignore[call-overload]


def test_a_partial_function_needs_a_name() -> None:
    made = edge.tool(name="two")(functools.partial(everything, unit="F"))
    assert made.invoke(made.checked({"city": "Rome"})) == "Rome F 1"
    with pytest.raises(ParameterError, match="without a name"):
        edge.tool(functools.partial(everything, unit="F"))


def generator(n: int) -> Any:  # noqa: ANN401
    yield n


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda a: a, "expected a name of 1 to 64"), (generator, "a generator is not supported"),
        (len, "positional-only parameter obj"), (print, r"like \*args"), (3, "expected a function"),
        (max, "parameters are not known"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_tool_is_refused(function: Any, why: str) -> None:  # noqa: ANN401
    with pytest.raises(ParameterError, match=why):
        edge.tool(function)


def test_parameters_that_have_no_name_for_a_model_are_refused() -> None:
    def rest(*args: int) -> None: ...
    def further(**kwargs: int) -> None: ...
    def bare(a, b: int = 1) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    for function, why in ((rest, r"\*args"), (further, r"\*\*kwargs"), (bare, "parameter a has no type hint")):
        with pytest.raises(ParameterError, match=why):
            edge.tool(function)


@pytest.mark.parametrize("name", ["", "a b", "wetter-für", "x" * 65, "a.b"])
def test_a_name_that_requests_do_not_take_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="expected a name of 1 to 64"):
        edge.tool(name=name)(everything)


def test_what_is_wrong_with_arguments_is_named() -> None:
    made = edge.tool(everything)
    with pytest.raises(ValueError, match="city: Field required; unit: .*'C' or 'F'") as caught:
        made.checked({"unit": "K", "town": "Rome"})
    assert "town: Extra inputs" in str(caught.value) and "the parameters are city, unit, days" in str(caught.value)


def test_none_is_taken_where_it_is_the_default() -> None:
    @edge.tool
    def wait(seconds: int = None, unit: Annotated[str, "s or m"] = None) -> object:  # type: ignore[assignment]  # noqa: RUF013
        return seconds, unit

    assert wait.invoke(wait.checked({"seconds": None, "unit": None})) == (None, None)
    assert wait.parameters["properties"]["unit"]["description"] == "s or m"  # type: ignore[index]
