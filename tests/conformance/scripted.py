"""A server whose model says what a test has written down, so that a client's tools are called when they are to be."""

import contextlib
from collections.abc import Iterator, Sequence

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.tool_calls import CLOSE, OPEN
from edge.engine.answer import Options
from edge.engine.handle import Handle
from edge.engine.pieces import Piece
from edge.limits import Limits
from edge.server.access import Guard
from edge.server.app import App
from edge.server.asgi import Server
from edge.server.queue import Queue
from tests.conformance.conftest import Served
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest


class Scripted(FakeEngine):
    """Answers with one script after the other, each some increments of text; the last one is said again."""

    def __init__(self, *scripts: Sequence[str]) -> None:
        super().__init__(manifest("reka-edge"))
        self.context = 1 << 20
        self._scripts = list(scripts)

    def stream(self, prompt: Sequence[Piece], options: Options) -> Handle:
        self.words = tuple(self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0])
        return super().stream(prompt, options)


def call_of(name: str, arguments: str) -> tuple[str, ...]:
    """Return a call as a model writes it, in increments. arguments: JSON."""
    return (OPEN, f'{{"name": "{name}", ', f'"arguments": {arguments}}}', CLOSE)


@contextlib.contextmanager
def saying(*scripts: Sequence[str], key: str | None = None) -> Iterator[tuple[Served, Scripted]]:
    """Serve such a model over TCP."""
    engine = Scripted(*scripts)
    chat = Chat(OneEngine(engine), Access(), Limits())  # type: ignore[arg-type]
    served = Served(Server(App(chat), Guard(key=key), Queue(2)))
    try:
        yield served, engine
    finally:
        served.stop()
        served.thread.join(30)
        assert not served.thread.is_alive()
