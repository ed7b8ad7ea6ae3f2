"""A client that leaves stops its work, whether it streams or not, waits or is answered; nothing is left behind."""

import asyncio
import contextlib
import gc
import json
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import edge
import edge.engine.layout
from edge import models
from edge.engine.decoder import Decoder
from tests.conformance.conftest import Served, serving
from tests.conformance.test_reka_client import image_url
from tests.edge.asking import LONG as WORDS
from tests.edge.asking import LONG_ANSWER, eventually, long_seed, slow
from tests.edge.devices.units import Units

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "How many?"}], "seed": 2, "temperature": 1.0}


@pytest.fixture
def long(int8_bundle: Path) -> dict[str, object]:
    """A question with an answer of many tokens."""
    return {**ASK, "seed": long_seed(int8_bundle), "max_tokens": 3000}


def sent(served: Served, fields: dict[str, object]) -> socket.socket:
    data = json.dumps(fields).encode()
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    connection = socket.create_connection(served.place, timeout=20)
    connection.sendall(f"{head}\r\n\r\n".encode() + data)
    return connection


def leave(connection: socket.socket, how: str) -> None:
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
    connection.close()


def idle(served: Served) -> bool:
    stats = served.server.app.chat.models.engine("reka-edge")._worker
    return served.server.queue.n_running == 0 and not stats._running and not stats._reading and not stats._waiting


@pytest.mark.parametrize("how", ["end", "reset", "half"])
@pytest.mark.parametrize("stream", [True, False])
def test_leaving_stops_the_work(
    how: str, stream: bool, int8_bundle: Path, long: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.01)
    n_steps, step = 0, Decoder.step

    def counted(*arguments: object, **named: object) -> object:
        nonlocal n_steps
        n_steps += 1
        return step(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "step", counted)
    with serving(int8_bundle, slots=1) as served:
        connection = sent(served, {**long, "stream": stream})
        eventually(lambda: served.server.queue.n_running == 1)
        eventually(lambda: n_steps > 3)
        waiting = sent(served, {**long, "stream": stream})
        eventually(lambda: served.server.queue.n_waiting == 1)
        leave(waiting, how)
        eventually(lambda: served.server.queue.n_waiting == 0)
        leave(connection, how)
        eventually(lambda: idle(served))
        assert 0 < n_steps < LONG_ANSWER / 2


def test_leaving_at_random_moments_harms_nobody(int8_bundle: Path, long: dict[str, object]) -> None:
    with serving(int8_bundle) as served, httpx.Client(base_url=served.address, timeout=60) as client:
        fields = {**ASK, "max_tokens": 12}
        expected = client.post("/v1/chat", json=fields).json()["responses"]
        n_threads = threading.active_count()
        moments = random.Random(0)
        for i in range(60):
            connection = sent(served, {**long, "stream": i % 2 == 0, "seed": i})
            time.sleep(moments.random() * 0.03)
            leave(connection, moments.choice(["end", "reset", "half"]))
            if i % 20 == 19:
                assert client.post("/v1/chat", json=fields).json()["responses"] == expected
        eventually(lambda: idle(served))
        assert threading.active_count() == n_threads


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions"])
def test_a_server_that_ends_says_so_to_whom_it_still_answers(
    path: str, int8_bundle: Path, long: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.01)
    monkeypatch.setattr("edge.server.server.GRACE_S", 1)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(int8_bundle))
        threads = stack.enter_context(ThreadPoolExecutor(1))
        client = stack.enter_context(httpx.Client(base_url=served.address, timeout=60))
        whole = threads.submit(client.post, path, json=long)
        eventually(lambda: served.server.queue.n_running == 1)
        stream = stack.enter_context(client.stream("POST", path, json={**long, "stream": True}))
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        served.stop()
        last = ""
        with pytest.raises(httpx.RemoteProtocolError):
            for line in lines:
                last = line or last
        answer, said = whole.result(), json.loads(last.removeprefix("data: "))
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        for body in (answer.json(), said):
            told = body["detail"] if path == "/v1/chat" else body["error"]["message"]
            assert told == "the server is shutting down"
        assert path != "/v1/chat" or (said["responses"] == [] and said["usage"]["output_tokens"] > 0)
    assert served.server.queue.n_running == 0


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions"])
def test_closing_a_stream_in_process_stops_it(
    path: str, int8_bundle: Path, long: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.01)
    transport = edge.Transport(model=int8_bundle, threads=1)
    with httpx.Client(transport=transport, base_url="http://edge") as client:
        with client.stream("POST", path, json={**long, "stream": True}) as response:
            next(response.iter_bytes())
        eventually(lambda: not transport._app.chat.models.engine("reka-edge")._worker._running)


def test_a_response_outlives_its_transport(int8_bundle: Path, long: dict[str, object]) -> None:
    def asked() -> httpx.Response:
        client = httpx.Client(transport=edge.Transport(model=int8_bundle, threads=1), base_url="http://edge")
        fields = {**long, "stream": True, "max_tokens": 300}
        return client.send(client.build_request("POST", "/v1/chat", json=fields), stream=True)

    open_before = set(models._SHARED)
    response = asked()
    gc.collect()
    assert b"finish_reason" in response.read()
    del response
    gc.collect()
    assert set(models._SHARED) == open_before


def test_cancelling_a_task_in_process_stops_it(
    int8_bundle: Path, long: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.01)
    transport = edge.Transport(model=int8_bundle, threads=1)
    worker = transport._app.chat.models.engine("reka-edge")._worker

    async def asked() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            for stream in (True, False):
                task = asyncio.create_task(client.post("/v1/chat", json={**long, "stream": stream}))
                await asyncio.sleep(0.3)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.to_thread(eventually, lambda: not worker._running and not worker._waiting)

    asyncio.run(asked())


def test_answers_do_not_depend_on_who_else_asks(int8_bundle: Path) -> None:
    async def asked(served: Served) -> None:
        async with httpx.AsyncClient(base_url=served.address, timeout=120) as client:

            async def ask(seed: int) -> object:
                response = await client.post("/v1/chat", json={**ASK, "max_tokens": 10, "seed": seed})
                return response.json()["responses"]

            alone = [await ask(seed) for seed in range(6)]
            assert await asyncio.gather(*(ask(seed) for seed in range(6))) == alone

    with serving(int8_bundle, slots=3) as served:
        asyncio.run(asked(served))


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_at_any_unit_of_the_work_ends_it_there(
    stream: bool, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.engine.layout, "MAX_CHUNK", 32)
    monkeypatch.setenv("EDGE_DRAFT", "off")  # an answer guessed from the one before has fewer units
    units, rng = Units(monkeypatch), random.Random(stream)
    content = [{"type": "image_url", "image_url": image_url()}, {"type": "text", "text": WORDS}]
    fields = {**ASK, "messages": [{"role": "user", "content": content}], "max_tokens": 8}
    with serving(int8_bundle, slots=1) as served, httpx.Client(base_url=served.address, timeout=60) as client:
        worker = served.server.app.chat.models.engine("reka-edge")._worker
        units.arm(0, lambda: None, is_before=True)
        expected = client.post("/v1/chat", json=fields).json()["responses"]
        n_units = units.disarm()
        for _ in range(12):
            worker.call(lambda model: model.forget())
            connections: list[socket.socket] = []
            at, how = rng.randint(1, n_units - 1), rng.choice(["end", "reset"])

            def gone() -> None:
                """Leave, and hold the work until the server has noticed."""
                leave(connections[0], how)  # noqa: B023
                answers = [*(reading.answer for reading in worker._reading), *worker._running.values()]
                eventually(lambda: all(answer.handle.cancelled for answer in answers))

            units.arm(at, gone, is_before=rng.random() < 0.5)
            worker.call(lambda _: connections.append(sent(served, {**fields, "stream": stream})))  # noqa: B023
            eventually(lambda: idle(served) and units.n >= at)  # noqa: B023
            assert units.disarm() == at
        assert client.post("/v1/chat", json=fields).json()["responses"] == expected
