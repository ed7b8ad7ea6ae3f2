"""Every order in which an engine's last words can meet their reader: nothing is waited for that was already said."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

import edge.client
from edge.chat.reply import Reply
from edge.engine.handle import Handle, Progress, Reading
from edge.errors import NonFiniteError
from edge.server import streaming as generation_module
from edge.server.metrics import Metrics
from edge.server.openai import from_openai
from edge.server.reka import ChatWriter
from edge.server.route import ChatAnswer
from edge.server.routes import routes_at
from edge.server.streaming import Generation, StreamBroken, arriving, parts
from edge.types import ApiError

ACTIONS = ("put", "put2", "finish", "fail", "cancel")
ENDS = ("finish", "fail", "cancel")
SCRIPTS = [
    script
    for n in range(1, 4)
    for script in itertools.permutations(ACTIONS, n)
    if script[-1] in ENDS and ("put2" not in script or "put" in script[: script.index("put2")])
]
SCRIPTS += [("read", *script) for script in SCRIPTS if len(script) <= 2]
N_POINTS = 7  # where the engine may come in before the reader first waits; the rest comes while it waits


class WaitsForever(Exception):
    """A reader waits, and the engine has nothing left to say."""


class Engine:
    """Says the words of a script, each at its own point of the reader's way; the rest when the reader waits."""

    def __init__(self, script: Sequence[str], points: Sequence[int]) -> None:
        self.handle = Watched(Progress("", 3, 0, None), lambda _: None)
        self.handle.engine = self
        self._left = list(zip(script, points, strict=True))
        self._n_points = 0
        self._acting = False

    def point(self) -> None:
        """Say what is due before the reader's next step."""
        if self._acting:
            return
        self._n_points += 1
        while self._left and self._left[0][1] < self._n_points:
            self._act()

    def waited_for(self) -> None:
        """Say the next word to a reader that waits. Raises: WaitsForever."""
        if not self._left:
            raise WaitsForever
        self._act()

    def _act(self) -> None:
        self._acting = True
        name, _ = self._left.pop(0)
        handle = self.handle
        if name == "read":
            handle.report(Reading("image", 1, 1, 1, 2))
        elif name == "put":
            handle.put(Progress("Three", 3, 1, None))
        elif name == "put2":
            handle.put(Progress("Three red", 3, 2, None))
        elif name == "finish":
            handle.put(Progress("Three red.", 3, 3, "stop"))
        elif name == "fail":
            handle.fail(NonFiniteError("step 2"))
        else:
            Handle.cancel(handle)
        self._acting = False


class Watched(Handle):
    """A handle whose engine may come in before and after whatever a reader does with it."""

    engine: Engine

    def poll(self) -> Progress | None:
        self.engine.point()
        try:
            return super().poll()
        finally:
            self.engine.point()

    @property
    def done(self) -> bool:
        self.engine.point()
        return super().done

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.engine.point()
        super().subscribe(callback)
        self.engine.point()


def orders() -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    for script in SCRIPTS:
        for points in itertools.combinations_with_replacement(range(N_POINTS + 1), len(script)):
            yield script, points


def outcome(script: Sequence[str]) -> str:
    """Return what a script comes to: its first end counts."""
    return next(name for name in script if name in ENDS)


class Event(threading.Event):
    """An event whose waiting lets the engine speak."""

    engine: Engine

    def clear(self) -> None:
        self.engine.point()
        super().clear()
        self.engine.point()

    def wait(self, timeout: float | None = None) -> bool:
        self.engine.point()
        while not self.is_set():
            self.engine.waited_for()
        return True


class AsyncEvent(asyncio.Event):
    """As Event, for an event loop: what was said arrives with the loop's next turn."""

    engine: Engine

    def clear(self) -> None:
        self.engine.point()
        super().clear()
        self.engine.point()

    async def wait(self) -> bool:  # type: ignore[override]
        self.engine.point()
        await asyncio.sleep(0)
        while not self.is_set():
            self.engine.waited_for()
            await asyncio.sleep(0)
        return True


def begun(engine: Engine, *, route: str, stream: bool) -> Generation:
    reply = Reply("an-id", "a-model", engine.handle)
    if route == "/v1/chat":
        writer: object = ChatWriter(stream)
    else:
        asked = {"model": "a-model", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
        writer = from_openai(asked).writer
    answer = ChatAnswer(reply, writer)  # type: ignore[arg-type]
    return Generation(answer, route=routes_at(route, {})[0], metrics=Metrics(), begun_s=0.0, clock=lambda: 1.0)


def threaded(generation: Generation, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bool]:
    monkeypatch.setattr(generation_module.threading, "Event", type("Event", (Event,), {"engine": engine}))
    sent, broken = [], False
    try:
        for part in parts(generation):
            sent.append(part)
            engine.point()
    except StreamBroken:
        broken = True
    return b"".join(sent), broken


def looped(generation: Generation, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bool]:
    async def follow() -> tuple[bytes, bool]:
        sent, broken = [], False
        try:
            async for part in arriving(generation):
                sent.append(part)
                engine.point()
        except StreamBroken:
            broken = True
        return b"".join(sent), broken

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        monkeypatch.setattr(generation_module.asyncio, "Event", type("Event", (AsyncEvent,), {"engine": engine}))
        return loop.run_until_complete(follow())


@pytest.mark.parametrize("route", ["/v1/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reading", [threaded, looped])
def test_every_order_of_words_and_end_is_answered(
    reading: Callable[..., tuple[bytes, bool]], stream: bool, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script, points in orders():
        engine = Engine(script, points)
        generation = begun(engine, route=route, stream=stream)
        with monkeypatch.context() as patched:
            sent, broken = reading(generation, engine, patched)
        said, end = sent.decode(), outcome(script)
        assert generation.done and said, (script, points)
        if end == "finish":
            assert (generation.status, broken) == (200, False), (script, points)
            assert stream or "Three red." in said, (script, points)
            assert '"finish_reason":"stop"' in said, (script, points)
        elif not stream or not broken:
            assert generation.status == (500 if end == "fail" else 503), (script, points)
            assert "step 2" in said if end == "fail" else "stopped before its end" in said, (script, points)
            assert not broken and json.loads(said)
        else:
            assert generation.status == 200 and "[DONE]" not in said, (script, points)
            assert "step 2" in said if end == "fail" else "stopped before its end" in said, (script, points)


def test_every_order_ends_the_iteration_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(reply: Reply) -> list[Progress]:
        return [progress async for progress in edge.client._arriving(reply)]

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        for script, points in orders():
            engine = Engine(script, points)
            with monkeypatch.context() as patched:
                patched.setattr(edge.client.asyncio, "Event", type("Event", (AsyncEvent,), {"engine": engine}))
                check(script, lambda engine=engine: loop.run_until_complete(follow(Reply("i", "m", engine.handle))))


def test_every_order_ends_the_iteration_of_a_handle() -> None:
    for script, points in orders():
        engine = Engine(script, points)
        condition = engine.handle._changed

        def waited(fact: Callable[[], bool], engine: Engine = engine) -> bool:
            while not fact():
                engine.waited_for()
            return True

        condition.wait_for = waited  # type: ignore[method-assign, assignment]
        check(script, lambda engine=engine: list(Reply("i", "m", engine.handle).progress()))


def check(script: Sequence[str], read: Callable[[], list[Progress]]) -> None:
    """Check that reading ends as a script says."""
    if outcome(script) == "fail":
        with pytest.raises(ApiError) as caught:
            read()
        assert "step 2" in str(caught.value.body)
        return
    seen = read()
    assert [progress.output_tokens for progress in seen] == sorted({progress.output_tokens for progress in seen})
    assert (bool(seen) and seen[-1].finish_reason == "stop") == (outcome(script) == "finish")


def test_a_handle_that_two_read_ends_for_both_with_its_error() -> None:
    handle = Handle(Progress("", 3, 0, None), lambda _: None)
    handle.put(Progress("Three", 3, 1, None))
    handle.fail(NonFiniteError("step 2"))
    one, other = iter(handle), iter(handle)
    assert next(one).text == "Three"
    for reader in (one, other):
        with pytest.raises(NonFiniteError):
            next(reader)
