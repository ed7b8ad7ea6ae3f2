"""So many requests at a time, a few that wait, and a 503 that says when to come back for the others."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import edge.chat
from edge.limits import Limits
from edge.server.queue import Queue
from edge.types import ApiError
from tests.conformance.conftest import serving
from tests.conformance.test_reka_client import image_url
from tests.edge.asking import eventually, long_seed, slow

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "How many?"}]}


def said(response: httpx.Response) -> str:
    assert response.status_code == 503
    return response.text


def test_503_when_the_queue_is_full_or_the_wait_too_long(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = long_seed(int8_bundle)
    slow(monkeypatch, 0.02)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(int8_bundle, slots=1, waiting=1, max_wait_s=0.5))
        threads = stack.enter_context(ThreadPoolExecutor(3))
        client = stack.enter_context(httpx.Client(base_url=served.address, timeout=60))
        fields = {**ASK, "max_tokens": 100, "temperature": 1.0, "seed": seed}
        first = threads.submit(client.post, "/v1/chat", json=fields)
        eventually(lambda: served.server.queue.n_running == 1)
        second = threads.submit(client.post, "/v1/chat", json=fields)
        eventually(lambda: served.server.queue.n_waiting == 1)
        full = client.post("/v1/chat/completions", json=fields)
        assert "queue is full" in said(full)
        assert int(full.headers["retry-after"]) >= 1
        assert "waited" in said(second.result())
        assert client.get("/health").status_code == 200
        assert first.result().status_code == 200


def test_a_prompt_is_counted_while_every_place_is_taken(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = long_seed(int8_bundle)
    slow(monkeypatch, 0.02)
    image = {"type": "image", "source": {"type": "base64", "data": image_url().partition(",")[2]}}
    seen = {**ASK, "messages": [{"role": "user", "content": [image]}]}
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(int8_bundle, slots=1, waiting=1, max_wait_s=60))
        threads = stack.enter_context(ThreadPoolExecutor(2))
        client = stack.enter_context(httpx.Client(base_url=served.address, timeout=60))
        fields = {**ASK, "max_tokens": 100, "temperature": 1.0, "seed": seed}
        asked = [threads.submit(client.post, "/v1/chat", json=fields) for _ in range(2)]
        eventually(lambda: (served.server.queue.n_running, served.server.queue.n_waiting) == (1, 1))
        full = client.post("/v1/messages", json=fields)
        assert (full.status_code, full.json()["error"]["type"]) == (529, "overloaded_error")
        assert int(full.headers["retry-after"]) >= 1
        counts = [client.post("/v1/messages/count_tokens", json=each).json()["input_tokens"] for each in (ASK, seen)]
        assert counts[1] > counts[0] and (served.server.queue.n_running, served.server.queue.n_waiting) == (1, 1)
        assert [each.result().status_code for each in asked] == [200, 200]


def test_eight_wait_and_the_ninth_is_sent_away(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, start = threading.Event(), edge.chat.Chat.start

    def late(*arguments: object, **named: object) -> object:
        gate.wait(60)
        return start(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(edge.chat.Chat, "start", late)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(int8_bundle, slots=1, waiting=Limits().waiting))
        threads = stack.enter_context(ThreadPoolExecutor(9))
        client = stack.enter_context(httpx.Client(base_url=served.address, timeout=60))
        stack.callback(gate.set)
        asked = [threads.submit(client.post, "/v1/chat", json={**ASK, "max_tokens": 1}) for _ in range(8)]
        eventually(lambda: served.server.queue.n_waiting == 7)
        asked.append(threads.submit(client.post, "/v1/chat", json={**ASK, "max_tokens": 1}))
        eventually(lambda: served.server.queue.n_waiting == 8)
        assert "1 requests run and 8 wait: the queue is full" in said(client.post("/v1/chat", json=ASK))
        gate.set()
        assert [each.result().status_code for each in asked] == [200] * 9


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time goes on when it is told to."""

    now_s = 5.0

    def time(self) -> float:
        return self.now_s


@pytest.mark.parametrize("waited_s", [59, 60, 61])
def test_a_minute_is_waited_and_no_longer(waited_s: int) -> None:
    async def used() -> str:
        queue = Queue(1)

        async def wait() -> str:
            async with queue.place():
                return "a place"

        async with queue.place():
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            runner.get_loop().now_s += waited_s  # type: ignore[attr-defined]
            for _ in range(10):
                await asyncio.sleep(0)
        try:
            return await waiting
        except ApiError as error:
            return str(error.body["detail"])

    assert (Limits().waiting, Limits().wait_s) == (8, 60.0)
    with asyncio.Runner(loop_factory=Clock) as runner:
        assert runner.run(used()) == ("a place" if waited_s < 60 else "waited 60 seconds in the queue")


def test_places_go_to_who_waits_longest() -> None:
    async def used() -> list[int]:
        queue, order = Queue(1, max_waiting=3), []

        async def wait(i: int) -> None:
            async with queue.place():
                order.append(i)
                await asyncio.sleep(0)

        async with queue.place():
            tasks = [asyncio.create_task(wait(i)) for i in range(3)]
            await asyncio.sleep(0)
            assert (queue.n_running, queue.n_waiting) == (1, 3)
            with pytest.raises(ApiError):
                await wait(3)
            tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (queue.n_running, queue.n_waiting) == (0, 0)
        return order

    assert asyncio.run(used()) == [0, 2]


def test_a_place_given_to_who_leaves_goes_on() -> None:
    async def used() -> None:
        queue = Queue(1)

        async def wait() -> None:
            async with queue.place():
                pass

        async with queue.place():
            first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
            await asyncio.sleep(0)
        first.cancel()  # its place is there already, but it did not run since
        await asyncio.gather(first, second, return_exceptions=True)
        assert not second.cancelled() and (queue.n_running, queue.n_waiting) == (0, 0)

    asyncio.run(used())


def test_closing_sends_away_who_waits_and_who_comes() -> None:
    async def used() -> None:
        queue = Queue(1)

        async def wait() -> None:
            async with queue.place():
                pass

        async with queue.place():
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            queue.close()
            for late in (waiting, asyncio.create_task(wait())):
                with pytest.raises(ApiError) as caught:
                    await late
                assert caught.value.status_code == 503
        assert queue.n_running == 0

    asyncio.run(used())


def test_the_next_place_goes_to_the_client_that_holds_fewest() -> None:
    async def used() -> list[str]:
        queue, order = Queue(2, max_waiting=8), []
        held = [asyncio.Event() for _ in range(2)]

        async def hold(i: int) -> None:
            async with queue.place("a"):
                await held[i].wait()

        async def wait(client: str) -> None:
            async with queue.place(client):
                order.append(client)
                await asyncio.sleep(0)

        running = [asyncio.create_task(hold(i)) for i in range(2)]
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(wait(client)) for client in ("a", "a", "b", "c")]
        await asyncio.sleep(0)
        held[0].set()
        await asyncio.gather(*waiting)
        held[1].set()
        await asyncio.gather(*running)
        assert queue.n_running == 0
        return order

    assert asyncio.run(used()) == ["b", "c", "a", "a"]


def test_one_client_holds_so_many_places_and_others_have_the_rest() -> None:
    async def used() -> None:
        queue = Queue(4, most=2)
        async with contextlib.AsyncExitStack() as stack:
            for client in ("a", "a", "b"):
                await stack.enter_async_context(queue.place(client))
            third = asyncio.create_task(stack.enter_async_context(queue.place("a")))
            await asyncio.sleep(0)
            assert (queue.n_running, queue.n_waiting) == (3, 1)
            await stack.enter_async_context(queue.place("c"))
            assert (queue.n_running, queue.n_waiting) == (4, 1)
            third.cancel()
        assert queue.n_running == 0

    asyncio.run(used())


def test_a_client_that_waits_more_often_makes_room_for_one_that_waits_less() -> None:
    async def used() -> None:
        queue = Queue(1, max_waiting=3)

        async def wait(client: str) -> str:
            try:
                async with queue.place(client):
                    return "a place"
            except ApiError as error:
                return str(error.body["detail"])

        async with queue.place("a"):
            theirs = [asyncio.create_task(wait("a")) for _ in range(3)]
            await asyncio.sleep(0)
            ours = asyncio.create_task(wait("b"))
            await asyncio.sleep(0)
            assert queue.n_waiting == 3
            for client in ("a", "b"):  # two of a, one of b: neither has less than the other by two
                with pytest.raises(ApiError, match="full"):
                    queue.check(client)
        answers = await asyncio.gather(*theirs, ours)
        assert answers[0] == answers[1] == answers[3] == "a place" and "the queue is full" in answers[2]

    asyncio.run(used())
