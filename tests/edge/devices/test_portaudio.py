"""PortAudio lists its devices once: it is told to do so again, but never while a stream of ours is open."""

import sys
import types

import pytest

from edge.devices import portaudio


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the library is told."""
    told: list[str] = []
    fake = types.ModuleType("sounddevice")
    fake._terminate = lambda: told.append("terminate")  # type: ignore[attr-defined]
    fake._initialize = lambda: told.append("initialize")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(portaudio, "_OPEN", set())
    return told


def test_devices_are_listed_anew(library: list[str]) -> None:
    portaudio.sounddevice(need="a microphone")
    assert library == ["terminate", "initialize"]


def test_a_microphone_that_is_open_is_not_ended_by_a_loudspeaker(library: list[str]) -> None:
    microphone = object()
    portaudio.keep(microphone)
    portaudio.sounddevice(need="a loudspeaker")
    assert library == []
    portaudio.forget(microphone)
    portaudio.sounddevice(need="a loudspeaker")
    assert library == ["terminate", "initialize"]
