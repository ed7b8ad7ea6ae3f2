"""A stand-in for a model, named as one: it says what a test has written down."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.tool_calls import CLOSE, OPEN
from edge.client import AsyncReka, Reka
from edge.engine.answer import Options
from edge.engine.handle import Handle
from edge.engine.pieces import Control, Piece, Text
from edge.errors import ContextLengthError
from edge.limits import Limits
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest


class StandIn(FakeEngine):
    """Answers with one script after the other, the last one again and again; it remembers what it was asked."""

    def __init__(self, *scripts: Sequence[str], vision: bool = True) -> None:
        super().__init__(manifest("reka-edge", vision=vision))
        self.context = 1 << 20
        self.longest = 1 << 20  # characters of a prompt
        self._scripts = list(scripts)

    def stream(self, prompt: Sequence[Piece], options: Options) -> Handle:
        n = sum(len(piece.text) for piece in prompt if isinstance(piece, Text))
        if n > self.longest:
            raise ContextLengthError(n, self.longest)
        self.words = tuple(self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0])
        return super().stream(prompt, options)

    def read(self, n: int = -1) -> str:
        """What it was asked, control tokens by name, everything else but text as its kind."""
        names = {token: name for name, token in self.manifest.prompt.control.items()}
        said = []
        for piece in self.asked[n][0]:
            if isinstance(piece, Control):
                said.append("".join(names[token] for token in piece.ids))
            else:
                said.append(piece.text if isinstance(piece, Text) else f"[{type(piece).__name__}]")
        return "".join(said)


def call(name: str, **arguments: object) -> str:
    """A call as a model writes it."""
    return f"{OPEN}\n{json.dumps({'name': name, 'arguments': arguments})}\n{CLOSE}"


def door(engine: FakeEngine) -> Chat:
    return Chat(OneEngine(engine), Access(), Limits())  # type: ignore[arg-type]


def client_of(engine: FakeEngine) -> Reka:
    client = Reka.__new__(Reka)
    client._door = door(engine)
    return client


@contextmanager
def asking(engine: FakeEngine) -> Iterator[Reka]:
    """A client of a stand-in."""
    with client_of(engine) as client:
        yield client


def async_client(engine: FakeEngine) -> AsyncReka:
    client = AsyncReka.__new__(AsyncReka)
    client._door = door(engine)
    return client
