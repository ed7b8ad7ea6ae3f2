"""Log-mel frames: equal to those of transformers' feature extractor."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from transformers import WhisperFeatureExtractor

from edge.media.mel import log_mel, mel_filters

F32 = npt.NDArray[np.float32]

RATE = 16_000


@cache
def reference(n_mels: int) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=n_mels)


def expected(samples: F32, n_mels: int) -> F32:
    found = reference(n_mels)(samples, sampling_rate=RATE, truncation=False, padding="longest", return_tensors="np")
    frames: F32 = found["input_features"][0]
    return frames


def audio(name: str, seconds: float) -> F32:
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(t))
    made = {
        "noise": 0.1 * noise,
        "loud": 3 * noise,
        "tone": 0.5 * np.sin(2 * np.pi * 440 * t),
        "sweep": 0.3 * np.sin(2 * np.pi * (100 + 600 * t) * t),
        "faint": 1e-5 * noise,
        "silence": 0 * t,
        "click": np.eye(1, len(t), len(t) // 2)[0],
        "steps": 0.2 * noise * (np.floor(4 * t) % 2),
    }[name]
    return made.astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", ["noise", "loud", "tone", "sweep", "faint", "silence", "click", "steps"])
def test_frames_are_those_of_the_feature_extractor(name: str, n_mels: int) -> None:
    samples = audio(name, 3.3)
    assert np.abs(log_mel(samples, n_mels=n_mels) - expected(samples, n_mels)).max() < 1e-4


@pytest.mark.parametrize("n_samples", [201, 400, 16_000, 16_001, 16_159, 81_920 + 7])
def test_every_length_has_a_frame_for_each_ten_milliseconds(n_samples: int) -> None:
    samples = audio("noise", 6)[:n_samples]
    frames = log_mel(samples, n_mels=80)
    assert frames.shape == (80, n_samples // 160)
    assert np.abs(frames - expected(samples, 80)).max() < 1e-4


def test_window_filled_with_silence_is_the_extractors_default() -> None:
    samples = audio("sweep", 5)
    padded = np.pad(samples, (0, 30 * RATE - len(samples)))
    theirs = reference(80)(samples, sampling_rate=RATE, return_tensors="np")["input_features"][0]
    assert np.abs(log_mel(padded, n_mels=80) - theirs).max() < 1e-4


@pytest.mark.parametrize("n_samples", [0, 1, 159, 160, 200])
def test_audio_shorter_than_a_window_have_frames_too(n_samples: int) -> None:
    frames = log_mel(np.full(n_samples, 0.5, np.float32), n_mels=80)
    assert frames.shape == (80, n_samples // 160)
    assert np.isfinite(frames).all()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_the_extractors(n_mels: int) -> None:
    assert np.abs(mel_filters(n_mels) - reference(n_mels).mel_filters).max() < 1e-12
