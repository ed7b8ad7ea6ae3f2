"""Which voice a name stands for."""

from pathlib import Path

from edge.speech.espeak import ESPEAK, Espeak
from edge.speech.voice import Voice

_ANY = "en"  # what espeak-ng speaks where nobody says


def open_voice(name: str | Path | None, *, language: str | None) -> Voice:
    """Open the voice that a name stands for.

    name: `espeak-ng`, also with one of its variants as `espeak-ng:f3`; the id of an installed voice or the folder of a
    voice bundle, also with one of its speakers as `kokoro:af_bella`; None: the installed voice that speaks the
    language, the default first, else espeak-ng. language: a code, such as `en` or `pt-BR`; None: that of the voice.
    Raises: ParameterError for a voice, a speaker or a language there is not, VoiceError for what is not installed,
    BundleError.
    """
    from edge.speech import neural_voice  # it loads onnxruntime, which espeak-ng alone does not need

    kind, _, variant = str(name or "").partition(":")
    if name is None:
        found = neural_voice.installed(language)
        if found is not None:
            return neural_voice.open_named(found.path, language=language)
    elif kind != ESPEAK:
        return neural_voice.open_named(name, language=language)
    return Espeak(language=language or _ANY, variant=variant or None)
