"""Audio as bytes that are sent while it is made: WAV, PCM, Ogg with Opus, MP3; and FLAC, at its end."""

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import BinaryIO, cast

import numpy as np

from edge.arrays import F32
from edge.chat.synthesis import Encoder
from edge.speech.audio_file import CODINGS, AudioFile, pcm16, wav_header

PCM_HZ = 24_000  # of `pcm`, which has no header to say another

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
)


class _Growing(io.RawIOBase):
    """A file that only grows, as a stream does: what MP3's encoder writes back at its end, the length, is left out."""

    def __init__(self) -> None:
        super().__init__()
        self._new = bytearray()
        self._end = 0
        self._at = 0

    def take(self) -> bytes:
        """Return what was added since."""
        data = bytes(self._new)
        self._new.clear()
        return data

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = base + offset
        return self._at

    def write(self, data: object) -> int:
        view = memoryview(cast(bytes, data)).cast("B")
        n_known = max(0, self._end - self._at)
        self._new += view[n_known:]
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)


class _Coded:
    """Opus or MP3, by libsndfile."""

    def __init__(self, name: str, rate_hz: int) -> None:
        self._stream = _Growing()
        self._file = AudioFile(cast(BinaryIO, self._stream), rate_hz, format=name, is_stream=True)

    def add(self, samples: F32) -> bytes:
        self._file.write(samples)
        return self._stream.take()

    def end(self) -> bytes:
        self._file.close()
        return self._stream.take()


class _Flac:
    """FLAC, at once at its end: readers such as libsndfile refuse one whose header does not say its length."""

    def __init__(self, rate_hz: int) -> None:
        self._data = io.BytesIO()
        self._file = AudioFile(self._data, rate_hz, format="flac")

    def add(self, samples: F32) -> bytes:
        self._file.write(samples)
        return b""

    def end(self) -> bytes:
        self._file.close()
        return self._data.getvalue()


class _Wav:
    """WAV of 16 bits, at the voice's rate; its header says that nobody knows its length."""

    def __init__(self, rate_hz: int) -> None:
        self._head = wav_header(rate_hz)

    def add(self, samples: F32) -> bytes:
        head, self._head = self._head, b""
        return head + pcm16(samples)

    def end(self) -> bytes:
        return self._head


class _Pcm:
    """16 bits, little-endian, 24 kHz, without a header."""

    def __init__(self, rate_hz: int) -> None:
        import soxr

        self._resampler = None if rate_hz == PCM_HZ else soxr.ResampleStream(rate_hz, PCM_HZ, 1, dtype="float32")

    def add(self, samples: F32) -> bytes:
        return pcm16(samples if self._resampler is None else self._resampler.resample_chunk(samples))

    def end(self) -> bytes:
        if self._resampler is None:
            return b""
        return pcm16(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def encoder_of(name: str) -> Callable[[int], Encoder]:
    """Return what makes the encoder of a format, by the rate of its samples in Hz. name: one of TYPES."""
    own: Mapping[str, Callable[[int], Encoder]] = {"flac": _Flac, "wav": _Wav, "pcm": _Pcm}
    return own[name] if name in own else lambda rate_hz: _Coded(name, rate_hz)


def writable() -> tuple[str, ...]:
    """Return the formats that this device's libsndfile writes, of TYPES: MP3 and Opus came later than others."""
    import soundfile

    def is_written(name: str) -> bool:
        container, coding = CODINGS.get(name, CODINGS["wav"])
        return coding in soundfile.available_subtypes(container)

    return tuple(name for name in TYPES if is_written(name))
