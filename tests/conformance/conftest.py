"""The tiny bundle served over TCP, and the same app in process as an httpx transport."""

import contextlib
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.chat.voices import Voices
from edge.limits import Limits
from edge.models import Models
from edge.server.access import Guard
from edge.server.app import App, served_chat
from edge.server.asgi import Server
from edge.server.listener import listening
from edge.server.queue import Queue
from edge.server.server import run


class Served:
    """A server in a thread of this process."""

    def __init__(self, server: Server, tls: ssl.SSLContext | None = None) -> None:
        self.server = server
        ready: queue.Queue[tuple[str, Callable[[], None]]] = queue.Queue()
        listener = listening("127.0.0.1", 0)
        arguments = {"tls": tls, "on_ready": lambda *said: ready.put(said)}
        self.thread = threading.Thread(target=run, args=(server, listener), kwargs=arguments)
        self.thread.start()
        self.address, self.stop = ready.get(timeout=60)

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.address.partition("://")[2].rpartition(":")
        return host, int(port)


@contextlib.contextmanager
def serving(
    bundle: Path,
    *,
    key: str | None = None,
    slots: int = 2,
    files: bool | Path = False,
    aliases: dict[str, str] | None = None,
    waiting: int = 8,
    max_wait_s: float = 60.0,
    tls: ssl.SSLContext | None = None,
    speech: Path | None = None,
    limits: Limits | None = None,
    voices: Voices | None = None,
) -> Iterator[Served]:
    models = Models(model=bundle, aliases=aliases or {}, threads=1, context=None, slots=slots, speech=speech)
    places = Queue(slots, max_waiting=waiting, max_wait_s=max_wait_s)
    chat = served_chat(models, files=files, limits=limits, voices=voices)
    served = Served(Server(App(chat), Guard(key=key), places), tls)
    try:
        yield served
    finally:
        served.stop()
        served.thread.join(30)
        assert not served.thread.is_alive()


@pytest.fixture(scope="module")
def served(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle) as served:
        yield served


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
