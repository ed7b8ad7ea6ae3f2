"""Commands for an assistant that runs: from a button's script into its socket."""

import socket
import stat
import threading
from pathlib import Path

import pytest

from edge.assistant import control
from edge.assistant.control import Control, own_path, send
from edge.errors import EdgeError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge" / "control.sock"


def test_a_command_is_obeyed_and_the_state_before_it_answered(path: Path) -> None:
    obeyed = threading.Event()
    with Control(path, {"talk": obeyed.set}, lambda: "idle"):
        assert send("talk", path) == "idle"
        assert obeyed.is_set()
        assert send("state", path) == "idle"


def test_an_unknown_command_is_answered_with_the_known_ones(path: Path) -> None:
    with Control(path, {"talk": lambda: None, "stop": lambda: None}, lambda: "idle"):
        assert send("dance", path) == "error: expected one of talk, stop, state"


def test_only_its_user_may_tell_it(path: Path) -> None:
    with Control(path, {}, lambda: "idle"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_assistant_at_the_same_path_is_refused_and_the_first_goes_on(path: Path) -> None:
    with Control(path, {}, lambda: "idle"):
        with pytest.raises(EdgeError, match="an assistant listens there already"):
            Control(path, {}, lambda: "idle")
        assert send("state", path) == "idle"


def test_a_socket_that_was_left_behind_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    with Control(path, {}, lambda: "idle"):
        assert send("state", path) == "idle"
    assert not path.exists()


def test_a_file_at_its_path_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("notes")
    with pytest.raises(EdgeError, match="is no socket"):
        Control(path, {}, lambda: "idle")
    assert path.read_text() == "notes"


def test_without_an_assistant_the_error_says_where_it_was_looked_for(path: Path) -> None:
    with pytest.raises(EdgeError, match=rf"none listens at {path}"):
        send("talk", path)


def test_a_client_that_says_nothing_holds_nobody_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(control, "_ANSWER_S", 60.0)
    with Control(path, {}, lambda: "idle"), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(path))
        assert send("state", path) == "idle"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"EDGE_ASSISTANT_SOCKET": "/a/b.sock", "XDG_RUNTIME_DIR": "/run/user/7"}, "/a/b.sock"),
        ({"RUNTIME_DIRECTORY": "/run/edge-assistant", "XDG_RUNTIME_DIR": "/run/user/7"},
         "/run/edge-assistant/edge-assistant.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/edge-assistant.sock"),
    ],
)  # fmt: skip
def test_where_it_listens(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGE_ASSISTANT_SOCKET", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert own_path() == Path(expected)


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="at most 107 bytes"):
        Control(tmp_path / ("x" * 120), {}, lambda: "idle")
