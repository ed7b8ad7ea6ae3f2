"""The clients are the SDK's in signature and behaviour, share engines by count, and async never blocks."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import reka
import reka.client
from reka.chat.client import AsyncChatClient, ChatClient

import edge
from edge import client as client_module
from edge import models
from edge.bundle import store
from edge.bundle.store import Stored
from edge.errors import BundleError, EdgeError, EngineClosed, ParameterError, UnknownModelError
from tests.edge.fake_engine import FakeEngine, manifest

HELLO = [{"role": "user", "content": "How many?"}]
IDS = ("reka-edge-2603", "reka-edge-tiny")


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeEngine]]:
    """Two bundles with one alias, engines without a model, and the list of engines opened."""
    FakeEngine.opened = []
    there = [Stored(Path("/models") / name, manifest(name, "reka-edge"), name == IDS[1]) for name in IDS]
    monkeypatch.setattr(store, "bundles", lambda *_: there)
    monkeypatch.setattr(models, "Engine", FakeEngine)
    yield FakeEngine.opened
    assert models._SHARED == {}


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def text_of(response: edge.ChatResponse) -> object:
    return response.responses[0].message.content


def parameters(function: object) -> list[tuple[str, object, bool]]:
    signature = inspect.signature(function)  # type: ignore[arg-type]
    return [(name, p.kind, p.default is p.empty) for name, p in signature.parameters.items()]


@pytest.mark.parametrize("name", ["create", "create_stream"])
def test_create_has_the_sdks_signature(name: str) -> None:
    for ours, theirs in (
        (client_module.ChatClient, ChatClient),
        (client_module.AsyncChatClient, AsyncChatClient),
    ):
        assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name))
        for kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction, inspect.iscoroutinefunction):
            assert kind(getattr(ours, name)) == kind(getattr(theirs, name))


@pytest.mark.parametrize("name", ["create", "create_stream"])
def test_an_argument_that_there_is_not_is_a_type_error(name: str) -> None:
    with edge.Reka() as client, pytest.raises(TypeError, match="temprature"):
        list(getattr(client.chat, name)(model="reka-edge", messages=[], temprature=1.0))


def test_models_get_has_the_sdks_signature() -> None:
    with edge.Reka() as ours:
        theirs = reka.client.Reka(api_key="x")
        assert parameters(ours.models.get) == parameters(theirs.models.get)
        assert [type(model) for model in ours.models.get()] == [edge.Model, edge.Model]


@pytest.mark.parametrize(("ours", "theirs"), [(edge.Reka, reka.client.Reka), (edge.AsyncReka, reka.client.AsyncReka)])
def test_the_constructors_take_the_sdks_arguments(ours: type, theirs: type) -> None:
    wanted, taken = parameters(theirs), parameters(ours)
    assert taken[: len(wanted)] == wanted
    assert all(kind is inspect.Parameter.KEYWORD_ONLY and not required for _, kind, required in taken)


def test_the_sdks_arguments_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REKA_API_KEY", "secret")
    with edge.Reka(
        api_key="local",
        base_url="http://localhost/v1",
        environment=edge.RekaEnvironment.DEFAULT,
        timeout=0.001,
        follow_redirects=None,
        httpx_client=object(),
    ) as client:
        response = client.chat.create(model="reka-edge", messages=HELLO, request_options={"timeout_in_seconds": 0})
    assert text_of(response) == "Three red circles."


@pytest.mark.parametrize("kind", [dict, edge.ChatMessage, reka.ChatMessage])
def test_messages_of_every_kind_are_answered(kind: Callable[..., edge.ChatMessage]) -> None:
    with edge.Reka() as client:
        response = client.chat.create(model="reka-edge", messages=[kind(role="user", content="How many?")])
    assert isinstance(response, edge.ChatResponse)
    assert response.dict() == {
        "id": response.id,
        "model": "reka-edge-2603",
        "responses": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Three red circles."}}],
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }


def test_arguments_reach_the_engine_and_additional_ones_win(opened: list[FakeEngine]) -> None:
    with edge.Reka() as client:
        client.chat.create(
            model="reka-edge",
            messages=HELLO,
            max_tokens=3,
            seed=None,
            stop=["x"],
            request_options={"additional_body_parameters": {"max_tokens": 2, "temperature": 0, "seed": None}},
        )
    [(_, options)] = opened[0].asked
    assert (options.max_tokens, options.temperature, options.seed, options.stop) == (2, 0, None, ("x",))


def test_a_stream_runs_nothing_before_its_first_chunk(opened: list[FakeEngine]) -> None:
    with edge.Reka() as client:
        stream = client.chat.create_stream(model="", messages=[], top_p=7)
        assert inspect.isgenerator(stream)
        assert opened == []
        with pytest.raises(edge.UnprocessableEntityError):
            next(stream)


def test_a_stream_yields_the_whole_text_so_far() -> None:
    with edge.Reka() as client:
        chunks = list(client.chat.create_stream(model="reka-edge", messages=HELLO))
    assert all(isinstance(chunk, edge.ChunkChatResponse) for chunk in chunks)
    assert chunks[-1].responses[0].chunk.content == "Three red circles."
    assert chunks[-1].responses[0].finish_reason == "stop"


def test_closing_a_stream_stops_its_generation(opened: list[FakeEngine]) -> None:
    with edge.Reka() as client:
        gate = slow(opened, client)
        stream = client.chat.create_stream(model="reka-edge", messages=HELLO)
        assert next(stream).responses[0].chunk.content == "Three"
        stream.close()
        assert opened[0].cancelled == opened[0].handles[1:]
        gate.set()


def slow(opened: list[FakeEngine], client: edge.Reka) -> threading.Event:
    """Open the engine of a client and let it give one word only until the gate is set."""
    client.chat.create(model="reka-edge", messages=HELLO)
    opened[0].n_free = 1
    opened[0].gate.clear()
    return opened[0].gate


def test_an_unknown_model_is_a_404_with_the_way_out() -> None:
    with edge.Reka() as client, pytest.raises(edge.ApiError) as caught:
        client.chat.create(model="reka-core", messages=HELLO)
    assert caught.value.status_code == 404
    assert "installed: reka-edge-2603 (reka-edge), reka-edge-tiny (reka-edge)" in caught.value.body["detail"]
    assert 'Reka(aliases={"reka-core": "reka-edge"})' in caught.value.body["detail"]


def test_aliases_and_dated_ids_are_answered() -> None:
    with edge.Reka(aliases={"reka-core": "reka-edge-tiny"}) as client:
        for name, answering in (
            ("reka-core", "reka-edge-tiny"),
            ("reka-core-20240501", "reka-edge-tiny"),
            ("reka-edge-20240208", "reka-edge-2603"),
        ):
            assert client.chat.create(model=name, messages=HELLO).model == answering


def test_the_chosen_bundle_wins_shared_names_and_the_request_still_decides() -> None:
    with edge.Reka(model="reka-edge-tiny") as client:
        assert client.chat.create(model="reka-edge", messages=HELLO).model == "reka-edge-tiny"
        assert client.chat.create(model="reka-edge-2603", messages=HELLO).model == "reka-edge-2603"
        assert [model.id for model in client.models.get()] == ["reka-edge-tiny", "reka-edge-2603"]


def test_an_unknown_model_is_refused_at_once() -> None:
    with pytest.raises(UnknownModelError):
        edge.Reka(model="reka-core")
    with pytest.raises(UnknownModelError, match="edge-export RekaAI/other --out other, then edge models install other"):
        edge.Reka(model="RekaAI/other")
    with pytest.raises(BundleError, match="not a bundle"):
        edge.Reka(model=Path("nowhere"))
    with pytest.raises(ParameterError, match="providers: cuda is not in this onnxruntime"):
        edge.Reka(providers=["CUDAExecutionProvider"])


def test_without_any_bundle_a_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "bundles", lambda *_: [])
    with edge.Reka() as client:
        assert client.models.get() == []
        with pytest.raises(edge.ApiError, match="edge models install DIR"):
            client.chat.create(model="reka-edge", messages=HELLO)


def test_clients_on_one_bundle_share_one_engine_until_the_last_goes(opened: list[FakeEngine]) -> None:
    first, second = edge.Reka(), edge.Reka(model="reka-edge-2603")
    for client in (first, second):
        client.chat.create(model="reka-edge", messages=HELLO)
    assert len(opened) == 1
    first.close()
    first.close()
    assert not opened[0].closed
    assert text_of(second.chat.create(model="reka-edge", messages=HELLO)) == "Three red circles."
    second.close()
    assert opened[0].closed


def test_a_forgotten_client_gives_its_engine_back(opened: list[FakeEngine]) -> None:
    client = edge.Reka()
    client.chat.create(model="reka-edge", messages=HELLO)
    del client
    assert opened[0].closed


@pytest.mark.parametrize("way", ["forgotten", "closed"])
def test_a_client_may_go_in_the_middle_of_anothers_coming(
    way: str, opened: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [edge.Reka()]
    clients[0].chat.create(model="reka-edge", messages=HELLO)
    agree = models._Shared.agree

    def agree_late(*arguments: object) -> None:
        agree(*arguments)  # type: ignore[arg-type]
        gone = clients.pop() if clients else None
        if gone is not None and way == "closed":
            gone.close()

    monkeypatch.setattr(models._Shared, "agree", agree_late)
    coming: list[edge.Reka] = []
    thread = threading.Thread(target=lambda: coming.append(edge.Reka()), daemon=True)
    thread.start()
    thread.join(20)
    assert coming and not clients and not opened[0].closed
    assert text_of(coming[0].chat.create(model="reka-edge", messages=HELLO)) == "Three red circles."
    assert len(opened) == 1
    coming.pop().close()
    assert opened[0].closed


def test_a_client_closed_while_it_begins_opens_nothing(opened: list[FakeEngine]) -> None:
    client = edge.Reka()
    shared = client._door.models._hold(store.bundles()[0])
    client.close()
    with pytest.raises(EngineClosed):
        shared.engine()
    assert opened == []


def test_a_forked_child_opens_an_engine_of_its_own(opened: list[FakeEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    with edge.Reka() as client:
        client.chat.create(model="reka-edge", messages=HELLO)
        with monkeypatch.context() as child:
            child.setattr(models.os, "getpid", lambda: -1)
            assert text_of(client.chat.create(model="reka-edge", messages=HELLO)) == "Three red circles."
            assert len(opened) == 2
    assert opened[0].closed


def test_a_closed_client_refuses(opened: list[FakeEngine]) -> None:
    client = edge.Reka()
    client.close()
    calls: list[Callable[[], object]] = [
        lambda: client.chat.create(model="reka-edge", messages=HELLO),
        lambda: next(client.chat.create_stream(model="reka-edge", messages=HELLO)),
        client.models.get,
    ]
    for call in calls:
        with pytest.raises(edge.ApiError) as caught:
            call()
        assert caught.value.status_code == 503
    assert opened == []


def test_a_closed_async_client_refuses(opened: list[FakeEngine]) -> None:
    async def used() -> None:
        client = edge.AsyncReka()
        await client.aclose()
        for call in (client.chat.create(model="reka-edge", messages=HELLO), client.models.get()):
            with pytest.raises(edge.ApiError) as caught:
                await call
            assert caught.value.status_code == 503

    asyncio.run(used())
    assert opened == []


@pytest.mark.parametrize("name", ["threads", "context"])
def test_other_settings_for_an_open_bundle_are_an_error(name: str) -> None:
    with edge.Reka(**{name: 4}) as client:
        with pytest.raises(ParameterError, match=f"{name}: reka-edge-2603 is open with 4; expected the same, got 8"):
            edge.Reka(**{name: 8})
        with edge.Reka(**{name: 4}), edge.Reka(), edge.Reka(model="reka-edge-tiny", **{name: 8}):
            client.chat.create(model="reka-edge", messages=HELLO)


def test_a_refused_client_settles_nothing_for_the_others() -> None:
    with edge.Reka(context=4):
        with pytest.raises(ParameterError, match="context"):
            edge.Reka(threads=1, context=8)
        edge.Reka(threads=2).close()


def test_the_engines_own_settings_count_once_it_is_open(opened: list[FakeEngine]) -> None:
    with edge.Reka() as client:
        client.chat.create(model="reka-edge", messages=HELLO)
        edge.Reka(threads=opened[0].threads).close()
        with pytest.raises(ParameterError, match="threads"):
            edge.Reka(threads=opened[0].threads + 1)


def test_an_engine_that_fails_to_open_is_a_500_and_tried_again(
    opened: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, **options: object) -> FakeEngine:
        raise BundleError("/models/x: damaged")

    with edge.Reka() as client:
        with monkeypatch.context() as patched:
            patched.setattr(FakeEngine, "open", fail)
            with pytest.raises(edge.ApiError) as caught:
                client.chat.create(model="reka-edge", messages=HELLO)
        assert (caught.value.status_code, caught.value.body) == (500, {"detail": "the bundle cannot be used"})
        assert text_of(client.chat.create(model="reka-edge", messages=HELLO)) == "Three red circles."


def test_a_folder_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Stored(tmp_path / "mine", manifest("mine", "reka-edge"), False)
    monkeypatch.setattr(store, "at", lambda path: there)
    for model in (tmp_path / "mine", str(tmp_path / "mine"), "./mine", "~/mine"):
        with edge.Reka(model=model) as client:
            assert client.models.get()[0].id == "mine"
            assert client.chat.create(model="reka-edge", messages=HELLO).model == "mine"


def test_a_plain_name_is_a_folder_when_nothing_else_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "reka-edge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "at", lambda path: Stored(tmp_path / path, manifest(str(path)), False))
    assert models.find("mine", {}).id == "mine"
    assert models.find("reka-edge", {}).id == "reka-edge-2603"


def test_answers_of_many_threads_do_not_mix(opened: list[FakeEngine]) -> None:
    with edge.Reka() as client:
        answers: list[object] = []

        def ask() -> None:
            answers.append(text_of(client.chat.create(model="reka-edge", messages=HELLO)))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["Three red circles."] * 12
    assert len(opened) == 1


def test_an_answer_that_is_stopped_before_its_end_is_an_error(opened: list[FakeEngine]) -> None:
    client = edge.Reka()
    gate = slow(opened, client)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.chat.create(model="reka-edge", messages=HELLO)
        except edge.ApiError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: opened[0].handles[1:])
    client.close()
    thread.join(60)
    gate.set()
    assert [getattr(error, "status_code", None) for error in caught] == [503]


async def gathered(client: edge.AsyncReka, n: int) -> Sequence[edge.ChatResponse]:
    chats = (client.chat.create(model="reka-edge", messages=HELLO) for _ in range(n))
    return await asyncio.gather(*chats)


def test_async_answers_are_gathered_and_the_loop_stays_free(opened: list[FakeEngine]) -> None:
    async def run() -> int:
        n_ticks = 0

        async def tick() -> None:
            nonlocal n_ticks
            while True:
                await asyncio.sleep(0.001)
                n_ticks += 1

        async with edge.AsyncReka() as client:
            ticking = asyncio.create_task(tick())
            responses = await gathered(client, 12)
            assert [text_of(response) for response in responses] == ["Three red circles."] * 12
            assert len({response.id for response in responses}) == 12
            ticking.cancel()
        return n_ticks

    assert asyncio.run(run()) > 0
    assert len(opened) == 1
    assert opened[0].closed


def test_an_async_stream_is_a_generator_and_not_awaitable() -> None:
    async def run() -> list[edge.ChunkChatResponse]:
        async with edge.AsyncReka() as client:
            stream = client.chat.create_stream(model="reka-edge", messages=HELLO)
            assert not inspect.isawaitable(stream)
            assert inspect.isasyncgen(stream)
            return [chunk async for chunk in stream]

    chunks = asyncio.run(run())
    assert chunks[-1].responses[0].chunk.content == "Three red circles."
    assert chunks[-1].responses[0].finish_reason == "stop"


def test_async_errors_are_the_same() -> None:
    async def run() -> None:
        async with edge.AsyncReka() as client:
            with pytest.raises(edge.UnprocessableEntityError):
                await client.chat.create(model="reka-edge", messages=[])
            with pytest.raises(edge.ApiError) as caught:
                async for _ in client.chat.create_stream(model="reka-core", messages=HELLO):
                    pass
            assert caught.value.status_code == 404
            assert [model.id for model in await client.models.get()] == list(IDS)
        with pytest.raises(edge.ApiError) as caught:
            await client.chat.create(model="reka-edge", messages=HELLO)
        assert caught.value.status_code == 503

    asyncio.run(run())


def test_cancelling_a_task_stops_its_generation(opened: list[FakeEngine]) -> None:
    async def run() -> None:
        async with edge.AsyncReka() as client:
            await gathered(client, 1)
            engine = opened[0]
            engine.gate.clear()
            task = asyncio.create_task(client.chat.create(model="reka-edge", messages=HELLO))
            while len(engine.handles) < 2:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while engine.cancelled != engine.handles[1:]:
                await asyncio.sleep(0.005)
            engine.gate.set()
            assert text_of((await gathered(client, 1))[0]) == "Three red circles."

    asyncio.run(run())


def test_cancelling_while_the_engine_opens_stops_what_it_would_begin(
    opened: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opening, go = FakeEngine.open, threading.Event(), threading.Event()

    def slowly(path: Path, **options: int) -> FakeEngine:
        opening.set()
        go.wait(60)
        engine = real(path, **options)
        engine.gate.clear()
        return engine

    monkeypatch.setattr(FakeEngine, "open", slowly)

    async def run() -> None:
        async with edge.AsyncReka() as client:
            task = asyncio.create_task(client.chat.create(model="reka-edge", messages=HELLO))
            await asyncio.to_thread(opening.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go.set()
            while not opened or not opened[0].cancelled:
                await asyncio.sleep(0.005)
            opened[0].gate.set()

    asyncio.run(run())


def test_closing_an_async_stream_stops_its_generation(opened: list[FakeEngine]) -> None:
    async def run() -> None:
        async with edge.AsyncReka() as client:
            await gathered(client, 1)
            engine = opened[0]
            engine.n_free = 1
            engine.gate.clear()
            stream = client.chat.create_stream(model="reka-edge", messages=HELLO)
            await anext(stream)
            await stream.aclose()
            assert engine.cancelled == engine.handles[1:]
            engine.gate.set()

    asyncio.run(run())


def test_one_async_client_serves_loop_after_loop() -> None:
    client = edge.AsyncReka()
    for _ in range(2):
        assert text_of(asyncio.run(gathered(client, 2))[0]) == "Three red circles."
    asyncio.run(client.aclose())


def test_no_thread_of_an_async_client_is_left_behind() -> None:
    async def run() -> None:
        async with edge.AsyncReka() as client:
            await gathered(client, 3)

    before = threading.active_count()
    asyncio.run(run())
    until(lambda: threading.active_count() <= before)


def test_the_apis_errors_and_the_packages_are_one_tree() -> None:
    assert issubclass(BundleError, EdgeError) and issubclass(edge.ApiError, EdgeError)
    assert not issubclass(BundleError, edge.ApiError)
