"""Sounds: decoded with limits, block by block, into what every model here hears: mono, 16 kHz, float32."""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.errors import MediaError, MemoryExhausted
from edge.extras import missing
from edge.limits import SoundLimits
from edge.media.decoded import Decoded, Options
from edge.media.formats import FORMATS
from edge.media.mp3 import with_length
from edge.media.sniff import expect, tag_bytes
from edge.mel import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import av
    import av.container
    import soundfile

F32 = npt.NDArray[np.float32]

LOWEST_HZ, HIGHEST_HZ = 1_000, 768_000

_LOG = logging.getLogger("edge")
_BLOCK_FRAMES = 1 << 16
_UNKNOWN_FRAMES = (1 << 63) - 1  # what libsndfile says of FLAC that was written into a pipe, and then cannot read
_SAMPLE_BYTES = 2  # of PCM as it is counted: 16 bits
_SAMPLE_TYPES = ("float16", "float32", "float64", "int16")
# What libsndfile calls its readers: whatever else it can read is not taken, however the data begins.
_READERS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
# By name for the demuxer, so that a playlist in disguise never opens a file or an address.
_DEMUXERS = {
    **dict.fromkeys(("M4A", "MP4", "MOV", "3GP"), "mp4"),
    **dict.fromkeys(("WebM", "Matroska"), "matroska"),
    **dict.fromkeys(("Ogg FLAC", "Ogg Speex"), "ogg"),
    "AAC": "aac",
    "AVI": "avi",
}


class _NoTrack(MediaError):
    """A container in which nothing sounds."""


@dataclass(frozen=True)
class _Form:
    """What a header, or a block, says of a sound."""

    rate_hz: int
    n_channels: int


def decode(data: bytes, options: Options) -> Decoded:
    """Decode a sound as open_audio does; options: the fields of SoundLimits, and track.

    track: whether it is the sound track of a film, which may have none: no array then.
    """
    limits = SoundLimits(*(int(options[name] or 0) for name in ("seconds", "pcm_bytes", "channels")))
    samples = open_track(data, limits) if options.get("track") else open_audio(data, limits)
    return Decoded(() if samples is None else (samples,))


def prepare() -> None:
    """Import what decoding needs, the extra included where it is installed."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    with contextlib.suppress(ModuleNotFoundError):
        import av  # noqa: F401


def open_audio(data: bytes, limits: SoundLimits) -> F32:
    """Decode a sound, or the sound track of a film: (n,) float32, mono, 16 kHz.

    The format is told by the data. Everything is counted while it is decoded, and only mono at 16 kHz is kept.
    Raises: MediaError with a text of ours, naming the extra a format needs; MemoryExhausted.
    """
    name = expect("audio", data).name
    try:
        with _opened(name, data, limits) as blocks:
            return _gathered(blocks, limits)
    except (MediaError, MemoryExhausted):
        raise
    except MemoryError as error:
        raise MemoryExhausted("audio: no memory left to decode it") from error
    except Exception as error:
        _LOG.debug("audio: %s not decoded", name, exc_info=True)
        raise MediaError(f"audio: the {name} data is damaged or cut off") from error


def open_track(data: bytes, limits: SoundLimits) -> F32 | None:
    """Decode the sound track of a film as open_audio does, None for a film without one. Raises: as open_audio."""
    if expect("video", data).name not in _DEMUXERS:
        return None  # GIF, and whatever else has pictures alone
    try:
        return open_audio(data, limits)
    except _NoTrack:
        return None


def from_samples(samples: object, rate_hz: object, limits: SoundLimits) -> F32:
    """Take a sound that is decoded already: (n,) or (n, channels), float in -1 to 1 or int16; as open_audio gives it.

    Raises: MediaError.
    """
    if not isinstance(samples, np.ndarray) or samples.ndim not in (1, 2) or samples.dtype.name not in _SAMPLE_TYPES:
        raise MediaError(
            f"audio: expected an (n,) or (n, channels) array of floats or int16, got {_described(samples)}"
        )
    if not isinstance(rate_hz, int | np.integer) or isinstance(rate_hz, bool):
        raise MediaError(f"audio: expected a whole number of samples per second, got {rate_hz!r:.200}")
    scale = np.float32(1 / 32768 if samples.dtype == np.int16 else 1)
    wide = samples if samples.ndim == 2 else samples[:, None]
    form = _Form(int(rate_hz), wide.shape[1])
    _check(form, limits, n_frames=len(wide))
    starts = range(0, len(wide), _BLOCK_FRAMES)
    blocks = ((form, wide[start : start + _BLOCK_FRAMES].astype(np.float32) * scale) for start in starts)
    return _gathered(blocks, limits)


@contextlib.contextmanager
def _opened(name: str, data: bytes, limits: SoundLimits) -> Iterator[Iterator[tuple[_Form, F32]]]:
    """Open a sound for its blocks: what a block is like and its samples, (frames, channels)."""
    if name in _DEMUXERS:
        with _container(name, data) as container:
            yield _decoded(container, limits)
        return
    import soundfile

    if name == "MP3":
        data = with_length(data, tag_bytes(data), limits.seconds)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        if file.format not in _READERS:
            raise MediaError(f"audio: expected {FORMATS['audio']}, got {file.format}")
        form = _Form(int(file.samplerate), int(file.channels))
        # A header may say anything: what it says too much is refused here, what it hides is counted later.
        if file.frames == _UNKNOWN_FRAMES:
            raise MediaError(
                f"audio: expected the number of samples in the {name} header, there is none (a pipe's file)"
            )
        _check(form, limits, n_frames=int(file.frames))
        yield _read(file, form)


def _read(file: "soundfile.SoundFile", form: _Form) -> Iterator[tuple[_Form, F32]]:
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        yield form, block


@contextlib.contextmanager
def _container(name: str, data: bytes) -> Iterator["av.container.InputContainer"]:
    """Open what libsndfile cannot. Raises: MediaError naming the extra where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MediaError(missing("av", need=f"audio: found {name}; decoding M4A, AAC, MP4 and WebM")) from error
    av.logging.set_level(None)
    with av.open(io.BytesIO(data), mode="r", format=_DEMUXERS[name]) as container:
        yield container


def _decoded(container: "av.container.InputContainer", limits: SoundLimits) -> Iterator[tuple[_Form, F32]]:
    """Yield the blocks of a container's first sound track."""
    import av

    if not container.streams.audio:
        raise _NoTrack("audio: expected a sound track, there is none")
    resampler = None
    for frame in container.decode(container.streams.audio[0]):
        form = _Form(int(frame.sample_rate), len(frame.layout.channels))
        _check(form, limits, n_frames=frame.samples)
        if resampler is None:  # to floats; rate and channels stay
            resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
        for converted in resampler.resample(frame):
            yield form, converted.to_ndarray().astype(np.float32, copy=False).T


def _gathered(blocks: Iterable[tuple[_Form, F32]], limits: SoundLimits) -> F32:
    """Mix and resample blocks as they come: (n,) at 16 kHz."""
    import soxr

    first: _Form | None = None
    stream: soxr.ResampleStream | None = None
    kept: list[F32] = []
    n_frames = 0
    for form, block in blocks:
        first = first or form
        if form != first:
            raise MediaError(f"audio: expected one rate and number of channels, got {first} and then {form}")
        n_frames += len(block)
        _check(form, limits, n_frames=n_frames)
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaError("audio: expected finite samples")
        if form.rate_hz != SAMPLE_RATE_HZ:
            stream = stream or soxr.ResampleStream(form.rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
            mono = stream.resample_chunk(mono)
        kept.append(mono)
    if stream is not None:
        kept.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    samples = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    if not len(samples):  # a few of a higher rate may not make one
        raise MediaError(f"audio: expected at least one sample at {SAMPLE_RATE_HZ} Hz, got none")
    return samples


def _described(value: object) -> str:
    return f"shape {value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _check(form: _Form, limits: SoundLimits, *, n_frames: int) -> None:
    """Hold what is known of a sound against the limits. Raises: MediaError with both numbers."""
    if not LOWEST_HZ <= form.rate_hz <= HIGHEST_HZ:
        raise MediaError(f"audio: expected {LOWEST_HZ} to {HIGHEST_HZ} samples per second, got {form.rate_hz}")
    if not 1 <= form.n_channels <= limits.channels:
        raise MediaError(f"audio: expected 1 to {limits.channels} channels, got {form.n_channels}")
    if n_frames > limits.seconds * form.rate_hz:
        seconds = n_frames / form.rate_hz
        raise MediaError(f"audio: expected at most {limits.seconds} s, got {seconds:.9g} s or more")
    n_bytes = n_frames * form.n_channels * _SAMPLE_BYTES
    if n_bytes > limits.pcm_bytes:
        raise MediaError(f"audio: expected at most {limits.pcm_bytes} bytes of PCM, got {n_bytes} or more")
