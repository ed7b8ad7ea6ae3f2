"""Sounds: every format becomes mono at 16 kHz, and nothing past its limits is decoded."""

from __future__ import annotations

import builtins
import io
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from edge.errors import MediaError
from edge.limits import AudioLimits
from edge.media.audio import from_samples, open_audio
from edge.media.sandbox import Worker
from tests.edge.media.tones import CONTAINERS, RATE_HZ, SUBTYPES, contained, file, noise, tone

F32 = npt.NDArray[np.float32]

LIMITS = AudioLimits()


def decoded_hz(samples: F32) -> float:
    """The frequency that is loudest."""
    return float(np.abs(np.fft.rfft(samples)).argmax()) * RATE_HZ / len(samples)


def refused(data: bytes, limits: AudioLimits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        open_audio(data, limits)
    return str(caught.value)


def wav_header(*, rate_hz: int = RATE_HZ, n_channels: int = 1, n_bytes: int = 0) -> bytes:
    block = 2 * n_channels
    form = struct.pack("<HHIIHH", 1, n_channels, rate_hz, min(rate_hz * block, 2**32 - 1), block, 16)
    riff = b"RIFF" + struct.pack("<I", 36 + n_bytes) + b"WAVE"
    return riff + b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", n_bytes)


@pytest.mark.parametrize("name", SUBTYPES)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_format_of_libsndfile_becomes_16_khz(name: str, rate_hz: int) -> None:
    samples = open_audio(file(tone(1.2, rate_hz=rate_hz), name, rate_hz=rate_hz), LIMITS)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - 1.2 * RATE_HZ) < 0.1 * RATE_HZ
    assert decoded_hz(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples[2000:-2000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_is_decoded_with_the_extra(name: str) -> None:
    samples = open_audio(contained(tone(1.2, rate_hz=48_000), name), LIMITS)
    assert abs(len(samples) - 1.2 * RATE_HZ) < 0.1 * RATE_HZ
    assert decoded_hz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("name", "called"), [("m4a", "M4A"), ("aac", "AAC"), ("webm", "WebM")])
def test_container_names_the_extra_where_it_is_missing(name: str, called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, load = contained(tone(0.2, rate_hz=48_000), name), builtins.__import__

    def without_av(module: str, *rest: object) -> object:
        if module.partition(".")[0] == "av":
            raise ModuleNotFoundError(module)
        return load(module, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_av)
    message = refused(data)
    assert called in message and "extra `av`" in message


def test_audio_track_of_a_video_is_decoded() -> None:
    samples = open_audio(contained(tone(1, rate_hz=48_000), "mkv", image=True), LIMITS)
    assert decoded_hz(samples) == pytest.approx(440, abs=2)


def test_sixteen_khz_comes_through_untouched() -> None:
    samples = noise(0.7)
    assert np.array_equal(open_audio(file(samples, subtype="FLOAT"), LIMITS), samples)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100])
def test_resampling_in_blocks_is_resampling_at_once(rate_hz: int) -> None:
    samples = noise(5, rate_hz=rate_hz)
    found = open_audio(file(samples, subtype="FLOAT", rate_hz=rate_hz), LIMITS)
    expected = soxr.resample(samples, rate_hz, RATE_HZ)
    assert abs(len(found) - len(expected)) <= 1
    n = min(len(found), len(expected))
    assert np.abs(found[:n] - expected[:n]).max() < 1e-6


def test_channels_are_averaged() -> None:
    left, right = tone(0.3), tone(0.3, hz=1000)
    found = open_audio(file(np.stack([left, right], axis=1), subtype="FLOAT"), LIMITS)
    assert np.abs(found - (left + right) / 2).max() < 1e-6


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_width_of_wav_is_read(subtype: str) -> None:
    assert np.abs(open_audio(file(tone(0.2), subtype=subtype), LIMITS) - tone(0.2)).max() < 0.03


@pytest.mark.parametrize("n_frames", [99, 100, 101])
def test_seconds_at_the_limit(n_frames: int) -> None:
    data = file(np.zeros(n_frames * 160, np.float32))
    limits = AudioLimits(seconds=1)
    if n_frames <= 100:
        assert len(open_audio(data, limits)) == n_frames * 160
    else:
        assert "at most 1 s, got 1.01 s" in refused(data, limits)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_bytes_of_pcm_at_the_limit(extra: int) -> None:
    data = file(np.zeros((1000 + extra, 2), np.float32))
    limits = AudioLimits(pcm_bytes=4000)
    if extra <= 0:
        assert len(open_audio(data, limits)) == 1000 + extra
    else:
        assert "at most 4000 bytes of PCM, got 4004" in refused(data, limits)


@pytest.mark.parametrize("n_channels", [7, 8, 9])
def test_channels_at_the_limit(n_channels: int) -> None:
    data = file(np.zeros((160, n_channels), np.float32))
    if n_channels <= 8:
        assert len(open_audio(data, LIMITS)) == 160
    else:
        assert "1 to 8 channels, got 9" in refused(data)


def of_container(n_frames: int, limits: AudioLimits) -> F32:
    return open_audio(contained(np.zeros(n_frames, np.float32), "mkv"), limits)


def of_samples(n_frames: int, limits: AudioLimits) -> F32:
    return from_samples(np.zeros(n_frames, np.float32), 48_000, limits)


@pytest.mark.parametrize("take", [of_container, of_samples])
def test_audio_of_other_ways_at_their_limits(take: Callable[[int, AudioLimits], F32]) -> None:
    for limits, words in (
        (AudioLimits(seconds=1), "at most 1 s, got 1.00002083 s or more"),
        (AudioLimits(pcm_bytes=96_000), "at most 96000 bytes of PCM, got 96002 or more"),
    ):
        for n_frames in (47_999, 48_000):
            assert len(take(n_frames, limits)) == 16_000
        with pytest.raises(MediaError, match=words):
            take(48_001, limits)


@pytest.mark.parametrize("n_channels", [7, 8, 9])
def test_channels_of_samples_at_the_limit(n_channels: int) -> None:
    samples = np.zeros((160, n_channels), np.float32)
    if n_channels <= 8:
        assert len(from_samples(samples, RATE_HZ, LIMITS)) == 160
    else:
        with pytest.raises(MediaError, match="1 to 8 channels, got 9"):
            from_samples(samples, RATE_HZ, LIMITS)


def test_default_limits_are_the_documented_ones() -> None:
    assert AudioLimits() == AudioLimits(seconds=600, pcm_bytes=64 << 20, channels=8)


@pytest.mark.parametrize("name", ["flac", "opus", "mp3"])
def test_small_file_of_a_long_audio_is_refused(name: str) -> None:
    data = file(np.zeros(20 * RATE_HZ, np.float32), name)
    assert "at most 5 s" in refused(data, AudioLimits(seconds=5))
    assert "bytes of PCM" in refused(data, AudioLimits(pcm_bytes=1 << 16))


def test_long_container_is_counted_while_it_is_decoded() -> None:
    data = contained(np.zeros(8 * 48_000, np.float32), "webm")
    assert "at most 3 s" in refused(data, AudioLimits(seconds=3))


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**32 - 1])
def test_rate_nobody_records_at_is_refused(rate_hz: int) -> None:
    message = refused(wav_header(rate_hz=rate_hz, n_bytes=32_000) + bytes(32_000))
    assert "samples per second" in message or "damaged" in message


def test_header_that_promises_more_than_there_is_gives_what_there_is() -> None:
    data = wav_header(n_bytes=2**32 - 100) + bytes(3200)
    assert len(open_audio(data, LIMITS)) == 1600


def test_flac_that_does_not_know_its_length_is_decoded() -> None:
    data = bytearray(file(tone(2), "flac"))
    data[21] &= 0xF0  # the 36 bits of samples, as an encoder leaves them that writes into a pipe
    data[22:26] = bytes(4)
    assert np.array_equal(open_audio(bytes(data), LIMITS), open_audio(file(tone(2), "flac"), LIMITS))
    assert "at most 1 s" in refused(bytes(data), AudioLimits(seconds=1))


@pytest.mark.parametrize("samples", [[np.nan] * 50, [np.inf] * 50])
def test_samples_that_are_not_finite_are_refused(samples: list[float]) -> None:
    assert "finite" in refused(file(np.array(samples, np.float32), subtype="FLOAT"))


PNG_HEAD = b"\x89PNG\r\n\x1a\n" + bytes(50)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"hello, this is text", PNG_HEAD, b"FORM" + bytes(60)])
def test_something_else_is_told_what_is_taken(data: bytes) -> None:
    assert "expected WAV, FLAC, OGG" in refused(data)


def test_format_that_is_not_listed_is_refused_behind_a_listed_head() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.1), RATE_HZ, format="AIFF", subtype="PCM_16")
    refused(b"ID3\x03\0\0\0\0\0\0" + buffer.getvalue())


def test_audio_without_samples_is_refused() -> None:
    assert "at least one sample" in refused(file(np.zeros(0, np.float32)))


def test_audio_too_short_for_a_sample_is_refused() -> None:
    assert "at least one sample" in refused(file(np.ones(1, np.float32), rate_hz=48_000))


@pytest.mark.parametrize("name", ["mp3", "aac"])
def test_tag_before_audio_is_passed_over(name: str) -> None:
    data = file(tone(1), name) if name == "mp3" else contained(tone(1, rate_hz=48_000), name)
    tag = b"ID3\x04\0\0" + bytes([0, 0, 3, 5]) + bytes(3 * 128 + 5)
    assert np.array_equal(open_audio(tag + data, AudioLimits()), open_audio(data, AudioLimits()))


def told(data: bytes) -> str:
    """What is said of data that may be damaged, nothing if it is a sound."""
    try:
        assert np.isfinite(open_audio(data, LIMITS)).all()
    except MediaError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SUBTYPES)
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9])
def test_file_that_is_cut_off_is_an_error_or_what_is_left(name: str, kept: float) -> None:
    data = file(tone(1), name)
    message = told(data[: int(len(data) * kept)])
    assert not message or message.startswith("audio: ")


def test_file_with_flipped_bytes_is_an_error_or_audio() -> None:
    random = np.random.default_rng(0)
    for name in SUBTYPES:
        data = np.frombuffer(file(tone(0.2), name), np.uint8)
        for _ in range(10):
            spoiled = data.copy()
            spoiled[random.integers(0, len(data), 8)] = random.integers(0, 256, 8)
            assert "/" not in told(spoiled.tobytes())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_samples_in_memory_are_taken(dtype: type) -> None:
    scale = 32767 if dtype is np.int16 else 1
    found = from_samples((tone(0.4, rate_hz=8_000) * scale).astype(dtype), 8_000, LIMITS)
    assert abs(len(found) - 0.4 * RATE_HZ) <= 1
    assert np.abs(found).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "words"),
    [
        ([0.0, 0.1], 16_000, "got list"),
        (np.zeros((2, 2, 2), np.float32), 16_000, "shape (2, 2, 2)"),
        (np.zeros(100, np.int32), 16_000, "of int32"),
        (np.zeros(100, np.float32), 16_000.5, "whole number"),
        (np.zeros(100, np.float32), 10, "samples per second"),
        (np.zeros((100, 9), np.float32), 16_000, "8 channels"),
        (np.zeros(0, np.float32), 16_000, "at least one sample"),
    ],
)
def test_samples_that_are_none_are_refused(samples: object, rate_hz: object, words: str) -> None:
    with pytest.raises(MediaError) as caught:
        from_samples(samples, rate_hz, LIMITS)
    assert words in str(caught.value)


def test_worker_decodes_what_this_process_decodes() -> None:
    options = {"seconds": 600, "pcm_bytes": 64 << 20, "channels": 8}
    worker = Worker()
    try:
        for data in (file(tone(0.5), "opus"), contained(tone(0.5, rate_hz=48_000), "m4a")):
            (found,) = worker.decode("audio", data, options).arrays
            assert np.array_equal(found, open_audio(data, LIMITS))
        with pytest.raises(MediaError, match="audio: "):
            worker.decode("audio", b"fLaC" + bytes(100), options)
    finally:
        worker.close()
