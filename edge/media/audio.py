"""Audio: decoded with limits, block by block, into what every model here reads: mono, 16 kHz, float32."""

import contextlib
import io
import logging
from collections.abc import Iterator

import numpy as np

from edge.arrays import F32
from edge.errors import MediaError, MemoryExhausted
from edge.limits import AudioLimits
from edge.media import container, flac, mp3, ogg, wav
from edge.media.decoded import Decoded, Options
from edge.media.formats import FORMATS
from edge.media.pcm import BLOCK_FRAMES, HIGHEST_HZ, LOWEST_HZ, Block, Counts, Form, gathered, silence
from edge.media.sniff import expect
from edge.media.variants import unsupported

__all__ = ["HIGHEST_HZ", "LOWEST_HZ", "decode", "from_samples", "open_audio", "open_track", "prepare"]

_LOG = logging.getLogger("edge")
_UNKNOWN_FRAMES = 1 << 40  # no header means more; libsndfile says 2^63 - 1 of FLAC that was written into a pipe
_SAMPLE_TYPES = ("float16", "float32", "float64", "int16")
# What libsndfile calls its readers: whatever else it can read is not supported, however the data begins.
_READERS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3")
_MAX_BREAKS = 100  # in one FLAC file


def decode(data: bytes, options: Options) -> Decoded:
    """Decode audio as open_audio does; options: the fields of SoundLimits, and track.

    track: whether it is the audio track of a video, which may have none: no array then. info: lost, what could not be
    decoded, if anything.
    """
    limits = AudioLimits(*(int(options[name] or 0) for name in ("seconds", "pcm_bytes", "channels")))
    lost: list[str] = []
    samples = _track(data, limits, lost) if options.get("track") else _audio(data, limits, lost)
    return Decoded(() if samples is None else (samples,), {"lost": "; ".join(lost)} if lost else {})


def prepare() -> None:
    """Import what decoding needs, the extra included where it is installed."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    with contextlib.suppress(ModuleNotFoundError):
        import av  # noqa: F401


def open_audio(data: bytes, limits: AudioLimits) -> F32:
    """Decode audio, or the audio track of a video: (n,) float32, mono, 16 kHz.

    The format is told by the data. Everything is counted while it is decoded, and only mono at 16 kHz is kept. What can
    be decoded is, and what cannot is said in the log. Raises: MediaError with a text of ours, naming the extra a format
    needs; MemoryExhausted.
    """
    lost: list[str] = []
    samples = _audio(data, limits, lost)
    _tell(lost)
    return samples


def open_track(data: bytes, limits: AudioLimits) -> F32 | None:
    """Decode the audio track of a video as open_audio does, None for one without. Raises: as open_audio."""
    lost: list[str] = []
    samples = _track(data, limits, lost)
    _tell(lost)
    return samples


def from_samples(samples: object, rate_hz: object, limits: AudioLimits) -> F32:
    """Take audio that is decoded already: (n,) or (n, channels), float in -1 to 1 or int16; as open_audio gives it.

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
    form = Form(int(rate_hz), wide.shape[1])
    Counts(limits).add(form, len(wide))
    starts = range(0, len(wide), BLOCK_FRAMES)
    blocks = ((form, wide[start : start + BLOCK_FRAMES].astype(np.float32) * scale) for start in starts)
    return gathered(blocks, limits)


def _audio(data: bytes, limits: AudioLimits, lost: list[str]) -> F32:
    """Decode audio; lost: what could not be decoded is said here. Raises: as open_audio."""
    name = expect("audio", data).name
    try:
        return gathered(_blocks(name, data, limits, lost), limits)
    except (MediaError, MemoryExhausted):
        raise
    except MemoryError as error:
        raise MemoryExhausted("audio: no memory left to decode it") from error
    except Exception as error:
        _LOG.debug("audio: %s not decoded", name, exc_info=True)
        found_out = unsupported(name, data) or f"the {name} data is damaged or cut off"
        raise MediaError(f"audio: {found_out}") from error


def _track(data: bytes, limits: AudioLimits, lost: list[str]) -> F32 | None:
    if expect("video", data).name not in container.DEMUXERS:
        return None  # GIF, and whatever else has images alone
    try:
        return _audio(data, limits, lost)
    except container.NoTrack:
        return None


def _tell(lost: list[str]) -> None:
    if lost:
        _LOG.warning("audio: %s", "; ".join(lost))


# --- by format ----------------------------------------------------------------------------------------------------


def _blocks(name: str, data: bytes, limits: AudioLimits, lost: list[str]) -> Iterator[Block]:
    """Yield what a block is like and its samples, (frames, channels), of a format by its name."""
    if name == "MP3":
        yield from _mp3(data, limits, lost)
    elif name == "FLAC":
        yield from _flac(data, limits, lost)
    elif name in ("OGG", "Ogg FLAC"):
        yield from _ogg(data, limits, lost)
    elif name in container.DEMUXERS:
        with container.opened(name, data) as file:
            yield from container.blocks(file, data, lost)
    else:
        yield from _read(wav.with_sizes(data), limits, lost)


def _mp3(data: bytes, limits: AudioLimits, lost: list[str]) -> Iterator[Block]:
    found = mp3.recordings(data, limits.seconds)
    parts = [_read(mp3.with_length(recording, 0, limits.seconds), limits, lost) for recording in found.recordings]
    yield from _in_turn(parts, lost)
    if found.n_skipped:
        lost.append(f"{found.n_skipped} bytes are no frames of MP3")


def _ogg(data: bytes, limits: AudioLimits, lost: list[str]) -> Iterator[Block]:
    links = ogg.links(data)
    if not links:
        raise MediaError("audio: the OGG data is damaged or cut off")
    yield from _in_turn([_link(link, limits, lost) for link in links], lost)
    if n_damaged := sum(link.n_damaged for link in links):
        lost.append(f"{n_damaged} of {sum(len(link.pages) for link in links)} pages are damaged")


def _link(link: ogg.Link, limits: AudioLimits, lost: list[str]) -> Iterator[Block]:
    if link.codec == "FLAC":
        yield from _flac(ogg.native_flac(link), limits, lost)
    elif link.codec in ("Opus", "Vorbis"):
        yield from _read(link.data, limits, lost)
    else:
        with container.opened(f"Ogg {link.codec}", link.data) as file:
            yield from container.blocks(file, link.data, lost)


def _in_turn(parts: list[Iterator[Block]], lost: list[str]) -> Iterator[Block]:
    """Yield the blocks of what was joined; a part that cannot be decoded is left out, unless it is all there is."""
    problems: list[Exception] = []
    for part in parts:
        try:
            yield from part
        except (MediaError, MemoryError):
            raise
        except Exception as problem:
            _LOG.debug("audio: a part was not decoded", exc_info=True)
            problems.append(problem)
    if len(problems) == len(parts):
        raise problems[0]
    if problems:
        lost.append(f"{len(problems)} of {len(parts)} recordings that are joined cannot be decoded")


def _flac(data: bytes, limits: AudioLimits, lost: list[str]) -> Iterator[Block]:
    """Decode FLAC; behind a frame that is damaged, from the next one on, with silence in between."""
    place, part, n_lost, form = flac.Place(0, 0), data, 0, None
    for _ in range(_MAX_BREAKS):
        file = _File(part, limits)
        for form, block in file.blocks():
            place = flac.Place(place.at, place.sample + len(block))
            yield form, block
        if not file.is_broken:
            break
        following = flac.next_frame(data, behind=place)
        if following is None or form is None:
            n_lost += max(0, flac.n_samples(data) - place.sample)
            break
        yield from silence(form, following.sample - place.sample)
        n_lost += following.sample - place.sample
        place, part = following, flac.without_length(data, following.at)
    if n_lost:
        lost.append(f"{n_lost} samples of FLAC cannot be decoded")


def _read(data: bytes, limits: AudioLimits, lost: list[str]) -> Iterator[Block]:
    """Decode what libsndfile reads as it is."""
    file = _File(data, limits)
    n_read = 0
    for form, block in file.blocks():
        n_read += len(block)
        yield form, block
    if file.is_broken or (file.is_compressed and file.n_frames > n_read):
        lost.append(f"{max(0, file.n_frames - n_read)} samples of {file.name} cannot be decoded")


class _File:
    """A file that libsndfile reads, as far as it can."""

    def __init__(self, data: bytes, limits: AudioLimits) -> None:
        import soundfile

        self._file = soundfile.SoundFile(_Bytes(data))
        self.name = str(self._file.format)
        if self.name not in _READERS:
            raise MediaError(f"audio: expected {FORMATS['audio']}, got {self.name}")
        self._form = Form(int(self._file.samplerate), int(self._file.channels))
        self.n_frames = int(self._file.frames) if 0 <= self._file.frames < _UNKNOWN_FRAMES else 0
        self.is_compressed = self.name in ("OGG", "MP3")
        self.is_broken = False
        # A header may say anything: what it says too much is refused here, what it hides is counted later.
        Counts(limits).add(self._form, self.n_frames)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks to the end, or to where it breaks off: is_broken tells then."""
        with self._file as file:
            while not self.is_broken:
                block: F32 = np.full((BLOCK_FRAMES, self._form.n_channels), np.nan, np.float32)
                try:
                    block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True, out=block)
                except Exception:
                    # What was read before it broke off is in the block, and nothing behind that.
                    _LOG.debug("audio: %s breaks off", self.name, exc_info=True)
                    self.is_broken = True
                    block = block[: int(np.isfinite(block[:, 0]).sum())]
                if not len(block):
                    return
                yield self._form, block


class _Bytes(io.BytesIO):
    """Data in which libsndfile may look for a place before the first byte: it does, where the data is damaged."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        start = (0, self.tell(), len(self.getbuffer()))[whence]
        return super().seek(max(0, start + offset))


def _described(value: object) -> str:
    return f"shape {value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
