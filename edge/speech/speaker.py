"""Text to speech: sentence by sentence, while the text still grows."""

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge.arrays import F32
from edge.speech.inline import plain
from edge.speech.sentences import sentences
from edge.speech.speakable import speakable
from edge.speech.voice import Voice, check_speed
from edge.speech.voices import open_voice


@dataclass(frozen=True, eq=False)
class Spoken:
    """One sentence. text: as it is shown, without Markdown; samples: (n,), mono, -1 to 1."""

    text: str
    samples: F32
    rate_hz: int


class Speaker:
    """A voice that speaks texts; a context manager.

    voice: the id of an installed voice, or the folder of a voice bundle, with one of its speakers behind a colon
    (`kokoro:af_bella`); `espeak-ng`, or one of its variants (`espeak-ng:f3`); None: the installed voice that speaks
    the language, the default first, else espeak-ng. language: a code, such as `en` or `de`; None: that of the voice.
    speed: a factor, 0.25 to 4. Raises: ParameterError for a voice, a language or a speed there is not, VoiceError for
    a voice that is not installed, BundleError for one that is damaged.

        with Speaker() as speaker:
            speaker.save("Good morning.", "morning.wav")
    """

    def __init__(
        self, voice: str | Path | Voice | None = None, *, language: str | None = None, speed: float = 1.0
    ) -> None:
        check_speed(speed)
        self._speed = speed
        self._is_owner = voice is None or isinstance(voice, str | Path)
        self._voice: Voice = (
            open_voice(voice, language=language) if voice is None or isinstance(voice, str | Path) else voice
        )
        # espeak-ng lists all that it can be opened with, a neural voice what it speaks.
        self._language = language or ("en" if "en" in self._voice.languages else self._voice.languages[0])

    def __repr__(self) -> str:
        return f"Speaker({self._voice.name!r}, language={self._language!r}, speed={self._speed:g})"

    @property
    def voice(self) -> str:
        """The name of its voice."""
        return self._voice.name

    @property
    def rate_hz(self) -> int:
        """The rate of its samples."""
        return self._voice.rate_hz

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that its voice can be opened with."""
        return self._voice.languages

    def say(self, text: str | Iterable[str], *, stop: threading.Event | None = None) -> Iterator[Spoken]:
        """Yield a text sentence by sentence; of one that still grows, each as soon as it is complete.

        text: the whole of it, or its pieces as they come. stop: when it is set, this ends, within a sentence too where
        the voice takes long. Raises: VoiceError where the voice fails.
        """
        stopped = stop or threading.Event()
        pieces = itertools.takewhile(lambda _: not stopped.is_set(), [text] if isinstance(text, str) else text)
        for sentence in sentences(pieces, language=self._language):
            if stopped.is_set():
                return
            text_shown = plain(sentence)
            if not text_shown:
                continue
            words = speakable(text_shown, language=self._language)
            samples = self._voice.say(words, speed=self._speed, stopped=stopped.is_set)
            if len(samples):
                yield Spoken(text_shown, samples, self._voice.rate_hz)

    def save(self, text: str | Iterable[str], path: str | Path) -> None:
        """Write a text as audio: WAV, FLAC, Ogg (Opus) or MP3, by the suffix of the file.

        Raises: VoiceError, ParameterError for another suffix, OSError.
        """
        from edge.speech.audio_file import AudioFile

        with AudioFile(Path(path), self.rate_hz) as file:
            for spoken in self.say(text):
                file.write(spoken.samples)

    def close(self) -> None:
        """Free the voice, unless it was open before. Closing twice is fine."""
        if self._is_owner:
            self._voice.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
