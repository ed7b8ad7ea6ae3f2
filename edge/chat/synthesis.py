"""A request to speak a text: checked, and the audio on its way."""

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge.arrays import F32
from edge.chat.voices import VoiceChoice, Voices
from edge.engine.handle import Handle, Progress
from edge.errors import EdgeError, EngineClosed, MemoryExhausted, RuntimeFailure
from edge.speech.speaker import Speaker
from edge.speech.voice import Voice

_LOG = logging.getLogger("edge")
_AHEAD_BYTES = 1 << 20  # of audio that is spoken before somebody takes it
_SILENCE_S = 0.1  # for a text without words: a file without samples is none to most players


@dataclass(frozen=True)
class SynthesisRequest:
    """A request whose fields are right. speed: a factor."""

    text: str
    voice: VoiceChoice
    speed: float = 1.0


class Encoder(Protocol):
    """Samples in, the bytes of a file out, as they come."""

    def add(self, samples: F32) -> bytes:
        """Return the bytes that follow with further samples (n,), -1 to 1."""

    def end(self) -> bytes:
        """Return the last bytes."""


class Synthesis:
    """A text that is spoken in a thread of its own. Its audio is there to `take`; `handle` tells when, and its end.

    encoder: makes the encoder of audio, by its rate in Hz. stopped: asked between sentences. It speaks a megabyte
    ahead of who takes it at most.
    """

    def __init__(
        self,
        voices: Voices,
        request: SynthesisRequest,
        encoder: Callable[[int], Encoder],
        stopped: Callable[[], bool],
    ) -> None:
        self._taken = taken = threading.Condition()

        def end(_: Handle) -> None:
            """Wake who waits for room, once nobody takes it any more."""
            with taken:
                taken.notify_all()

        # The handle knows nothing of this object: what was spoken goes with the last who holds it.
        self.handle = Handle(Progress("", 0, 0, None), end)
        self.seconds = 0.0  # of audio so far
        self._voices = voices
        self._request = request
        self._encoder = encoder
        self._stopped = stopped
        self._waiting = bytearray()
        # A daemon: a program that ends without closing must not hang.
        thread = threading.Thread(target=self._work, name="edge-voice", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise MemoryExhausted("no thread is left to speak in") from error

    def take(self) -> bytes:
        """Return the audio that nobody took yet."""
        with self._taken:
            data = bytes(self._waiting)
            self._waiting.clear()
            self._taken.notify_all()
        return data

    def _work(self) -> None:
        handle = self.handle
        try:
            with self._voices.speaking(self._request.voice, self._is_stopped) as voice:
                self._speak(voice)
            handle.put(Progress("", 0, 0, "stop"))
        except EdgeError as error:
            traceback.clear_frames(error.__traceback__)  # they hold the audio, and the handle keeps the error
            handle.fail(error.with_traceback(None))
        except MemoryError:
            handle.fail(MemoryExhausted("no memory is left to speak"))
        except Exception as error:
            _LOG.error("speaking failed: %s", type(error).__name__, exc_info=error)
            handle.fail(RuntimeFailure("speaking failed"))
        finally:
            # Whoever waits is told, whatever ended this thread.
            handle.fail(EngineClosed("speaking was stopped before its end"))

    def _speak(self, voice: Voice) -> None:
        """Speak the text. Raises: EngineClosed once it is stopped; as `Speaker.say`."""
        request = self._request
        encoder = self._encoder(voice.rate_hz)
        with Speaker(voice, language=request.voice.language, speed=request.speed) as speaker:
            for spoken in speaker.say(request.text):
                self._put(encoder.add(spoken.samples))
                self.seconds += len(spoken.samples) / voice.rate_hz
        if not self.seconds:
            self._put(encoder.add(np.zeros(round(_SILENCE_S * voice.rate_hz), np.float32)))
        self._put(encoder.end())

    def _put(self, data: bytes) -> None:
        """Hand audio over, waiting until there is room for it. Raises: EngineClosed once it is stopped."""
        with self._taken:
            self._taken.wait_for(lambda: len(self._waiting) < _AHEAD_BYTES or self._is_stopped())
            if self._is_stopped():
                raise EngineClosed("speaking was stopped before its end")
            self._waiting += data
        if data:
            self.handle.put(Progress("", 0, 0, None))

    def _is_stopped(self) -> bool:
        return self.handle.cancelled or self._stopped()
