"""The file that lists MCP servers, in the form of Claude Desktop and of VS Code, checked and filled in."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edge.errors import ParameterError, shown

START_S = 30.0
CALL_S = 60.0
_MAX_BYTES = 1 << 20
_MAX_SERVERS = 32
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{([^}]*)\}")
_HTTP = ("http", "streamable-http", "streamableHttp", "streamable_http")
_KINDS = f"stdio or {_HTTP[0]}"


@dataclass(frozen=True)
class McpServer:
    """A server: a command that is run (stdio), or an address (streamable HTTP).

    trust: its own word that a tool only reads is believed. start_s, timeout_s: how long it may take to start and to
    answer a call. tools: names of those that are offered, None for all.
    """

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trust: bool = False
    start_s: float = START_S
    timeout_s: float = CALL_S
    tools: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"McpServer({self.name!r})"  # environment and headers hold secrets


def read_servers(path: Path, tell: Callable[[str], None]) -> list[McpServer]:
    """Return the servers of a file that can be tried; tell: called with one sentence for each that cannot.

    Raises: ParameterError for a file that is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _wrong(path, error.strerror or "cannot be read") from error
    if len(data) > _MAX_BYTES:
        raise _wrong(path, f"expected at most {_MAX_BYTES} bytes")
    try:
        content = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"expected JSON: {error}") from error
    found = content.get("mcpServers", content.get("servers")) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise _wrong(path, 'expected {"mcpServers": {NAME: {"command": ...} or {"url": ...}}}')
    if len(found) > _MAX_SERVERS:
        raise _wrong(path, f"expected at most {_MAX_SERVERS} servers, got {len(found)}")
    servers = []
    for name, entry in found.items():
        try:
            server = read_server(name, entry)
        except ParameterError as error:
            tell(str(error))
            continue
        if server is not None:
            servers.append(server)
    return servers


def variables(path: Path) -> list[str]:
    """Return the names of the environment's variables in a file of servers; none of one that cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return list(dict.fromkeys(found[1] for found in _VARIABLE.finditer(text) if found[1]))


def read_server(name: str, entry: object) -> McpServer | None:
    """Return a server by its entry in a file, None for one that is switched off. Raises: ParameterError."""
    if not isinstance(entry, Mapping):
        raise _bad(name, f"expected an object, got {type(entry).__name__}")
    if entry.get("disabled") is True or entry.get("enabled") is False:
        return None
    kind = entry.get("type", entry.get("transport", "stdio" if "command" in entry else _HTTP[0]))
    shared = {
        "trust": _flag(name, entry, "trust"),
        "start_s": _seconds(name, entry, "startTimeout", START_S),
        "timeout_s": _seconds(name, entry, "timeout", CALL_S),
        "tools": tuple(_strings(name, entry, "tools")) if entry.get("tools") is not None else None,
    }
    if kind == "stdio":
        command = _filled(name, entry.get("command"), "command")
        arguments = _strings(name, entry, "args")
        cwd = None if entry.get("cwd") is None else _filled(name, entry["cwd"], "cwd")
        return McpServer(name, (command, *arguments), _texts(name, entry, "env"), cwd, **shared)  # type: ignore[arg-type]
    if kind in _HTTP:
        url = _url(name, _filled(name, entry.get("url"), "url"), entry.get("url"))
        return McpServer(name, url=url, headers=_headers(name, entry), **shared)  # type: ignore[arg-type]
    raise _bad(name, f"type: expected {_KINDS}, got {shown(str(kind))}")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON none of whose keys is there twice. Raises: ValueError."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{shown(key)} is there twice")
        found[key] = value
    return found


def _wrong(path: Path, why: str) -> ParameterError:
    return ParameterError(f"{path}: {why}", field="mcp")


def _bad(name: str, why: str) -> ParameterError:
    return ParameterError(f"MCP server {shown(name)}: {why}", field="mcp")


def _filled(name: str, value: object, key: str) -> str:
    """Return a text with the environment's variables in it. Raises: ParameterError."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise _bad(name, f"{key}: expected a text, got {shown(str(value))}")

    def fill(found: re.Match[str]) -> str:
        variable, default, other = found.groups()
        if other is not None:
            raise _bad(name, f"{key}: ${{{other[:50]}}} is not supported: expected ${{NAME}} or ${{env:NAME}}")
        value = os.environ.get(variable, default)
        if value is None:
            raise _bad(name, f"{key}: the environment variable {variable} is not set")
        return value

    return _VARIABLE.sub(fill, value)


def _strings(name: str, entry: Mapping[str, object], key: str) -> list[str]:
    values = entry.get(key)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _bad(name, f"{key}: expected a list of texts")
    return [_filled(name, value, key) if value else "" for value in values]


def _texts(name: str, entry: Mapping[str, object], key: str) -> dict[str, str]:
    values = entry.get(key)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise _bad(name, f"{key}: expected an object of texts")
    return {inner: _filled(name, value, f"{key}.{inner}") if value else "" for inner, value in values.items()}


def _headers(name: str, entry: Mapping[str, object]) -> dict[str, str]:
    headers = _texts(name, entry, "headers")
    for header, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) or re.search(r"[\r\n]", value):
            raise _bad(name, f"headers: {shown(header)} is no header")
    return headers


def _url(name: str, url: str, written: object) -> str:
    """Return the address of a server. written: as the file has it, without the values of variables."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise _bad(name, f"url: expected one of http or https, got {shown(str(written))}")
    return url


def _flag(name: str, entry: Mapping[str, object], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise _bad(name, f"{key}: expected true or false, got {shown(str(value))}")
    return value


def _seconds(name: str, entry: Mapping[str, object], key: str, default: float) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
        raise _bad(name, f"{key}: expected seconds above 0, got {shown(str(value))}")
    return float(value)
