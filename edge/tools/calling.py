"""Calls in threads that nobody has to wait for, and what came of them."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

from edge.tools.output import reason_of
from edge.tools.tool import Callee, ToolFunction

T = TypeVar("T")


class Died(Exception):
    """What ended a tool without being an error, such as SystemExit."""


def outcome(running: "Future[object]", wait_s: float) -> object:
    """Return what a call returned. Raises: TimeoutError when it is not there within wait_s; what the call raised."""
    error = running.exception(wait_s)
    if error is None:
        return running.result()
    # A TimeoutError of the tool's own is no sign that there is more to wait for.
    raise Died(reason_of(error)) if isinstance(error, TimeoutError) else error


def in_thread(work: Callable[[], T]) -> "Future[T]":
    """Do work in a daemon thread: one that never ends must not keep the program from ending."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # who stops waiting does not cancel it: there is no way to
    context = copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except Exception as error:
            done.set_exception(error)
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the program nowhere but in its own thread
            done.set_exception(Died(type(error).__name__))
        else:
            done.set_result(result)

    threading.Thread(target=run, name="edge-tool", daemon=True).start()
    return done


def called(tool: Callee, arguments: Mapping[str, object]) -> object:
    """Call a tool; what it returns to be awaited is awaited here."""
    value = tool.invoke(arguments)
    return asyncio.run(awaited(value)) if inspect.isawaitable(value) else value


async def awaited(value: Awaitable[T]) -> T:
    """Return what an awaitable gives, as a coroutine."""
    return await value


def is_async(tool: Callee) -> bool:
    """Return whether a tool is a coroutine function, or an object that is called as one."""
    function = tool.function if isinstance(tool, ToolFunction) else tool.invoke
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
