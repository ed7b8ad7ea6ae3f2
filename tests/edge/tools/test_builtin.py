"""The included tools: the time, timers on a clock that a test moves, the volume by a mixer, and a camera's image."""

import subprocess
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pytest

from edge.arrays import U8
from edge.errors import DeviceError
from edge.tools.builtin import INCLUDED, Timers, camera_tools, time_tools, volume_tools
from edge.tools.builtin.timers import MAX_TIMERS
from edge.tools.toolset import Toolset
from tests.edge.asking import eventually

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_the_time_is_told_here_and_elsewhere() -> None:
    tools = Toolset(time_tools(now=lambda: NOON))
    told = tools.call("get_time", {"time_zone": "Asia/Tokyo"})
    assert (
        '"time":"21:00:00","date":"2026-03-01","weekday":"Sunday","time_zone":"Asia/Tokyo","utc_offset":"+0900"' in told
    )
    assert '"date":"2026-0' in tools.call("get_time") and '"date"' in Toolset(time_tools()).call("get_time")
    assert "there is no time zone 'Berlin'" in tools.call("get_time", {"time_zone": "Berlin"})
    assert "there is no time zone" in tools.call("get_time", {"time_zone": "../../etc/passwd"})


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.moved = threading.Event()
        self.condition: threading.Condition | None = None

    def now(self) -> float:
        return self.at_s

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        self.condition = news
        news.wait()

    def move(self, seconds: float) -> None:
        eventually(lambda: self.condition is not None)
        assert self.condition is not None
        with self.condition:
            self.at_s += seconds
            self.condition.notify_all()


def test_timers_are_set_listed_cancelled_and_announced() -> None:
    told: list[str] = []
    hand = Hand()
    timers = Timers(told.append, clock=hand)
    tools = Toolset(timers.tools())
    assert (
        tools.call("set_timer", {"seconds": 300, "label": "eggs"}) == '{"number":1,"label":"eggs","seconds_left":300}'
    )
    tools.call("set_timer", {"seconds": 60})
    tools.call("set_timer", {"seconds": 120, "label": "tea"})
    hand.move(59)
    assert '[{"number":2,"label":"","seconds_left":1},{"number":3' in tools.call("list_timers") and told == []
    assert tools.call("cancel_timer", {"number": 3}) == "timer 3 is cancelled"
    hand.move(1)
    eventually(lambda: told == ["timer 2 is due"])
    hand.move(240)
    eventually(lambda: told == ["timer 2 is due", "timer 1 is due: eggs"])
    assert tools.call("list_timers") == "[]"
    assert "there is no timer 1; the timers are none" in tools.call("cancel_timer", {"number": 1})
    timers.close()
    assert "the timers are closed" in tools.call("set_timer", {"seconds": 1})


def test_an_announcement_that_fails_leaves_the_other_timers() -> None:
    told: list[str] = []

    def announce(text: str) -> None:
        told.append(text)
        raise OSError("no terminal")

    hand = Hand()
    tools = Toolset(Timers(announce, clock=hand).tools())
    tools.call("set_timer", {"seconds": 1})
    tools.call("set_timer", {"seconds": 2})
    hand.move(2)
    eventually(lambda: len(told) == 2)


def test_there_is_a_limit_of_timers_and_of_their_time() -> None:
    timers = Timers(lambda _: None, clock=Hand())
    tools = Toolset(timers.tools())
    for _ in range(MAX_TIMERS):
        tools.call("set_timer", {"seconds": 9})
    assert "are set already" in tools.call("set_timer", {"seconds": 9})
    for seconds in (0, -1, 1e9, "nan"):
        assert tools.call("set_timer", {"seconds": seconds}).startswith("Error: arguments of set_timer: seconds:")
    timers.close()


def mixer(installed: str, said: str, commands: list[str]) -> object:
    def run(command: Sequence[str]) -> str:
        commands.append(" ".join(command))
        if command[0] != installed:
            raise FileNotFoundError(command[0])
        return said

    return run


@pytest.mark.parametrize(
    ("installed", "said", "percent", "setting"),
    [
        ("wpctl", "Volume: 0.42\n", "42 %", "wpctl set-volume @DEFAULT_AUDIO_SINK@ 30%"),
        ("wpctl", "Volume: 0.40 [MUTED]\n", "40 %", "wpctl set-volume @DEFAULT_AUDIO_SINK@ 30%"),
        ("pactl", "Volume: front-left: 32768 /  50% / -18 dB", "50 %", "pactl set-sink-volume @DEFAULT_SINK@ 30%"),
        ("amixer", "Mono: Playback 40 [63%] [-23.50dB] [on]", "63 %", "amixer sset Master 30%"),
    ],
)
def test_the_volume_is_told_and_set_by_the_mixer_that_is_installed(
    installed: str, said: str, percent: str, setting: str
) -> None:
    commands: list[str] = []
    tools = volume_tools(run=mixer(installed, said, commands))  # type: ignore[arg-type]
    assert Toolset(tools).call("get_volume") == percent
    assert "is not allowed" in Toolset(tools).call("set_volume", {"percent": 30}) and setting not in commands
    assert Toolset(tools, allow=["set_volume"]).call("set_volume", {"percent": 30}) == "30 %"
    assert commands[-1] == setting
    assert "less than or equal to 100" in Toolset(tools).call("set_volume", {"percent": 101})


def test_without_a_mixer_the_volume_cannot_be_reached() -> None:
    def run(command: Sequence[str]) -> str:
        if command[0] == "pactl":
            raise subprocess.CalledProcessError(1, command, stderr="Connection refused\n")
        raise FileNotFoundError(command[0])

    told = Toolset(volume_tools(run=run)).call("get_volume")
    assert "wpctl: is not installed; pactl: Connection refused; amixer: is not installed" in told


class Frame(NamedTuple):
    rgb: U8


class Eye:
    def __init__(self, *, lost: bool = False) -> None:
        self.lost = lost

    def newest(self, *, wait_s: float) -> Frame:
        if self.lost:
            raise DeviceError("camera: nothing new for 4 s")
        return Frame(np.zeros((4, 6, 3), np.uint8))


def test_what_a_camera_sees_is_an_image() -> None:
    (part,) = Toolset(camera_tools(Eye())).run("look").media
    assert part["image"].shape == (4, 6, 3)  # type: ignore[attr-defined]
    assert "nothing new for 4 s" in Toolset(camera_tools(Eye(lost=True))).call("look")


def test_the_included_tools_have_distinct_names() -> None:
    tools = [*time_tools(), *Timers(lambda _: None).tools(), *volume_tools(), *camera_tools(Eye())]
    assert Toolset(tools).names == (
        "get_time", "set_timer", "list_timers", "cancel_timer", "get_volume", "set_volume", "look",
    )  # fmt: skip
    assert INCLUDED == ("time", "timer", "volume", "camera")
