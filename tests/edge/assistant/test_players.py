"""Players: a file that is a timeline, and a loudspeaker that falls silent when it is told to."""

import threading
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from edge.assistant.players import RATE_HZ, LivePlayer, Timeline
from edge.assistant.sounds import NOTES, sound
from edge.errors import DeviceError
from edge.speech.speaker import Spoken
from tests.edge.assistant.recordings import read


def tone(seconds: float, rate_hz: int = RATE_HZ) -> Spoken:
    return Spoken("La.", np.sin(np.arange(round(seconds * rate_hz)) / 10).astype(np.float32) * 0.5, rate_hz)


def test_a_timeline_has_silence_where_nothing_is_said(tmp_path: Path) -> None:
    player = Timeline(tmp_path / "out.wav")
    player.advance(0.5)
    player.put(tone(0.25))
    player.advance(0.1)
    assert not player.idle
    player.advance(0.4)
    assert player.idle
    player.close()
    samples, rate_hz = read(tmp_path / "out.wav")
    loud = np.flatnonzero(np.abs(samples) > 0.01) / rate_hz
    assert len(samples) == rate_hz
    assert (loud[0], loud[-1]) == pytest.approx((0.5, 0.75), abs=0.001)


def test_a_timeline_has_one_rate_and_keeps_lengths(tmp_path: Path) -> None:
    player = Timeline(tmp_path / "out.wav")
    player.put(tone(1.0, 22_050))
    for _ in range(100):
        player.advance(0.03)
    player.close()
    samples, rate_hz = read(tmp_path / "out.wav")
    assert len(samples) == 3 * rate_hz
    assert np.flatnonzero(np.abs(samples) > 0.01)[-1] / rate_hz == pytest.approx(1.0, abs=0.002)


def test_a_hushed_timeline_is_silent_with_the_next_sample(tmp_path: Path) -> None:
    player = Timeline(tmp_path / "out.wav")
    player.put(tone(2.0))
    player.advance(0.3)
    player.hush()
    player.advance(0.3)
    player.close()
    samples, rate_hz = read(tmp_path / "out.wav")
    assert not samples[round(0.3 * rate_hz) :].any()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^loudspeaker .*out\.wav': No such file or directory$"):
        Timeline(tmp_path / "nowhere" / "out.wav")


class Loudspeaker:
    """A loudspeaker that plays until it is told to stop."""

    def __init__(self) -> None:
        self.played: list[str] = []
        self.stopped: list[bool] = []
        self.began, self.ended = threading.Event(), threading.Event()
        self.endless = False
        self.error: Exception | None = None

    def play(self, coming: Iterable[Spoken], *, stop: threading.Event | None = None) -> bool:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        assert stop is not None
        for spoken in coming:
            self.played.append(spoken.text)
            self.began.set()
            if self.endless:
                self.stopped.append(stop.wait(60))
                break
        self.ended.set()
        return not stop.is_set()

    def close(self) -> None:
        self.played.append("closed")


def test_a_hushed_loudspeaker_is_told_to_stop_and_what_waits_is_dropped() -> None:
    loudspeaker = Loudspeaker()
    loudspeaker.endless = True
    player = LivePlayer(loudspeaker, lambda error: None)
    player.put(Spoken("One.", sound("wake", RATE_HZ), RATE_HZ))
    assert loudspeaker.began.wait(60)
    player.put(Spoken("Two.", sound("wake", RATE_HZ), RATE_HZ))
    assert not player.idle
    player.hush()
    assert loudspeaker.ended.wait(60)
    loudspeaker.endless = False
    loudspeaker.ended.clear()
    player.put(Spoken("Three.", sound("wake", RATE_HZ), RATE_HZ))
    assert loudspeaker.ended.wait(60)
    player.close()
    assert loudspeaker.stopped == [True]
    assert loudspeaker.played == ["One.", "Three.", "closed"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(DeviceError("loudspeaker: unplugged"), "loudspeaker: unplugged"), (ValueError("x"), "loudspeaker: ValueError")],
    ids=["lost", "unforeseen"],
)
def test_a_loudspeaker_that_fails_is_told_and_tried_again(error: Exception, words: str) -> None:
    faults: list[str] = []
    told = threading.Event()
    loudspeaker = Loudspeaker()
    loudspeaker.error = error

    def fault(error: DeviceError) -> None:
        faults.append(str(error))
        told.set()

    player = LivePlayer(loudspeaker, fault)
    player.put(Spoken("One.", sound("wake", RATE_HZ), RATE_HZ))
    assert told.wait(60)
    player.hush()
    player.put(Spoken("Two.", sound("wake", RATE_HZ), RATE_HZ))
    assert loudspeaker.ended.wait(60)
    player.close()
    assert faults == [words]
    assert loudspeaker.played == ["Two.", "closed"]


@pytest.mark.parametrize("name", NOTES)
def test_sounds_are_short_soft_and_begin_and_end_in_silence(name: str) -> None:
    samples = sound(name, RATE_HZ)
    assert 0.05 < len(samples) / RATE_HZ < 1.0
    assert 0.05 < np.abs(samples).max() <= 0.2
    assert abs(samples[0]) < 0.001 and abs(samples[-1]) < 0.02


def test_a_timeline_is_a_wav_that_others_read(tmp_path: Path) -> None:
    player = Timeline(tmp_path / "out.wav")
    player.advance(0.1)
    player.close()
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            1,
            2,
            RATE_HZ,
            2400,
        )
