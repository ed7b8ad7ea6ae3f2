"""PortAudio lists its devices once: it is told to do so again, but never while a stream of ours is open."""

import sys
import threading
import types

import pytest

from edge.devices import portaudio
from edge.devices.microphone import open_ear
from edge.devices.playback import Playback
from edge.errors import DeviceError


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


def test_a_look_at_the_devices_waits_until_one_that_is_being_opened_is_noted(library: list[str]) -> None:
    looked = threading.Thread(target=portaudio.sounddevice, kwargs={"need": "a microphone"})
    loudspeaker = object()
    with portaudio.OPENING:
        portaudio.sounddevice(need="a loudspeaker")
        looked.start()
        portaudio.keep(loudspeaker)
    looked.join()
    assert library == ["terminate", "initialize"]


@pytest.mark.parametrize("name", ["microphone", "loudspeaker"])
def test_nobody_looks_at_the_devices_while_one_is_opened(
    name: str, library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []

    def opened(**_: object) -> None:
        other = threading.Thread(target=lambda: free.append(portaudio.OPENING.acquire(blocking=False)))
        other.start()
        other.join()
        raise ValueError("enough is seen")

    fake = sys.modules["sounddevice"]
    monkeypatch.setattr(fake, "InputStream", opened, raising=False)
    monkeypatch.setattr(fake, "OutputStream", opened, raising=False)
    monkeypatch.setattr(fake, "PortAudioError", OSError, raising=False)
    with pytest.raises(DeviceError, match="enough is seen"):
        if name == "microphone":
            open_ear(None, stale_s=1.0)
        else:
            Playback(None).begin(24_000)
    assert free == [False]
