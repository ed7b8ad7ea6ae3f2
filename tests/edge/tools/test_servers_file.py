"""The file of servers is read in both of its forms; what is wrong with one entry leaves that server out alone."""

import json
from pathlib import Path

import pytest

from edge.errors import ParameterError
from edge.tools.mcp.servers_file import McpServer, read_server, read_servers


def read(tmp_path: Path, content: object) -> tuple[list[McpServer], list[str]]:
    path = tmp_path / "servers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    told: list[str] = []
    return read_servers(path, told.append), told


@pytest.mark.parametrize("key", ["mcpServers", "servers"])
def test_both_forms_are_read(tmp_path: Path, key: str) -> None:
    entries = {
        "files": {"command": "npx", "args": ["-y", "server"], "env": {"A": "b"}, "cwd": "/tmp", "note": "ignored"},
        "home": {"type": "http", "url": "http://localhost:8123/mcp", "headers": {"X-Key": "k"}, "trust": True},
        "plain": {"url": "https://example.com/mcp", "timeout": 5, "startTimeout": 2.5, "tools": ["a"]},
        "off": {"command": "x", "disabled": True},
    }
    (files, home, plain), told = read(tmp_path, {key: entries, "inputs": []})
    assert told == []
    assert (files.command, files.env, files.cwd, files.trust) == (("npx", "-y", "server"), {"A": "b"}, "/tmp", False)
    assert (home.url, home.headers, home.trust) == ("http://localhost:8123/mcp", {"X-Key": "k"}, True)
    assert (plain.timeout_s, plain.start_s, plain.tools) == (5.0, 2.5, ("a",))


def test_an_address_that_is_none_is_shown_without_the_values_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    with pytest.raises(ParameterError, match=r"expected one of http or https, got 'ftp://home/\$\{TOKEN\}'"):
        read_server("a", {"url": "ftp://home/${TOKEN}"})


def test_variables_of_the_environment_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.delenv("NONE", raising=False)
    entry = {"url": "http://localhost/${NONE:-x}", "headers": {"Authorization": "Bearer ${TOKEN} ${env:TOKEN}"}}
    server = read_server("a", entry)
    assert server is not None and server.url == "http://localhost/x"
    assert server.headers == {"Authorization": "Bearer secret secret"} and "secret" not in repr(server)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"command": "x", "args": ["${NONE}"]}, "args: the environment variable NONE is not set"),
        ({"command": "x", "args": ["${input:key}"]}, r"\$\{input:key\} is not supported"),
        ({"command": ""}, "command: expected a text"), ({"command": ["x"]}, "command: expected a text"),
        ({"command": "x", "args": "y"}, "args: expected a list"), ({"command": "x", "env": {"A": 1}}, "env: expected"),
        ({}, "url: expected a text"), ({"url": "ftp://x"}, "url: expected one of http"),
        ({"url": "http://"}, "url: expected one"), ({"type": "sse", "url": "http://x"}, "type: expected stdio or http"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "headers: 'a b' is no header"),
        ({"url": "http://x", "headers": {"a": "b\r\nc: d"}}, "headers: 'a' is no header"),
        ({"command": "x", "trust": "yes"}, "trust: expected true or false"),
        ({"command": "x", "timeout": -1}, "timeout: expected seconds"), ([], "expected an object, got list"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_entry_leaves_that_server_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: object, why: str
) -> None:
    monkeypatch.delenv("NONE", raising=False)
    with pytest.raises(ParameterError, match=f"MCP server 'bad': .*{why}"):
        read_server("bad", entry)
    servers, told = read(tmp_path, {"mcpServers": {"bad": entry, "good": {"command": "x"}}})
    assert [server.name for server in servers] == ["good"] and len(told) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "expected JSON"), ("[]", "expected {"), ("{}", "expected {"), ('{"mcpServers": []}', "expected {"),
        ('{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}', "'a' is there twice"),
        ("[" * 100_000, "expected JSON"), (" " * (1 << 20) + "{}", "at most 1048576 bytes"),
        (json.dumps({"mcpServers": {str(i): {"command": "x"} for i in range(33)}}), "at most 32 servers, got 33"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        read(tmp_path, content)
    with pytest.raises(ParameterError, match="No such file"):
        read_servers(tmp_path / "none.json", print)
