"""Signs of life: sent while the work moves on, from where it is done; more time for a start that moves."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.service.watchdog import Beat, Moves, Watchdog, starting


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that stands in for systemd's, which allows 60 seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield manager


def said(manager: socket.socket) -> list[str]:
    """What was said since the last time."""
    found = []
    manager.setblocking(False)
    try:
        while True:
            found.append(manager.recv(4096).decode())
    except BlockingIOError:
        return found


class Service:
    """A service by its clock, that beats once a second."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.beat = Beat(0.0, "serving")
        self.n_looks = 0
        self.watchdog = Watchdog(clock=lambda: self.now_s)

    def look(self) -> Beat:
        self.n_looks += 1
        return self.beat

    def runs(self, seconds: int) -> None:
        for _ in range(seconds):
            self.watchdog.beat(self.look)
            self.now_s += 1


def test_the_first_beat_says_that_the_service_is_ready(heard: socket.socket) -> None:
    Service().runs(1)
    assert said(heard) == ["READY=1", "WATCHDOG=1", "STATUS=serving"]


def test_life_is_shown_four_times_in_the_seconds_that_are_allowed(heard: socket.socket) -> None:
    service = Service()
    service.runs(61)
    assert said(heard).count("WATCHDOG=1") == 5 and service.n_looks == 5


def test_a_status_is_said_when_it_changes(heard: socket.socket) -> None:
    service = Service()
    service.runs(40)
    service.beat = Beat(0.0, "busy")
    service.runs(40)
    assert [line for line in said(heard) if line.startswith("STATUS")] == ["STATUS=serving", "STATUS=busy"]


def test_work_that_stands_still_is_not_called_alive_until_it_moves_again(heard: socket.socket) -> None:
    service = Service()
    service.runs(20)
    said(heard)
    service.beat = Beat(31.0, "serving")
    service.runs(300)
    assert said(heard) == ["STATUS=serving; no progress for 31 s"]
    service.beat = Beat(0.0, "serving")
    service.runs(20)
    assert "WATCHDOG=1" in said(heard)


def test_work_that_pauses_for_less_than_half_of_the_seconds_is_alive(heard: socket.socket) -> None:
    service = Service()
    service.beat = Beat(29.0, "serving")
    service.runs(61)
    assert said(heard).count("WATCHDOG=1") == 5


def test_who_does_not_beat_shows_no_life(heard: socket.socket) -> None:
    service = Service()
    service.runs(1)
    said(heard)
    service.now_s += 1000  # an event loop that hangs
    assert said(heard) == []


def test_without_a_watchdog_a_service_is_ready_and_has_a_status(
    heard: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC")
    Service().runs(1)
    assert {"READY=1", "STATUS=serving"} <= set(said(heard))


def test_without_systemd_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service = Service()
    service.runs(100)
    assert service.n_looks == 0
    with starting("loading"):
        pass


def test_a_start_that_computes_asks_for_more_time(heard: socket.socket) -> None:
    with starting("loading", look_s=0.01):
        assert heard.recv(4096) == b"STATUS=loading"
        heard.setblocking(False)
        while True:  # computes until that was noticed
            try:
                assert heard.recv(4096) == b"EXTEND_TIMEOUT_USEC=60000000"
                break
            except BlockingIOError:
                continue


def test_only_processor_time_counts_as_moving() -> None:
    times = iter([1.0, 1.001, 1.5, 1.5, 1.6])
    moves = Moves(lambda: next(times))
    assert [moves.again() for _ in range(4)] == [False, True, False, True]
