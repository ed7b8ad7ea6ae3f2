"""Audio as blocks of samples: counted against the limits, mixed to mono and resampled to 16 kHz while they come."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import F32
from edge.errors import MediaError
from edge.limits import AudioLimits
from edge.media.mel import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import soxr


BLOCK_FRAMES = 1 << 16
LOWEST_HZ, HIGHEST_HZ = 1_000, 768_000

_SAMPLE_BYTES = 2  # of PCM as it is counted: 16 bits
_WINDOW = SAMPLE_RATE_HZ // 2  # samples for which it is decided whether channels cancel each other out
_CANCELLED = 16.0  # how much more energy is then in their difference than in their mean
_SILENCE = 1e-9  # mean energy of a sample below which nothing is there to be cancelled
_FADE = SAMPLE_RATE_HZ // 100


@dataclass(frozen=True)
class Form:
    """What a header, or a block, says of audio."""

    rate_hz: int
    n_channels: int


Block = tuple[Form, F32]  # samples: (frames, channels)


def silence(form: Form, n_frames: int) -> Iterator[Block]:
    """Yield blocks without audio, each no longer than others."""
    while n_frames > 0:
        n_here = min(n_frames, BLOCK_FRAMES)
        yield form, np.zeros((n_here, form.n_channels), np.float32)
        n_frames -= n_here


def gathered(blocks: Iterable[Block], limits: AudioLimits) -> F32:
    """Mix and resample blocks as they come, of whatever rates and channels: (n,) at 16 kHz.

    Raises: MediaError with both numbers for what is too much.
    """
    counts, mean, difference = Counts(limits), _Row(), _Row()
    is_wide = False
    for form, block in blocks:
        counts.add(form, len(block))
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaError("audio: expected finite samples")
        mean.add(form.rate_hz, mono)
        if form.n_channels > 1:
            is_wide = True
            signs = np.where(np.arange(form.n_channels) % 2, -1, 1).astype(np.float32)
            mono = (block * signs).mean(axis=1, dtype=np.float32)
        difference.add(form.rate_hz, mono)
    samples = mean.end()
    if not len(samples):  # a few of a higher rate may not make one
        raise MediaError(f"audio: expected at least one sample at {SAMPLE_RATE_HZ} Hz, got none")
    return _uncancelled(samples, difference.end()) if is_wide else samples


class Counts:
    """What was decoded so far, held against the limits."""

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits
        self._seconds = Fraction(0)
        self._n_bytes = 0

    def add(self, form: Form, n_frames: int) -> None:
        """Count frames. Raises: MediaError with both numbers."""
        limits = self._limits
        if not LOWEST_HZ <= form.rate_hz <= HIGHEST_HZ:
            raise MediaError(f"audio: expected {LOWEST_HZ} to {HIGHEST_HZ} samples per second, got {form.rate_hz}")
        if not 1 <= form.n_channels <= limits.channels:
            raise MediaError(f"audio: expected 1 to {limits.channels} channels, got {form.n_channels}")
        self._seconds += Fraction(n_frames, form.rate_hz)
        if self._seconds > limits.seconds:
            seconds = float(self._seconds)
            raise MediaError(f"audio: expected at most {limits.seconds} s, got {seconds:.9g} s or more")
        self._n_bytes += n_frames * form.n_channels * _SAMPLE_BYTES
        if self._n_bytes > limits.pcm_bytes:
            raise MediaError(f"audio: expected at most {limits.pcm_bytes} bytes of PCM, got {self._n_bytes} or more")


class _Row:
    """Mono samples that become 16 kHz as they come, from whatever rates."""

    def __init__(self) -> None:
        self._kept: list[F32] = []
        self._rate_hz = SAMPLE_RATE_HZ
        self._stream: soxr.ResampleStream | None = None

    def add(self, rate_hz: int, mono: F32) -> None:
        if rate_hz != self._rate_hz:
            self._flush()
            self._rate_hz = rate_hz
        if rate_hz != SAMPLE_RATE_HZ:
            import soxr

            self._stream = self._stream or soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
            mono = self._stream.resample_chunk(mono)
        self._kept.append(mono)

    def end(self) -> F32:
        self._flush()
        return np.concatenate(self._kept) if self._kept else np.zeros(0, np.float32)

    def _flush(self) -> None:
        if self._stream is not None:
            self._kept.append(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        self._stream = None


def _uncancelled(mean: F32, difference: F32) -> F32:
    """Return the mean of the channels, their difference where one is the other inverted and both cancel out."""
    starts = np.arange(0, len(mean), _WINDOW)
    in_mean, in_difference = (np.add.reduceat(row * row, starts) for row in (mean, difference))
    is_cancelled = (in_difference > _CANCELLED * in_mean) & (in_difference > _SILENCE * _WINDOW)
    if not is_cancelled.any():
        return mean
    share = np.repeat(is_cancelled.astype(np.float32), _WINDOW)[: len(mean)]
    if not is_cancelled.all():
        edge = np.pad(share, _FADE // 2, mode="edge")
        share = np.convolve(edge, np.full(_FADE + 1, 1 / (_FADE + 1), np.float32), "valid")
    mixed: F32 = (mean + share * (difference - mean)).astype(np.float32, copy=False)
    return mixed
