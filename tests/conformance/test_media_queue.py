"""Media are decoded before a place is taken, in turns, and each client has so many seconds of it."""

import base64
import contextlib
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from edge.limits import Limits, is_small_board
from edge.media.decoded import Decoded
from edge.server import asgi
from tests.conformance.conftest import Served, serving
from tests.edge.asking import eventually
from tests.edge.media.test_pool import Desk, desk

TEXT = {"model": "reka-edge", "messages": [{"role": "user", "content": "How many?"}], "max_tokens": 2}
JSON = "Content-Type: application/json\r\n"
RGB = np.full((32, 32, 3), 200, np.uint8)


def image(colour: int) -> dict[str, object]:
    data = io.BytesIO()
    Image.new("L", (8, 8), colour).save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "?"}]
    return {**TEXT, "messages": [{"role": "user", "content": content}]}


class Asking:
    """A server whose decoding the test does, and clients of it at several addresses."""

    def __init__(self, served: Served, found: Desk, threads: ThreadPoolExecutor) -> None:
        self.served, self.desk, self._threads = served, found, threads

    def ask(self, body: dict[str, object], address: str = "127.0.0.1", path: str = "/v1/chat") -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, base_url=self.served.address, timeout=120) as client:
            return client.post(path, json=body)

    def later(self, body: dict[str, object], address: str = "127.0.0.1") -> "Future[httpx.Response]":
        return self._threads.submit(self.ask, body, address)

    def decoded(self, took_s: float = 1.0) -> None:
        """End a job once one runs."""
        eventually(lambda: any(work.runs for work in self.desk.workers))
        self.desk.clock.now_s += took_s
        work = next(work for work in self.desk.workers if work.runs)
        work.ends.set_result(Decoded((RGB,), {}))


@contextlib.contextmanager
def asking(bundle: Path, *, key: str | None = None, slots: int = 1) -> Iterator[Asking]:
    with desk(2) as found, ThreadPoolExecutor(16) as threads, serving(bundle, slots=slots, key=key) as served:
        object.__setattr__(served.server.app.chat.access, "worker", found.pool)
        try:
            yield Asking(served, found, threads)
        finally:
            found.pool.close()


def test_text_is_answered_while_media_are_decoded(int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        asked = [at.later(image(n), f"127.0.0.{n}") for n in range(2, 6)]
        eventually(lambda: len(at.desk.running()) == 2)
        assert at.served.server.queue.n_running == 0
        assert at.ask(TEXT).status_code == 200
        assert not any(each.done() for each in asked)
        for _ in asked:
            at.decoded()
        assert [each.result().status_code for each in asked] == [200] * 4


def test_slow_media_of_one_address_leave_room_for_anothers(int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        theirs = [at.later(image(n), "127.0.0.2") for n in range(8)]
        openings = at.served.server.openings
        eventually(lambda: len(at.desk.running()) == 1 and openings.n_waiting + openings.n_running == 8)
        ours = at.later(image(100))
        eventually(lambda: len(at.desk.running()) == 2)
        newest = next(work for work in at.desk.workers if work.job == at.desk.log[1][0])
        newest.ends.set_result(Decoded((RGB,), {}))
        assert ours.result().status_code == 200 and not any(each.done() for each in theirs)
        at.desk.pool.close()
        assert {each.result().status_code for each in theirs} == {503, 400}


def test_a_full_queue_of_one_address_makes_room_for_another(int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        openings = at.served.server.openings
        most = openings.n_places // 2
        theirs = [at.later(image(n), "127.0.0.2") for n in range(most + Limits().waiting)]
        eventually(lambda: openings.n_waiting == Limits().waiting)
        full = at.ask(image(90), "127.0.0.2")
        assert full.status_code == 503 and "the queue is full" in full.text
        ours = [at.later(image(91 + n), f"127.0.0.{n + 3}") for n in range(4)]
        eventually(lambda: sum(each.done() for each in theirs) >= 4 - (openings.n_places - most))
        sent_away = [each.result() for each in theirs if each.done()]
        assert all(each.status_code == 503 and "retry-after" in each.headers for each in sent_away)
        assert not any(each.done() for each in ours)
        at.desk.pool.close()


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions"])
def test_a_client_that_has_spent_its_seconds_is_a_429_that_says_when(path: str, int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        first = at.later(image(1))
        at.decoded(took_s=60.0)
        assert first.result().status_code == 200
        body = image(2)
        if path == "/v1/chat/completions":
            content = body["messages"][0]["content"]  # type: ignore[index]
            content[0]["image_url"] = {"url": content[0]["image_url"]}
        late = at.ask(body, path=path)
        assert late.status_code == 429 and late.headers["retry-after"] == "600"
        answer = late.json()
        if path == "/v1/chat":
            assert "the 60 seconds of decoding that a client has in any 600 are used" in answer["detail"]
        else:
            assert answer["error"]["type"] == "rate_limit_error" and answer["error"]["code"] == "rate_limit_exceeded"
        assert at.ask(TEXT, path=path).status_code == 200
        other = at.later(image(3), "127.0.0.2")
        at.decoded()
        assert other.result().status_code == 200
        at.desk.clock.now_s += 600
        again = at.later(image(4))
        at.decoded()
        assert again.result().status_code == 200


def test_addresses_with_one_key_share_its_seconds(int8_bundle: Path) -> None:
    with asking(int8_bundle, key="secret") as at:
        headers = {"x-api-key": "secret"}
        client = httpx.Client(
            transport=httpx.HTTPTransport(local_address="127.0.0.2"), base_url=at.served.address, headers=headers
        )
        with client, ThreadPoolExecutor(1) as threads:
            first = threads.submit(client.post, "/v1/chat", json=image(1), timeout=60)
            at.decoded(took_s=60.0)
            assert first.result().status_code == 200
        late = httpx.post(f"{at.served.address}/v1/chat", json=image(2), headers=headers, timeout=60)
        assert late.status_code == 429


@pytest.mark.parametrize("waits", [True, False])
def test_a_client_that_leaves_gives_up_the_decoder_and_its_turn(waits: bool, int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        openings = at.served.server.openings
        busy = [at.later(image(n), f"127.0.0.{n}") for n in (2, 3)] if waits else []
        eventually(lambda: len(at.desk.running()) == len(busy))
        data = json.dumps(image(9)).encode()
        head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {len(data)}"
        with socket.create_connection(at.served.place, timeout=30) as connection:
            connection.sendall(f"{head}\r\n\r\n".encode() + data)
            eventually(lambda: openings.n_running == len(busy) + 1)
            eventually(lambda: at.desk.pool.n_waiting == 1 if waits else len(at.desk.running()) == 1)
        eventually(lambda: openings.n_running == len(busy) and at.desk.pool.n_waiting == 0)
        assert len(at.desk.running()) == len(busy) and len(at.desk.log) == len(busy) + (not waits)
        for _ in busy:
            at.decoded()
        assert [each.result().status_code for each in busy] == [200] * len(busy)


def test_media_wait_decoded_for_a_place_and_only_so_many_of_them(int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        queue, openings = at.served.server.queue, at.served.server.openings
        queue._running["somebody"] += 1  # the only place
        asked = [at.later(image(n), f"127.0.0.{n}") for n in range(2, 8)]
        for _ in range(openings.n_places):
            at.decoded()
        eventually(lambda: queue.n_waiting == openings.n_places)
        assert openings.n_running == openings.n_places and openings.n_waiting == 6 - openings.n_places
        assert at.desk.running() == []
        at.served.server.refuse()
        assert {each.result().status_code for each in asked} == {503}
        queue._running["somebody"] -= 1


def test_a_full_queue_refuses_media_before_they_are_decoded(int8_bundle: Path) -> None:
    with asking(int8_bundle) as at:
        queue = at.served.server.queue
        queue._running["somebody"] += 1
        asked = [at.later(TEXT) for _ in range(8)]
        eventually(lambda: queue.n_waiting == 8)
        assert at.ask(image(1)).status_code == 503 and at.desk.log == []
        at.served.server.refuse()
        assert {each.result().status_code for each in asked} == {503}
        queue._running["somebody"] -= 1


def test_the_seconds_and_the_processes_are_those_of_the_limits(int8_bundle: Path) -> None:
    assert (Limits().decoding_s, Limits().decoding_window_s) == (60.0, 600.0)
    assert Limits().changed(["decoding_s=5", "decoding_window_s=50"]) == Limits(decoding_s=5, decoding_window_s=50)
    with serving(int8_bundle) as served:
        n_processes = 1 if is_small_board() else 2
        assert len(served.server.app.chat.access.worker._workers) == n_processes  # type: ignore[attr-defined]
        assert served.server.openings.n_places == 2 * n_processes
    assert asgi._N_OPENINGS == 4
