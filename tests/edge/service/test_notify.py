"""What a service says to the socket that systemd names, and that it says nothing where there is none."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.service import notify


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that stands in for systemd's."""
    name = f"{tmp_path}/notify" if request.param == "path" else f"@edge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield manager


@pytest.mark.parametrize(
    ("say", "datagram"),
    [
        (notify.ready, b"READY=1"),
        (notify.stopping, b"STOPPING=1"),
        (notify.watchdog, b"WATCHDOG=1"),
        (lambda: notify.status("serving tiny"), b"STATUS=serving tiny"),
        (lambda: notify.status("a\nREADY=1\x1b[2J  b"), b"STATUS=a READY=1 [2J b"),
        (lambda: notify.status("é" * 1000), b"STATUS=" + "é".encode() * 300),
        (lambda: notify.extend(90), b"EXTEND_TIMEOUT_USEC=90000000"),
        (lambda: notify.extend(0.5), b"EXTEND_TIMEOUT_USEC=500000"),
    ],
)
def test_each_word_is_one_datagram(heard: socket.socket, say: Callable[[], None], datagram: bytes) -> None:
    say()
    assert heard.recv(4096) == datagram


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_an_extension_is_a_number_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        notify.extend(seconds)


def say_all() -> None:
    notify.ready()
    notify.status("here")
    notify.watchdog()
    notify.extend(1)
    notify.stopping()


@pytest.mark.parametrize(
    "named", [None, "", "@", "relative", "vsock:2:1234", "/nobody/listens/here", "@nobody-listens"]
)
def test_nobody_who_listens_is_no_error(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if named is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", named)
    say_all()


def test_a_manager_that_reads_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/full")
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/full")
        for _ in range(10_000):  # more than any queue of datagrams holds
            notify.watchdog()
        manager.settimeout(10)
        assert manager.recv(64) == b"WATCHDOG=1"


def test_what_is_said_once_waits_for_a_busy_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PATIENCE_S", 60.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/busy")
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/busy")
        for _ in range(10_000):
            notify.watchdog()
        saying = threading.Thread(target=notify.ready)
        saying.start()
        while manager.recv(64) != b"READY=1":
            pass
        saying.join()


@pytest.mark.parametrize(
    ("interval", "owner", "expected"),
    [
        ("60000000", str(os.getpid()), 60.0),
        ("500000", None, 0.5),
        ("60000000", "1", None),  # meant for another process
        (None, None, None),
        ("0", None, None),
        ("soon", None, None),
        ("-5", None, None),
    ],
)
def test_seconds_between_signs_of_life(
    interval: str | None, owner: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    for name, value in (("WATCHDOG_USEC", interval), ("WATCHDOG_PID", owner)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert notify.watchdog_s() == expected


def test_without_a_socket_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    assert notify.watchdog_s() is None
    assert not notify.is_on()
