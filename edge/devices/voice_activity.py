"""Where somebody speaks in audio, told by loudness or by a learned detector: blocks in, utterances out."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge.arrays import F32

RATE_HZ = 16_000
BLOCK_SAMPLES = 480  # 30 ms
BLOCK_S = BLOCK_SAMPLES / RATE_HZ

_LEAST_LEVEL = 0.01  # of full scale (-40 dB): what is softer is never speech
_RATIO = 3.0  # how much louder than the room (10 dB) speech is
_ROOM_S = 3.0  # the room is the softest block of this time: between words there is always one
_EDGE_S = 0.3  # kept before the first and after the last loud block
_ONSET, _ONSET_OF = 3, 5  # loud blocks among the last ones that begin an utterance


@dataclass(frozen=True)
class Patience:
    """When an utterance ends: after so much silence, or when it is so long, in seconds."""

    silence_s: float = 0.8
    longest_s: float = 30.0


class SpeechDetector(Protocol):
    """Tells speech from what is none, block by block."""

    def is_speech(self, block: F32) -> bool:
        """Return whether the next block, (480,), is speech."""

    def reset(self) -> None:
        """Forget what was heard."""


class Loudness:
    """Takes for speech what is ten decibels louder than the room."""

    def __init__(self) -> None:
        # As if it had been silent: whoever speaks at once is heard.
        self._levels: deque[float] = deque([0.0], maxlen=round(_ROOM_S / BLOCK_S))

    def is_speech(self, block: F32) -> bool:
        """Return whether a block is loud."""
        level = level_of(block)
        is_loud = level > max(_LEAST_LEVEL, _RATIO * min(self._levels))
        self._levels.append(level)
        return is_loud

    def reset(self) -> None:
        """Forget the room."""
        self._levels.clear()
        self._levels.append(0.0)


def level_of(block: F32) -> float:
    """Return how loud a block is, 0 to 1: the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(block, dtype=np.float64))))


class Utterances:
    """Cuts audio into what was said. 16 kHz, mono, float32 in -1 to 1, in blocks of 30 ms.

    detector: what tells speech, loudness unless given.
    """

    def __init__(self, patience: Patience, detector: SpeechDetector | None = None) -> None:
        self._detector = detector or Loudness()
        self._silence_blocks = max(1, round(patience.silence_s / BLOCK_S))
        self._longest_blocks = max(_ONSET_OF, round(patience.longest_s / BLOCK_S))
        self._edge_blocks = round(_EDGE_S / BLOCK_S)
        self._loud: deque[bool] = deque(maxlen=_ONSET_OF)
        self._before: deque[F32] = deque(maxlen=self._edge_blocks + _ONSET_OF)
        self._said: list[F32] = []
        self._n_silent = self._n_speech = 0

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun."""
        return bool(self._said)

    @property
    def speech_s(self) -> float:
        """How much of the utterance, or of the one that just ended, is speech, in seconds."""
        return self._n_speech * BLOCK_S

    def add(self, block: F32) -> F32 | None:
        """Take the next block, (480,); return an utterance, (n,), when this ended one."""
        is_loud = self._detector.is_speech(block)
        if not self._said:
            self._wait(block, is_loud)
            return None
        self._said.append(block)
        self._n_speech += is_loud
        self._n_silent = 0 if is_loud else self._n_silent + 1
        if self._n_silent < self._silence_blocks and len(self._said) < self._longest_blocks:
            return None
        return self.end()

    def hold(self, block: F32) -> None:
        """Keep a block that begins no utterance, such as one with a sound of our own in it, in front of the next."""
        self._before.append(block)
        self._loud.clear()

    def end(self) -> F32 | None:
        """Return what is being said although it did not end; None when nothing is."""
        if not self._said:
            return None
        n_cut = max(0, self._n_silent - self._edge_blocks)
        said = np.concatenate(self._said[: len(self._said) - n_cut])
        self._said, self._n_silent = [], 0
        self._loud.clear()
        self._before.clear()
        return said

    def _wait(self, block: F32, is_loud: bool) -> None:
        """Begin an utterance when enough of the last blocks were loud, with what came just before."""
        self._before.append(block)
        self._loud.append(is_loud)
        if sum(self._loud) >= _ONSET:
            self._said = list(self._before)
            self._n_speech = sum(self._loud)
