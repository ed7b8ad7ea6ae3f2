"""Tools on offer to a model: their schemas, and calls that are checked, asked about, and held within limits."""

import asyncio
import inspect
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

from edge.chat.tools import MAX_TOOLS
from edge.engine.grammar.format import call_format
from edge.errors import ParameterError, SchemaError
from edge.tools.calling import Died, awaited, called, in_thread, is_async, outcome
from edge.tools.output import ToolResult, failure, reason_of, result_of
from edge.tools.tool import Callee, ToolFunction

CALL_S = 60.0  # that a call may take
OUTPUT_CHARS = 8000  # of a result, some 2000 tokens
ARGUMENT_CHARS = 100_000
MAX_LEFT_BEHIND = 8  # calls that outlasted their time and are still running

Answer = bool | Literal["always"]
Ask = Callable[[str, Mapping[str, object]], Answer | Awaitable[Answer]]
ToolLike = Callee | Callable[..., object]

_LOG = logging.getLogger("edge.tools")
_POLL_S = 0.05
_KINDS = {"image": "an image", "image_url": "an image", "audio_url": "audio"}


class _Refused(Exception):
    """A call that is not made, or not waited for any longer; its text is for the model."""


class Toolset:
    """Tools with distinct names, called by name with arguments that a model wrote; what fails is a result, too.

    tools: functions (made tools by `edge.tool`, or as they are), tools of MCP servers. allow: names of tools that are
    called without asking, or patterns such as "home__*". ask: called with the name and the arguments of a tool that is
    not read-only; True allows the call, "always" all further ones of that tool. Without it they are refused.
    timeout_s: of a call whose tool has none of its own; what outlasts it goes on in its thread, and its result is
    dropped. output_chars: the most of a result's text.

        tools = Toolset([weather], allow=["weather"])
        tools.call("weather", '{"city": "Rome"}')

    Raises: ParameterError for a name that is there twice, what is no tool, or more than 128 of them.
    """

    def __init__(
        self,
        tools: Iterable[ToolLike] = (),
        *,
        allow: Iterable[str] = (),
        ask: Ask | None = None,
        timeout_s: float = CALL_S,
        output_chars: int = OUTPUT_CHARS,
    ) -> None:
        self._tools = _by_name(tools)
        self._allow = [allow] if isinstance(allow, str) else list(allow)
        self._always: set[str] = set()
        self._ask = ask
        self._timeout_s = timeout_s
        self._output_chars = output_chars
        self._left_behind: list[Future[object]] = []

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def tools(self) -> tuple[Callee, ...]:
        """The tools, in the order they were given."""
        return tuple(self._tools.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools."""
        return tuple(self._tools)

    @property
    def schemas(self) -> list[dict[str, object]]:
        """The tools as `tools` of a request: name, description, parameters."""
        return [
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
            for tool in self._tools.values()
        ]

    def call(
        self, name: str, arguments: str | Mapping[str, object] | None = None, *, stop: threading.Event | None = None
    ) -> str:
        """Call a tool and return its result as text, or "Error: " and what failed. Arguments: as `run`."""
        result = self.run(name, arguments, stop=stop)
        left_out = [f"[{_KINDS[str(part.get('type'))]}]" for part in result.media]
        return "\n".join([*([result.text] if result.text or not left_out else []), *left_out])

    def run(
        self, name: str, arguments: str | Mapping[str, object] | None = None, *, stop: threading.Event | None = None
    ) -> ToolResult:
        """Call a tool and return its result, media included; whatever fails is a result as well.

        arguments: JSON of an object, or a mapping. stop: while it is awaited, setting it ends the call with an error.
        """
        try:
            tool, checked = self._checked(name, arguments)
            self._check_allowed(tool, self._answer(tool, checked))
            return self._result(self._awaited(tool, self._begin(tool, checked), stop))
        except (_Refused, Died) as refused:
            return failure(str(refused))
        except Exception as error:  # whatever a tool does: it goes back to the model
            return self._failed(name, error)

    async def arun(
        self, name: str, arguments: str | Mapping[str, object] | None = None, *, stop: threading.Event | None = None
    ) -> ToolResult:
        """Call a tool as `run` does, without blocking the loop: async functions run on it, others in a thread.

        Cancelling the task ends the call of an async function; a thread goes on, and its result is dropped.
        """
        try:
            tool, checked = self._checked(name, arguments)
            answer = None if self._is_allowed(tool) else await self._asked(tool, checked)
            self._check_allowed(tool, answer)
            return self._result(await self._stoppable(tool, self._aresult(tool, checked), stop))
        except (_Refused, Died) as refused:
            return failure(str(refused))
        except Exception as error:
            return self._failed(name, error)

    def _checked(self, name: str, arguments: str | Mapping[str, object] | None) -> tuple[Callee, Mapping[str, object]]:
        tool = self._tools.get(name)
        if tool is None:
            raise _Refused(f"there is no tool {name!r:.100}; the tools are {', '.join(self._tools) or 'none'}")
        try:
            return tool, tool.checked(_read(arguments))
        except ValueError as error:
            raise _Refused(f"arguments of {name}: {error}") from error

    def _is_allowed(self, tool: Callee) -> bool:
        is_named = any(fnmatchcase(tool.name, pattern) for pattern in self._allow)
        return tool.read_only or is_named or tool.name in self._always

    def _answer(self, tool: Callee, arguments: Mapping[str, object]) -> Answer | None:
        """Ask whether a tool may be called; None where nobody has to be asked, or can be."""
        if self._is_allowed(tool) or self._ask is None:
            return None
        answer = self._ask(tool.name, arguments)
        if inspect.isawaitable(answer):
            return asyncio.run(awaited(answer))
        return answer

    async def _asked(self, tool: Callee, arguments: Mapping[str, object]) -> Answer | None:
        """Ask as `_answer` does, and await the answer; what is no coroutine is asked in a thread."""
        if self._ask is None:
            return None
        if inspect.iscoroutinefunction(self._ask):
            return cast(Answer, await self._ask(tool.name, arguments))
        return await asyncio.wrap_future(in_thread(lambda: self._answer(tool, arguments)))

    def _check_allowed(self, tool: Callee, answer: Answer | None) -> None:
        if answer == "always":
            self._always.add(tool.name)
        if self._is_allowed(tool) or answer is True:
            return
        why = "was refused by the user" if answer is not None else "is not allowed, and nobody can be asked"
        raise _Refused(f"the call of {tool.name} {why}; do not repeat it")

    def _begin(self, tool: Callee, arguments: Mapping[str, object]) -> "Future[object]":
        """Run a tool in a thread of its own: whatever it does, nobody has to wait for it."""
        self._left_behind = [running for running in self._left_behind if not running.done()]
        if len(self._left_behind) >= MAX_LEFT_BEHIND:
            raise _Refused(f"{len(self._left_behind)} calls that took too long are still running; try again later")
        return in_thread(lambda: called(tool, arguments))

    def _awaited(self, tool: Callee, running: "Future[object]", stop: threading.Event | None) -> object:
        deadline_s = time.monotonic() + self._limit(tool)
        while (left_s := deadline_s - time.monotonic()) > 0:
            if stop is not None and stop.is_set():
                self._left_behind.append(running)
                raise _Refused(f"the call of {tool.name} was stopped")
            with suppress(TimeoutError):
                return outcome(running, left_s if stop is None else min(left_s, _POLL_S))
        self._left_behind.append(running)
        raise self._outlasted(tool)

    async def _aresult(self, tool: Callee, arguments: Mapping[str, object]) -> object:
        """Return what a tool returns: of a function that is a coroutine on this loop, of others in a thread."""
        running = None if is_async(tool) else self._begin(tool, arguments)
        try:
            async with asyncio.timeout(self._limit(tool)) as limit:
                if running is None:
                    return await cast(Awaitable[object], tool.invoke(arguments))
                return await asyncio.wrap_future(running)
        except TimeoutError:
            if limit.expired():
                raise self._outlasted(tool) from None
            raise
        finally:
            if running is not None and not running.done():
                self._left_behind.append(running)

    async def _stoppable(self, tool: Callee, work: Coroutine[Any, Any, object], stop: threading.Event | None) -> object:
        """Return what a call returns, unless `stop` is set before: an event of threads, which is looked at."""
        if stop is None:
            return await work
        doing = asyncio.ensure_future(work)
        try:
            while not stop.is_set():
                if (await asyncio.wait([doing], timeout=_POLL_S))[0]:
                    return doing.result()
            raise _Refused(f"the call of {tool.name} was stopped")
        finally:
            doing.cancel()

    def _limit(self, tool: Callee) -> float:
        return self._timeout_s if tool.timeout_s is None else tool.timeout_s

    def _outlasted(self, tool: Callee) -> _Refused:
        return _Refused(f"{tool.name} gave no result within {self._limit(tool):g} s")

    def _result(self, value: object) -> ToolResult:
        return result_of(value, n_chars=self._output_chars)

    def _failed(self, name: str, error: BaseException) -> ToolResult:
        _LOG.info("tool %s failed", name, exc_info=error)
        return failure(reason_of(error))


def _read(arguments: str | Mapping[str, object] | None) -> Mapping[str, object]:
    """Return the arguments of a call. Raises: ValueError."""
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}
    if isinstance(arguments, str):
        if len(arguments) > ARGUMENT_CHARS:
            raise ValueError(f"expected at most {ARGUMENT_CHARS} characters, got {len(arguments)}")
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise ValueError("expected JSON of an object") from error
    if not isinstance(arguments, Mapping):
        raise ValueError(f"expected a JSON object, got {type(arguments).__name__}")
    return arguments


def _by_name(tools: Iterable[ToolLike]) -> dict[str, Callee]:
    """Return tools by their names, functions made tools. Raises: ParameterError."""
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise ParameterError(f"tools: expected a list of functions, got {type(tools).__name__}", field="tools")
    found: dict[str, Callee] = {}
    for given in tools:
        made = _made(given)
        if made.name in found:
            raise ParameterError(f"tools: the name {made.name} is there twice: edge.tool(name=...)", field="tools")
        found[made.name] = made
    if len(found) > MAX_TOOLS:
        raise ParameterError(f"tools: expected at most {MAX_TOOLS}, got {len(found)}", field="tools")
    _check_together(list(found.values()))
    return found


def _made(given: object) -> Callee:
    if isinstance(given, Callee):
        return given
    if callable(given) and not isinstance(given, type):
        return ToolFunction(given)
    got = "a schema without a function" if isinstance(given, Mapping) else type(given).__name__
    raise ParameterError(f"tools: expected functions, got {got}", field="tools")


def _check_together(tools: Sequence[Callee]) -> None:
    """Check that a call of any of the tools can be demanded. Raises: ParameterError."""
    try:
        if tools:
            call_format({tool.name: tool.parameters for tool in tools}, field="tools")
    except SchemaError as error:
        raise ParameterError(f"all tools together: {error}", field="tools") from error
