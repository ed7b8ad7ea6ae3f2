"""Lines are answered by the server's own routes: with their answers, errors and defaults."""

import json
from collections.abc import Iterator

import pytest

from edge.batch.asker import Settings
from edge.chat import Preset
from edge.errors import BundleChanged, EngineClosed, MemoryExhausted, RuntimeFailure
from tests.edge.batch.batches import asker, asking, line
from tests.edge.fake_engine import WORDS, FakeEngine, OneEngine, manifest

TEXT = "".join(WORDS)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(manifest())
    yield engine
    engine.close()


def response(engine: FakeEngine, data: bytes, preset: Preset | None = None) -> dict[str, object]:
    record = asker(engine, preset).record(1, data)
    written = json.loads(record.data)
    assert record.is_answer == (written["response"] is not None and written["response"]["status_code"] == 200)
    return written["response"] or written["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("url", "body", "said"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "choices"),
        ("/v1/completions", {"prompt": "a"}, "choices"),
        ("/v1/responses", {"input": "a"}, "output"),
        ("/v1/chat", {"messages": [{"role": "user", "content": "a"}]}, "responses"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9}, "content"),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}]}, "message"),
        ("/api/generate", {"prompt": "a"}, "response"),
        ("/chat", {"conversation_history": [{"type": "human", "text": "a"}]}, "text"),
    ],
)
def test_each_route_answers_in_its_own_form(engine: FakeEngine, url: str, body: dict[str, object], said: str) -> None:
    answer = response(engine, asking("a", url, **body))
    assert answer["status_code"] == 200
    assert TEXT in json.dumps(answer["body"][said])  # type: ignore[index]


def test_a_routes_error_is_the_answer_of_its_line(engine: FakeEngine) -> None:
    answer = response(engine, line("a", temperature=-1))
    assert answer["status_code"] == 400
    assert "temperature" in answer["body"]["error"]["message"]  # type: ignore[index]
    assert not engine.asked


def test_a_stream_is_refused_and_its_answer_ended(engine: FakeEngine) -> None:
    engine.n_free = 1
    engine.gate.clear()
    answer = response(engine, line("a", stream=True))
    assert answer["status_code"] == 400 and engine.handles[0].cancelled
    engine.gate.set()
    assert answer["body"]["error"]["message"] == "stream: expected false, as a batch has no streams"  # type: ignore[index]
    assert response(engine, line("a", stream=False))["status_code"] == 200


def test_what_is_no_line_is_not_asked(engine: FakeEngine) -> None:
    assert response(engine, b"{")["line"] == 1 and not engine.asked


def test_a_line_may_leave_its_model_and_seed_to_the_run(engine: FakeEngine) -> None:
    preset = Preset({"model": "a-model", "seed": 7})
    response(engine, line("a"), preset)
    response(engine, line("a", seed=8), preset)
    response(engine, line("a", seed=None), preset)
    assert [options.seed for _, options in engine.asked] == [7, 8, 7]


def test_a_seed_reaches_every_route(engine: FakeEngine) -> None:
    preset = Preset({"model": "a-model", "seed": 7})
    response(engine, asking("a", "/v1/completions", prompt="a"), preset)
    response(engine, asking("a", "/v1/responses", input="a"), preset)
    response(engine, asking("a", "/api/generate", prompt="a"), preset)
    response(engine, asking("a", "/v1/messages", messages=[{"role": "user", "content": "a"}], max_tokens=9), preset)
    assert [options.seed for _, options in engine.asked] == [7, 7, 7, 7]


def test_the_model_of_a_run_stands_for_every_other(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(OneEngine, "engine", lambda self, name: names.append(name) or engine)
    response(engine, line("a", model="gpt-4o-mini"), Preset({"model": "b"}, {"model": "b"}))
    assert set(names) == {"b"}
    names.clear()
    response(engine, line("a", model="gpt-4o-mini"), Preset({"model": "b"}))
    assert set(names) == {"gpt-4o-mini"}


def test_a_failure_of_the_model_is_one_of_its_line(engine: FakeEngine) -> None:
    engine.error = MemoryExhausted("no memory")
    engine.words = ("a", "b")
    assert response(engine, line("a"))["status_code"] == 503


def test_a_bundle_that_changed_ends_the_run(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.error = RuntimeFailure("no")
    engine.words = ("a", "b")
    monkeypatch.setattr(OneEngine, "changed", lambda self: "decoder.bin has changed")
    with pytest.raises(BundleChanged, match=r"decoder\.bin"):
        asker(engine).record(1, line("a"))


def test_what_is_closed_answers_nothing(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: OneEngine) -> list[str]:
        raise EngineClosed("the client is closed")

    asking = asker(engine)
    asking.close()
    monkeypatch.setattr(OneEngine, "ids", closed)
    with pytest.raises(EngineClosed):
        asking.record(1, line("a"))


def test_slots_are_the_servers() -> None:
    from edge.server.app import default_slots

    assert Settings().n_slots == default_slots() and Settings(slots=9).n_slots == 9
