"""espeak-ng as a voice: a process for each sentence, which gets the text on standard input and writes a WAV."""

import os
import re
import shutil
import struct
import subprocess
import unicodedata
from functools import cache

import numpy as np

from edge.arrays import F32
from edge.errors import ParameterError, VoiceError, shown
from edge.speech.voice import Stopped, check_speed

ESPEAK = "espeak-ng"
INSTALL = "on Debian and Raspberry Pi OS: sudo apt install espeak-ng"

_RATE_HZ = 22050
_WORDS_PER_MINUTE = 175  # espeak-ng's own default
_SLOWEST_WPM = 80  # it speaks no slower, whatever it is asked for
_TIMEOUT_S = 30.0  # a sentence takes some hundredths of one
_LIST_TIMEOUT_S = 10.0
_MAX_CHARS = 5000
_COMPLAINT_CHARS = 300
_N_NAMED = 12
_SAMPLES_AT = 44
# Joins letters in scripts such as Persian's and those of India: the other invisible characters say nothing.
_JOINERS = "\u200c\u200d"
_VARIANT = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Espeak:
    """espeak-ng in one language, with its own voice or a variant of it, such as `f3`.

    Its programs are started by name, without a shell; timeout_s: how long one may take. Raises: VoiceError where
    espeak-ng is not installed or fails, ParameterError for a language or a variant that it does not have.
    """

    def __init__(self, *, language: str = "en", variant: str | None = None, timeout_s: float = _TIMEOUT_S) -> None:
        self.name = ESPEAK if variant is None else f"{ESPEAK}:{variant}"
        self.rate_hz = _RATE_HZ
        self._timeout_s = timeout_s
        self._program = program()
        self.languages = languages(self._program)
        self._voice = _language(language, self.languages) + ("" if variant is None else f"+{variant}")
        if variant is not None and variant not in variants(self._program):
            some = ", ".join(variants(self._program)[:_N_NAMED])
            raise ParameterError(
                f"voice: espeak-ng has no variant {shown(variant)}; some of them: {some}", field="voice"
            )

    def __repr__(self) -> str:
        return f"Espeak({self._voice!r})"

    def say(self, sentence: str, *, speed: float = 1.0, stopped: Stopped | None = None) -> F32:
        """Return a sentence as samples (n,) at 22 050 Hz, with the pause behind it; none for one without words.

        speed: a factor of 175 words per minute; 80 is the fewest that espeak-ng speaks. stopped: not asked, a sentence
        takes some hundredths of a second. Raises: as `Voice.say`;
        ParameterError for more than 5000 characters.
        """
        check_speed(speed)
        if len(sentence) > _MAX_CHARS:
            raise ParameterError(
                f"sentence: expected at most {_MAX_CHARS} characters, got {len(sentence)}", field="text"
            )
        text = harmless(sentence)
        if not text:
            return np.zeros(0, np.float32)
        words_per_minute = max(_SLOWEST_WPM, round(speed * _WORDS_PER_MINUTE))
        options = ["-b", "1", "-v", self._voice, "-s", str(words_per_minute), "--stdout", "--stdin"]
        wav = run(self._program, options, text.encode("utf-8"), self._timeout_s)
        return _samples(wav)

    def close(self) -> None:
        """Nothing is held: each sentence is a process of its own."""


def harmless(text: str) -> str:
    """Return a text without what espeak-ng would obey: its control characters, and phonemes between [[ and ]].

    A NUL would end the text, \\x01 begins commands. Characters that say nothing become spaces.
    """
    kept = "".join(" " if _is_silent(c) else c for c in text)
    return re.sub(r"\[(?=\[)", "[ ", " ".join(kept.split()))


def _is_silent(c: str) -> bool:
    return unicodedata.category(c)[0] == "C" and c not in _JOINERS


def program() -> str:
    """Return espeak-ng's path. Raises: VoiceError where it is not installed."""
    found = shutil.which(ESPEAK)
    if found is None:
        raise VoiceError(f"espeak-ng is not installed; {INSTALL}")
    return found


@cache
def languages(program: str) -> tuple[str, ...]:
    """Return the codes of espeak-ng's languages, in its order. Raises: VoiceError."""
    found: dict[str, None] = {}
    for line in _lines(program, "--voices"):
        columns = line.split(maxsplit=5)
        # Voices of MBROLA are listed whether they are installed or not.
        if len(columns) >= 5 and not columns[4].startswith("mb/"):
            also = re.findall(r"\(([^\s()]+) \d+\)", columns[5] if len(columns) > 5 else "")
            found.update(dict.fromkeys(code.lower() for code in (columns[1], *also)))
    if not found:
        raise VoiceError(f"espeak-ng lists no language; {INSTALL} (with espeak-ng-data)")
    return tuple(found)


@cache
def variants(program: str) -> tuple[str, ...]:
    """Return the names of espeak-ng's variants of each voice: f1 to f5 are women. Raises: VoiceError."""
    files = (
        line.split()[-1] if "(" not in line else line.split("(")[0].split()[-1]
        for line in _lines(program, "--voices=variant")
    )
    return tuple(name for file in files if _VARIANT.fullmatch(name := file.removeprefix("!v/")))


def _lines(program: str, option: str) -> list[str]:
    """Return the rows of one of espeak-ng's lists."""
    return run(program, [option], b"", _LIST_TIMEOUT_S).decode("utf-8", "replace").splitlines()[1:]


def _language(wanted: str, known: tuple[str, ...]) -> str:
    """Return espeak-ng's code for a language: the one that is wanted, or the language without its region."""
    code = wanted.strip().lower().replace("_", "-")
    for candidate in (code, code.partition("-")[0]):
        if candidate in known:
            return candidate
    common = [
        other for other in ("en", "de", "es", "fr", "it", "pt", "nl", "pl", "ru", "zh", "ja", "ar") if other in known
    ]
    raise ParameterError(
        f"language: espeak-ng has none of the code {shown(wanted)}; some of its {len(known)}: "
        f"{', '.join(common or known[:_N_NAMED])}; all of them: espeak-ng --voices",
        field="language",
    )


def run(program: str, options: list[str], text: bytes, timeout_s: float) -> bytes:
    """Run espeak-ng by its path; return what it writes. One that hangs is killed. Raises: VoiceError."""
    environment = {name: os.environ[name] for name in ("PATH", "ESPEAK_DATA_PATH", "HOME") if name in os.environ}
    try:
        done = subprocess.run(
            [program, *options], input=text, capture_output=True, timeout=timeout_s, check=False, env=environment,
            start_new_session=True,  # Ctrl-C is for us
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise VoiceError(f"espeak-ng did not end within {timeout_s:g} s and was killed") from error
    except OSError as error:
        raise VoiceError(f"espeak-ng cannot be run: {error.strerror}; {INSTALL}") from error
    complaint = " ".join(done.stderr.decode("utf-8", "replace").split())[:_COMPLAINT_CHARS]
    if done.returncode < 0:
        raise VoiceError(f"espeak-ng was ended by signal {-done.returncode}")
    if done.returncode:
        raise VoiceError(f"espeak-ng failed with status {done.returncode}{': ' * bool(complaint)}{complaint}")
    return done.stdout


def _samples(wav: bytes) -> F32:
    """Return the samples of the WAV that espeak-ng writes: its sizes say nothing, it is written as it is spoken."""
    if not wav:
        return np.zeros(0, np.float32)
    if len(wav) < _SAMPLES_AT or wav[:4] != b"RIFF" or wav[36:40] != b"data":
        raise VoiceError(f"espeak-ng wrote {len(wav)} bytes that are no WAV of plain samples")
    form, n_channels, rate_hz, _, _, n_bits = struct.unpack_from("<HHIIHH", wav, 20)
    if (form, n_channels, n_bits, rate_hz) != (1, 1, 16, _RATE_HZ):
        raise VoiceError(f"espeak-ng wrote format {form}, {n_channels} channels, {n_bits} bits, {rate_hz} Hz")
    n = (len(wav) - _SAMPLES_AT) // 2
    return np.frombuffer(wav, "<i2", n, _SAMPLES_AT).astype(np.float32) / np.float32(32768)
