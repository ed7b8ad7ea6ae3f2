"""What no client library sends: malformed HTTP, lies about lengths, strangers' hosts, slow and silent clients."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.limits import Limits
from edge.server import asgi
from edge.server import connection as connection_module
from tests.conformance.conftest import Served, serving
from tests.edge.asking import eventually, slow

CHAT = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
JSON = "Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def keyed(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key="secret") as served:
        yield served


@pytest.fixture(scope="module")
def open_to_all(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle) as served:
        yield served


@pytest.fixture(autouse=True)
def still_serving(keyed: Served, open_to_all: Served) -> Iterator[None]:
    """After whatever was sent, the next request is answered and nothing is left running."""
    yield
    for served in (keyed, open_to_all):
        assert status(talk(served, request("GET", "/health"))) == 200
        eventually(lambda: served.server.queue.n_running == 0)  # noqa: B023


def talk(served: Served, data: bytes, *, wait_s: float = 20) -> bytes:
    """Send bytes and return everything that comes back until the server closes."""
    with socket.create_connection(served.place, timeout=wait_s) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR) if not data else None
        return received(connection)


def received(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while part := connection.recv(65536):
            found += part
    return found


def request(
    method: str, target: str, headers: str = "", body: bytes = b"", *, host: str = "Host: localhost\r\n"
) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\n{host}{headers}{length}Connection: close\r\n\r\n".encode() + body


def chat(headers: str = JSON, **fields: object) -> bytes:
    return request("POST", "/v1/chat", headers, json.dumps({**CHAT, **fields}).encode())


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    assert found, answer[:200]
    return int(found[1])


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\nrubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
        b"GET /hea\x00lth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000,
    ],
)
def test_what_is_not_http_is_a_400_and_the_connection_closes(open_to_all: Served, data: bytes) -> None:
    answer = talk(open_to_all, data)
    assert status(answer) in (400, 501)
    assert b"connection: close" in answer.lower()


def test_both_lengths_are_refused(open_to_all: Served) -> None:
    headers = JSON + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"
    assert status(talk(open_to_all, request("POST", "/v1/chat", headers, b"0\r\n\r\n"))) == 400


def test_a_broken_chunk_ends_the_connection_and_starts_nothing(open_to_all: Served) -> None:
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    assert b" 200 " not in talk(open_to_all, head + b"5\r\nhello\r\nzz\r\n")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models", "//v1/models", "/v1//models", "/v1/./models", "/v1/../v1/models", "/%761/models", "/v1%2Fmodels",
        "/v1/models/", "/v1/models;a=b", "/V1/models", "/health/../v1/models", "/health%2f..%2fv1/models", "/health/",
        "http://localhost/v1/models", "http://localhost/health", "/models", "/metrics", "/openapi.json", "/docs", "*",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO"])
def test_no_spelling_of_a_path_gets_in_without_the_key(keyed: Served, method: str, target: str) -> None:
    assert status(talk(keyed, request(method, target))) in (400, 401, 404)


@pytest.mark.parametrize("target", ["/health", "/", "/health?x=1"])
def test_what_is_open_is_open_to_get_alone(keyed: Served, target: str) -> None:
    assert status(talk(keyed, request("GET", target))) == 200
    assert status(talk(keyed, request("POST", target))) == 401


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("X-Api-Key: secret\r\n", 200),
        ("Authorization: Bearer secret\r\n", 200),
        ("authorization: bearer secret\r\n", 200),
        ("X-Api-Key: secret\r\nAuthorization: Bearer other\r\n", 200),
        ("X-Api-Key: other\r\nAuthorization: Bearer secret\r\n", 401),
        ("X-Api-Key: secret\r\nX-Api-Key: secret\r\n", 401),
        ("X-Api-Key: Secret\r\n", 401),
        ("X-Api-Key: secre\r\n", 401),
        ("X-Api-Key:\r\n", 401),
        ("Authorization: Basic secret\r\n", 401),
        ("Authorization: secret\r\n", 401),
        ("Cookie: X-Api-Key=secret\r\n", 401),
        ("X-Api-Key: s\xe9cret\r\n", 401),
    ],
)
def test_the_key(keyed: Served, headers: str, expected: int) -> None:
    assert status(talk(keyed, request("GET", "/v1/models", headers))) == expected
    assert status(talk(keyed, request("GET", "/v1/models?api_key=secret"))) == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200), ("LocalHost:1234", 200), ("127.0.0.1", 200), ("127.0.0.1:80", 200), ("[::1]:8000", 200),
        ("evil.example", 403), ("localhost.evil.example", 403), ("localhost.", 403), ("127.0.0.1.nip.io", 403),
        ("127.1", 403), ("0.0.0.0", 403), ("localhost@evil.example", 403), ("localhost:80:80", 403), ("", 403),
        ("[::1", 403), ("localhost:http", 403), ("x/health?", 403), ("192.168.0.5", 403), ("localhost, evil", 403),
    ],
)  # fmt: skip
def test_the_host(open_to_all: Served, host: str, expected: int) -> None:
    assert status(talk(open_to_all, request("GET", "/v1/models", host=f"Host: {host}\r\n"))) == expected


def test_http_1_0_without_a_host_is_refused(open_to_all: Served) -> None:
    assert status(talk(open_to_all, b"GET /v1/models HTTP/1.0\r\n\r\n")) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9", "file://", "https://evil", ""])
def test_foreign_pages_may_not_ask(open_to_all: Served, origin: str) -> None:
    answer = talk(open_to_all, chat(JSON + f"Origin: {origin}\r\n"))
    assert status(answer) == 403
    assert b"access-control" not in answer.lower()


def test_a_preflight_allows_nothing(open_to_all: Served) -> None:
    headers = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"
    answer = talk(open_to_all, request("OPTIONS", "/v1/chat", headers))
    assert status(answer) == 403 and b"access-control" not in answer.lower()


def test_the_servers_own_page_may_ask(open_to_all: Served) -> None:
    place = f"localhost:{open_to_all.place[1]}"
    headers = f"{JSON}Origin: http://{place}\r\n"
    sent = request("POST", "/v1/chat", headers, json.dumps(CHAT).encode(), host=f"Host: {place}\r\n")
    assert status(talk(open_to_all, sent)) == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonp"],
)
def test_only_json_is_taken(open_to_all: Served, kind: str) -> None:
    assert status(talk(open_to_all, chat(f"Content-Type: {kind}\r\n"))) == 415


def test_compressed_bodies_are_not_taken(open_to_all: Served) -> None:
    assert status(talk(open_to_all, chat(JSON + "Content-Encoding: gzip\r\n"))) == 415


@pytest.mark.parametrize("n", [99, 100, 101])
def test_the_number_of_headers(open_to_all: Served, n: int) -> None:
    headers = "".join(f"X-{i}: a\r\n" for i in range(n - 2))  # and Host, Connection
    answer = talk(open_to_all, request("GET", "/health", headers))
    assert status(answer) == (200 if n <= 100 else 431)
    assert n <= 100 or b"headers: expected at most 100, got 101" in answer


@pytest.mark.parametrize("n", [32_767, 32_768, 32_769])
@pytest.mark.parametrize("n_held_back", [0, 1])
def test_the_bytes_of_the_headers(
    open_to_all: Served, n: int, n_held_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = len("Host: localhost\r\nConnection: close\r\nX: \r\n")
    data = request("GET", "/health", f"X: {'a' * (n - others)}\r\n")
    arrived, take = bytearray(), connection_module.Connection.data_received

    def noting(self: connection_module.Connection, part: bytes) -> None:
        take(self, part)
        arrived.extend(part)

    monkeypatch.setattr(connection_module.Connection, "data_received", noting)
    with socket.create_connection(open_to_all.place, timeout=20) as connection:
        at = len(data) - n_held_back
        connection.sendall(data[:at])
        eventually(lambda: len(arrived) == at)
        connection.sendall(data[at:])
        answer = received(connection)
    assert status(answer) == (200 if n <= 32_768 else 431)
    assert n <= 32_768 or b"headers: expected at most 32768 bytes, got 32769" in answer


def test_a_body_that_says_it_is_too_large_is_refused_unread(open_to_all: Served) -> None:
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 10737418240\r\n\r\n".encode()
    answer = talk(open_to_all, head)  # nothing of the body is ever sent
    assert status(answer) == 413 and b"10737418240" in answer


def test_an_endless_body_is_refused_when_it_is_too_large(open_to_all: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_to_all.server.app.chat, "limits", Limits(body_bytes=100_000))
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    answer = talk(open_to_all, head + (b"8000\r\n" + b"[" * 0x8000 + b"\r\n") * 5)
    assert status(answer) == 413 and b"body: expected at most 100000 bytes, got 1" in answer


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_bytes_of_a_body(open_to_all: Served, over: int, chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits().body_bytes == 40 << 20
    monkeypatch.setattr(open_to_all.server.app.chat, "limits", Limits(body_bytes=300))
    data = json.dumps(CHAT).encode().ljust(300 + over)
    lengths, sent = f"Content-Length: {len(data)}", data
    if chunked:
        lengths, sent = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}{lengths}\r\n\r\n"
    answer = talk(open_to_all, head.encode() + sent)
    assert status(answer) == (200 if over <= 0 else 413)
    assert over <= 0 or b"body: expected at most 300 bytes, got 301" in answer


def test_a_body_that_does_not_arrive_is_a_408(open_to_all: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_S", 0.3)
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 100\r\n\r\n{{".encode()
    assert status(talk(open_to_all, head)) == 408


def test_headers_that_trickle_end_in_time(open_to_all: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEADER_S", 0.5)
    n_sent = 0
    with socket.create_connection(open_to_all.place, timeout=20) as connection:
        connection.settimeout(0.1)
        answer = b""
        for letter in b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 30_000:
            n_sent += 1
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection.send(bytes([letter]))
                answer += connection.recv(4096)
                if not answer:
                    break
            if answer:
                break
    assert n_sent < 30_000  # the server ended it
    assert answer == b"" or status(answer) == 408


def test_a_connection_that_says_nothing_is_closed(open_to_all: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEADER_S", 0.3)
    with socket.create_connection(open_to_all.place, timeout=20) as connection:
        assert received(connection) == b""


def test_too_many_connections_are_told_so(open_to_all: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_CONNECTIONS", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            one = stack.enter_context(socket.create_connection(open_to_all.place, timeout=20))
            one.sendall(f"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}Expect: 100-continue\r\n".encode())
            one.sendall(b"Content-Length: 9\r\n\r\n")
            assert status(one.recv(1000)) == 100  # it is at the body, which does not come
        answer = talk(open_to_all, chat())
        assert status(answer) == 503 and b"retry-after" in answer.lower()


def test_pipelined_requests_are_answered_in_order(open_to_all: Served) -> None:
    keep = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = talk(open_to_all, keep + request("GET", "/nowhere"))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", b"404"]
    assert answer.index(b'"ok"') < answer.index(b"reka-edge") < answer.index(b"no route")


def test_a_client_that_never_reads_loses_its_connection(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "UNREAD_S", 0.5)
    slow(monkeypatch, 0.001)
    from edge.server.reka import ChatWriter

    padded = ChatWriter.events
    monkeypatch.setattr(ChatWriter, "events", lambda *of: padded(*of) + b": " + b"x" * 200_000 + b"\n\n")
    with serving(int8_bundle) as served, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(served.place)
        connection.sendall(chat(stream=True, max_tokens=5000, temperature=0))
        eventually(lambda: served.server.queue.n_running == 1)
        eventually(lambda: served.server.queue.n_running == 0)
        eventually(lambda: 'edge_generations_total{end="cancelled"} 1' in served.server.app.metrics.text())
