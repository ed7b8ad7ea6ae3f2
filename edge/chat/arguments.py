"""The arguments of `create` as a request, written once for every method that takes them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from edge.chat.messages import MessageLike
from edge.chat.reply import api_errors
from edge.engine.handle import Reading
from edge.errors import ParameterError, shown
from edge.types import Tool, ToolChoice

# The SDK's RequestOptions: additional_body_parameters mean something here, and on_progress.
Options = Mapping[str, object]
ToolLike = Tool | Mapping[str, object]
Fields = dict[str, Any]
OnReading = Callable[[Reading], object]
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def chat_request(
    *,
    messages: Sequence[MessageLike],
    model: str,
    frequency_penalty: float | None = None,
    max_tokens: int | None = None,
    presence_penalty: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] | None = None,
    temperature: float | None = None,
    tool_choice: ToolChoice | None = None,
    tools: Sequence[ToolLike] | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    use_search_engine: bool | None = None,
    request_options: Options | None = None,
) -> Fields:
    """Return the request that the arguments of a `create` make, with the further fields of its request_options."""
    body = {name: value for name, value in locals().items() if name != "request_options"}
    further = request_options.get("additional_body_parameters") if isinstance(request_options, Mapping) else None
    if isinstance(further, Mapping):
        body.update({name: value for name, value in further.items() if value is not None})
    return body


def on_progress(arguments: Mapping[str, object]) -> OnReading | None:
    """Return what is called while a prompt is read. Raises: ParameterError for what cannot be called."""
    options = arguments.get("request_options")
    call = options.get("on_progress") if isinstance(options, Mapping) else None
    if call is None or callable(call):
        return call
    with api_errors():
        raise ParameterError(f"on_progress: expected a function, got {shown(str(call))}", field="request_options")


def with_parameters_of(
    pattern: Callable[P, object],
) -> Callable[[Callable[Concatenate[S, ...], R]], Callable[Concatenate[S, P], R]]:
    """Return a decorator for methods that hand all of their arguments to `pattern`.

    The parameters are written once, in `pattern`; type checkers and inspect.signature see them on each method.
    """

    def decorate(method: Callable[Concatenate[S, ...], R]) -> Callable[Concatenate[S, P], R]:
        own, shown = inspect.signature(method), inspect.signature(pattern).parameters.values()
        method.__signature__ = own.replace(parameters=[own.parameters["self"], *shown])  # type: ignore[attr-defined]
        return method

    return decorate
