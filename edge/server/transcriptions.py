"""OpenAI's transcriptions and translations: an uploaded file with fields in, what is said in it out in five formats."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from edge.arrays import F32
from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.messages import Problems, shown
from edge.chat.reply import refused
from edge.chat.transcription import Transcription, TranscriptionRequest, read_how
from edge.engine.handle import Handle, Progress, TokenScore
from edge.errors import MediaError
from edge.server.http import HttpResponse, event, json_response
from edge.server.multipart import Form
from edge.server.openai import ERRORS, finite
from edge.server.route import Answer, Queued, Stopped, detail_of
from edge.speech.languages import name_of
from edge.speech.transcriber import ENGLISH, How
from edge.speech.transcript import Format, Segment, Transcript
from edge.types import ApiError

Fields = dict[str, object]

FILES = ("file",)
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
STREAMED = ("json", "text")
REFUSED: Mapping[str, str] = {
    "known_speaker_names": "speakers are not told apart; expected none",
    "known_speaker_references": "speakers are not told apart; expected none",
    "keywords": "expected prompt in its place",
    "languages": "expected language, one code, or none",
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_DIGITS = 30
_TOO_LONG = "file: its transcription takes longer than this server gives an answer: send it in parts"
_PLAIN = (("content-type", "text/plain; charset=utf-8"),)


@dataclass(frozen=True)
class Wanted:
    """How a transcript is written: one of FORMATS; scores: with those of its tokens; streams: as it is made."""

    form: str
    scores: bool
    streams: bool


@dataclass(frozen=True)
class SpeechRequest:
    """A request for a transcript. samples: its audio, decoded."""

    request: TranscriptionRequest
    wanted: Wanted
    samples: F32 | None = None
    has_media: bool = True
    queued: Queued = "engine"

    def opened(self, chat: Chat, access: Access) -> "SpeechRequest":
        try:
            samples = chat.open_audio(self.request, access=access)
        except ApiError as error:
            if not isinstance(error.__cause__, MediaError):
                raise
            problems = Problems()
            problems.add(("body", "file"), str(detail_of(error)), "value_error")
            problems.raise_any()
            raise
        # What was decoded is not needed any more.
        return replace(self, request=replace(self.request, audio=b""), samples=samples)

    def begun(self, chat: Chat, access: Access, stopped: Stopped) -> Answer:
        here = self if self.samples is not None else self.opened(chat, access)
        if here.samples is None:
            raise refused(500, "the audio was not decoded")
        made = chat.transcribe(here.request, here.samples, stopped=stopped)
        return TranscriptAnswer(made, self.wanted, self.request.how.task, self.request.how.temperature)


@dataclass
class TranscriptAnswer:
    """A transcript on its way, written as it was asked for."""

    made: Transcription
    wanted: Wanted
    task: str
    temperature: float
    stream_type: str | None = None
    _sent: str = ""
    _n_scored: int = 0

    @property
    def handle(self) -> Handle:
        return self.made.handle

    @property
    def streams(self) -> bool:
        return self.wanted.streams

    def whole(self, last: Progress) -> HttpResponse:
        transcript = self.made.transcript
        if transcript is None:  # its time is over: half a transcript would pass for a whole one
            return ERRORS.response(refused(413, _TOO_LONG))
        form = self.wanted.form
        if form == "json":
            scores = {"logprobs": _logprobs(last.scores)} if self.wanted.scores else {}
            return json_response({"text": transcript.text, **scores, "usage": _duration(transcript)})
        if form == "verbose_json":
            return json_response(self._verbose(transcript))
        written = transcript.written(next(name for name in get_args(Format) if name == form))
        return HttpResponse(200, _PLAIN, f"{written}\n".encode())

    def events(self, progress: Progress) -> bytes:
        if progress.finish_reason is not None and self.made.transcript is None:
            return ERRORS.event(refused(413, _TOO_LONG))
        delta, written = progress.text[len(self._sent) :], b""
        self._sent = progress.text
        if delta:
            scores = {"logprobs": _logprobs(progress.scores[self._n_scored :])} if self.wanted.scores else {}
            self._n_scored = len(progress.scores)
            written = event({"type": "transcript.text.delta", "delta": delta, **scores})
        if progress.finish_reason is None:
            return written
        scores = {"logprobs": _logprobs(progress.scores)} if self.wanted.scores else {}
        done = {"type": "transcript.text.done", "text": progress.text, **scores, "usage": _tokens(progress)}
        return written + event(done)

    def broken(self, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error)

    def _verbose(self, transcript: Transcript) -> Fields:
        code = ENGLISH if self.task == "translate" else transcript.language or ENGLISH
        segments = [_segment(i, segment) for i, segment in enumerate(transcript.spoken())]
        return {
            "task": self.task,
            "language": name_of(code),
            "duration": round(transcript.duration_s, 3),
            "text": transcript.text,
            "segments": segments,
            "usage": _duration(transcript),
        }


def read_transcription(chat: Chat, form: Form) -> SpeechRequest:
    """Return what POST /v1/audio/transcriptions asks for. Raises: ApiError."""
    return _read(chat, form, "transcribe")


def read_translation(chat: Chat, form: Form) -> SpeechRequest:
    """Return what POST /v1/audio/translations asks for. Raises: ApiError."""
    return _read(chat, form, "translate")


def _read(chat: Chat, form: Form, task: str) -> SpeechRequest:
    asked = from_form(form, task)
    return SpeechRequest(
        chat.read_transcription(asked.audio, asked.model, asked.how, scores=asked.wanted.scores), asked.wanted
    )


@dataclass(frozen=True, eq=False)
class Upload:
    """A form whose fields are right."""

    audio: bytes
    model: str
    how: How
    wanted: Wanted


def from_form(form: Form, task: str) -> Upload:
    """Return what a form asks for; an empty field is absent, unknown ones are ignored.

    Raises: ApiError 400 for what is not there, UnprocessableEntityError naming every field that is wrong.
    """
    problems = Problems()
    audio = form.files.get("file")
    if not audio:
        got = "none" if audio is None else "an empty one"
        problems.add(("body", "file"), f"expected an audio file, got {got}", "missing")
    fields = _fields(form, problems)
    model = fields.get("model")
    if model is None:
        problems.add(("body", "model"), "expected a model's name, got none", "missing")
    wanted, how = _wanted(fields, problems), read_how({**fields, "task": task}, problems)
    problems.raise_any()
    return Upload(audio or b"", str(model), how, wanted)


def _fields(form: Form, problems: Problems) -> Fields:
    """Return the fields as values, lists as lists. Raises: ApiError 400 for what is not there."""
    texts: dict[str, list[str]] = {}
    for name, given in form.texts.items():
        texts.setdefault(name.removesuffix("[]"), []).extend(value for value in given if value)
    _refuse(texts)
    fields: Fields = {name: texts.get(name, []) for name in _LISTS}
    for name, read in _READERS.items():
        values = texts.get(name, [])
        if len(values) > 1:
            problems.add(("body", name), f"expected one value, got {len(values)}", "value_error")
        elif values:
            fields[name] = read(name, values[0], problems)
    return fields


def _refuse(texts: Mapping[str, Sequence[str]]) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    for name, reason in REFUSED.items():
        if texts.get(name):
            raise refused(400, f"{name}: {reason}")
    strategy = [value for name, values in texts.items() if name.startswith("chunking_strategy") for value in values]
    if any(value != "auto" for value in strategy):
        reason = "voice activity detection with parameters is not supported; expected auto, or none"
        raise refused(400, f"chunking_strategy: {reason}")


def _wanted(fields: Fields, problems: Problems) -> Wanted:
    """Return how the transcript is written. Raises: ApiError 400 for what is not there."""
    form, streams = fields.get("response_format", "json"), fields.get("stream") is True
    include, granularities = fields.get("include"), fields.get("timestamp_granularities")
    if form not in FORMATS:
        msg = f"expected one of {', '.join(FORMATS)}, got {shown(form)}"
        problems.add(("body", "response_format"), msg, "literal_error")
    elif streams and form not in STREAMED:
        msg = f"expected {' or '.join(STREAMED)} with stream, got {form}"
        problems.add(("body", "response_format"), msg, "value_error")
    for value in include if isinstance(include, list) else ():
        if value != "logprobs":
            problems.add(("body", "include"), f"expected logprobs, the only one there is, got {shown(value)}", "enum")
        elif form != "json":
            msg = f"logprobs: expected response_format json beside it, got {shown(form)}"
            problems.add(("body", "include"), msg, "value_error")
    for value in granularities if isinstance(granularities, list) else ():
        if value == "word":
            raise refused(400, "timestamp_granularities: times of words are not supported; expected segment")
        if value != "segment":
            msg = f"expected segment, the only one there is, got {shown(value)}"
            problems.add(("body", "timestamp_granularities"), msg, "literal_error")
        elif form != "verbose_json":
            msg = f"expected response_format verbose_json beside it, got {shown(form)}"
            problems.add(("body", "timestamp_granularities"), msg, "value_error")
    return Wanted(str(form), bool(include), streams)


def _text(name: str, value: str, problems: Problems) -> object:
    return value


def _number(name: str, value: str, problems: Problems) -> object:
    if not _NUMBER.fullmatch(value) or len(value) > _MAX_DIGITS:
        problems.add(("body", name), f"expected a number, got {shown(value)}", "float_type")
        return None
    return float(value)


def _integer(name: str, value: str, problems: Problems) -> object:
    if not (value.isascii() and value.removeprefix("-").isdigit()) or len(value) > _MAX_DIGITS:
        problems.add(("body", name), f"expected an integer, got {shown(value)}", "int_type")
        return None
    return int(value)


def _flag(name: str, value: str, problems: Problems) -> object:
    if value.lower() not in ("true", "false"):
        problems.add(("body", name), f"expected true or false, got {shown(value)}", "bool_type")
    return value.lower() == "true"


_LISTS = ("include", "timestamp_granularities")
_READERS = {
    "model": _text,
    "language": _text,
    "prompt": _text,
    "response_format": _text,
    "temperature": _number,
    "seed": _integer,
    "stream": _flag,
}


def _segment(number: int, segment: Segment) -> Fields:
    window = segment.window
    if window is None:
        raise refused(500, "a segment was not scored")
    return {
        "id": number,
        "seek": window.seek,
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": window.temperature,
        "avg_logprob": finite(window.log_probability),
        "compression_ratio": window.compression_ratio,
        "no_speech_prob": window.no_speech or 0.0,
    }


def _logprobs(scores: Sequence[TokenScore]) -> list[Fields]:
    return [
        {
            "token": score.data.decode("utf-8", "replace"),
            "logprob": finite(score.log_probability),
            "bytes": list(score.data),
        }
        for score in scores
    ]


def _duration(transcript: Transcript) -> Fields:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_s)}


def _tokens(progress: Progress) -> Fields:
    n_input, n_output = progress.input_tokens, progress.output_tokens
    return {"type": "tokens", "input_tokens": n_input, "output_tokens": n_output, "total_tokens": n_input + n_output}
