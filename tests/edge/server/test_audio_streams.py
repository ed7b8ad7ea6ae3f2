"""Audio that grows is a file that players read: the samples that went in, in every format."""

import io
import struct
import wave

import av
import numpy as np
import pytest
import soundfile

from edge.arrays import F32
from edge.server.audio_streams import PCM_HZ, TYPES, encoder_of, writable

GROWING = [name for name in TYPES if name != "flac"]  # whose header says its length, which libsndfile insists on
RATES = (16_000, 22_050, 24_000, 44_100)


def tone(seconds: float, rate_hz: int) -> F32:
    return (0.3 * np.sin(np.arange(round(seconds * rate_hz)) * (2 * np.pi * 440 / rate_hz))).astype(np.float32)


def streamed(name: str, rate_hz: int, seconds: float = 3.0, n_parts: int = 7) -> list[bytes]:
    encoder = encoder_of(name)(rate_hz)
    parts = [encoder.add(part) for part in np.array_split(tone(seconds, rate_hz), n_parts)]
    return [*parts, encoder.end()]


def decoded(name: str, data: bytes, rate_hz: int) -> tuple[F32, int]:
    if name == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, PCM_HZ
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples, rate


def pitch(samples: F32, rate_hz: int) -> float:
    """Return the frequency of a tone, in Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate_hz / len(samples))


def test_this_libsndfile_writes_every_format() -> None:
    assert writable() == tuple(TYPES)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("name", list(TYPES))
def test_a_stream_is_a_file_of_its_samples(name: str, rate_hz: int) -> None:
    samples, rate = decoded(name, b"".join(streamed(name, rate_hz)), rate_hz)
    assert 0 <= len(samples) / rate - 3.0 < 0.15  # MP3 has some more at its ends
    assert abs(pitch(samples, rate) - 440) < 1
    assert 0.25 < np.abs(samples[rate // 2 : -rate // 2]).max() < 0.35


@pytest.mark.parametrize("name", GROWING)
def test_audio_leaves_before_the_end(name: str) -> None:
    parts = streamed(name, 24_000, 14.0)
    assert all(parts[1:7])
    before_the_end = sum(map(len, parts[:-1]))
    assert before_the_end > 0.8 * sum(map(len, parts))


@pytest.mark.parametrize("name", GROWING)
def test_what_is_not_complete_can_be_played_as_far_as_it_came(name: str) -> None:
    parts = streamed(name, 24_000, 14.0)
    samples, rate = decoded(name, b"".join(parts[:4]), 24_000)
    assert 5.5 < len(samples) / rate < 8.5 and abs(pitch(samples, rate) - 440) < 1


def test_plain_samples_are_16_bits_little_endian_at_24_khz() -> None:
    encoder = encoder_of("pcm")(24_000)
    assert encoder.add(np.array([0, 1, -1, 0.5, 2], np.float32)) == struct.pack("<5h", 0, 32767, -32767, 16384, 32767)
    assert encoder.end() == b""


def test_python_reads_a_wav_whose_length_nobody_knew() -> None:
    data = b"".join(streamed("wav", 22_050))
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
        assert len(file.readframes(10_000_000)) == 2 * 3 * 22_050


class Pipe(io.RawIOBase):
    """What cannot seek, as a body over HTTP."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: object) -> int:
        return self._data.readinto(buffer)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mp3", "opus", "flac", "wav"])
def test_ffmpeg_reads_it_as_it_comes(name: str) -> None:
    with av.open(Pipe(b"".join(streamed(name, 24_000)))) as container:
        rate = container.streams.audio[0].rate
        n_samples = sum(frame.samples for frame in container.decode(audio=0))
    assert abs(n_samples / rate - 3.0) < 0.15


def test_no_samples_are_an_empty_stream_of_any_format() -> None:
    for name in TYPES:
        encoder = encoder_of(name)(24_000)
        assert isinstance(encoder.add(np.zeros(0, np.float32)) + encoder.end(), bytes)
