"""A server that systemd watches: the event loop shows life, for as long as the engine's work moves on."""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edge.engine.decoder import Decoder
from edge.models import Models
from edge.server.access import Guard
from edge.server.app import App, served_chat
from edge.server.asgi import Server
from edge.server.listener import listening
from edge.server.queue import Queue
from edge.server.server import State, run
from edge.service import notify
from edge.service.watchdog import Beat, Watchdog
from tests.edge.asking import eventually

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 4}


class Watched:
    """A server in a thread, what it says to systemd, and how often it looked at itself."""

    def __init__(self, manager: socket.socket, bundle: Path) -> None:
        self.said: list[str] = []
        self.n_looks = 0
        self.states: list[State] = []
        self._manager = manager
        models = Models(model=bundle, aliases={}, threads=1, context=None, slots=1)
        self.server = Server(App(served_chat(models)), Guard(key=None), Queue(1, max_waiting=4, max_wait_s=60.0))
        ready: queue.Queue[tuple[str, Callable[[], None]]] = queue.Queue()
        watchdog = Watchdog()

        def tick(look: Callable[[], State]) -> None:
            watchdog.beat(lambda: self.look(look()))

        self._thread = threading.Thread(
            target=lambda: run(
                self.server,
                listening("127.0.0.1", 0),
                tls=None,
                on_ready=lambda *told: ready.put(told),
                on_tick=tick,
                on_stop=notify.stopping,
            )
        )
        self._thread.start()
        self.address, self.stop = ready.get(timeout=60)

    def look(self, state: State) -> Beat:
        self.n_looks += 1
        self.states.append(state)
        return Beat(state.stalled_s, "stands" if state.stalled_s > 0.1 else "moves")

    def hear(self) -> list[str]:
        """Everything that was said so far."""
        self._manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said.append(self._manager.recv(4096).decode())
        return self.said

    def looks_again(self, n: int = 10) -> None:
        before = self.n_looks
        eventually(lambda: self.n_looks > before + n)

    def end(self) -> None:
        self.stop()
        self._thread.join()


@pytest.fixture
def watched(int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        found = Watched(manager, int8_bundle)
        yield found
        found.end()


def test_a_server_is_ready_once_its_event_loop_runs_and_says_when_it_ends(watched: Watched) -> None:
    eventually(lambda: watched.hear().count("WATCHDOG=1") > 3)
    assert watched.said[0] == "READY=1" and watched.said.count("READY=1") == 1
    assert (watched.states[0].n_running, watched.states[0].n_waiting, watched.states[0].stalled_s) == (0, 0, 0.0)
    assert "STOPPING=1" not in watched.said
    watched.end()
    assert watched.hear().count("STOPPING=1") == 1


def test_a_worker_that_hangs_stops_the_signs_of_life_and_no_other_request_does(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, step = threading.Event(), Decoder.step

    def hang(*arguments: object, **named: object) -> object:
        hangs.wait()
        return step(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "step", hang)
    asking = threading.Thread(target=lambda: httpx.post(f"{watched.address}/v1/chat", json=ASK, timeout=120))
    asking.start()
    eventually(lambda: any(line.startswith("STATUS=stands; no progress") for line in watched.hear()))
    since = len(watched.said)
    assert httpx.get(f"{watched.address}/health", timeout=60).status_code == 200  # the loop answers, and yet
    watched.looks_again()
    assert "WATCHDOG=1" not in watched.hear()[since:]
    assert watched.states[-1].n_running == 1
    hangs.set()
    asking.join()
    since = len(watched.hear())
    eventually(lambda: "WATCHDOG=1" in watched.hear()[since:])


def test_an_event_loop_that_hangs_stops_the_signs_of_life(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    eventually(lambda: "WATCHDOG=1" in watched.hear())
    hangs, is_hung, choose = threading.Event(), threading.Event(), watched.server._client

    def hang(scope: dict[str, object]) -> object:
        is_hung.set()
        hangs.wait()
        return choose(scope)

    monkeypatch.setattr(watched.server, "_client", hang)  # called by the event loop for every request
    asking = threading.Thread(target=lambda: httpx.get(f"{watched.address}/v1/models", timeout=120))
    asking.start()
    is_hung.wait()
    since, n_looks = len(watched.hear()), watched.n_looks
    assert not hangs.wait(1.0)  # five times what systemd allows
    assert (watched.hear()[since:], watched.n_looks) == ([], n_looks)
    hangs.set()
    asking.join()
    eventually(lambda: "WATCHDOG=1" in watched.hear()[since:])
