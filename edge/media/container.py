"""Audio of what libsndfile cannot read, through the extra `av`: packet by packet, each at its own time."""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import MediaError
from edge.extras import missing
from edge.media.pcm import Block, Form, silence
from edge.media.tracks import is_fragmented

if TYPE_CHECKING:
    import av
    import av.audio
    import av.container

# By name for the demuxer, so that a playlist in disguise never opens a file or an address.
DEMUXERS = {
    **dict.fromkeys(("M4A", "MP4", "MOV", "3GP"), "mp4"),
    **dict.fromkeys(("WebM", "Matroska"), "matroska"),
    "Ogg Speex": "ogg",
    "AAC": "aac",
    "AVI": "avi",
}

_LOG = logging.getLogger("edge")
_PAUSE_S = 0.05  # what is shorter is how times were rounded
_TICK_S = 0.002


class NoTrack(MediaError):
    """A container without audio."""


@contextlib.contextmanager
def opened(name: str, data: bytes) -> Iterator["av.container.InputContainer"]:
    """Open a container. Raises: MediaError naming the extra where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MediaError(missing("av", need=f"audio: found {name}; decoding M4A, AAC, MP4, WebM and Speex")) from error
    av.logging.set_level(None)
    with av.open(io.BytesIO(data), mode="r", format=DEMUXERS[name]) as container:
        yield container


def blocks(container: "av.container.InputContainer", data: bytes, lost: list[str]) -> Iterator[Block]:
    """Yield the blocks of a container's first track of audio.

    What begins late, pauses or cannot be decoded is silence, so that everything keeps its time. lost: what could not be
    decoded is said here at the end. Raises: NoTrack, MediaError where nothing can be decoded.
    """
    clock = _Clock(_start_s(container, data))
    decoded = _Decoded(container)
    resampler, form = None, None
    for frame, is_behind_loss in decoded.frames():
        found = Form(int(frame.sample_rate), len(frame.layout.channels))
        if resampler is None or found != form:
            form, resampler = found, _to_floats(frame)
        yield from silence(found, clock.pause(frame, is_behind_loss=is_behind_loss))
        for converted in resampler.resample(frame):
            yield found, converted.to_ndarray().astype(np.float32, copy=False).T
    if decoded.n_lost:
        lost.append(f"{decoded.n_lost} of {decoded.n_packets} packets cannot be decoded")


class _Decoded:
    """The frames of the first track that has a decoder; damaged packets are passed over and counted."""

    def __init__(self, container: "av.container.InputContainer") -> None:
        if not container.streams.audio:
            raise NoTrack("audio: expected a track of audio, there is none: send it as video_url")
        self._stream = container.streams.audio[0]
        self._container = container
        self.n_packets = self.n_lost = 0

    def frames(self) -> Iterator[tuple["av.AudioFrame", bool]]:
        """Yield each frame, and whether a damaged packet was before it. Raises: MediaError if there is no frame."""
        is_behind_loss, is_decoded, error = False, False, None
        for packet in self._packets():
            self.n_packets += 1
            try:
                frames = packet.decode()
            except Exception as problem:  # whatever a decoder makes of damaged data
                _LOG.debug("audio: a packet was not decoded", exc_info=True)
                self.n_lost += 1
                is_behind_loss, error = True, problem
                continue
            for frame in frames:
                yield frame, is_behind_loss
                is_behind_loss, is_decoded = False, True
        if error is not None and not is_decoded:
            raise MediaError("audio: the data is damaged or cut off") from error

    def _packets(self) -> Iterator["av.Packet[av.AudioStream]"]:
        try:
            yield from self._container.demux(self._stream)
        except Exception:
            if not self.n_packets:
                raise
            _LOG.debug("audio: no further packet was found", exc_info=True)
            self.n_lost += 1
            self.n_packets += 1


class _Clock:
    """When the next frame is due, and how long it is silent until one that comes later."""

    def __init__(self, start_s: float) -> None:
        self._due_s = start_s

    def pause(self, frame: "av.AudioFrame", *, is_behind_loss: bool) -> int:
        """Return how many samples are missing before a frame."""
        length_s = frame.samples / frame.sample_rate
        if frame.time is None:
            self._due_s += length_s
            return 0
        pause_s = frame.time - self._due_s
        self._due_s = frame.time + length_s
        return round(pause_s * frame.sample_rate) if pause_s > (_TICK_S if is_behind_loss else _PAUSE_S) else 0


def _start_s(container: "av.container.InputContainer", data: bytes) -> float:
    """Return the time at which playing begins: 0 in MP4, unless it is a piece of a stream; else the first there is."""
    first_s = (container.start_time or 0) / 1e6
    is_mp4 = "mp4" in container.format.name
    return min(0.0, first_s) if is_mp4 and not is_fragmented(data) else first_s


def _to_floats(frame: "av.AudioFrame") -> "av.AudioResampler":
    """Return what turns frames into floats; rate and channels stay."""
    import av

    return av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
