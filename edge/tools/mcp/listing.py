"""The list of a server's tools: one that is damaged is left out, where the SDK would refuse all of them."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import pydantic
from mcp.shared.message import SessionMessage
from mcp_types import Tool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from mcp import Client

MAX_PAGES = 50
MAX_LISTED = 5000

Streams = Any  # what the SDK's transports give: a type that it keeps to itself
Refuse = Callable[[str, str], None]


class _Mended:
    """What a session reads from, lists of tools mended on their way. refuse: called with a tool's name and why."""

    def __init__(self, inner: Any, refuse: Refuse) -> None:  # noqa: ANN401 - a protocol that the SDK keeps to itself
        self._inner = inner
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._inner, name)

    async def receive(self) -> object:
        return self._mend(await self._inner.receive())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        return self._mend(await self._inner.__anext__())

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> object:
        return await self._inner.__aexit__(*error)

    def _mend(self, item: object) -> object:
        result = getattr(item.message, "result", None) if isinstance(item, SessionMessage) else None
        if isinstance(result, dict) and isinstance(result.get("tools"), list):
            result["tools"] = [tool for tool in result["tools"] if self._is_one(tool)]
        return item

    def _is_one(self, tool: object) -> bool:
        why = _wrong(tool)
        if why is not None:
            name = tool.get("name") if isinstance(tool, dict) else None
            self._refuse(str(name), why)
        return why is None


def _wrong(tool: object) -> str | None:
    """Return what is wrong with a tool of a list, None for one that every version of the protocol takes."""
    try:
        schema = Tool.model_validate(tool).input_schema
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    if schema.get("type") != "object":
        return f"inputSchema.type: expected 'object', got {schema.get('type')!r:.100}"
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not all(isinstance(each, dict) for each in properties.values()):
        return "inputSchema.properties: expected an object of schemas"
    return None


@asynccontextmanager
async def mended(transport: "AbstractAsyncContextManager[Streams]", refuse: Refuse) -> "AsyncGenerator[Streams]":
    """Return a transport whose lists of tools are mended."""
    async with transport as (reading, writing):
        yield _Mended(reading, refuse), writing


async def listed(client: "Client") -> list[Tool]:
    """Return the tools of a server, as far as anybody could want to read."""
    tools: list[Tool] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        if page.next_cursor is None or page.next_cursor == cursor or len(tools) > MAX_LISTED:
            break
        cursor = page.next_cursor
    return tools[:MAX_LISTED]
