"""Loudspeakers and microphones that can be named: by sounddevice, and by the programs that play."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from edge.devices.audio_devices import AudioDevices, audio_devices

SINKS = "0\\talsa_output.usb\\tmodule-alsa\\ts16le\\tIDLE\\n1\\tbluez.speaker\\tmodule\\ts16le\\tIDLE\\n"
CARDS = "null\\n    Discards\\ndefault\\n    The default\\nplughw:CARD=Device,DEV=0\\n    USB\\n"


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **outputs: str) -> None:
    """Has the path hold these programs alone, each of which prints its output."""
    for name, output in outputs.items():
        (folder / name).write_text(f"#!{sys.executable}\nprint('{output}', end='')\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PULSE_SERVER", "x")
    monkeypatch.setitem(sys.modules, "sounddevice", None)


def test_sounddevice_lists_both_kinds_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("sounddevice")
    library.query_devices = lambda: [  # type: ignore[attr-defined]
        {"name": "Both", "max_output_channels": 2, "max_input_channels": 1},
        {"name": "Camera", "max_output_channels": 0, "max_input_channels": 2},
    ]
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    assert audio_devices() == AudioDevices(("0 Both",), ("0 Both", "1 Camera"), "sounddevice")


def test_a_sound_system_that_fails_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("sounddevice")
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    assert audio_devices() == AudioDevices(by="sounddevice")


def test_programs_list_what_they_play_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, aplay=CARDS)
    assert audio_devices() == AudioDevices(("default", "plughw:CARD=Device,DEV=0"), (), "aplay")
    programs(tmp_path, monkeypatch, paplay="", pactl=SINKS)
    assert audio_devices() == AudioDevices(("alsa_output.usb", "bluez.speaker"), (), "paplay")
