"""Commands that work in turns tell systemd when they are ready, what they do, and that they end."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge import cli
from edge.assistant import assistant as assistant_module
from edge.bundle.store import Stored, read_manifest
from edge.commands import assistant as assistant_command
from edge.commands.told import working
from edge.devices import watch as watch_module
from edge.devices.watch import Event, Tally

BUNDLE = Path(__file__).parents[3] / "models" / "reka-edge-tiny"


class Manager:
    """A socket that stands in for systemd's, and what was said to it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def said(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("EDGE_MODELS", f"{tmp_path}/models")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["edge", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code


def test_a_command_is_ready_with_its_first_turn_and_says_when_it_ends(manager: Manager) -> None:
    with working("loading: a model", lambda: "works") as on_turn:
        assert manager.said() == ["STATUS=loading: a model"]
        on_turn(lambda: 0.0)
        assert manager.said() == ["READY=1", "WATCHDOG=1", "STATUS=works"]
        on_turn(lambda: 0.0)
        assert manager.said() == []
    assert manager.said() == ["STOPPING=1"]


def test_work_that_stands_still_is_not_called_alive(manager: Manager) -> None:
    with working("loading: a model", lambda: "works") as on_turn:
        on_turn(lambda: 45.0)
        assert manager.said()[1:] == ["READY=1", "STATUS=works; no progress for 45 s"]


def test_a_command_that_fails_says_that_it_ends(manager: Manager) -> None:
    with pytest.raises(ValueError, match="a fault"), working("loading: a model", lambda: "works"):
        raise ValueError("a fault")
    assert manager.said() == ["STATUS=loading: a model", "STOPPING=1"]


def test_a_watch_tells_systemd(manager: Manager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def watch(*_: object, on_turn: Callable[[Callable[[], float]], None], **__: object) -> Iterator[Event]:
        on_turn(lambda: 0.0)
        yield Event("ended", 0.0, None, None, None, Tally())

    monkeypatch.setattr(watch_module, "watch", watch)
    run(monkeypatch, "watch", "Who?", "--camera", str(tmp_path))
    said = manager.said()
    assert said == [
        "STATUS=loading: reka-edge-tiny", "READY=1", "WATCHDOG=1", "STATUS=watching with reka-edge-tiny", "STOPPING=1",
    ]  # fmt: skip


def test_an_assistant_tells_systemd(manager: Manager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Fake(SimpleNamespace):
        state = SimpleNamespace(value="idle")

        def __enter__(self) -> "Fake":
            return self

        def __exit__(self, *_: object) -> None: ...

        def stalled_s(self) -> float:
            return 0.0

        def run(self) -> None:
            self.on_beat()

        def talk(self) -> None: ...

        stop = mute = unmute = end = talk

    monkeypatch.setattr(assistant_module, "Assistant", Fake)
    monkeypatch.setattr(assistant_command, "chosen", lambda *_: Stored(BUNDLE, read_manifest(BUNDLE), False))
    run(monkeypatch, "assistant", "--wake", "none", "--control", f"{tmp_path}/control")
    said = manager.said()
    assert said[1:] == ["READY=1", "WATCHDOG=1", "STATUS=assistant with reka-edge-tiny: idle", "STOPPING=1"]
