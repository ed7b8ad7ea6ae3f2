"""The log-mel spectrogram that Whisper reads: 16 kHz audio in frames of 25 ms, one every 10 ms."""

import functools

import numpy as np

from edge.arrays import F32, F64

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 160  # from one frame to the next, 10 ms

_WINDOW_SAMPLES = 400
_BLOCK_FRAMES = 512
_FLOOR = 1e-10  # of the energy, before the logarithm
_RANGE = 8.0  # decades below the loudest
_LINEAR_HZ = 1000.0  # mels are linear up to here, then logarithmic
_HZ_PER_MEL = 200 / 3
_LOG_STEP = np.log(6.4) / 27


def log_mel(samples: F32, *, n_mels: int) -> F32:
    """Return the audio's log-mel frames: (n_mels, n // 160) float32, about -1 to 1.5.

    samples: (n,) float32, mono, 16 kHz; the loudest frame sets the floor of all of them. The arithmetic is double: what
    lies 80 dB under the loudest still counts. Source: transformers' WhisperFeatureExtractor.
    """
    n_frames = len(samples) // FRAME_SAMPLES
    frames = np.empty((n_mels, n_frames), np.float32)
    if n_frames == 0:
        return frames
    half = _WINDOW_SAMPLES // 2
    padded = np.pad(samples, half, mode="reflect" if len(samples) > 1 else "edge")
    # A view: frame i is padded[160 i : 160 i + 400].
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::FRAME_SAMPLES]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW_SAMPLES) / _WINDOW_SAMPLES)
    for start in range(0, n_frames, _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, n_frames)
        spectrum = np.fft.rfft(windows[start:stop] * hann)  # (frames, 201)
        energy = (spectrum.real**2 + spectrum.imag**2) @ mel_filters(n_mels)  # (frames, n_mels)
        frames[:, start:stop] = np.log10(np.maximum(energy, _FLOOR)).T
    np.maximum(frames, frames.max() - np.float32(_RANGE), out=frames)
    frames += 4
    frames /= 4
    return frames


@functools.cache
def mel_filters(n_mels: int) -> F64:
    """Return Slaney's triangles from 0 to 8 kHz, each of area 1: (201 frequencies, n_mels)."""
    frequencies = np.linspace(0, SAMPLE_RATE_HZ / 2, _WINDOW_SAMPLES // 2 + 1)
    corners = _hz(np.linspace(0, _mels(SAMPLE_RATE_HZ / 2), n_mels + 2, dtype=np.float64))
    widths = np.diff(corners)
    distance = corners[None, :] - frequencies[:, None]  # (201, n_mels + 2)
    rising, falling = -distance[:, :-2] / widths[:-1], distance[:, 2:] / widths[1:]
    filters: F64 = np.maximum(0, np.minimum(rising, falling)) * (2 / (corners[2:] - corners[:-2]))
    return filters


def _mels(hz: float) -> float:
    return float(_LINEAR_HZ / _HZ_PER_MEL + np.log(hz / _LINEAR_HZ) / _LOG_STEP)


def _hz(mels: F64) -> F64:
    linear = mels * _HZ_PER_MEL
    logarithmic = _LINEAR_HZ * np.exp(_LOG_STEP * (mels - _LINEAR_HZ / _HZ_PER_MEL))
    return np.where(linear < _LINEAR_HZ, linear, logarithmic)
