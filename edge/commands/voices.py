"""Voices on the command line: made of what their makers publish, installed, tried, their licence shown."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle.manifest import VoiceManifest
from edge.commands.console import harmless
from edge.errors import EdgeError, VoiceError

if TYPE_CHECKING:
    from edge.bundle.store import Stored

_SENTENCE = "One, two, three."
_SPOKEN_S = (0.2, 30.0)  # what a voice makes of it is neither shorter nor longer
_SILENT = 0.003  # of the largest sample


def install_upstream(
    path: Path,
    *,
    id: str | None,  # noqa: A002 - a bundle's
    replaces: bool,
    license: str | None,  # noqa: A002
    progress: Callable[[int, int], None],
) -> "Stored":
    """Install a voice as its makers publish it. Raises: as `edge.speech.voice_files.stage` and `install.install`."""
    from edge.bundle import install
    from edge.speech.voice_files import stage

    with tempfile.TemporaryDirectory(prefix="edge-voice-") as folder:
        stage(path, Path(folder), license=license)
        return install.install(Path(folder), id=id, replaces=replaces, progress=progress)


def after_install(stored: "Stored") -> None:
    """Show the licence of a voice that was installed, and have it say a sentence; one that cannot is removed.

    Raises: EdgeError where its graph does not run; without espeak-ng it stays, and a line says that it is not tried.
    """
    from edge.bundle import install

    tell_license(stored)
    try:
        print(f"{stored.id} {heard(stored)}")
    except VoiceError as error:
        print(f"edge: {stored.id} is installed and not tried: {error}", file=sys.stderr)
    except EdgeError:
        install.remove(stored.id)
        print(f"edge: {stored.id} is removed again: it does not speak", file=sys.stderr)
        raise


def heard(stored: "Stored") -> str:
    """Have a voice say a sentence; return what came, in words. Raises: VoiceError, EdgeError, also for silence."""
    import numpy as np

    from edge.errors import BundleError
    from edge.speech.neural_voice import open_named

    voice = open_named(stored.path, language=None)
    try:
        voice.say(_SENTENCE)  # the first takes longer: memory is reserved
        started = time.monotonic()
        samples = voice.say(_SENTENCE)
        took_s, lasts_s = time.monotonic() - started, len(samples) / voice.rate_hz
    finally:
        voice.close()
    if not _SPOKEN_S[0] <= lasts_s <= _SPOKEN_S[1] or np.abs(samples).max() < _SILENT:
        loudest = np.abs(samples).max() if len(samples) else 0.0
        raise BundleError(f"{stored.id}: {_SENTENCE!r} became {lasts_s:.2f} s of audio, at most {loudest:.3f} loud")
    return f"speaks: {lasts_s:.1f} s of audio in {took_s:.2f} s"


def tell_license(stored: "Stored") -> None:
    """Show a voice's licence, and on stderr what to know of it before it is used."""
    from edge.speech.voice_licenses import warning

    manifest = stored.manifest
    if isinstance(manifest, VoiceManifest):
        print(f"licence of {stored.id}: {license_words(manifest)}")
        for sentence in warning(manifest.license, manifest.source.notes):
            print(f"edge: {stored.id}: {harmless(sentence)}", file=sys.stderr)


def license_words(manifest: VoiceManifest) -> str:
    """Return a voice's licence in a few words."""
    spec = manifest.license
    allowed = {
        "any": "",
        "non-commercial": ", no commercial use",
        "unknown": ", read it before use" if spec.name else "",
    }
    return harmless((spec.name or "unknown") + allowed[spec.use] + (f" ({spec.credit})" if spec.credit else ""))


def described(stored: "Stored", manifest: VoiceManifest) -> dict[str, object]:
    """Return what is known of a voice, as JSON."""
    spec, source = manifest.voice, manifest.source
    return {
        "id": manifest.id,
        "kind": "voice",
        "aliases": list(manifest.aliases),
        "path": str(stored.path),
        "embedded": stored.embedded,
        "architecture": source.architecture,
        "family": manifest.family,
        "license": license_words(manifest),
        "license_use": manifest.license.use,
        "license_found_in": manifest.license.found_in or None,
        "languages": list(spec.languages),
        "speakers": [speaker.name for speaker in spec.speakers],
        "rate_hz": spec.rate_hz,
        "bytes": stored.n_bytes,
        "min_runtime": manifest.min_runtime,
        "repository": source.repository,
        "revision": source.revision,
        "notes": list(source.notes),
        "certificate": None,
    }
