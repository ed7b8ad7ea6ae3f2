"""A loudspeaker, or a file in its place: sentences are played while the next ones are made, and silenced at once."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Self

from edge.arrays import F32
from edge.devices.audio_sinks import AudioSink, open_sink
from edge.errors import DeviceError
from edge.speech.speaker import Spoken

BLOCK_S = 0.02
_WAITING = 1  # sentences that are made before the one in front of them is said


class Loudspeaker:
    """A loudspeaker, or what stands in for one; a context manager.

    sink: None for the system's own, the number or the name of another (by sounddevice, the extra `mic`, else by
    paplay, pw-play or aplay, whichever is installed); the path of a file to write (.wav, .flac, .ogg, .opus, .mp3), or
    "-" for standard output, as WAV. It is opened by `play`, and again by the next one after it was lost.

        with Speaker() as speaker, Loudspeaker() as loudspeaker:
            loudspeaker.play(speaker.say("Good morning."))
    """

    def __init__(self, sink: int | str | Path | None = None) -> None:
        self._name = sink
        self._sink: AudioSink | None = None

    def __repr__(self) -> str:
        return f"Loudspeaker({self._name!r})"

    def play(self, coming: Iterable[Spoken], *, stop: threading.Event | None = None) -> bool:
        """Play sentences in their order; return whether all of them were played to their end.

        coming: is read ahead, in another thread, while sentences are played. stop: when it is set, the loudspeaker is
        silent within 100 ms, and this returns False; nothing more is read of `coming` then but the sentence that is
        being made. Raises: DeviceError for a loudspeaker that is not there or was lost, and what reading `coming` does.
        """
        stopped = stop or threading.Event()
        sink = self._sink = self._sink or open_sink(self._name)
        ahead = _Ahead(coming)
        try:
            while (spoken := ahead.next(sink, stopped)) is not None:
                for block in _blocks(spoken, sink.begin(spoken.rate_hz)):
                    if stopped.is_set():
                        break
                    sink.write(block)
            done = not stopped.is_set() and sink.drain(stopped)
        except BaseException as error:
            ahead.end()
            sink.silence()
            if isinstance(error, DeviceError):
                self.close()
            raise
        if not done:
            ahead.end()
            sink.silence()
        return done

    def close(self) -> None:
        """Give the loudspeaker back, or complete the file. Closing twice is fine."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _blocks(spoken: Spoken, rate_hz: int) -> Iterator[F32]:
    """Yield a sentence in blocks of 20 ms, between which playing can be stopped. rate_hz: of the blocks."""
    samples = spoken.samples
    if rate_hz != spoken.rate_hz:
        import soxr

        samples = soxr.resample(samples, spoken.rate_hz, rate_hz)
    n = max(1, round(rate_hz * BLOCK_S))
    for start in range(0, len(samples), n):
        yield samples[start : start + n]


class _Ahead:
    """Sentences read in a thread of their own, which ends by itself after the one that it waits for."""

    def __init__(self, coming: Iterable[Spoken]) -> None:
        self._made: Queue[Spoken | BaseException | None] = Queue(_WAITING)
        self._ended = threading.Event()
        threading.Thread(target=self._read, args=(coming,), name="edge-speech", daemon=True).start()

    def next(self, sink: AudioSink, stopped: threading.Event) -> Spoken | None:
        """Return the next sentence, None at the end or when stopped; the loudspeaker is kept going until it is there.

        Raises: what reading them does.
        """
        while not stopped.is_set():
            try:
                made = self._made.get_nowait()
            except Empty:
                sink.wait(BLOCK_S, stopped)
                continue
            if isinstance(made, BaseException):
                raise made
            return made
        return None

    def end(self) -> None:
        """Have no more of them made."""
        self._ended.set()

    def _read(self, coming: Iterable[Spoken]) -> None:
        try:
            for spoken in coming:
                if not self._put(spoken):
                    break
            self._put(None)
        except BaseException as error:
            self._put(error)
        finally:
            close = getattr(coming, "close", None)
            if close is not None:
                close()

    def _put(self, made: Spoken | BaseException | None) -> bool:
        """Hand on what was made; return False when nobody wants it any more."""
        while not self._ended.is_set():
            try:
                self._made.put(made, timeout=BLOCK_S)
            except Full:
                continue
            return True
        return False
