"""edge chat with tools: what is called is shown, what changes something is asked about, and what is said stays said."""

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge import client
from edge.cli import app
from edge.commands import tool_use
from edge.commands.tool_use import tell
from edge.commands.transcript import load, save
from edge.tools.output import ToolResult
from edge.tools.rounds import ToolEnded, ToolStarted
from edge.types import ToolCall
from tests.edge.tools.scripts import StandIn, call, client_of

Chat = Callable[..., Result]
LIGHT = '''
from typing import Literal
CALLS = []
def light(room: str, state: Literal["on", "off"]) -> str:
    """Switch a light."""
    return f"{room} is {state}"
def no_hints(a): pass
'''
MISBEHAVING = Path(__file__).parents[1] / "tools" / "misbehaving.py"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chat:
    """Run edge chat against a stand-in that says what it is given; the stand-in is `.engine` of the function."""
    (tmp_path / "lights.py").write_text(LIGHT)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(scripts: Sequence[Sequence[str]], *words: str) -> Result:
        engine = StandIn(*scripts)

        monkeypatch.setattr(client, "Reka", lambda **_: client_of(engine))
        run.engine = engine  # type: ignore[attr-defined]
        return CliRunner().invoke(app, ["chat", "Do it.", *words, "--plain"])

    return run


ON = [call("light", room="kitchen", state="on")]
USE = ("--tool", "lights.py:light")


def test_a_function_of_a_file_is_called_and_shown_in_one_line(chat: Chat) -> None:
    done = chat([ON, ["It is on."]], *USE, "--allow-tool", "light")
    assert done.stdout == "It is on.\n" and done.exit_code == 0
    assert done.stderr == 'tool: light(room="kitchen", state="on")\n'
    assert "kitchen is on" in chat.engine.read()  # type: ignore[attr-defined]


def test_where_nobody_can_be_asked_a_call_is_refused(chat: Chat) -> None:
    done = chat([ON, ["I may not."]], *USE)
    assert done.stdout == "I may not.\n" and "kitchen is on" not in chat.engine.read()  # type: ignore[attr-defined]
    assert "tool: Error: the call of light is not allowed, and nobody can be asked" in done.stderr


@pytest.mark.parametrize(("said", "is_called"), [("y", True), ("a", True), ("", False), ("n", False), ("yo", False)])
def test_a_person_at_a_terminal_is_asked(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str, is_called: bool
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return said

    monkeypatch.setattr(tool_use, "ask_in_terminal", lambda: tool_use._ask)
    monkeypatch.setattr("builtins.input", answer)
    done = chat([ON, ON, ["Done."]], *USE)
    assert 'Allow light(room="kitchen", state="on")?' in done.stderr
    assert ("kitchen is on" in chat.engine.read()) is is_called  # type: ignore[attr-defined]
    assert asked == ["[y]es, [a]lways, [N]o: "] * (1 if said == "a" else 2)


def test_who_hangs_up_has_not_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", gone)
    assert tool_use._ask("light", {}) is False


def test_without_a_terminal_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert tool_use.ask_in_terminal() is None


def test_what_is_shown_of_a_call_cannot_move_a_terminal_or_hide(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x9b1A\u202egnp.exe\n\u2066tool: ok\u200b"
    made = ToolCall(id="1", name="light", parameters={"room": evil, evil: "x" * 1000})
    tell(ToolStarted(made))
    tell(ToolEnded(made, ToolResult(f"Error: {evil}", is_error=True)))
    err = capsys.readouterr().err
    assert err.count("\n") == 2 and len(err) < 700
    assert not set("\x1b\x9b\u202e\u2066\u200b\r") & set(err)


def test_included_tools_and_a_server_side_by_side(chat: Chat, tmp_path: Path) -> None:
    servers = {"good": {"command": sys.executable, "args": [str(MISBEHAVING), "${KIND:-good}"]}, "bad": {"command": 1}}
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": servers}))
    script = [[call("good__add"), call("get_time", time_zone="UTC"), call("good__fail")], ["Done."]]
    done = chat(script, "--mcp", "servers.json", "--tools", "time, timer,volume", "--allow-tool", "good__*")
    assert done.stdout == "Done.\n", done.stderr
    assert "edge: MCP server 'bad': command: expected a text, got '1'" in done.stderr
    assert "tool: good__add()\n" in done.stderr and "tool: Error: it is broken" in done.stderr
    asked = chat.engine.read()  # type: ignore[attr-defined]
    assert "add of good" in asked and '"time_zone":"UTC"' in asked and "set_timer" in asked


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--tool", "lights.py"), "expected FILE.py:NAME or MODULE:NAME"),
        (("--tool", "lights.py:dark"), "lights.py has no function dark"),
        (("--tool", "none.py:light"), "FileNotFoundError"),
        (("--tool", "no_such_module:f"), "ModuleNotFoundError"),
        (("--tool", "lights.py:no_hints"), "the parameter a has no type hint"),
        (("--tools", "time,weather"), "--tools: expected some of time, timer, volume, camera, got 'weather'"),
        (("--tools", "camera"), "--tools camera: expected --camera beside it"),
        (("--mcp", "none.json"), "none.json: No such file"),
        (("--allow-tool", "light"), "--allow-tool: expected tools beside it"),
        (
            ("--tools", "time", "--tool", "lights.py:light", "--tool", "lights.py:light"),
            "the name light is there twice",
        ),
    ],
)
def test_what_is_no_tool_ends_the_command(chat: Chat, words: tuple[str, ...], why: str) -> None:
    done = chat([["No."]], *words)
    assert done.exit_code == 1 and why in done.stderr and "Traceback" not in done.stderr


def test_a_name_that_allows_nothing_is_told(chat: Chat) -> None:
    assert (
        "--allow-tool lihgt: no tool has that name; the tools are light"
        in chat([["No."]], *USE, "--allow-tool", "lihgt").stderr
    )


def test_json_is_the_last_answer_with_the_sum_of_tokens(chat: Chat) -> None:
    done = chat([ON, ["It is on."]], *USE, "--allow-tool", "light", "--json")
    said = json.loads(done.stdout)
    assert said["responses"][0]["message"]["content"] == "It is on." and "messages" not in said
    assert said["usage"]["output_tokens"] == 2


def test_text_before_a_call_stays_on_the_screen(chat: Chat) -> None:
    done = chat([["Let me", *ON], ["It is on."]], *USE, "--allow-tool", "light")
    assert done.stdout in ("Let me\nIt is on.\n", "It is on.\n") and done.exit_code == 0


def test_a_conversation_with_calls_and_images_is_saved_and_read_again(tmp_path: Path) -> None:
    import numpy as np

    image = {"type": "image", "image": np.zeros((4, 4, 3), np.uint8)}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "look", "parameters": {}}]},
        {"role": "tool_output", "content": [{"tool_call_id": "1", "output": [image]}]},
        {"role": "assistant", "content": "Black."},
    ]
    save(tmp_path / "talk.json", messages, model="m")
    read = load(tmp_path / "talk.json")
    output = read[2]["content"][0]["output"][0]  # type: ignore[index]
    assert output["image_url"].startswith("data:image/png") and read[1] == messages[1]
