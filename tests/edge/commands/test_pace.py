"""How far a batch is: counts, rate and time left, on a terminal and in a pipe."""

import pytest

from edge.commands.pace import Pace, duration, per_time


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rate_and_time_left_are_of_this_run(clock: Clock) -> None:
    pace = Pace(100, n_done=40, n_failed=2, clock=clock, is_terminal=False)
    assert pace.text() == "40 of 100 lines, 2 failed"
    for i in range(10):
        clock.now_s += 2
        pace.count(failed=i == 0)
    assert pace.text() == "50 of 100 lines, 3 failed, 30.0 lines/min, 1:40 min left"
    assert (pace.n_here, pace.n_done, pace.n_failed, pace.seconds) == (10, 50, 3, 20.0)


def test_a_pipe_gets_a_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Pace(100, clock=clock, is_terminal=False) as pace:
        for _ in range(25):
            clock.now_s += 1
            pace.count(failed=False)
        pace.tell("a word")
    assert capsys.readouterr().err.splitlines() == [
        "edge: 10 of 100 lines, 1.0 lines/s, 1:30 min left",
        "edge: 20 of 100 lines, 1.0 lines/s, 1:20 min left",
        "edge: a word",
    ]


def test_a_terminal_gets_a_bar(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(4, clock=clock, is_terminal=True)
    for failed in (True, False):
        clock.now_s += 1
        pace.count(failed=failed)
    assert pace._bar.tasks[0].completed == 2 and pace._bar.tasks[0].total == 4
    assert pace._bar.tasks[0].description == "2 of 4 lines, 1 failed, 1.0 lines/s, 2 s left"


def test_what_is_before_the_first_line_is_no_part_of_the_rate(clock: Clock) -> None:
    pace = Pace(100, clock=clock, is_terminal=False)
    clock.now_s += 500
    pace.count(failed=False)
    assert pace.text() == "1 of 100 lines"
    clock.now_s += 2
    pace.count(failed=False)
    assert pace.text() == "2 of 100 lines, 30.0 lines/min, 3:16 min left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1:00 min"), (185, "3:05 min"), (7620, "2:07 h")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_slow_rates_are_by_the_minute() -> None:
    assert per_time(2.34) == "2.3 lines/s" and per_time(0.05) == "3.0 lines/min"
