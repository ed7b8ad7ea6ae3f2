"""What a manifest says of a voice: its sounds, its speakers, and the licence of its weights."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

VOICE: Final = "voice.onnx"
SPEAKERS: Final = "speakers.bin"
MAX_SYMBOL_CHARS: Final = 4
STYLE_ROWS: Final = 510  # of a Kokoro speaker: one for each number of symbols
STYLE_WIDTH: Final = 256
SPEAKER_BYTES: Final = STYLE_ROWS * STYLE_WIDTH * 4

Family = Literal["vits", "kokoro"]
# What symbols stand for: espeak-ng's IPA, the same as Kokoro writes it, or the characters of the text themselves.
Alphabet = Literal["ipa", "misaki", "text"]
Use = Literal["any", "non-commercial", "unknown"]

_MAX_SPEAKERS = 4096
_MAX_SYMBOLS = 4096
_MAX_ID = 1 << 16
_RATES_HZ = (8000, 48_000)
_MAX_SCALE = 10.0
_NAME = re.compile(r"[\w][\w .+'-]{0,99}")
_ESPEAK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_MAX_WORDS = 2000


@dataclass(frozen=True)
class SpeakerSpec:
    """One speaker: its name, and the language that its text is read in, as espeak-ng spells it (`en-us`)."""

    name: str
    language: str


@dataclass(frozen=True)
class Noise:
    """What a VITS model is run with: how much its tone and its rhythm vary, and how long its sounds are at speed 1."""

    tone: float
    rhythm: float
    length: float


@dataclass(frozen=True)
class VoiceSpec:
    """A voice: samples a second, symbols to ids, speakers (the first is the default), symbols that one run takes.

    noise: of family "vits" alone.
    """

    rate_hz: int
    alphabet: Alphabet
    symbols: Mapping[str, tuple[int, ...]]
    speakers: tuple[SpeakerSpec, ...]
    max_symbols: int
    noise: Noise | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of its speakers, each once."""
        return tuple(dict.fromkeys(speaker.language for speaker in self.speakers))


@dataclass(frozen=True)
class LicenseSpec:
    """The licence of a voice's weights, as its makers state it; "" where they state none.

    use: what it allows, as far as its name tells; found_in: the file it was read from; credit: the data set, or whom to
    name.
    """

    name: str
    use: Use
    found_in: str = ""
    credit: str = ""


def voice_problems(family: Family, voice: VoiceSpec, license: LicenseSpec) -> Iterator[tuple[str, str]]:  # noqa: A002
    """Yield (key, what was expected) for every value outside its range."""
    if not _RATES_HZ[0] <= voice.rate_hz <= _RATES_HZ[1]:
        yield "voice.rate_hz", f"{_RATES_HZ[0]} to {_RATES_HZ[1]}, got {voice.rate_hz}"
    if not 1 <= voice.max_symbols <= _MAX_SYMBOLS:
        yield "voice.max_symbols", f"1 to {_MAX_SYMBOLS}, got {voice.max_symbols}"
    if (family == "vits") != (voice.noise is not None):
        yield "voice.noise", f"{'an object' if family == 'vits' else 'null'} for family {family!r}"
    if family == "kokoro" and voice.max_symbols > STYLE_ROWS:
        yield "voice.max_symbols", f"at most {STYLE_ROWS} for family 'kokoro', got {voice.max_symbols}"
    for name, value in (("tone", voice.noise.tone), ("rhythm", voice.noise.rhythm)) if voice.noise else ():
        if not 0 <= value <= _MAX_SCALE:
            yield f"voice.noise.{name}", f"0 to {_MAX_SCALE:g}, got {value}"
    if voice.noise and not 0.1 <= voice.noise.length <= _MAX_SCALE:
        yield "voice.noise.length", f"0.1 to {_MAX_SCALE:g}, got {voice.noise.length}"
    yield from _symbol_problems(family, voice)
    yield from _speaker_problems(voice)
    for name in ("name", "found_in", "credit"):
        if len(getattr(license, name)) > _MAX_WORDS:
            yield f"license.{name}", f"at most {_MAX_WORDS} characters"


def speakers_bytes(voice: VoiceSpec) -> int:
    """Return the size of the file of a Kokoro voice's speakers."""
    return len(voice.speakers) * SPEAKER_BYTES


def _symbol_problems(family: Family, voice: VoiceSpec) -> Iterator[tuple[str, str]]:
    if not 1 <= len(voice.symbols) <= _MAX_SYMBOLS:
        yield "voice.symbols", f"1 to {_MAX_SYMBOLS} symbols, got {len(voice.symbols)}"
    for symbol, ids in voice.symbols.items():
        if not 1 <= len(symbol) <= MAX_SYMBOL_CHARS or not ids or not all(0 <= each < _MAX_ID for each in ids):
            yield f"voice.symbols.{symbol!r:.40}", f"few characters with ids below {_MAX_ID}, got {ids!r:.100}"
            return
    for mark in ("_", "^", "$") if family == "vits" else ():
        if mark not in voice.symbols:
            yield f"voice.symbols.{mark}", "ids, which every sentence of a VITS voice needs, got none"


def _speaker_problems(voice: VoiceSpec) -> Iterator[tuple[str, str]]:
    names = [speaker.name for speaker in voice.speakers]
    if not 1 <= len(names) <= _MAX_SPEAKERS or len(set(names)) != len(names):
        yield "voice.speakers", f"1 to {_MAX_SPEAKERS} speakers of different names, got {len(names)}"
    for speaker in voice.speakers:
        if not _NAME.fullmatch(speaker.name) or not _ESPEAK.fullmatch(speaker.language):
            yield "voice.speakers", f"a name, and a language such as en-us, got {speaker!r:.200}"
            return
