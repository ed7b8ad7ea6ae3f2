"""A request for what is said in audio: checked, defaults filled in, and the transcript on its way."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import cast

from edge.arrays import F32
from edge.chat.attachments import Access, tell_lost
from edge.chat.messages import Problems, shown
from edge.engine.handle import Handle, Progress, TokenScore
from edge.errors import EdgeError, EngineClosed, MediaError, MemoryExhausted, ParameterError, RuntimeFailure
from edge.limits import AudioLimits
from edge.speech.speech_to_text import SpeechToText
from edge.speech.transcriber import Heard, How, check
from edge.speech.transcript import Transcript

_LOG = logging.getLogger("edge")
_MAX_TEMPERATURE = 1.0


@dataclass(frozen=True, eq=False)
class TranscriptionRequest:
    """A request whose fields are right. audio: as it came; scores: whether tokens are wanted with their scores."""

    model: SpeechToText
    audio: bytes
    how: How
    scores: bool = False


def read_how(fields: Mapping[str, object], problems: Problems) -> How:
    """Check how audio is to be transcribed; null or absent is the default, what is wrong goes to `problems`.

    fields: task, language, prompt, temperature, seed.
    """
    given = {name: fields.get(name) for name in ("task", "language", "prompt") if fields.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            problems.add(("body", name), f"expected a string, got {shown(value)}", "string_type")
    temperature, seed = fields.get("temperature"), fields.get("seed")
    if temperature is not None:
        is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not is_number or not 0 <= cast(float, temperature) <= _MAX_TEMPERATURE:
            msg = f"expected a number in [0, {_MAX_TEMPERATURE:g}], got {shown(temperature)}"
            problems.add(("body", "temperature"), msg, "value_error")
        else:
            given["temperature"] = float(cast(float, temperature))
    if seed is not None:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            problems.add(("body", "seed"), f"expected an integer >= 0, got {shown(seed)}", "int_type")
        else:
            given["seed"] = seed
    return How() if problems.found else How(**given)  # type: ignore[arg-type]


def check_how(model: SpeechToText, how: How) -> None:
    """Check what is asked of a speech-to-text model. Raises: ParameterError, BundleError."""
    spec = model.spec
    if how.task == "translate" and how.task not in spec.tasks:
        raise ParameterError(f"model: {model.id} transcribes, and does not translate", field="model")
    check(spec, language=how.language, task=how.task, prompt=how.prompt)


def decode_audio(data: bytes, *, access: Access, limits: AudioLimits) -> F32:
    """Decode the audio of a request: (n,) float32, mono, 16 kHz. Raises: MediaError, as Access.decode."""
    decoded = access.decode("audio", data, asdict(limits))
    tell_lost("audio", decoded)
    if len(decoded.arrays) != 1:
        raise MediaError("audio: decoding it failed")
    return cast(F32, decoded.arrays[0])


class Transcription:
    """A transcript that is made in a thread of its own. `transcript` is there once `handle` has its last progress."""

    def __init__(self, request: TranscriptionRequest, samples: F32, stopped: Callable[[], bool]) -> None:
        self.model = request.model.id
        self.handle = Handle(Progress("", 0, 0, None), lambda _: None)
        self.transcript: Transcript | None = None
        self._request = request
        self._stopped = stopped
        # A daemon: a program that ends without closing must not hang.
        thread = threading.Thread(target=self._work, args=(samples,), name="edge-speech", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise MemoryExhausted("audio: no thread is left to transcribe it") from error

    def _work(self, samples: F32) -> None:
        handle, request = self.handle, self._request
        newest = handle.newest

        def heard(news: Heard) -> None:
            nonlocal newest
            newest = Progress(news.text, news.n_read, len(news.tokens), None, self._scores(news))
            handle.put(newest)

        def is_stopped() -> bool:
            return handle.cancelled or self._stopped()

        try:
            self.transcript = request.model.listen(samples, how=request.how, stopped=is_stopped, heard=heard)
            text, n_read, n_tokens = self.transcript.text, newest.input_tokens, newest.output_tokens
            handle.put(Progress(text, n_read, n_tokens, "stop", newest.scores))
        except EdgeError as error:
            handle.fail(error)
        except MemoryError:
            handle.fail(MemoryExhausted("audio: no memory is left to transcribe it"))
        except Exception as error:
            _LOG.error("a transcription failed: %s", type(error).__name__, exc_info=error)
            handle.fail(RuntimeFailure("the transcription failed"))
        finally:
            # Whoever waits is told, whatever ended this thread.
            handle.fail(EngineClosed("the transcription was stopped before its end"))

    def _scores(self, news: Heard) -> tuple[TokenScore, ...]:
        if not self._request.scores:
            return ()
        pairs = zip(news.data, news.scores, strict=True)
        return tuple(TokenScore(data, score, ()) for data, score in pairs if data is not None)
