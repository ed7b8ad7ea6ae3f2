"""The loudspeakers and microphones of this machine, by the names that open them."""

import subprocess
from dataclasses import dataclass

from edge.devices.player import installed_players
from edge.devices.portaudio import sounddevice
from edge.errors import DeviceError

_TIMEOUT_S = 5.0
_MAX_NAMES = 20


@dataclass(frozen=True)
class AudioDevices:
    """Names of devices, and by what they are opened: sounddevice, paplay, pw-play or aplay; "" by nothing."""

    loudspeakers: tuple[str, ...] = ()
    microphones: tuple[str, ...] = ()
    by: str = ""


def audio_devices() -> AudioDevices:
    """Return the devices of this machine. Microphones need sounddevice: without it none is listed."""
    try:
        library = sounddevice(need="a microphone")
    except DeviceError:
        return _of_programs()
    try:
        found = list(library.query_devices())
    except Exception:  # PortAudio without any sound system
        found = []
    names = [(f"{number} {each['name']}", each) for number, each in enumerate(found[:_MAX_NAMES])]
    return AudioDevices(
        tuple(name for name, each in names if each["max_output_channels"] > 0),
        tuple(name for name, each in names if each["max_input_channels"] > 0),
        "sounddevice",
    )


def _of_programs() -> AudioDevices:
    player = next(iter(installed_players()), "")
    if player == "paplay":
        rows = [row.split("\t") for row in _rows("pactl", "list", "short", "sinks")]
        return AudioDevices(tuple(row[1] for row in rows if len(row) > 1), (), player)
    if player == "aplay":
        names = [row for row in _rows("aplay", "-L") if row[:1].strip() and row.startswith(("default", "plughw:"))]
        return AudioDevices(tuple(names[:_MAX_NAMES]), (), player)
    return AudioDevices(by=player)


def _rows(*command: str) -> list[str]:
    """Return what a program lists, nothing where it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode("utf-8", "replace").splitlines() if done.returncode == 0 else []
