"""Clients that send by the byte, never read or come in crowds: they lose their connection, and others are served."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import trustme

import edge.chat
from edge.limits import Limits
from edge.models import Models
from edge.server import asgi
from edge.server import connection as connection_module
from edge.server.app import App, Job, served_chat
from edge.server.http import HttpRequest
from edge.server.streaming import Generation, parts
from tests.conformance.conftest import Served, serving
from tests.edge.asking import eventually, slow
from tests.hostile.test_raw_http import CHAT, JSON, chat, received, request, status, talk

HEAD = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}"


@pytest.fixture(scope="module")
def served(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle) as served:
        yield served


@pytest.fixture(autouse=True)
def still_serving(served: Served) -> Iterator[None]:
    yield
    assert httpx.get(f"{served.address}/health").status_code == 200
    eventually(lambda: served.server.queue.n_running == 0)


def trickled(served: Served, data: bytes, *, piece: int, pause_s: float) -> bytes:
    """Send bytes by the piece until something comes back; return what does until the connection ends."""
    with socket.create_connection(served.place, timeout=30) as connection:
        for start in range(0, len(data), piece):
            connection.settimeout(pause_s)
            with contextlib.suppress(TimeoutError):
                if connection.recv(1, socket.MSG_PEEK):
                    break
            with contextlib.suppress(ConnectionError):
                connection.sendall(data[start : start + piece])
        connection.settimeout(30)
        return received(connection)


@pytest.mark.parametrize("lengths", ["Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_by_the_byte_is_a_408_long_before_its_time(
    lengths: str, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "BODY_GRACE_S", 0.3)
    body = b"{" + b" " * 400 if "Length" in lengths else b"1\r\n \r\n" * 100
    answer = trickled(served, (HEAD + lengths).encode() + body, piece=len(HEAD + lengths) + 4, pause_s=0.05)
    assert status(answer) == 408 and b"8192 bytes a second" in answer


def test_a_slow_body_that_keeps_its_rate_is_taken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_GRACE_S", 2.0)  # the body comes in three seconds or more
    monkeypatch.setattr(asgi, "BODY_BYTES_PER_S", 1)
    data = json.dumps(CHAT).encode()
    head = f"{HEAD}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    assert status(trickled(served, head + data, piece=5, pause_s=0.15)) == 200


def test_no_rate_gives_a_body_more_than_its_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_S", 0.5)
    head = f"{HEAD}Content-Length: 40000000\r\n\r\n".encode()
    assert status(trickled(served, head + b" " * 8_000_000, piece=200_000, pause_s=0.05)) == 408


def begun(served: Served, address: str = "127.0.0.1") -> socket.socket:
    """Return a connection whose headers were read, and whose body does not come."""
    connection = socket.create_connection(served.place, timeout=30, source_address=(address, 0))
    connection.sendall(f"{HEAD}Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n".encode())
    assert status(connection.recv(1000)) == 100
    return connection


def asked(served: Served, data: bytes, address: str = "127.0.0.1") -> bytes:
    with socket.create_connection(served.place, timeout=30, source_address=(address, 0)) as connection:
        connection.sendall(data)
        return received(connection)


def test_one_address_has_so_many_requests_at_a_time_and_others_have_theirs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_PER_ADDRESS", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(begun(served))
        answer = asked(served, chat())
        assert status(answer) == 503 and b"one address" in answer and b"retry-after" in answer.lower()
        assert status(asked(served, request("GET", "/health"))) == 200
        assert status(asked(served, chat(), "127.0.0.2")) == 200
    eventually(lambda: status(talk(served, request("GET", "/models"))) == 200)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nX-", request("GET", "/health").replace(b"close", b"keep-alive")]
)
def test_an_address_at_its_number_gives_up_its_oldest_connection_without_headers(
    sent: bytes, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_PER_ADDRESS", 3)
    read, take = threading.Semaphore(0), connection_module.Connection.data_received

    def taken(self: connection_module.Connection, data: bytes) -> None:
        take(self, data)
        read.release()

    monkeypatch.setattr(connection_module.Connection, "data_received", taken)
    with contextlib.ExitStack() as stack:
        ours = [stack.enter_context(socket.create_connection(served.place, timeout=30)) for _ in range(3)]
        for connection in ours:
            connection.sendall(sent)
            if sent:
                assert read.acquire(timeout=30)
            while sent.endswith(b"\r\n\r\n") and not connection.recv(10_000).endswith(b"}"):
                pass
        assert status(asked(served, chat())) == 200
        last = received(ours[0])
        assert last == b"" if not sent.endswith(b"X-") else status(last) == 503 and b"retry-after" in last
        ours[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            ours[1].recv(1)


def test_slow_headers_from_all_sides_shut_nobody_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_CONNECTIONS", 8)
    monkeypatch.setattr(connection_module, "MAX_PER_ADDRESS", 4)
    with contextlib.ExitStack() as stack:
        for n in range(40):
            source = (f"127.0.0.{n % 5 + 2}", 0)
            one = stack.enter_context(socket.create_connection(served.place, timeout=30, source_address=source))
            with contextlib.suppress(ConnectionError):
                one.sendall(b"GET / HTTP/1.1\r\nX-")
            if n % 4 == 3:
                assert status(asked(served, chat())) == 200


def test_when_all_are_taken_health_is_answered_and_an_address_with_less_has_a_place(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_CONNECTIONS", 4)
    with contextlib.ExitStack() as stack:
        theirs = [stack.enter_context(begun(served, "127.0.0.2")) for _ in range(2)]
        others = [stack.enter_context(begun(served, "127.0.0.3")) for _ in range(2)]
        for _ in range(20):
            stack.enter_context(socket.create_connection(served.place, timeout=30, source_address=("127.0.0.2", 0)))
        answer = asked(served, chat(), "127.0.0.3")
        assert status(answer) == 503 and b"4 connections are open" in answer
        answer = asked(served, request("GET", "/health"), "127.0.0.3")
        assert status(answer) == 200 and b"connection: close" in answer.lower()
        assert status(asked(served, chat())) == 200  # in the place of one of theirs, which are more
        assert status(received(theirs[0])) == 503
        others[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            others[0].recv(1)


def test_handshakes_that_do_not_come_hold_no_place(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_CONNECTIONS", 3)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with serving(int8_bundle, tls=context) as served, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(served.place, timeout=30)) for _ in range(4)]
        assert received(silent[0]) == b""
        address = f"https://localhost:{served.place[1]}"
        assert httpx.post(f"{address}/v1/chat", json=CHAT, timeout=60, verify=trusting).status_code == 200
        assert received(silent[1]) == b""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
    ],
)
def test_an_ipv6_network_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (connection_module._network((one, 1)) == connection_module._network((other, 2))) == same


def test_a_crowd_that_trickles_headers_leaves_room_for_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEADER_S", 1.0)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(served.place, timeout=30)) for _ in range(40)]
        for connection in crowd:
            connection.sendall(b"GET /health HTTP/1.1\r\nX: ")
        assert httpx.post(f"{served.address}/v1/chat", json=CHAT, timeout=60).status_code == 200
        assert all(status(received(connection)) == 408 for connection in crowd)


def test_a_handshake_that_does_not_come_ends_in_time(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEADER_S", 0.5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with serving(int8_bundle, tls=context) as served, socket.create_connection(served.place, timeout=20) as connection:
        assert received(connection) == b""


def test_a_few_bytes_that_nobody_reads_hold_no_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "UNREAD_S", 0.5)
    made = connection_module.Connection.connection_made

    def narrow(self: connection_module.Connection, transport: object) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)  # type: ignore[attr-defined]
        made(self, transport)  # type: ignore[arg-type]

    monkeypatch.setattr(connection_module.Connection, "connection_made", narrow)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(30)
        connection.connect(served.place)
        connection.sendall(request("GET", "/"))  # the page: less than the server keeps, more than sockets do
        time.sleep(2)
        answer = received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert length < 1 << 16 and len(body) < length


def test_health_is_known_while_every_thread_and_the_engine_are_busy(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Semaphore(0), threading.Event()
    start = edge.chat.Chat.start

    def late(*arguments: object, **named: object) -> object:
        begun.release()
        gate.wait(60)
        return start(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(edge.chat.Chat, "start", late)
    with serving(fp32_bundle, slots=8) as served, ThreadPoolExecutor(8) as threads:
        try:
            asked = [threads.submit(httpx.post, f"{served.address}/v1/chat", json=CHAT, timeout=60) for _ in range(8)]
            for _ in range(asgi._N_THREADS):
                assert begun.acquire(timeout=30)
            for _ in range(20):
                assert httpx.get(f"{served.address}/health", timeout=10).json() == {"status": "ok"}
            assert not any(each.done() for each in asked)
        finally:
            gate.set()
        assert all(each.result().status_code == 200 for each in asked)


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_half_an_hour_ends_an_answer_with_length(
    path: str, stream: bool, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.002)
    now_s = 0.0
    app = App(served_chat(Models(model=int8_bundle, aliases={}, threads=1, context=None)), clock=lambda: now_s)
    engine = app.chat.models.engine("reka-edge")
    fields = {**CHAT, "max_tokens": 900, "temperature": 0, "stream": stream}
    request = HttpRequest("POST", path, {"content-type": "application/json"}, json.dumps(fields).encode())
    job = app.read(request)
    assert isinstance(job, Job)
    generation = job.start()
    assert isinstance(generation, Generation)
    eventually(lambda: generation.handle.newest.output_tokens > 4)
    now_s = 1800.1
    said = b"".join(parts(generation))
    assert generation.newest.finish_reason == "length" and 4 < generation.newest.output_tokens < 900
    assert b'"finish_reason":"length"' in said and b'"detail"' not in said
    eventually(lambda: not engine._worker._running)
    app.close()


def test_the_time_ends_an_answer_before_its_first_token_too(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.engine.decoder import Decoder

    gate, read = threading.Event(), Decoder.read

    def stuck(*arguments: object, **named: object) -> object:
        gate.wait(60)
        return read(*arguments, **named)  # type: ignore[arg-type]

    models = Models(model=int8_bundle, aliases={}, threads=1, context=None)
    app = App(served_chat(models, limits=Limits(answer_s=0.3)))
    app.chat.models.engine("reka-edge")
    monkeypatch.setattr(Decoder, "read", stuck)
    try:
        headers = {"content-type": "application/json"}
        status_code, _, parts = app.respond("POST", "/v1/chat", headers, json.dumps(CHAT).encode())
        answer = json.loads(b"".join(parts))
        assert status_code == 200 and answer["responses"][0]["finish_reason"] == "length"
        assert answer["usage"]["input_tokens"] > 4 and answer["usage"]["output_tokens"] == 0
    finally:
        gate.set()
        app.close()


def test_a_server_without_descriptors_serves_again_once_there_are_some(int8_bundle: Path) -> None:
    command = [sys.executable, "-m", "edge.cli", "serve", "--port", "0", "--threads", "1", "--model", str(int8_bundle)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    )
    assert process.stderr is not None
    address = process.stderr.readline().rpartition(" ")[2].strip()
    host, _, port = address.partition("://")[2].partition(":")
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(80):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            time.sleep(0.5)
            assert process.poll() is None
        eventually(lambda: httpx.get(f"{address}/health", timeout=30).status_code == 200)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["event"] for line in lines if line["level"] == "error"] == [
        "no further connection can be accepted: Too many open files"
    ]


def test_a_server_closed_while_it_waits_for_descriptors_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        listener = socket.socket(fileno=os.dup(server.sockets[0].fileno()))
        listener.close()
        server.close()
        loop.call_soon(loop._start_serving, asyncio.Protocol, listener)  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=connection_module.Loop) as runner:
        runner.run(serve())
    assert not caplog.records
