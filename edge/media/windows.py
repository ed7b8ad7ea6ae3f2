"""Windows of log-mel frames, as an audio tower reads audio, and how many embeddings they make.

Source: model-family.md, 5 (native).
"""

import hashlib
import struct
from collections.abc import Iterator

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import AudioSpec
from edge.errors import MediaError
from edge.media.mel import FRAME_SAMPLES, log_mel


def token_count(n_samples: int, spec: AudioSpec) -> int:
    """Return how many embeddings audio takes: those that any of its samples reach, the silence behind it left out.

    Raises: MediaError for audio without a sample.
    """
    if n_samples < 1:
        raise MediaError("audio: expected at least one sample, got none")
    return -(-n_samples * spec.tokens_per_window // (spec.window_frames * FRAME_SAMPLES))


def windows(samples: F32, spec: AudioSpec) -> Iterator[F32]:
    """Yield the log-mel frames of each window, the last filled up with silence: (n_mels, window_frames).

    samples: (n,) float32, mono, 16 kHz.
    """
    size = spec.window_frames * FRAME_SAMPLES
    for start in range(0, len(samples), size):
        window = samples[start : start + size]
        yield log_mel(np.pad(window, (0, size - len(window))), n_mels=spec.n_mels)


def digest(samples: F32) -> str:
    """Return a sha256 (hex) of audio: what a cache of embeddings is keyed by."""
    state = hashlib.sha256(b"sound" + struct.pack("<q", len(samples)))
    state.update(np.ascontiguousarray(samples).data)
    return state.hexdigest()
