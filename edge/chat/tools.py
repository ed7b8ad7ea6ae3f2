"""What a request offers and demands: its tools, and the form that its answer must have."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from edge.chat.messages import Loc, Problems, is_deep, shown
from edge.chat.prompt import Tool
from edge.engine.grammar.format import Format, call_format, pattern_format, schema_format
from edge.types import fields_of

Choice = Literal["auto", "none", "tool"]

CHOICES: tuple[Choice, ...] = ("auto", "none", "tool")
MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 128 << 10
_FORMAT: Loc = ("body", "response_format")
_KINDS = ("text", "json_object", "json_schema", "regex")
_WANTED_KINDS = f"{', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
_MAX_NAME = 64
_NAME_SIGNS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_NO_ARGUMENTS: Mapping[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}


def read_tools(tools: object, problems: Problems) -> tuple[Tool, ...]:
    """Check the tools on offer; what is wrong goes to `problems`. Source: chat-interface.md, 2."""
    if tools is None:
        return ()
    if not isinstance(tools, list | tuple):
        problems.add(("body", "tools"), f"expected a list of tools, got {shown(tools)}", "list_type")
        return ()
    if len(tools) > MAX_TOOLS:
        problems.add(("body", "tools"), f"expected at most {MAX_TOOLS} tools, got {len(tools)}", "too_long")
        return ()
    read: dict[str, Tool] = {}
    for i, item in enumerate(tools):
        tool = _read_tool(item, i, problems)
        if tool.name in read:
            problems.add(("body", "tools", i, "name"), f"expected another name, got {tool.name!r} again", "value_error")
        read[tool.name] = tool
    return tuple(read.values())


def read_choice(choice: object, tools: Sequence[Tool], problems: Problems) -> Choice:
    """Check tool_choice; null is auto."""
    if choice is None:
        return "auto"
    loc = ("body", "tool_choice")
    known = next((name for name in CHOICES if name == choice), None)
    if known is None:
        problems.add(loc, f"expected one of {', '.join(CHOICES)}, got {shown(choice)}", "literal_error")
        return "auto"
    if known == "tool" and not tools:
        problems.add(loc, "expected tools to choose from, got none", "value_error")
    return known


def read_form(response_format: object, choice: Choice, tools: Sequence[Tool], problems: Problems) -> Format | None:
    """Return what the answer must be an instance of, None when it is free. Raises: SchemaError."""
    wanted = _read_format(response_format, problems)
    if choice == "tool":
        if wanted is not None:
            msg = "expected none beside a tool_choice that demands a call, which says what the answer is"
            problems.add(_FORMAT, msg, "value_error")
        schemas = {tool.name: _arguments(tool) for tool in tools}
        return call_format(schemas, field="tools") if schemas and not problems.found else None
    if wanted is None or problems.found:
        return None
    field = ".".join(str(step) for step in problems.place(_FORMAT)[1:])
    return pattern_format(wanted, field=field) if isinstance(wanted, str) else schema_format(wanted, field=field)


def _arguments(tool: Tool) -> Mapping[str, object]:
    """Return the schema of a tool's arguments, which are an object whatever it says."""
    return _NO_ARGUMENTS if tool.parameters is None else {"type": "object", **tool.parameters}


def _read_tool(item: object, i: int, problems: Problems) -> Tool:
    loc = ("body", "tools", i)
    fields = fields_of(item)
    values = fields if isinstance(fields, Mapping) else {}
    name, description, parameters = (values.get(key) for key in ("name", "description", "parameters"))
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME or not _NAME_SIGNS.issuperset(name):
        msg = f"expected 1 to {_MAX_NAME} letters, digits, underscores and hyphens, got {shown(name)}"
        problems.add((*loc, "name"), msg, "value_error")
    if description is not None and not isinstance(description, str):
        problems.add((*loc, "description"), f"expected a string, got {shown(description)}", "string_type")
    if parameters is None:
        return Tool(str(name), _text(description), None)
    schema = _read_schema(parameters, (*loc, "parameters"), problems)
    if schema.get("type", "object") != "object":
        msg = f"expected the schema of an object, got one of {shown(schema.get('type'))}"
        problems.add((*loc, "parameters", "type"), msg, "value_error")
    return Tool(str(name), _text(description), schema)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _read_format(value: object, problems: Problems) -> Mapping[str, object] | str | None:
    """Return the schema or the pattern that a response_format stands for, None for text."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or kind not in _KINDS:
        problems.add((*_FORMAT, "type"), f"expected type {_WANTED_KINDS}, got {shown(kind)}", "literal_error")
        return None
    if kind == "text":
        return None
    if kind == "regex":
        return _read_pattern(value.get("pattern"), (*_FORMAT, "pattern"), problems)
    if kind == "json_object":
        schema = value.get("schema")
        return {"type": "object"} if schema is None else _read_root(schema, (*_FORMAT, "schema"), problems)
    inner = value.get("json_schema")
    if inner is None and "schema" in value:  # as llama.cpp accepts it
        return _read_root(value["schema"], (*_FORMAT, "schema"), problems)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return _read_root(schema, (*_FORMAT, "json_schema", "schema"), problems)


def _read_pattern(pattern: object, loc: Loc, problems: Problems) -> str | None:
    if not isinstance(pattern, str):
        problems.add(loc, f"expected a regular expression, got {shown(pattern)}", "string_type")
        return None
    if len(pattern.encode("utf-8", "replace")) > MAX_SCHEMA_BYTES:
        problems.add(loc, f"expected at most {MAX_SCHEMA_BYTES} bytes, got {len(pattern)} characters", "too_long")
        return None
    return pattern


def _read_root(schema: object, loc: Loc, problems: Problems) -> Mapping[str, object]:
    """Check the schema of a whole answer, which may be true or false."""
    if isinstance(schema, bool):
        return {} if schema else {"anyOf": [False]}
    return _read_schema(schema, loc, problems)


def _read_schema(schema: object, loc: Loc, problems: Problems) -> Mapping[str, object]:
    """Check that a schema is JSON and not too large; what it says is checked when a format is made of it."""
    if not isinstance(schema, Mapping):
        problems.add(loc, f"expected a JSON schema, got {shown(schema)}", "dict_type")
        return {}
    try:
        n_bytes = len(json.dumps(schema, allow_nan=False, default=dict))
        is_said = not is_deep(schema)
    except (TypeError, ValueError, RecursionError):
        n_bytes, is_said = 0, False
    if not is_said:
        problems.add(loc, "expected what JSON can say", "value_error")
        return {}
    if n_bytes > MAX_SCHEMA_BYTES:
        msg = f"expected a schema of at most {MAX_SCHEMA_BYTES} bytes, got {n_bytes}"
        problems.add(loc, msg, "too_long")
    return schema
