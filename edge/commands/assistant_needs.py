"""What `edge doctor` says of the parts of an assistant: voices, devices, wake words, detector, transcripts, MCP."""

import importlib.metadata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge.bundle import store
from edge.bundle.manifest import Manifest
from edge.commands.check import Check
from edge.errors import EdgeError
from edge.extras import install_command

if TYPE_CHECKING:
    from edge.bundle.store import Stored
    from edge.devices.audio_devices import AudioDevices


def parts() -> Iterator[Check]:
    """Yield what this machine speaks with, plays on, listens with and wakes by; none of it has to be there."""
    from edge.devices.audio_devices import audio_devices

    yield Check("voice", ", ".join(_voices()))
    found = audio_devices()
    yield Check("loudspeaker", _loudspeakers(found))
    yield Check("microphone", _microphones(found))
    yield Check("wake words", _wake_words())
    yield Check("detector", _detector())
    yield Check("MCP", _mcp())


def audio_of(stored: "Stored") -> Check:
    """Say what turns questions by voice into text for a bundle, or what would."""
    from edge.commands.choosing import why_not

    lacks = why_not(stored, ["audio"])
    if lacks:
        return Check("audio", lacks)
    hears_itself = isinstance(stored.manifest, Manifest) and stored.manifest.audio is not None
    by = "itself" if hears_itself else f"the speech-to-text model {store.speech_model(stored.id)}"
    return Check("audio", f"{stored.id} accepts audio, by {by}")


def _voices() -> Iterator[str]:
    from edge.speech.espeak import languages, program

    yield from (stored.id for stored in store.bundles("voice"))
    try:
        yield f"espeak-ng ({len(languages(program()))} languages)"
    except EdgeError as error:
        yield str(error)


def _loudspeakers(found: "AudioDevices") -> str:
    from edge.devices.portaudio import lacking

    if found.by:
        return f"{', '.join(found.loudspeakers) or 'none'} (by {found.by})"
    return f"none: {lacking('a loudspeaker')}; or a program that plays: sudo apt install pulseaudio-utils"


def _microphones(found: "AudioDevices") -> str:
    from edge.devices.portaudio import lacking

    if found.by == "sounddevice":
        return ", ".join(found.microphones) or "none"
    return f"none: {lacking('a microphone')}"


def _wake_words() -> str:
    from edge.speech.wake_word import installed

    return ", ".join(installed()) or f"none: {install_command('wake')}"


def _detector() -> str:
    from edge.devices.learned_voice import Silero, detector

    if isinstance(detector(), Silero):
        return "silero"
    return f"loudness; {install_command('vad')} adds one that tells speech from noise"


def _mcp() -> str:
    try:
        return importlib.metadata.version("mcp")
    except importlib.metadata.PackageNotFoundError:
        return f"none: {install_command('mcp')}"
