"""A microphone, listened to until whoever speaks falls silent; an audio file or standard input may stand in for it."""

import logging
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self, cast

import numpy as np
import soxr

from edge.arrays import F32
from edge.devices.learned_voice import Vad, detector
from edge.devices.portaudio import OPENING, forget, keep, sounddevice
from edge.devices.voice_activity import BLOCK_S, BLOCK_SAMPLES, RATE_HZ, Patience, Utterances
from edge.errors import DeviceError, MediaError, MemoryExhausted
from edge.limits import AudioLimits
from edge.media.audio import HIGHEST_HZ, LOWEST_HZ, open_audio

_LOG = logging.getLogger("edge")
_HELD_S = 2.0  # of audio that waits to be read; older audio is dropped
_MAX_HEADER_BYTES, _MAX_CHUNKS = 1 << 16, 64
_PCM, _EXTENSIBLE = 1, 0xFFFE


@dataclass(frozen=True, eq=False)
class Utterance:
    """What somebody said. samples: (n,) float32, mono; at_s: time.monotonic() when it ended."""

    samples: F32
    rate_hz: int
    at_s: float


class _Stream(Protocol):
    """A stream of sounddevice."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class _Library(Protocol):
    """What is used of sounddevice, which has no types of its own."""

    def InputStream(  # noqa: N802
        self,
        *,
        device: int | str | None,
        samplerate: int,
        channels: int,
        dtype: str,
        blocksize: int,
        callback: Callable[[F32, int, object, object], None],
    ) -> _Stream: ...


class Ear(Protocol):
    """An open source of audio."""

    def blocks(self) -> Iterator[F32]:
        """Yield blocks (480,) of what comes from now on, to the end. Raises: DeviceError."""

    def close(self) -> None:
        """Give the source back."""


class Microphone:
    """A microphone, or what stands in for one; a context manager.

    source: None for the system's own, the number or a part of the name of another (by sounddevice, the extra `mic`);
    the path of an audio file, or "-" for standard input: WAV, or plain 16-bit samples at 16 kHz, mono.
    silence_s: how long a silence ends an utterance; longest_s: of one utterance; stale_s: a microphone that delivers
    nothing for so long is lost; all in seconds. vad: what tells speech: "loudness", "silero" (the extra `vad`), or
    "auto", Silero's detector where it is installed. It is opened by the first `listen`, and again by the next one
    after it was lost.

        with Microphone() as microphone:
            utterance = microphone.listen(timeout_s=30)
    """

    def __init__(
        self,
        source: int | str | Path | None = None,
        *,
        silence_s: float = Patience.silence_s,
        longest_s: float = Patience.longest_s,
        stale_s: float = 2.0,
        vad: Vad = "loudness",
    ) -> None:
        self.name = "microphone" if source is None else f"microphone {source}"[:200]
        self._source = source
        self._stale_s = stale_s
        self._patience = Patience(silence_s, longest_s)
        self._vad = vad
        self._ear: Ear | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"Microphone({self.name!r}, stale_s={self._stale_s:g})"

    @property
    def ended(self) -> bool:
        """Whether the file or standard input came to its end."""
        return self._ended

    def listen(self, *, timeout_s: float | None = None) -> Utterance | None:
        """Wait until somebody has spoken and fallen silent; None when nobody began within timeout_s, or at the end.

        Raises: DeviceError for a microphone that is not there or was lost.
        """
        deadline_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        if self._ended:
            return None
        utterances = Utterances(self._patience, detector(self._vad))
        try:
            if self._ear is None:
                self._ear = open_ear(self._source, stale_s=self._stale_s)
            for block in self._ear.blocks():
                said = utterances.add(block)
                if said is not None:
                    return Utterance(said, RATE_HZ, time.monotonic())
                if not utterances.speaking and time.monotonic() > deadline_s:
                    return None
        except DeviceError:
            self.close()
            raise
        self._ended = True
        said = utterances.end()
        return None if said is None else Utterance(said, RATE_HZ, time.monotonic())

    def close(self) -> None:
        """Give the microphone back. Closing twice is fine."""
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_ear(source: int | str | Path | None, *, stale_s: float) -> Ear:
    """Open what a microphone's name stands for. Raises: DeviceError."""
    if str(source) == "-":
        return _AudioSource("standard input", _stream(_standard_input()))
    name, path = str(source), Path(str(source))
    if source is None or name.isdecimal():
        return _Device(None if source is None else int(name), stale_s)
    if not (path.suffix or path.exists()):
        return _Device(name, stale_s)
    try:
        samples = open_audio(path.read_bytes(), AudioLimits())
    except OSError as error:
        raise DeviceError(f"microphone {str(path)!r:.200}: {error.strerror}") from error
    except (MediaError, MemoryExhausted) as error:
        raise DeviceError(f"microphone {str(path)!r:.200}: {error}") from error
    whole = len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES
    return _AudioSource(str(path), iter(samples[:whole].reshape(-1, BLOCK_SAMPLES)))


def _standard_input() -> BinaryIO:
    try:
        return os.fdopen(os.dup(0), "rb")
    except OSError as error:
        raise DeviceError(f"standard input: {error.strerror}") from error


class _AudioSource:
    """Audio that comes by itself, as fast as it is listened to."""

    def __init__(self, name: str, coming: Iterator[F32]) -> None:
        self._name = name
        self._coming = coming

    def blocks(self) -> Iterator[F32]:
        return self._coming  # itself: a generator around it would end it when it is left after an utterance

    def close(self) -> None:
        """Nothing is held."""


class _Device:
    """A device of the system: its own thread puts blocks in, those that nobody takes fall out."""

    def __init__(self, device: int | str | None, stale_s: float) -> None:
        self._name = "microphone" if device is None else f"microphone {device}"
        self._stale_s = stale_s
        self._changed = threading.Condition()
        self._held: deque[F32] = deque(maxlen=round(_HELD_S / BLOCK_S))
        with OPENING:
            library = cast(_Library, sounddevice(need="a microphone"))
            try:
                self._stream = library.InputStream(
                    device=device, samplerate=RATE_HZ, channels=1, dtype="float32", blocksize=BLOCK_SAMPLES,
                    callback=self._put,
                )  # fmt: skip
                self._stream.start()
                keep(self._stream)
            except Exception as error:  # PortAudioError for a device that fails, ValueError for a name that none has
                raise DeviceError(f"{self._name}: cannot be opened: {error}") from error

    def blocks(self) -> Iterator[F32]:
        with self._changed:
            self._held.clear()
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._held, self._stale_s):
                    raise DeviceError(f"{self._name}: no samples for {self._stale_s:g} s")
                block = self._held.popleft()
            yield block

    def close(self) -> None:
        try:
            self._stream.close()
        except Exception:  # a device that is gone cannot be closed either
            _LOG.debug("%s: not closed", self._name, exc_info=True)
        finally:
            forget(self._stream)

    def _put(self, data: F32, n_frames: int, times: object, status: object) -> None:
        """Take a block from the library's thread. data: (480, 1), its memory used again."""
        with self._changed:
            self._held.append(data[:, 0].copy())
            self._changed.notify_all()


def _stream(stream: BinaryIO) -> Iterator[F32]:
    """Yield the blocks of a stream, a WAV or plain 16-bit samples at 16 kHz, mono. Raises: DeviceError."""
    with stream:
        head = stream.read(12)
        rate_hz, n_channels = RATE_HZ, 1
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            rate_hz, n_channels = _wav_form(stream)
            head = b""
        resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32") if rate_hz != RATE_HZ else None
        n_bytes = 2 * n_channels * max(1, round(rate_hz * BLOCK_S))
        held: F32 = np.zeros(0, np.float32)
        while data := head + stream.read(n_bytes - len(head)):
            head = b""
            wide = np.frombuffer(data[: len(data) // (2 * n_channels) * 2 * n_channels], "<i2").reshape(-1, n_channels)
            mono = wide.mean(axis=1, dtype=np.float32) / np.float32(32768)
            held = np.concatenate([held, mono if resampler is None else resampler.resample_chunk(mono)])
            while len(held) >= BLOCK_SAMPLES:
                yield held[:BLOCK_SAMPLES]
                held = held[BLOCK_SAMPLES:]


def _wav_form(stream: BinaryIO) -> tuple[int, int]:
    """Read a WAV's header up to its samples: rate in Hz, channels. Its lengths say nothing: it is being made."""
    rate_hz = n_channels = 0
    for _ in range(_MAX_CHUNKS):
        kind, size = struct.unpack("<4sI", stream.read(8).ljust(8, b"\0"))
        if kind == b"data" and rate_hz:
            return rate_hz, n_channels
        chunk = stream.read(min(size + size % 2, _MAX_HEADER_BYTES))
        if kind == b"fmt " and len(chunk) >= 16:
            form, n_channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
            is_taken = form in (_PCM, _EXTENSIBLE) and bits == 16 and 1 <= n_channels <= 8
            if not (is_taken and LOWEST_HZ <= rate_hz <= HIGHEST_HZ):
                shown = f"format {form}, {bits} bits, {n_channels} channels, {rate_hz} Hz"
                raise DeviceError(f"standard input: expected a WAV of 16-bit samples, got {shown}")
    raise DeviceError("standard input: expected a WAV with a header in front of its samples")
