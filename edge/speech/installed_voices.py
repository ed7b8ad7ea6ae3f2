"""Which voices there are on this device, by the names that open them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from edge.bundle import store
from edge.bundle.manifest import VoiceManifest
from edge.speech.espeak import ESPEAK, languages, program, variants

_USUAL = frozenset(f"{kind}{n}" for kind in "fm" for n in range(1, 6))  # of espeak-ng's hundred variants


@dataclass(frozen=True)
class InstalledVoice:
    """A voice. name: as `Speaker` opens it; languages: the codes that it can be opened with; the first is the default.

    is_usual: whether it is worth a line in a list; others are known by name alone.
    """

    name: str
    languages: tuple[str, ...]
    is_usual: bool = True


def installed_voices() -> tuple[InstalledVoice, ...]:
    """Return the voices, the default first; none where none is installed. Raises: VoiceError where one fails."""
    return (*_neural(), *_espeak())


def _neural() -> Iterator[InstalledVoice]:
    """Yield each speaker of each voice bundle."""
    for stored in store.bundles("voice"):
        manifest = stored.manifest
        for i, speaker in enumerate(manifest.voice.speakers if isinstance(manifest, VoiceManifest) else ()):
            yield InstalledVoice(stored.id + (f":{speaker.name}" if i else ""), (speaker.language.lower(),))


def _espeak() -> list[InstalledVoice]:
    if shutil.which(ESPEAK) is None:
        return []
    found = program()
    codes = languages(found)
    spoken = tuple(dict.fromkeys(("en", *codes))) if "en" in codes else codes
    variant_names = sorted(variants(found))
    own = [InstalledVoice(f"{ESPEAK}:{name}", spoken, name in _USUAL) for name in variant_names]
    return [InstalledVoice(ESPEAK, spoken), *own]
