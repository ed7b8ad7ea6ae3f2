"""The microphone's audio without an end: opened again when it was lost, silence after the end of a file."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.arrays import F32
from edge.devices.microphone import Ear, open_ear
from edge.devices.portaudio import sounddevice
from edge.devices.voice_activity import BLOCK_S, BLOCK_SAMPLES
from edge.errors import DeviceError

Source = int | str | Path | Ear | None

_STALE_S = 2.0
_RETRY_S, _LONGEST_RETRY_S = 1.0, 10.0


class Blocks:
    """Blocks of 30 ms from a microphone or what stands in for one.

    source: as for `edge.Microphone`, or an open `Ear`. paced: a file is read in its own time, not as fast as it is
    listened to; standard input comes in its own, and so does the silence behind it. stopping: ends it. Raises:
    DeviceError for a device without the library for it.
    """

    def __init__(self, source: Source, *, paced: bool, stopping: threading.Event) -> None:
        self.lost: str | None = None
        self.ended = False
        self._source = source
        self._paced = paced
        self._is_stream = str(source) == "-"
        self._stopping = stopping
        self._is_device = is_device(source)
        if self._is_device:
            sounddevice(need="a microphone")

    def __iter__(self) -> Iterator[F32 | None]:
        """Yield block after block, None while there is no microphone. Raises: DeviceError for a file."""
        silence: F32 = np.zeros(BLOCK_SAMPLES, np.float32)
        due_s = time.monotonic()
        for block in self._coming():
            if self._paced or (self.ended and self._is_stream):  # nobody paces a stream that has ended
                due_s = max(due_s + BLOCK_S, time.monotonic() - 1.0)
                self._stopping.wait(max(0.0, due_s - time.monotonic()))
            if self._stopping.is_set():
                return
            yield silence if self.ended else block

    def _coming(self) -> Iterator[F32 | None]:
        retry_s = _RETRY_S
        while not self.ended:
            ear: Ear | None = None
            try:
                ear = self._opened()
                for block in ear.blocks():
                    self.lost, retry_s = None, _RETRY_S
                    yield block
                self.ended = True
            except DeviceError as error:
                if not self._is_device:
                    raise
                self.lost = str(error)
            finally:
                if ear is not None:
                    ear.close()
            if not self.ended:
                yield from self._pause(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
        while True:
            yield None

    def _opened(self) -> Ear:
        if self._source is None or isinstance(self._source, int | str | Path):
            return open_ear(self._source, stale_s=_STALE_S)
        return self._source

    def _pause(self, seconds: float) -> Iterator[None]:
        """Wait before the next try, in steps between which other things happen."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not self._stopping.wait(BLOCK_S):
            yield None


def is_device(source: Source) -> bool:
    """Return whether a microphone's name is that of a device: no file, standard input or open source."""
    if source is None or isinstance(source, int):
        return True
    if not isinstance(source, str | Path) or str(source) == "-":
        return False
    return str(source).isdecimal() or not (Path(source).suffix or Path(source).exists())
