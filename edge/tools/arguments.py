"""The parameters of a function as a JSON schema that answers can be constrained to, and arguments checked by it."""

import contextlib
import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Optional

import pydantic
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined, SchemaError, core_schema

from edge.errors import ParameterError
from edge.tools.docstring import documented

_MOST_PROBLEMS = 5  # that are told of one call
_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
# What pydantic says of a type that it has no schema for, or that needs what is not installed.
_UNMADE = (pydantic.errors.PydanticUserError, SchemaError, TypeError, NameError, AttributeError, ImportError)
_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "a parameter like *{} is not supported: declare a list",
    inspect.Parameter.VAR_KEYWORD: "a parameter like **{} is not supported: declare each parameter, or a dict",
    inspect.Parameter.POSITIONAL_ONLY: "the positional-only parameter {} is not supported: arguments go by name",
}


@dataclass(frozen=True, eq=False)
class Arguments:
    """What a function is called with. schema: of an object, by parameter; description: of the function."""

    description: str
    schema: Mapping[str, object]
    _model: type[pydantic.BaseModel]
    _names: tuple[str, ...]
    _filled: frozenset[str] = frozenset()  # of those whose default is pydantic's to fill in

    def checked(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return arguments as the function takes them: those that were given, of the types that it declares.

        Raises: ValueError naming each one that is wrong.
        """
        try:
            model = self._model.model_validate(dict(given))
        except pydantic.ValidationError as error:
            raise ValueError(_problems(error, self._names)) from error
        wanted = {name for field, name in _fields(self._names) if field in model.model_fields_set} | self._filled
        return {name: getattr(model, field) for field, name in _fields(self._names) if name in wanted}


def arguments_of(
    function: Callable[..., object], *, name: str, namespace: Mapping[str, object] | None = None
) -> Arguments:
    """Return what a function is called with, by its type hints and its docstring.

    name: of the tool, for errors; namespace: of names that the hints use beside those of the function's module.
    Raises: ParameterError naming the parameter that cannot be one of a tool.
    """
    said = documented(inspect.getdoc(function))
    try:
        parameters = _parameters(function)
        hints = _hints(function, namespace or {})
    except (NameError, AttributeError, SyntaxError) as error:
        raise wrong(name, f"its type hints cannot be read: {error}") from error
    except (TypeError, ValueError) as error:
        raise wrong(name, f"its parameters are not known: {error}") from error
    fields: dict[str, Any] = {}
    for field, parameter in zip((field for field, _ in _fields(parameters)), parameters.values(), strict=True):
        fields[field] = _field(name, parameter, hints, said.parameters.get(parameter.name))
    model = _model(name, fields)
    filled = frozenset(p.name for p in parameters.values() if isinstance(p.default, FieldInfo))
    return Arguments(said.text, _schema(name, model), model, tuple(parameters), filled)


def wrong(name: str, why: str) -> ParameterError:
    """Return the error of a function that cannot be a tool."""
    return ParameterError(f"tool {name}: {why}", field="tool")


def _parameters(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """Return a function's parameters by name, without that of the object whose method it is."""
    parameters = dict(inspect.signature(function).parameters)
    first = next(iter(parameters.values()), None)
    is_method = "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]
    if first is not None and is_method and first.name in ("self", "cls") and not inspect.ismethod(function):
        del parameters[first.name]
    return parameters


def _hints(function: Callable[..., object], namespace: Mapping[str, object]) -> Mapping[str, object]:
    """Return the type hints of a function, those that are written as text read. Raises: NameError."""
    inner = inspect.unwrap(getattr(function, "func", function))
    if not (inspect.isfunction(inner) or inspect.ismethod(inner) or inspect.isbuiltin(inner)):
        inner = type(inner).__call__
    return typing.get_type_hints(inner, localns={**namespace, **_enclosed(inner)}, include_extras=True)


def _enclosed(function: Callable[..., object]) -> dict[str, object]:
    """Return the variables around a function that it uses, those that have a value already."""
    found: dict[str, object] = {}
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        with contextlib.suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _field(tool: str, parameter: inspect.Parameter, hints: Mapping[str, object], said: str | None) -> object:
    """Return the field of a parameter, as pydantic makes models of them. Raises: ParameterError."""
    if parameter.kind in _UNNAMED:
        raise wrong(tool, _KINDS[parameter.kind].format(parameter.name))
    if parameter.name not in hints:
        raise wrong(tool, f"the parameter {parameter.name} has no type hint: write one, such as {parameter.name}: str")
    hint: Any = hints[parameter.name]
    default = ... if parameter.default is parameter.empty else parameter.default
    if isinstance(default, FieldInfo):
        hint, default = Annotated[hint, default], default.get_default(call_default_factory=True, validated_data={})
        default = ... if default is PydanticUndefined else default
    described = _description(hint) or said
    if default is None:
        hint = Optional[hint]  # noqa: UP045 - hints there are that have no |
    own = pydantic.Field(default, alias=parameter.name, description=described) if described else None
    return (hint, own or pydantic.Field(default, alias=parameter.name))


def _description(hint: object) -> str | None:
    """Return what Annotated says of a parameter: a text, or an object that documents it."""
    if typing.get_origin(hint) is not Annotated:
        return None
    for said in typing.get_args(hint)[1:]:
        text = said if isinstance(said, str) else getattr(said, "documentation", None)
        text = getattr(said, "description", None) if text is None else text
        if isinstance(text, str):
            return text
    return None


def _fields(names: Mapping[str, object] | tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the name of each parameter's field beside its own, which may be one that pydantic keeps for itself."""
    return [(f"parameter_{i}", name) for i, name in enumerate(names)]


def _model(tool: str, fields: Mapping[str, Any]) -> type[pydantic.BaseModel]:
    """Return the model of a function's arguments. Raises: ParameterError for a type that is not supported."""
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    try:
        with warnings.catch_warnings(action="ignore"):
            return pydantic.create_model("Arguments", __config__=config, **fields)
    except _UNMADE as error:
        why = " ".join(str(error).split("\n\nFor further")[0].split())
        raise wrong(tool, f"a type hint is not supported: {why:.300}") from error


class _Schemas(GenerateJsonSchema):
    """Schemas that answers can be constrained to: what is only looked at afterwards is left out."""

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        """Return the schema of a set, whose items are told apart when it is made."""
        return {key: value for key, value in super().set_schema(schema).items() if key != "uniqueItems"}

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        """Return the schema of a set, whose items are told apart when it is made."""
        return {key: value for key, value in super().frozenset_schema(schema).items() if key != "uniqueItems"}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Return the schema of a decimal number as one of a number, without the other ways to write it."""
        bounds = {key: schema[key] for key in ("multiple_of", "le", "ge", "lt", "gt") if key in schema}
        numbers = {key: float(value) for key, value in bounds.items()}
        return self.float_schema({"type": "float", **numbers})  # type: ignore[typeddict-item]

    def get_title_from_name(self, name: str) -> str:
        """Return no title: it would repeat each name."""
        return ""


def _schema(tool: str, model: type[pydantic.BaseModel]) -> Mapping[str, object]:
    """Return a model's JSON schema as short as it can be. Raises: ParameterError."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a default that JSON cannot say is left out
            schema = model.model_json_schema(schema_generator=_Schemas, mode="validation")
    except pydantic.errors.PydanticUserError as error:
        why = " ".join(str(error).split("\n\nFor further")[0].split())
        raise wrong(tool, f"a type hint has no JSON schema: {why:.300}") from error
    short = _without_titles(schema)
    return short if isinstance(short, dict) else schema


def _without_titles(node: object, *, names: bool = False) -> object:
    """Return a schema without titles. names: the keys of this node are names of properties."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value if key in ("default", "enum", "const", "examples") and not names
        else _without_titles(value, names=not names and key in ("properties", "$defs", "patternProperties"))
        for key, value in node.items()
        if names or key != "title"
    }  # fmt: skip


def _problems(error: pydantic.ValidationError, names: tuple[str, ...]) -> str:
    """Return what is wrong with arguments, in one line."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in found]
    if any(problem["type"] == "extra_forbidden" for problem in found):
        said.append(f"the parameters are {', '.join(names) or 'none'}")
    more = [] if len(said) <= _MOST_PROBLEMS else [f"{len(said) - _MOST_PROBLEMS} more"]
    return "; ".join([*said[:_MOST_PROBLEMS], *more])
