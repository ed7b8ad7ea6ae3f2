"""Speech as a file: WAV, FLAC, Ogg with Opus, or MP3, written as the samples come."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Self

import numpy as np

from edge.arrays import F32
from edge.errors import ParameterError, shown

# libsndfile's container and coding by format.
CODINGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "wav": ("WAV", "PCM_16"),
        "flac": ("FLAC", "PCM_16"),
        "opus": ("OGG", "OPUS"),
        "mp3": ("MP3", "MPEG_LAYER_III"),
    }
)
FORMATS = tuple(CODINGS)
_BY_SUFFIX: Mapping[str, str] = MappingProxyType(
    {".wav": "wav", ".flac": "flac", ".ogg": "opus", ".opus": "opus", ".mp3": "mp3"}
)
SUFFIXES = tuple(_BY_SUFFIX)
_UNKNOWN = 0xFFFFFFFF
_CONSTANT = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}  # 80 kbit/s at 22 to 24 kHz
_OPUS_HZ = (8000, 12000, 16000, 24000, 48000)


class AudioFile:
    """A file of mono audio that is being written; a context manager.

    target: a path, whose suffix decides the format, or a binary stream that can seek. rate_hz: of the samples, which
    are resampled where the format needs it. is_stream: MP3 has a constant rate of bits, by which players tell the
    length of what has no header with it. Raises: ParameterError for a format that is not supported, OSError.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        rate_hz: int,
        *,
        format: str | None = None,  # noqa: A002
        is_stream: bool = False,
    ) -> None:
        import soundfile
        import soxr

        container, coding = CODINGS[format or format_of(target if isinstance(target, Path) else Path("x.wav"))]
        file_hz = next((hz for hz in _OPUS_HZ if hz >= rate_hz), _OPUS_HZ[-1]) if coding == "OPUS" else rate_hz
        self._resampler = None if file_hz == rate_hz else soxr.ResampleStream(rate_hz, file_hz, 1, dtype="float32")
        self._held = open(target, "wb") if isinstance(target, Path) else None  # noqa: SIM115, PTH123
        stream = self._held or target
        constant = _CONSTANT if is_stream and container == "MP3" else {}
        self._file = soundfile.SoundFile(stream, "w", file_hz, 1, coding, format=container, **constant)

    def write(self, samples: F32) -> None:
        """Write samples (n,), -1 to 1."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        self._file.write(np.clip(samples, -1, 1))

    def close(self) -> None:
        """Complete the file. Closing twice is fine."""
        if self._file.closed:
            return
        if self._resampler is not None:
            self._file.write(np.clip(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True), -1, 1))
        self._file.close()
        if self._held is not None:
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def format_of(path: Path) -> str:
    """Return the format that a file's suffix means. Raises: ParameterError for one that is not supported."""
    found = _BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        raise ParameterError(f"{shown(str(path))}: expected a file ending in {', '.join(_BY_SUFFIX)}", field="out")
    return found


def encoded(samples: F32, rate_hz: int, format: str) -> bytes:  # noqa: A002
    """Return samples as the bytes of a file; format: one of FORMATS."""
    data = io.BytesIO()
    with AudioFile(data, rate_hz, format=format) as file:
        file.write(samples)
    return data.getvalue()


class StreamedWav:
    """A WAV of 16 bits in a stream that cannot seek: its sizes are the largest, and players read to the end.

    stream: is closed with it.
    """

    def __init__(self, stream: BinaryIO, rate_hz: int) -> None:
        self._stream = stream
        self._stream.write(wav_header(rate_hz))

    def write(self, samples: F32) -> None:
        """Write samples (n,), -1 to 1."""
        self._stream.write(pcm16(samples))
        self._stream.flush()

    def close(self) -> None:
        """End the stream."""
        self._stream.close()


def wav_header(rate_hz: int) -> bytes:
    """Return the header of a mono WAV of 16 bits whose length nobody knows yet."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", _UNKNOWN)


def pcm16(samples: F32) -> bytes:
    """Return samples (n,), -1 to 1, as 16 bits, little-endian."""
    return np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes()
