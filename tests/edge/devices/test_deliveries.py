"""Lines of a watch reach an address or a command, in order; a receiver that is slow, away or broken stops nothing."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from edge.devices.command_runner import CommandRunner
from edge.devices.deliveries import MAX_WAITING, Deliveries, Fields, Undelivered
from edge.devices.webhook import MAX_TRIES, Webhook
from edge.errors import ParameterError
from tests.edge.asking import eventually


class Receiver(ThreadingHTTPServer):
    """Answers with one status after the other, the last one again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str]]] = [(200, {})]
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?key=secret"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), data))
        answers = self.server.answers
        status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Hurry(threading.Event):
    """An end that does not come: waiting for it takes no time, and how long it would have taken is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        return self.is_set()


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_a_header_that_belongs_to_what_is_sent_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=f"webhook header {name}: it is set by what is sent; leave it out"):
        Webhook("http://127.0.0.1/", headers={name: "5"})


def test_a_line_is_sent_by_post_with_its_headers(receiver: Receiver) -> None:
    hook = Webhook(receiver.url, headers={"Authorization": "Bearer x"})
    hook.deliver('{"answer": "Yes"}', {}, Hurry())
    ((path, headers, data),) = receiver.got
    assert (path, json.loads(data)) == ("/hook?key=secret", {"answer": "Yes"})
    assert headers["Content-Type"] == "application/json" and headers["Authorization"] == "Bearer x"
    assert "secret" not in hook.name


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
def test_a_receiver_that_is_away_is_asked_again_later(receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {}), (status, {"Retry-After": "7"}), (status, {"Retry-After": "99999"}), (204, {})]
    stop = Hurry()
    Webhook(receiver.url).deliver("{}", {}, stop)
    assert len(receiver.got) == 4 and stop.waits == [1.0, 7.0, 60.0]


def test_a_receiver_that_stays_away_is_given_up(receiver: Receiver) -> None:
    receiver.answers = [(500, {})]
    stop = Hurry()
    with pytest.raises(Undelivered, match="answered 500; given up after 6 tries"):
        Webhook(receiver.url).deliver("{}", {}, stop)
    assert len(receiver.got) == MAX_TRIES and stop.waits == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 422])
def test_a_refusal_is_not_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {})]
    with pytest.raises(Undelivered, match=f"refused with {status}"):
        Webhook(receiver.url).deliver("{}", {}, Hurry())
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {"Location": receiver.url}), (200, {})]
    with pytest.raises(Undelivered, match="redirects are not followed"):
        Webhook(receiver.url).deliver("{}", {}, Hurry())
    assert len(receiver.got) == 1


def test_nobody_there_is_a_receiver_that_is_away(receiver: Receiver) -> None:
    stop = Hurry()
    with pytest.raises(Undelivered, match="cannot be reached: ConnectError"):
        Webhook("http://127.0.0.1:9/").deliver("{}", {}, stop)
    assert len(stop.waits) == MAX_TRIES - 1
    stop = Hurry()
    stop.set()
    with pytest.raises(Undelivered, match="the watch ends"):
        Webhook("http://127.0.0.1:9/").deliver("{}", {}, stop)


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(receiver: Receiver) -> None:
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    with pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED"):
        Webhook(receiver.url.replace("http:", "https:")).deliver("{}", {}, Hurry())
    assert receiver.got == []


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://example.com", {}), ("example.com", {}), ("http://", {}), ("http://a:b@example.com", {}),
        ("http://example.com/ x", {}), ("http://example.com:99999", {}), ("http://example.com", {"a b": "c"}),
        ("http://example.com", {"a": "b\r\nc: d"}), ("http://example.com", {"a": "ü"}),
    ],
)  # fmt: skip
def test_what_is_no_address_or_header_is_refused(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(ParameterError, match="webhook"):
        Webhook(url, headers=headers)


def python(code: str, *words: str) -> str:
    import shlex

    return shlex.join([sys.executable, "-c", code, *words])


def test_a_command_gets_the_line_and_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_REASON", "an earlier one")
    shown = "{name: os.environ.get(name) for name in ('EDGE_EVENT', 'EDGE_ANSWER', 'EDGE_REASON')}"
    code = f"import json, os, sys; print(sys.stdin.read().strip(), json.dumps({shown}), file=open(sys.argv[1], 'a'))"
    runner = CommandRunner(python(code, str(tmp_path / "a file; $(touch x)")))
    runner.deliver('{"answer": "Yes"}', {"event": "answer", "answer": "Yes; $(rm -rf /)\0", "reason": None}, Hurry())
    line, _, variables = (tmp_path / "a file; $(touch x)").read_text().partition("} ")
    assert line == '{"answer": "Yes"'
    assert json.loads(variables) == {
        "EDGE_EVENT": "answer", "EDGE_ANSWER": "Yes; $(rm -rf /)", "EDGE_REASON": None,
    }  # fmt: skip


def test_what_a_command_prints_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    CommandRunner(python("print('hello')")).deliver("{}", {}, Hurry())
    assert capfd.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(("code", "why"), [("exit(3)", "status 3"), ("import os; os.kill(os.getpid(), 9)", "signal 9")])
def test_a_status_that_is_not_zero_is_told(code: str, why: str) -> None:
    with pytest.raises(Undelivered, match=f"ended with {why}"):
        CommandRunner(python(code)).deliver("{}", {}, Hurry())


def test_a_command_that_does_not_read_is_no_fault() -> None:
    CommandRunner(python("pass")).deliver("x" * 10_000_000, {}, Hurry())


HANGING = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(3600)
"""


@pytest.mark.parametrize("ends", ["time", "watch"])
def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path, ends: str) -> None:
    ids = tmp_path / "id"
    stop = threading.Event()
    runner = CommandRunner(python(HANGING, str(ids)), timeout_s=0.5 if ends == "time" else 3600)

    def end() -> None:
        eventually(lambda: ids.exists() and bool(ids.read_text()))
        stop.set()

    if ends == "watch":
        threading.Thread(target=end).start()
    with pytest.raises(Undelivered, match="it took longer than 0.5 s" if ends == "time" else "the watch ends"):
        runner.deliver("{}", {}, stop)
    if ends == "watch":
        pid = int(ids.read_text())
        eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


@pytest.mark.parametrize("command", ["", "no-such-command -x", "echo 'half", "cd /tmp && ls"])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(ParameterError, match="run: "):
        if CommandRunner(command).name == "command cd":  # a program of that name is there on some systems
            raise ParameterError("run: ", field="run")


def test_lines_are_delivered_in_order_and_the_last_ones_at_the_end() -> None:
    got: list[str] = []
    with Deliveries("it", lambda line, fields, stop: got.append(line)) as deliveries:
        for n in range(50):
            deliveries.put(str(n), {})
    assert got == [str(n) for n in range(50)]


def test_a_slow_receiver_never_makes_anybody_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge.deliveries")
    gate, got = threading.Event(), list[str]()

    def deliver(line: str, fields: Fields, stop: threading.Event) -> None:
        gate.wait()
        got.append(line)

    with Deliveries("it", deliver) as deliveries:
        deliveries.put("first", {})
        eventually(lambda: not deliveries._waiting)
        for n in range(MAX_WAITING + 10):
            deliveries.put(str(n), {})
        assert len(caplog.records) == 10 and "the oldest of 64 waiting events is dropped" in caplog.text
        gate.set()
    assert got == ["first", *(str(n) for n in range(10, MAX_WAITING + 10))]


def test_what_fails_is_told_and_the_next_line_is_delivered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge.deliveries")
    got: list[str] = []

    def deliver(line: str, fields: Fields, stop: threading.Event) -> None:
        if line == "1":
            raise Undelivered("refused with 404")
        if line == "2":
            raise RuntimeError("a fault")
        got.append(line)

    with Deliveries("it", deliver) as deliveries:
        for line in "123":
            deliveries.put(line, {})
    assert got == ["3"] and "it: refused with 404" in caplog.text and "it failed" in caplog.text


def test_a_receiver_that_hangs_does_not_keep_the_watch_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge.deliveries")

    def deliver(line: str, fields: Fields, stop: threading.Event) -> None:
        stop.wait()
        raise Undelivered("given up")

    deliveries = Deliveries("it", deliver)
    deliveries.__enter__()
    deliveries.put("1", {})
    deliveries.put("2", {})
    deliveries.close(last_s=0.01)
    assert "it: 1 events were not delivered" in caplog.text and not deliveries._thread.is_alive()
