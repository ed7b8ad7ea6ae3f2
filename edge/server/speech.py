"""OpenAI's speech: a text in, audio out while it is spoken; and the lists of voices that local servers have beside."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.messages import Problems, shown
from edge.chat.reply import api_errors, refused
from edge.chat.synthesis import Synthesis, SynthesisRequest
from edge.engine.handle import Handle, Progress
from edge.errors import UnknownModelError
from edge.server.audio_streams import TYPES, encoder_of, writable
from edge.server.http import HttpRequest, HttpResponse, event, json_response
from edge.server.openai import ERRORS
from edge.server.route import EVENT_STREAM, Answer, Backend, Queued, Stopped
from edge.speech.installed_voices import InstalledVoice
from edge.speech.languages import name_of
from edge.speech.voice import FASTEST, SLOWEST
from edge.types import ApiError

# What OpenAI's clients ask for: each is answered by the default voice.
MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
VOICES = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer",
          "verse")  # fmt: skip
DEFAULT_FORMAT = "mp3"
STREAMS = ("audio", "sse")
UNSUPPORTED = ("aac",)  # of OpenAI's formats

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_CODE = re.compile(r"[a-z]{2,3}")
_TOO_LONG = "input: speaking it takes longer than this server gives an answer: send it in parts"
_MAX_NAME = 200


@dataclass(frozen=True)
class SpeechFields:
    """A body whose fields are right. voice: None for the default one; form: one of TYPES."""

    text: str
    model: str
    voice: str | None
    language: str | None
    speed: float
    form: str
    is_sse: bool


@dataclass(frozen=True)
class SpokenRequest:
    """A request for speech. form: one of TYPES; is_sse: whether it is sent as events."""

    request: SynthesisRequest
    form: str
    is_sse: bool
    has_media: bool = False
    queued: Queued = "voices"

    def opened(self, chat: Chat, access: Access) -> "SpokenRequest":
        return self

    def begun(self, chat: Chat, access: Access, stopped: Stopped) -> Answer:
        return SpeechAnswer(chat.speak(self.request, encoder_of(self.form), stopped=stopped), self.form, self.is_sse)


@dataclass(frozen=True)
class SpeechAnswer:
    """Speech on its way: the bytes of a file, or events with them."""

    made: Synthesis
    form: str
    is_sse: bool
    streams: bool = True

    @property
    def handle(self) -> Handle:
        return self.made.handle

    @property
    def stream_type(self) -> str:
        return EVENT_STREAM if self.is_sse else TYPES[self.form]

    def whole(self, last: Progress) -> HttpResponse:
        raise refused(500, "speech is sent as it is spoken")

    def events(self, progress: Progress) -> bytes:
        """As Writer.events. Raises: ApiError where its time is over: half a text would pass for all of it."""
        if progress.finish_reason == "length":
            raise refused(413, _TOO_LONG)
        data = self.made.take()
        if not self.is_sse:
            return data
        delta = {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")}
        written = event(delta) if data else b""
        if progress.finish_reason is None:
            return written
        # A voice reads no tokens.
        usage = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0)
        return written + event({"type": "speech.audio.done", "usage": usage})

    def broken(self, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error) if self.is_sse else b""


def read_speech(chat: Chat, body: Mapping[str, object]) -> SpokenRequest:
    """Return what POST /v1/audio/speech asks for. Raises: ApiError."""
    asked = from_speech(body, most_chars=chat.limits.speech_chars)
    with api_errors():
        name = _voice_of(asked, chat.voices.installed())
        request = chat.read_speech(asked.text, name, language=asked.language, speed=asked.speed)
    return SpokenRequest(request, asked.form, asked.is_sse)


def from_speech(body: Mapping[str, object], *, most_chars: int) -> SpeechFields:
    """Return what a body asks for; `instructions` are accepted and without effect, unknown fields are ignored.

    Raises: UnprocessableEntityError naming every field that is wrong.
    """
    problems = Problems()
    text, model = body.get("input"), body.get("model")
    if not isinstance(text, str) or not text:
        problems.add(("body", "input"), f"expected a text that is not empty, got {shown(text)}", "string_type")
    elif len(text) > most_chars:
        msg = f"expected at most {most_chars} characters, got {len(text)}"
        problems.add(("body", "input"), msg, "too_long")
    if not isinstance(model, str) or not model:
        problems.add(("body", "model"), f"expected a model's name, got {shown(model)}", "string_type")
    for name in ("instructions", "language"):
        if body.get(name) is not None and not isinstance(body[name], str):
            problems.add(("body", name), f"expected a string, got {shown(body[name])}", "string_type")
    voice, speed = _read_voice(body.get("voice"), problems), _read_speed(body.get("speed"), problems)
    form = _one_of("response_format", body.get("response_format"), writable(), DEFAULT_FORMAT, problems)
    stream = _one_of("stream_format", body.get("stream_format"), STREAMS, "audio", problems)
    problems.raise_any()
    language = str(body["language"]) if body.get("language") else None
    return SpeechFields(str(text), str(model), voice, language, speed, form, stream == "sse")


def list_voices(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /v1/audio/voices: none where none is installed. Raises: ApiError."""
    with api_errors():
        voices = backend.chat.voices.installed()
    return json_response({"voices": [*map(_listed, (each for each in voices if each.is_usual)), *_by_language(voices)]})


def list_models(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /v1/audio/models: what `model` may be. Raises: ApiError."""
    with api_errors():
        voices = backend.chat.voices.installed()
    names = [*MODELS, *(each.name for each in voices if each.is_usual)] if voices else []
    return json_response({"models": [{"id": name, "name": name} for name in names]})


def _voice_of(asked: SpeechFields, voices: tuple[InstalledVoice, ...]) -> str | None:
    """Return the voice that a request names, by its voice or its model; None for the default one.

    Raises: UnknownModelError.
    """
    names = {each.name for each in voices}
    bare = asked.model.partition("@")[0]
    if voices and bare not in names and _DATED.sub("", asked.model) not in MODELS:
        usual = (each.name for each in voices if each.is_usual)
        msg = f"no model for speech {shown(asked.model)}; there are {', '.join((*MODELS, *usual))}"
        raise UnknownModelError(msg, name=asked.model[:_MAX_NAME])
    if asked.voice is not None and asked.voice not in VOICES:
        return asked.voice
    return asked.model if bare in names else None


def _read_voice(voice: object, problems: Problems) -> str | None:
    """Return the name of a voice, which may be in an object as its id; None for none."""
    name = voice.get("id") if isinstance(voice, Mapping) else voice
    if voice is None or (isinstance(name, str) and name):
        return None if voice is None else str(name)
    problems.add(
        ("body", "voice"), f"expected a voice's name, or an object with its id, got {shown(voice)}", "string_type"
    )
    return None


def _read_speed(speed: object, problems: Problems) -> float:
    is_number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if speed is None:
        return 1.0
    if not is_number or not SLOWEST <= float(str(speed)) <= FASTEST:
        msg = f"expected a number in [{SLOWEST:g}, {FASTEST:g}], got {shown(speed)}"
        problems.add(("body", "speed"), msg, "value_error")
        return 1.0
    return float(str(speed))


def _one_of(name: str, value: object, known: tuple[str, ...], default: str, problems: Problems) -> str:
    if value is None:
        return default
    if not isinstance(value, str) or value not in known:
        found = f"{value} is not supported; " if value in UNSUPPORTED else ""
        msg = f"{found}expected one of {', '.join(known)}, got {shown(value)}"
        problems.add(("body", name), msg, "literal_error")
        return default
    return value


def _listed(voice: InstalledVoice) -> dict[str, object]:
    return {"id": voice.name, "name": voice.name, "languages": list(voice.languages)}


def _by_language(voices: tuple[InstalledVoice, ...]) -> list[dict[str, object]]:
    """Return the first voice of many languages once for each of them, for clients that choose by a list of voices."""
    voice = next((each for each in voices if len(each.languages) > 1), None)
    if voice is None:
        return []
    codes = sorted(code for code in voice.languages if _CODE.fullmatch(code))
    return [
        {"id": f"{voice.name}@{code}", "name": f"{voice.name}, {name_of(code).title()}", "languages": [code]}
        for code in codes
    ]
