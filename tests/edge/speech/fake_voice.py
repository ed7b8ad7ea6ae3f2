"""A voice without espeak-ng: each sentence is a tone, a twentieth of a second for each letter."""

import threading

import numpy as np

from edge.arrays import F32
from edge.chat.voices import Voices
from edge.speech.installed_voices import InstalledVoice
from edge.speech.voice import Stopped

LETTER_S = 0.05
INSTALLED = (
    InstalledVoice("tone", ("en", "en-gb", "de")),
    InstalledVoice("tone:high", ("en",)),
    InstalledVoice("tone:odd", ("en",), is_usual=False),
)


class FakeVoice:
    """Waits for `gate` before the second sentence; `error` comes in its place."""

    languages = ("en", "de")

    def __init__(self, name: str = "tone", *, rate_hz: int = 22_050, error: Exception | None = None) -> None:
        self.name = name
        self.rate_hz = rate_hz
        self.error = error
        self.gate = threading.Event()
        self.gate.set()
        self.said: list[tuple[str, float]] = []
        self.n_speaking = self.most_speaking = 0
        self.is_closed = False

    def say(self, sentence: str, *, speed: float = 1.0, stopped: Stopped | None = None) -> F32:
        self.n_speaking += 1
        self.most_speaking = max(self.most_speaking, self.n_speaking)
        try:
            if self.said:
                assert self.gate.wait(60)
                if self.error is not None:
                    raise self.error
            self.said.append((sentence, speed))
            n = round(self.seconds(sentence, speed) * self.rate_hz)
            return (0.3 * np.sin(np.arange(n) * (2 * np.pi * 440 / self.rate_hz))).astype(np.float32)
        finally:
            self.n_speaking -= 1

    def close(self) -> None:
        self.is_closed = True

    @staticmethod
    def seconds(sentence: str, speed: float = 1.0) -> float:
        """Return how long a sentence is."""
        return sum(map(str.isalpha, sentence)) * LETTER_S / speed


class FakeVoices(Voices):
    """Voices of which each that is opened is kept in `opened`, by its name and language."""

    def __init__(self, voice: FakeVoice | None = None, installed: tuple[InstalledVoice, ...] = INSTALLED) -> None:
        self.opened: list[tuple[str | None, str | None, FakeVoice]] = []
        self.error: Exception | None = None

        def opens(name: str | None, language: str | None) -> FakeVoice:
            if self.error is not None:
                raise self.error
            made = voice or FakeVoice(name or "tone")
            self.opened.append((name, language, made))
            return made

        super().__init__(installed=lambda: installed, opens=opens)
