"""`edge serve` as a process: its flags, its log, TLS, and how it ends."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conformance.conftest import serving

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "canary in a coal mine"}], "max_tokens": 4}


class Process:
    """`edge serve` with some flags, at a free port."""

    def __init__(self, *flags: str, **variables: str) -> None:
        command = [sys.executable, "-m", "edge.cli", "serve", "--port", "0", "--threads", "1", *flags]
        environment = {**os.environ, **variables}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline()
        self.address = self.first.rpartition(" ")[2].strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, and return the status and the rest of what was said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def started(int8_bundle: Path) -> Iterator[Process]:
    process = Process("--model", str(int8_bundle), "--alias", "reka-core=reka-edge", "--slots", "2", "--context", "128")
    yield process
    process.end(signal.SIGKILL)


@pytest.mark.slow
def test_the_owner_sets_the_limits(int8_bundle: Path) -> None:
    limits = ("body_bytes=600", "json_depth=5", "headers=9", "stop=1", "images=0", "messages=2")
    flags = [flag for limit in limits for flag in ("--limit", limit)]
    process = Process("--model", str(int8_bundle), *flags)
    try:
        with httpx.Client(base_url=process.address, timeout=60) as client:

            def status(headers: dict[str, str] | None = None, **fields: object) -> int:
                return client.post("/v1/chat", json={**ASK, **fields}, headers=headers).status_code

            assert status() == 200
            assert status(more="x" * 600) == 413
            assert status(more=[[[[[]]]]]) == 400
            assert status({f"x-{n}": "" for n in range(9)}) == 431
            assert (status(stop=["a"]), status(stop=["a", "b"])) == (200, 422)
            assert status(messages=[{"role": "user", "content": "a"}] * 3) == 422
            image = {"type": "image_url", "image_url": "data:image/png;base64,"}
            assert status(messages=[{"role": "user", "content": [image]}]) == 422
    finally:
        process.end(signal.SIGKILL)


def fails(*flags: str, **variables: str) -> str:
    process = Process(*flags, **variables)
    status, rest = process.end()
    assert status != 0
    return process.first + rest


def test_it_serves_logs_nothing_that_was_said_and_ends_in_order(started: Process) -> None:
    said = rf"edge: serving at {re.escape(started.address)} \(model reka-edge-random; no key is needed\); the page: "
    assert re.match(rf"{said}{re.escape(started.address)}\n", started.first)
    with httpx.Client(base_url=started.address, timeout=60) as client:
        answer = client.post("/v1/chat", json={**ASK, "model": "reka-core"}, headers={"X-Api-Key": "canary-key"})
        assert answer.status_code == 200
        assert client.post("/v1/chat", json={**ASK, "messages": "canary"}).status_code == 422
        assert client.get("/canary?canary=1").status_code == 404
        metrics = client.get("/metrics").text
    status, said = started.end()
    assert status == 0
    records = [json.loads(line) for line in said.splitlines()]
    assert [(record["route"], record["status"]) for record in records] == [
        ("/v1/chat", 200), ("/v1/chat", 422), ("other", 404), ("/metrics", 200),
    ]  # fmt: skip
    assert records[0]["output_tokens"] <= 4 and records[0]["end"] in ("stop", "length")
    assert "canary" not in said + metrics
    text = answer.json()["responses"][0]["message"]["content"]
    assert len(text) < 4 or text not in said + metrics


def test_a_stream_that_runs_is_finished_and_the_port_is_free_after(started: Process) -> None:
    host, _, port = started.address.partition("://")[2].partition(":")
    with httpx.Client(base_url=started.address, timeout=60) as client:
        fields = {**ASK, "stream": True, "max_tokens": 100, "seed": 1, "temperature": 2.0}
        with client.stream("POST", "/v1/chat", json=fields) as response:
            parts = response.iter_bytes()
            next(parts)
            started.process.send_signal(signal.SIGTERM)
            rest = b"".join(parts)
    assert b"finish_reason" in rest
    assert started.end()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_a_second_signal_ends_it_now(started: Process) -> None:
    head = "POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    host, _, port = started.address.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
        time.sleep(0.3)
        started.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert started.process.poll() is None
        assert started.end(signal.SIGINT)[0] == 0
        # It did not wait for the body's time, after which the connection would have been answered.
        with contextlib.suppress(ConnectionError):
            assert b"408" not in connection.recv(1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--host", "0.0.0.0"), "EDGE_API_KEY"),
        (("--host", "::"), "EDGE_API_KEY"),
        (("--host", "nowhere.invalid", "--api-key", "k"), "cannot be bound"),
        (("--host", "192.0.2.1", "--api-key", "k"), "this machine has no such address"),
        (("--alias", "x"), "NAME=MODEL"),
        (("--limit", "x"), "NAME=NUMBER"),
        (("--limit", "waiting=some"), "limit waiting: expected a whole number"),
        (("--media-folder", "nowhere"), "no such folder"),
        (("--api-key-file", "nowhere"), "No such file"),
        (("--allow-media", "https://example.com"), "expected a host"),
        (("--tls-cert", "nowhere"), "both --tls-cert and --tls-key"),
        (("--tls-cert", "nowhere", "--tls-key", "nowhere"), "cannot be used"),
        (("--api-key", "ключ"), "printable ASCII"),
        (("--model", "nothing-like-it"), "not installed"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(flags: tuple[str, ...], words: str, int8_bundle: Path) -> None:
    model = () if "--model" in flags else ("--model", str(int8_bundle))
    said = fails(*flags, *model)
    assert words in said and said.startswith("edge: ") and said.count("\n") == 1


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(int8_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = fails("--model", str(int8_bundle), "--port", port)
        words = "another program uses the port: choose another one, or --port 0 for one that is free"
        assert said == f"edge: 127.0.0.1 port {port}: cannot be bound: {words}\n"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["variable", "file"])
def test_a_key_and_every_interface(source: str, int8_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    flags = ("--api-key-file", str(file)) if source == "file" else ()
    variables = {"EDGE_API_KEY": "secret"} if source == "variable" else {}
    process = Process("--model", str(int8_bundle), "--host", "0.0.0.0", *flags, **variables)
    assert "a key is needed" in process.first
    try:
        address = process.address.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/v1/models", headers={"X-Api-Key": "secret"}).status_code == 200
    finally:
        status, said = process.end()
    assert status == 0 and "secret" not in said


def test_tls(int8_bundle: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with serving(int8_bundle, tls=context) as served:
        assert served.address.startswith("https://")
        with httpx.Client(base_url=served.address, verify=trusted, timeout=60) as client:
            assert client.post("/v1/chat", json={**ASK, "stream": True}).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.address}/health")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http{served.address[5:]}/health")
