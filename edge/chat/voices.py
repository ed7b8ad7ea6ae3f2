"""The voices of a chat: which there are, and each opened once, shared, and spoken with by one at a time."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edge.arrays import F32
from edge.errors import EngineClosed, ParameterError, UnsupportedError, shown
from edge.speech.espeak import INSTALL
from edge.speech.installed_voices import InstalledVoice, installed_voices
from edge.speech.voice import Stopped, Voice
from edge.speech.voices import open_voice

_KEPT = 2  # voices that stay open while nobody speaks with them
_TURN_S = 0.1  # between looks at whether somebody still waits
_N_NAMED = 40
_NOTHING: F32 = np.zeros(0, np.float32)

Opens = Callable[[str | None, str | None], Voice]


@dataclass(frozen=True)
class VoiceChoice:
    """A voice and a language that it speaks. name: None for the default of the language; language: None for its own."""

    name: str | None
    language: str | None


@dataclass(eq=False)
class _Open:
    """A voice that is open, and how many speak with it."""

    voice: Voice
    n_users: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Voices:
    """Safe from any thread. installed: tells which voices there are; opens: opens one, for a language."""

    def __init__(
        self,
        *,
        installed: Callable[[], tuple[InstalledVoice, ...]] = installed_voices,
        opens: Opens = lambda name, language: open_voice(name, language=language),
    ) -> None:
        self._installed = installed
        self._opens = opens
        self._open: dict[VoiceChoice, _Open] = {}  # that was used last at the end
        self._changing = threading.Lock()
        self._closed = False

    def installed(self) -> tuple[InstalledVoice, ...]:
        """Return the voices, the default first; none where none is installed. Raises: VoiceError."""
        return self._installed()

    def choose(self, name: str | None, language: str | None = None) -> VoiceChoice:
        """Return the voice of a name, `NAME@LANGUAGE` where the name says the language too; None: the default.

        Raises: UnsupportedError where no voice is installed, ParameterError naming what there is, VoiceError.
        """
        found = self.installed()
        if not found:
            raise UnsupportedError(f"no voice is installed on this device; {INSTALL}")
        bare, at, own_language = (name or "").partition("@")
        voice = next((voice for voice in found if voice.name == bare), None)
        if name is not None and voice is None:
            usual = [each.name for each in found if each.is_usual][:_N_NAMED]
            raise ParameterError(f"voice: expected one of {', '.join(usual)}, got {shown(bare)}", field="voice")
        spoken = own_language if at else language
        codes = voice.languages if voice else tuple(code for each in found for code in each.languages)
        if spoken is not None and not speaks(codes, spoken):
            name_of_field = "voice" if at else "language"
            some = ", ".join(list(dict.fromkeys(codes))[:_N_NAMED])
            msg = f"{name_of_field}: expected a language of the voice, such as {some}, got {shown(spoken)}"
            raise ParameterError(msg, field=name_of_field)
        return VoiceChoice(voice.name if voice else None, spoken)

    @contextlib.contextmanager
    def speaking(self, choice: VoiceChoice, stopped: Stopped) -> Iterator[Voice]:
        """Hold a voice, opened if need be; it says nothing more once `stopped`.

        Raises: ParameterError, VoiceError; EngineClosed once all are closed.
        """
        held = self._take(choice)
        try:
            yield _Turn(held, stopped)
        finally:
            self._give(choice, held)

    def close(self) -> None:
        """Free every voice; who still speaks ends with an error. Closing twice is fine."""
        with self._changing:
            self._closed = True
            held, self._open = list(self._open.values()), {}
        for each in held:
            each.voice.close()

    def _take(self, choice: VoiceChoice) -> _Open:
        with self._changing:
            if self._closed:
                raise EngineClosed("the voices are closed")
            held = self._open.pop(choice, None) or _Open(self._opens(choice.name, choice.language))
            self._open[choice] = held
            held.n_users += 1
            return held

    def _give(self, choice: VoiceChoice, held: _Open) -> None:
        with self._changing:
            held.n_users -= 1
            idle = [(key, each) for key, each in self._open.items() if not each.n_users]
            gone = idle[: max(0, len(idle) - _KEPT)]
            for key, _ in gone:
                del self._open[key]
        for _, each in gone:
            each.voice.close()


class _Turn:
    """A voice that is shared, for one who may be stopped while others speak."""

    def __init__(self, held: _Open, stopped: Stopped) -> None:
        self._held = held
        self._stopped = stopped
        self.name = held.voice.name
        self.rate_hz = held.voice.rate_hz
        self.languages = held.voice.languages

    def say(self, sentence: str, *, speed: float = 1.0, stopped: Stopped | None = None) -> F32:
        """As `Voice.say`, when it is its turn; no samples once it is stopped."""
        held = self._held
        while not held.turn.acquire(timeout=_TURN_S):
            if self._stopped():
                return _NOTHING
        try:
            return _NOTHING if self._stopped() else held.voice.say(sentence, speed=speed, stopped=self._stops(stopped))
        finally:
            held.turn.release()

    def close(self) -> None:
        """It stays open for others."""

    def _stops(self, stopped: Stopped | None) -> Stopped:
        """Return what is true once either is."""
        return self._stopped if stopped is None else lambda: self._stopped() or stopped()


def speaks(codes: tuple[str, ...], language: str) -> bool:
    """Return whether a language is one of a voice's, or one of its regions is, or it without its region."""
    wanted = language.strip().lower().replace("_", "-")
    return any(code == wanted or code.startswith(f"{wanted}-") or code == wanted.partition("-")[0] for code in codes)
