"""What an assistant hears in tests: words of espeak-ng on a timeline, and what it tells."""

import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from edge.assistant.events import Event
from edge.speech.speaker import Speaker

F32 = npt.NDArray[np.float32]
RATE_HZ = 16_000
WAKE = "Okay nabu"


@cache
def words(text: str) -> F32:
    """Return a text as espeak-ng says it, at 16 kHz, without silence around it."""
    with Speaker("espeak-ng") as speaker:
        return trimmed([soxr.resample(one.samples, one.rate_hz, RATE_HZ) for one in speaker.say(text)])


def trimmed(parts: Sequence[F32]) -> F32:
    """Return parts as one, without silence around it."""
    samples = np.concatenate(parts)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1]].astype(np.float32)


@dataclass
class Recording:
    """Audio put on a timeline. ends_s: when each of its texts ends."""

    parts: list[F32] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(map(len, self.parts)) / RATE_HZ

    def silence(self, seconds: float) -> "Recording":
        """Add a soft hiss."""
        rng = np.random.default_rng(len(self.parts))
        self.parts.append(rng.normal(0, 0.0005, round(seconds * RATE_HZ)).astype(np.float32))
        return self

    def say(self, text: str) -> "Recording":
        self.parts.append(words(text))
        self.ends_s.append(self.seconds)
        return self

    def save(self, path: Path) -> Path:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            file.writeframes((np.clip(np.concatenate(self.parts), -1, 1) * 32767).astype("<i2").tobytes())
        return path


def read(path: Path) -> tuple[F32, int]:
    """Return the samples of a WAV, and their rate."""
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return (data / np.float32(32768)).astype(np.float32), file.getframerate()


def stand_in(*questions: str) -> Callable[[F32, Callable[[], bool]], str]:
    """Return a stand-in for a speech-to-text model: it knows beforehand what is asked, one question after another."""
    coming = iter(questions)

    def transcribe(samples: F32, stopped: Callable[[], bool]) -> str:
        assert samples.dtype == np.float32 and len(samples) > RATE_HZ / 4
        return next(coming)

    return transcribe


def told(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return states and what happened."""
    return [(event.state.value, event.what.value) for event in events]
