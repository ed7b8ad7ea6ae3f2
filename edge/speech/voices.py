"""Which voice a name stands for."""

from pathlib import Path

from edge.errors import ParameterError, shown
from edge.speech.espeak import ESPEAK, Espeak
from edge.speech.voice import Voice


def open_voice(name: str | Path | None, *, language: str) -> Voice:
    """Open the voice that a name stands for: `espeak-ng`, also with one of its variants as `espeak-ng:f3`; None for it.

    language: a code, such as `en` or `pt-BR`. Raises: ParameterError for a voice or a language there is not, VoiceError
    for one that is not installed.
    """
    kind, _, variant = str(name or ESPEAK).partition(":")
    if kind == ESPEAK:
        return Espeak(language=language, variant=variant or None)
    raise ParameterError(f"voice: expected {ESPEAK}, got {shown(str(name))}", field="voice")
