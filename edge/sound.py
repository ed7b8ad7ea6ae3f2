"""Sounds as the audio tower takes them: windows of log-mel frames, and as many embeds as the sound is long.

Source: reka-edge.md, 5 (native).
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.bundle import AudioSpec
from edge.errors import MediaError, NonFiniteError
from edge.mel import FRAME_SAMPLES, log_mel
from edge.recent import RecentEmbeds
from edge.session import check_shapes

if TYPE_CHECKING:
    import onnxruntime as ort

F32 = npt.NDArray[np.float32]


class SoundTower:
    """audio.onnx: a window at a time to embeds, and the embeds of sounds heard lately."""

    def __init__(self, session: "ort.InferenceSession", spec: AudioSpec, hidden_size: int, *, limit_bytes: int) -> None:
        mel, embeds = (None, spec.n_mels, spec.window_frames), (None, spec.tokens_per_window, hidden_size)
        check_shapes(session, inputs={"mel": mel}, outputs={"embeds": embeds}, file="audio.onnx")
        self.spec = spec
        self.recent = RecentEmbeds(limit_bytes)
        self._session = session

    def encode(self, mel: F32, *, options: "ort.RunOptions") -> F32:
        """Return a window's embeds. mel: (n_mels, window_frames) float32 -> (tokens_per_window, H).

        Raises: NonFiniteError.
        """
        (embeds,) = self._session.run(["embeds"], {"mel": mel[None]}, options)
        if not np.isfinite(embeds).all():
            raise NonFiniteError("a window of a sound")
        rows: F32 = embeds[0]
        return rows


def token_count(n_samples: int, spec: AudioSpec) -> int:
    """Return how many embeds a sound takes: those that any of its samples reach, the silence behind it left out.

    Raises: MediaError for a sound without a sample.
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
    """Return a sha256 (hex) of a sound: what a cache of embeds is keyed by."""
    state = hashlib.sha256(b"sound" + struct.pack("<q", len(samples)))
    state.update(np.ascontiguousarray(samples).data)
    return state.hexdigest()
