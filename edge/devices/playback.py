"""A loudspeaker by sounddevice, the library of the extra `mic`: its thread takes what is due, and silence otherwise."""

import logging
import threading
import time
from collections import deque
from types import ModuleType
from typing import Protocol

from edge.arrays import F32
from edge.devices.portaudio import OPENING, forget, keep, sounddevice
from edge.errors import DeviceError

_LOG = logging.getLogger("edge")
_LATENCY_S = 0.06  # of the device
_HELD_S = 0.06  # that waits for the device
_POLL_S = 0.01
_TAIL_S = 0.05  # what some devices hold beyond the latency that they tell
_STALE_S = 2.0  # a device that takes nothing for so long is lost


class _Stream(Protocol):
    """A stream of sounddevice."""

    latency: float

    def start(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Playback:
    """An output stream; opened with the first block, and again for another rate."""

    def __init__(self, device: int | str | None) -> None:
        self._device = device
        self._name = "loudspeaker" if device is None else f"loudspeaker {device}"[:200]
        self._changed = threading.Condition()
        self._held: deque[F32] = deque()
        self._n_held = 0
        self._rate_hz = self._device_hz = 0
        self._stream: _Stream | None = None
        self._latency_s = _LATENCY_S

    @staticmethod
    def is_installed() -> bool:
        """Return whether the library can be used: it needs the system's PortAudio as well."""
        try:
            sounddevice(need="a loudspeaker")
        except DeviceError:
            return False
        return True

    def begin(self, rate_hz: int) -> int:
        """As `AudioSink.begin`: a stream of another rate is opened once the one before has played."""
        if self._stream is None or rate_hz != self._rate_hz:
            if self._stream is not None:
                self.drain(threading.Event())
            self.close()
            self._open(rate_hz)
        return self._device_hz

    def write(self, block: F32) -> None:
        """As `AudioSink.write`."""
        with self._changed:
            most = round(self._device_hz * _HELD_S)
            if not self._changed.wait_for(lambda: self._n_held < most, _STALE_S):
                raise DeviceError(f"{self._name}: takes no samples for {_STALE_S:g} s")
            self._held.append(block)
            self._n_held += len(block)

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """As `AudioSink.wait`: its own thread puts silence in."""
        stopped.wait(seconds)

    def drain(self, stopped: threading.Event) -> bool:
        """As `AudioSink.drain`."""
        give_up_s = time.monotonic() + _HELD_S + _STALE_S
        while self._n_held and not stopped.wait(_POLL_S):
            if time.monotonic() > give_up_s:
                raise DeviceError(f"{self._name}: takes no samples for {_STALE_S:g} s")
        return not stopped.wait(self._latency_s + _TAIL_S if self._stream is not None else 0)

    def silence(self) -> None:
        """Drop everything, what the device holds too: the stream is aborted."""
        self.close()

    def close(self) -> None:
        """Give the device back."""
        stream, self._stream = self._stream, None
        with self._changed:
            self._held.clear()
            self._n_held = 0
        if stream is not None:
            try:
                stream.abort()
                stream.close()
            except Exception:  # a device that is gone cannot be closed either
                _LOG.debug("%s: not closed", self._name, exc_info=True)
            finally:
                forget(stream)

    def _open(self, rate_hz: int) -> None:
        """Open the device at the samples' rate, else at its own. Raises: DeviceError."""
        with OPENING:
            library = sounddevice(need="a loudspeaker")
            try:
                self._start_at(library, rate_hz)
            except Exception as error:  # PortAudioError for a device that fails, ValueError for a name that none has
                raise DeviceError(f"{self._name}: cannot be opened: {error}") from error
        self._rate_hz = rate_hz

    def _start_at(self, library: ModuleType, rate_hz: int) -> None:
        try:
            self._start(library, rate_hz)
        except library.PortAudioError:
            own_hz = round(library.query_devices(self._device, "output")["default_samplerate"])
            if own_hz == rate_hz:
                raise
            self._start(library, own_hz)

    def _start(self, library: ModuleType, rate_hz: int) -> None:
        stream: _Stream = library.OutputStream(
            device=self._device, samplerate=rate_hz, channels=1, dtype="float32", latency=_LATENCY_S,
            callback=self._take,
        )  # fmt: skip
        self._device_hz = rate_hz
        stream.start()
        keep(stream)
        self._stream = stream
        self._latency_s = stream.latency

    def _take(self, out: F32, n_frames: int, times: object, status: object) -> None:
        """Give the library's thread what is due. out: (n_frames, 1)."""
        n = 0
        with self._changed:
            while n < n_frames and self._held:
                block = self._held.popleft()
                part = block[: n_frames - n]
                out[n : n + len(part), 0] = part
                n += len(part)
                if len(part) < len(block):
                    self._held.appendleft(block[len(part) :])
            self._n_held -= n
            self._changed.notify_all()
        out[n:] = 0
