"""Rounds with tools at work: each request asked, each call made, and every event told, with and without asyncio."""

import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from edge.chat.arguments import Fields, Options
from edge.chat.messages import MessageLike
from edge.chat.reply import api_errors
from edge.errors import ParameterError
from edge.tools.rounds import Event, Rounds, ToolEnded, ToolStarted
from edge.tools.toolset import Ask, ToolLike, Toolset
from edge.types import ApiError, ChunkChatResponse, ToolChoice

OnEvent = Callable[[Event], object]
Tools = Toolset | Iterable[ToolLike]


@dataclass(frozen=True, eq=False)
class RunRequest:
    """What a run is asked with: the fields of its first request, its tools, and who is told of what."""

    fields: Fields
    tools: Toolset
    max_rounds: int | None
    on_event: OnEvent | None
    cancel: threading.Event | None


def run_request(
    *,
    messages: Sequence[MessageLike],
    model: str,
    tools: Tools | None = None,
    max_rounds: int | None = None,
    allow: Iterable[str] | None = None,
    ask: Ask | None = None,
    on_event: OnEvent | None = None,
    cancel: threading.Event | None = None,
    frequency_penalty: float | None = None,
    max_tokens: int | None = None,
    presence_penalty: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] | None = None,
    temperature: float | None = None,
    tool_choice: ToolChoice | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    use_search_engine: bool | None = None,
    request_options: Options | None = None,
) -> RunRequest:
    """Return what the arguments of a `run` ask for. Raises: UnprocessableEntityError for what are no tools."""
    fields = dict(locals())
    for own in ("tools", "max_rounds", "allow", "ask", "on_event", "cancel"):
        del fields[own]
    return RunRequest(fields, toolset_of(tools, allow=allow, ask=ask), max_rounds, on_event, cancel)


def toolset_of(tools: Tools | None, *, allow: Iterable[str] | None, ask: Ask | None) -> Toolset:
    """Return the tools of a run. Functions that a program hands over itself are allowed where nobody is to be asked.

    Raises: UnprocessableEntityError for what are no tools.
    """
    with api_errors():
        if isinstance(tools, Toolset):
            if allow is not None or ask is not None:
                raise ParameterError("tools: a Toolset has its own allow and ask: give them to it", field="tools")
            return tools
        allow = (["*"] if ask is None else []) if allow is None else allow
        return Toolset(tools or (), allow=allow, ask=ask)


def run(
    request: RunRequest, ask: Callable[..., Generator[ChunkChatResponse, None, None]]
) -> Generator[Event, None, None]:
    """Yield what happens: chunks of each answer, calls and their results, the response last.

    ask: `create_stream`. Raises: ApiError.
    """
    rounds = Rounds(request.fields, request.tools, max_rounds=request.max_rounds)
    stopped = request.cancel.is_set if request.cancel is not None else bool
    while not rounds.over:
        last = None
        try:
            with contextlib.closing(ask(**rounds.request())) as answer:
                for last in answer:
                    yield last
                    if stopped():
                        break
        except ApiError as error:
            if last is None and rounds.shortened(error):
                continue
            raise
        for call in rounds.take(last) if last is not None else ():
            if stopped():
                break
            yield ToolStarted(call)
            result = request.tools.run(call.name, call.parameters, stop=request.cancel)
            rounds.add(call, result)
            yield ToolEnded(call, result)
        if stopped():
            rounds.stop()
    yield rounds.response()


async def arun(
    request: RunRequest, ask: Callable[..., AsyncGenerator[ChunkChatResponse, None]]
) -> AsyncGenerator[Event, None]:
    """Yield what `run` does; cancelling the task, or closing the generator, stops it. Raises: ApiError."""
    rounds = Rounds(request.fields, request.tools, max_rounds=request.max_rounds)
    stopped = request.cancel.is_set if request.cancel is not None else bool
    while not rounds.over:
        last = None
        try:
            async with contextlib.aclosing(ask(**rounds.request())) as answer:
                async for last in answer:
                    yield last
                    if stopped():
                        break
        except ApiError as error:
            if last is None and rounds.shortened(error):
                continue
            raise
        for call in rounds.take(last) if last is not None else ():
            if stopped():
                break
            yield ToolStarted(call)
            result = await request.tools.arun(call.name, call.parameters, stop=request.cancel)
            rounds.add(call, result)
            yield ToolEnded(call, result)
        if stopped():
            rounds.stop()
    yield rounds.response()
