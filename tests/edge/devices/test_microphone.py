"""Microphones: what was said is cut out of what is heard, and one that went away is opened again."""

import io
import subprocess
import sys
import threading
import time
import types
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import edge.devices.microphone
from edge.devices.microphone import Microphone
from edge.devices.voice_activity import BLOCK_SAMPLES, RATE_HZ, Patience, Utterances
from edge.errors import DeviceError

F32 = npt.NDArray[np.float32]


def audio(*parts: tuple[float, float], rate_hz: int = RATE_HZ) -> F32:
    """Return seconds of a voice of some loudness over a soft hiss: words of 0.2 s with short pauses between them."""
    rng = np.random.default_rng(0)
    made = []
    for seconds, level in parts:
        t = np.arange(round(seconds * rate_hz)) / rate_hz
        words = np.sin(2 * np.pi * 220 * t) * level * (t % 0.25 < 0.2)
        made.append(words + rng.normal(0, 0.001, t.size))
    return np.concatenate(made).astype(np.float32)


def decoded(samples: F32, patience: Patience = Patience()) -> list[F32]:  # noqa: B008
    utterances = Utterances(patience)
    blocks = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    found = [said for block in blocks if (said := utterances.add(block)) is not None]
    last = utterances.end()
    return found if last is None else [*found, last]


def wav(samples: F32, rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
    return data.getvalue()


def test_each_utterance_is_cut_out_with_a_little_silence_around_it() -> None:
    found = decoded(audio((1.0, 0), (2.0, 0.3), (1.5, 0), (1.0, 0.1), (1.5, 0)))
    assert [len(said) / RATE_HZ for said in found] == pytest.approx([2.6, 1.6], abs=0.2)
    assert np.abs(found[0]).max() > 0.25


def test_a_short_pause_ends_nothing() -> None:
    assert len(decoded(audio((0.5, 0), (1.0, 0.3), (0.6, 0), (1.0, 0.3), (1.5, 0)))) == 1
    assert len(decoded(audio((0.5, 0), (1.0, 0.3), (0.6, 0), (1.0, 0.3), (1.5, 0)), Patience(silence_s=0.4))) == 2


def test_whoever_speaks_at_once_is_decoded() -> None:
    assert len(decoded(audio((1.0, 0.2), (1.0, 0)))) == 1


def test_a_soft_hiss_and_a_click_are_no_speech() -> None:
    samples = audio((3.0, 0))
    samples[20_000:20_200] = 0.8
    assert decoded(samples) == []


def test_a_fan_is_taken_for_the_room_after_a_while() -> None:
    rng = np.random.default_rng(2)
    fan = audio((10.0, 0)) + rng.normal(0, 0.03, 160_000).astype(np.float32)
    fan[96_000:120_000] += audio((1.5, 0.5))
    found = decoded(fan)
    assert 1.2 < len(found[-1]) / RATE_HZ < 2.3


def test_an_utterance_has_an_end() -> None:
    found = decoded(audio((0.5, 0), (8.0, 0.3)), Patience(longest_s=3.0))
    assert len(found) == 3
    assert all(len(said) / RATE_HZ <= 3.01 for said in found)


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (48_000, 2)])
def test_an_audio_file_stands_in_for_a_microphone(tmp_path: Path, rate_hz: int, channels: int) -> None:
    parts = ((0.5, 0.0), (1.0, 0.3), (1.5, 0.0), (1.0, 0.3), (0.2, 0.0))
    (tmp_path / "a.wav").write_bytes(wav(audio(*parts, rate_hz=rate_hz), rate_hz, channels))
    with Microphone(tmp_path / "a.wav") as microphone:
        said = [microphone.listen(), microphone.listen()]
        lengths_s = [0.0 if one is None else len(one.samples) / one.rate_hz for one in said]
        assert lengths_s == pytest.approx([1.6, 1.5], abs=0.25)
        assert microphone.ended
        assert microphone.listen() is None


@pytest.mark.parametrize("form", ["wav", "endless wav", "samples"])
def test_standard_input_stands_in_for_a_microphone(form: str) -> None:
    samples = audio((0.5, 0), (1.0, 0.3), (1.5, 0))
    data = wav(samples)
    if form == "endless wav":  # as arecord pipes it
        data = data[:4] + b"\xff\xff\xff\xff" + data[8:40] + b"\xff\xff\xff\xff" + data[44:]
    if form == "samples":
        data = data[44:]
    code = (
        "from edge.devices.microphone import Microphone\n"
        "with Microphone('-') as microphone:\n"
        "    said = microphone.listen()\n"
        "    print(round(len(said.samples) / said.rate_hz, 1), microphone.listen())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    seconds, rest = done.stdout.decode().split()
    assert 1.3 <= float(seconds) <= 1.8 and rest == "None"


def test_each_utterance_on_standard_input_is_decoded() -> None:
    data = wav(audio(*3 * ((0.5, 0), (1.0, 0.3), (1.5, 0))))
    done = subprocess.run([sys.executable, "-c", DECODED], input=data, capture_output=True, check=True)
    assert done.stdout.split() == [b"heard"] * 3


def test_a_closed_standard_input_is_no_microphone() -> None:
    code = f"import os; os.close(0)\n{DECODED}"
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.PIPE, capture_output=True, check=False)
    assert done.stderr.endswith(b"edge.errors.DeviceError: standard input: Bad file descriptor\n")


DECODED = (
    "from edge.devices.microphone import Microphone\n"
    "with Microphone('-') as microphone:\n"
    "    while microphone.listen(): print('heard')\n"
)


def test_a_wav_of_another_kind_on_standard_input_is_refused() -> None:
    header = wav(audio((0.1, 0)))
    eight_bits = header[:34] + b"\x08\x00" + header[36:]
    for data, words in ((eight_bits, "got format 1, 8 bits"), (b"RIFF\0\0\0\0WAVE", "expected a WAV with a header")):
        with pytest.raises(DeviceError, match=words):
            list(edge.devices.microphone._stream(io.BytesIO(data)))


def test_a_file_that_is_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    for name, words in ((tmp_path / "a.wav", "expected WAV"), ("nowhere.wav", "No such file")):
        with pytest.raises(DeviceError, match=words):
            Microphone(name).listen()


class FakeStream:
    """A stream that plays a sound in a thread, then falls silent, or delivers nothing more."""

    def __init__(self, callback: Callable[..., None], blocks: Iterator[F32]) -> None:
        self._callback = callback
        self._blocks = blocks
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _play(self) -> None:
        for block in self._blocks:
            if self._closed.wait(0.001):
                return
            self._callback(block[:, None], BLOCK_SAMPLES, None, None)
            block[:] = 0.9  # its memory is used again


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[F32 | Exception]:
    """What the next streams of the sound library play, or fail with."""
    waiting: list[F32 | Exception] = []

    def open_stream(*, callback: Callable[..., None], **how: object) -> FakeStream:
        assert how == {"device": None, "samplerate": 16_000, "channels": 1, "dtype": "float32", "blocksize": 480}
        what = waiting.pop(0)
        if isinstance(what, Exception):
            raise what
        samples = what[: len(what) // BLOCK_SAMPLES * BLOCK_SAMPLES].copy()
        return FakeStream(callback, iter(samples.reshape(-1, BLOCK_SAMPLES)))

    library = types.ModuleType("sounddevice")
    library.InputStream = open_stream  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return waiting


def test_a_microphone_is_listened_to_until_silence(played: list[F32 | Exception]) -> None:
    played.append(audio((0.3, 0), (1.0, 0.3), (9.0, 0)))
    with Microphone() as microphone:
        said = microphone.listen()
    assert said is not None and 1.2 < len(said.samples) / said.rate_hz < 1.8
    assert np.abs(said.samples).max() < 0.5
    assert said.at_s <= time.monotonic()


def test_nobody_speaking_is_no_error(played: list[F32 | Exception]) -> None:
    played.append(audio((60.0, 0)))
    with Microphone() as microphone:
        assert microphone.listen(timeout_s=0.1) is None
        assert not microphone.ended


def test_a_microphone_that_went_away_is_an_error_and_is_opened_again(played: list[F32 | Exception]) -> None:
    played.extend([audio((0.3, 0)), OSError("no device"), audio((0.3, 0), (1.0, 0.3), (9.0, 0))])
    with Microphone(stale_s=0.3) as microphone:
        with pytest.raises(DeviceError, match=r"microphone: no samples for 0\.3 s"):
            microphone.listen()
        with pytest.raises(DeviceError, match="microphone: cannot be opened: no device"):
            microphone.listen()
        assert microphone.listen() is not None


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError, match=r"^a microphone needs sounddevice, .*: pip install '\.\[mic\]'$"):
        Microphone().listen()
