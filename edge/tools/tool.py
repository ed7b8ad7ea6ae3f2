"""`edge.tool`: a Python function as a tool that a model may call."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Generic, ParamSpec, Protocol, TypeVar, cast, overload, runtime_checkable

from edge.chat.messages import Problems
from edge.chat.tools import read_tools
from edge.engine.grammar.format import call_format
from edge.errors import SchemaError
from edge.tools.arguments import arguments_of, wrong

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNRUN = (inspect.isasyncgenfunction, inspect.isgeneratorfunction)


@runtime_checkable
class Callee(Protocol):
    """What a `Toolset` calls: a function, or a tool of an MCP server.

    parameters: the JSON schema of the arguments, of an object. read_only: whether it changes nothing outside of this
    program, so that nobody has to be asked before it is called. timeout_s: of its own, None for the toolset's.
    """

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def description(self) -> str:
        """What it does, for the model."""

    @property
    def parameters(self) -> Mapping[str, object]:
        """The schema of its arguments."""

    @property
    def read_only(self) -> bool:
        """Whether it changes nothing outside of this program."""

    @property
    def timeout_s(self) -> float | None:
        """The seconds that a call may take."""

    def checked(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """Return arguments as they are handed over. Raises: ValueError naming what is wrong."""

    def invoke(self, arguments: Mapping[str, object]) -> object:
        """Call it with checked arguments; what is returned may be awaitable."""


class ToolFunction(Generic[P, R]):
    """A function that is a tool, and is called as before; made by `edge.tool`.

    name, description, parameters (a JSON schema), read_only, timeout_s: as the model and a `Toolset` are told.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        read_only: bool = False,
        timeout_s: float | None = None,
        namespace: Mapping[str, object] | None = None,
    ) -> None:
        self.function = function
        self.name = _name(function, name)
        self.read_only = read_only
        self.timeout_s = timeout_s
        if timeout_s is not None and not 0 < timeout_s < float("inf"):
            raise wrong(self.name, f"timeout_s: expected seconds above 0, got {timeout_s!r:.100}")
        if any(is_unrun(inspect.unwrap(function)) for is_unrun in _UNRUN):
            raise wrong(self.name, "a generator is not supported: return a value, such as a list")
        self._arguments = arguments_of(function, name=self.name, namespace=namespace)
        self.description = self._arguments.description if description is None else description
        self.parameters = self._arguments.schema
        check_schema(self)
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> "ToolFunction[..., R]":
        """Return the tool of an object whose class has it as a method."""
        if instance is None or not hasattr(self.function, "__get__"):
            return cast("ToolFunction[..., R]", self)
        bound = ToolFunction.__new__(ToolFunction)
        bound.__dict__.update(self.__dict__, function=self.function.__get__(instance, owner))
        return bound

    def __repr__(self) -> str:
        return f"ToolFunction({self.name!r}{', read_only=True' * self.read_only})"

    def checked(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Return arguments of the types that the function declares. Raises: ValueError naming what is wrong."""
        return self._arguments.checked(arguments)

    def invoke(self, arguments: Mapping[str, object]) -> object:
        """Call the function with checked arguments; what is returned may be awaitable."""
        return cast("Callable[..., object]", self.function)(**arguments)


@overload
def tool(function: Callable[P, R], /) -> ToolFunction[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    timeout_s: float | None = None,
) -> Callable[[Callable[P, R]], ToolFunction[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    timeout_s: float | None = None,
) -> ToolFunction[P, R] | Callable[[Callable[P, R]], ToolFunction[P, R]]:
    """Make a tool of a function, sync or async: its type hints and docstring become a JSON schema.

    The docstring says what the tool does and, in Google's, NumPy's or reST's form, what each parameter means; so does
    `Annotated[str, "what it means"]`. A parameter without a default is required. name: the function's unless given, 1
    to 64 letters, digits, `_` and `-`. description: the docstring's unless given. read_only: it changes nothing outside
    of this program; others are asked about before they are called. timeout_s: of one call, in seconds; the toolset's
    unless given.

        @edge.tool(read_only=True)
        def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
            \"\"\"Tell the weather in a city.\"\"\"

    Raises: ParameterError for a function that cannot be a tool: parameters without a type hint, positional-only or like
    *args, and types without a schema that answers can be constrained to.
    """
    namespace = dict(sys._getframe(1).f_locals)

    def decorate(function: Callable[P, R]) -> ToolFunction[P, R]:
        return ToolFunction(
            function, name=name, description=description, read_only=read_only, timeout_s=timeout_s, namespace=namespace
        )

    if function is None:
        return decorate
    if isinstance(function, ToolFunction):
        return function
    if not callable(function):
        raise wrong(f"{function!r:.100}", "expected a function; options go by name: @edge.tool(name=...)")
    return decorate(function)


def check_schema(made: Callee) -> None:
    """Check that a tool is one that a request may offer, whose calls can be constrained.

    Raises: ParameterError naming the parameter and what is not supported.
    """
    problems = Problems()
    fields = {"name": made.name, "description": made.description, "parameters": made.parameters}
    read_tools([fields], problems)
    if problems.found:
        problem = problems.found[0]
        raise wrong(made.name, f"{'.'.join(map(str, problem.loc[3:]))}: {problem.msg}")
    try:
        call_format({made.name: made.parameters}, field="tools")
    except SchemaError as error:
        raise wrong(made.name, str(error).removeprefix("tools: ").removeprefix(f"{made.name}.")) from error


def _name(function: Callable[..., object], name: str | None) -> str:
    """Return the name of a tool. Raises: ParameterError."""
    called = getattr(function, "__name__", None) if name is None else name
    if isinstance(called, str) and _NAME.fullmatch(called):
        return called
    shown = "a function without a name" if called is None else f"{called!r:.100}"
    raise wrong(shown, "expected a name of 1 to 64 letters, digits, _ and -: @edge.tool(name=...)")
