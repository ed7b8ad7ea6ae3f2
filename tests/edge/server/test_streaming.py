"""An answer on its way out has its time by the clock, and then ends with what there is."""

import inspect
import json

import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.engine.handle import Progress, Reading
from edge.errors import MemoryExhausted
from edge.limits import Limits
from edge.server.metrics import Metrics
from edge.server.reka import ChatWriter
from edge.server.route import ChatAnswer
from edge.server.routes import routes_at
from edge.server.streaming import Generation, parts
from tests.edge.asking import eventually
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "How many?"}]}


class Clock:
    """A clock that goes on when it is told to."""

    now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


def begun(engine: FakeEngine, clock: Clock, *, stream: bool) -> Generation:
    """Begin an answer whose first word is there and whose second one does not come."""
    engine.gate.clear()
    engine.n_free = 1
    chat = Chat(OneEngine(engine), Access(), Limits())  # type: ignore[arg-type]
    reply = chat.start(chat.read(ASK))
    eventually(lambda: reply.handle.newest.output_tokens == 1)
    answer = ChatAnswer(reply, ChatWriter(stream))
    return Generation(answer, route=routes_at("/v1/chat", {})[0], metrics=Metrics(), begun_s=5.0, clock=clock)


def test_the_time_is_half_an_hour() -> None:
    assert Limits().answer_s == 1800.0
    assert inspect.signature(Generation).parameters["max_s"].default == Limits().answer_s


@pytest.mark.parametrize("after_s", [1739, 1740, 1741])
def test_an_answer_is_hurried_a_minute_before_its_time_is_over(after_s: int) -> None:
    engine, clock = FakeEngine(manifest()), Clock()
    generation = begun(engine, clock, stream=True)
    assert generation.poll() and not generation.handle.hurried
    clock.now_s = 5.0 + after_s
    assert generation.poll() is None
    assert generation.handle.hurried == (after_s >= 1740)
    engine.gate.set()
    assert b"Three red circles." in b"".join(parts(generation))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after_s", [1799, 1800, 1801])
def test_an_answer_ends_with_length_when_its_time_is_over(after_s: int, stream: bool) -> None:
    engine, clock = FakeEngine(manifest()), Clock()
    generation = begun(engine, clock, stream=stream)
    clock.now_s = 5.0 + after_s
    first = generation.poll()
    assert generation.done == generation.handle.cancelled == (after_s >= 1800)
    engine.gate.set()
    if not generation.done:
        assert generation.left_s == 1
        clock.now_s = 5.0
        first = b"".join(parts(generation))
    last = json.loads(str(first, "ascii").strip().rpartition("data: ")[2])["responses"][0]  # type: ignore[arg-type]
    assert last["finish_reason"] == ("stop" if after_s < 1800 else "length")
    assert last["chunk" if stream else "message"]["content"] == ("Three red circles." if after_s < 1800 else "Three")


def waiting(stream: bool) -> tuple[FakeEngine, Generation]:
    """Begin an answer whose prompt is being read."""
    engine = FakeEngine(manifest())
    engine.gate.clear()
    chat = Chat(OneEngine(engine), Access(), Limits())  # type: ignore[arg-type]
    answer = ChatAnswer(chat.start(chat.read(ASK)), ChatWriter(stream))
    return engine, Generation(answer, route=routes_at("/v1/chat", {})[0], metrics=Metrics(), begun_s=5.0)


def test_a_stream_says_in_a_comment_how_far_the_prompt_is_read() -> None:
    engine, generation = waiting(stream=True)
    assert generation.poll() is None and generation.status is None
    for tile in (1, 2):
        generation.handle.report(Reading("image", 1, 1, tile, 5))
        assert generation.poll() == b': progress {"image":1,"images":1,"tile":%d,"tiles":5}\n\n' % tile
        assert generation.status == 200 and generation.poll() is None
    engine.gate.set()
    assert b"".join(parts(generation)).startswith(b"data: ")


def test_an_answer_at_once_says_nothing_of_how_far_the_prompt_is_read() -> None:
    engine, generation = waiting(stream=False)
    generation.handle.report(Reading("image", 1, 1, 1, 5))
    assert generation.poll() is None and generation.status is None
    engine.gate.set()
    assert b"".join(parts(generation)).startswith(b"{")


def test_an_error_behind_a_comment_is_an_event() -> None:
    _, generation = waiting(stream=True)
    generation.handle.report(Reading("image", 1, 1, 1, 5))
    generation.poll()
    generation.handle.fail(MemoryExhausted("no memory left"))
    assert b'"detail":"no memory left"' in (generation.poll() or b"") and generation.broken


def test_what_is_old_news_is_not_told() -> None:
    _, generation = waiting(stream=True)
    generation.handle.report(Reading("image", 1, 1, 1, 5))
    generation.handle.put(Progress("One", 3, 1, None))
    assert (generation.poll() or b"").startswith(b"data: ") and generation.poll() is None
