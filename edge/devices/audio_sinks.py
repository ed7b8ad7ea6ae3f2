"""What the name of a loudspeaker stands for, all written to the same way: a device, a program that plays, a file."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from edge.arrays import F32
from edge.devices.playback import Playback
from edge.devices.player import Player, installed_players
from edge.devices.portaudio import lacking
from edge.errors import DeviceError, ParameterError
from edge.speech.audio_file import SUFFIXES, AudioFile, StreamedWav


class AudioSink(Protocol):
    """Where blocks of samples go, at the pace at which they are played."""

    def begin(self, rate_hz: int) -> int:
        """Get ready for samples of a rate; return the rate that they have to have. Raises: DeviceError."""

    def write(self, block: F32) -> None:
        """Play a block (n,), -1 to 1, behind those before it; it waits for its turn. Raises: DeviceError."""

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait for what comes next, at most so long; a device that has to be kept going gets silence."""

    def drain(self, stopped: threading.Event) -> bool:
        """Wait until everything is played; return False as soon as stopped. Raises: DeviceError."""

    def silence(self) -> None:
        """Drop what is not played yet."""

    def close(self) -> None:
        """Give it back, or complete it."""


def open_sink(name: int | str | Path | None) -> AudioSink:
    """Open what a loudspeaker's name stands for. Raises: DeviceError."""
    if str(name) == "-":
        return _File("standard output", None)
    if isinstance(name, Path) or Path(str(name)).suffix.lower() in SUFFIXES:
        return _File(str(name), Path(str(name)))
    device = None if name is None else int(name) if str(name).isdecimal() else str(name)
    if Playback.is_installed():
        return Playback(device)
    players = installed_players()
    if not players:
        others = "or a program that plays: sudo apt install pulseaudio-utils (paplay) or alsa-utils (aplay)"
        raise DeviceError(f"{lacking('a loudspeaker')}; {others}")
    return Player(players[0], device)


class _File:
    """A file in the place of a loudspeaker: written as fast as the samples come, at the rate of the first ones."""

    def __init__(self, name: str, path: Path | None) -> None:
        self._name = name
        self._path = path
        self._file: AudioFile | StreamedWav | None = None
        self._rate_hz = 0

    def begin(self, rate_hz: int) -> int:
        if self._file is None:
            with self._failures():
                self._file = self._opened(rate_hz)
            self._rate_hz = rate_hz
        return self._rate_hz

    def write(self, block: F32) -> None:
        if self._file is not None:
            with self._failures():
                self._file.write(block)

    def _opened(self, rate_hz: int) -> AudioFile | StreamedWav:
        if self._path is None:
            return StreamedWav(_standard_output(), rate_hz)
        return AudioFile(self._path, rate_hz)

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        stopped.wait(seconds)

    def drain(self, stopped: threading.Event) -> bool:
        return not stopped.is_set()

    def silence(self) -> None:
        """What is written is written."""

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with self._failures():
                file.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except ParameterError as error:
            raise DeviceError(f"loudspeaker: {error}") from error
        except OSError as error:
            raise DeviceError(f"loudspeaker {self._name}: {error.strerror or error}") from error


def _standard_output() -> BinaryIO:
    try:
        return os.fdopen(os.dup(1), "wb")
    except OSError as error:
        raise DeviceError(f"standard output: {error.strerror}") from error
