"""The one door to the engines: requests in, replies out."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge.arrays import F32
from edge.bundle.manifest import Manifest
from edge.bundle.store import Running, Stored
from edge.chat.attachments import Access, AudioAccess, decode_media, transcribed, turns
from edge.chat.messages import Message, MessageLike, Place
from edge.chat.pdf_text import TextBudget
from edge.chat.prompt import Turn, pieces, running
from edge.chat.reasoning import Start, reasons, start_of
from edge.chat.reply import Reply, api_errors
from edge.chat.request import Request, read_continuation, read_request
from edge.chat.synthesis import Encoder, Synthesis, SynthesisRequest
from edge.chat.transcription import Transcription, TranscriptionRequest, check_how, decode_audio
from edge.chat.voices import Voices
from edge.engine.engine import Engine
from edge.engine.pieces import Piece
from edge.errors import ParameterError
from edge.limits import Limits
from edge.speech.speech_to_text import SpeechToText
from edge.speech.transcriber import How
from edge.speech.voice import check_speed


class Engines(Protocol):
    """What a chat asks of its models."""

    def ids(self) -> list[str]:
        """Return the ids of what is loaded or installed, the default first."""

    def engine(self, name: str) -> Engine:
        """Return the engine of the bundle that is the default for a name."""

    def id_of(self, name: str) -> str:
        """Return the id of the bundle that is the default for a name."""

    def named(self) -> Mapping[str, Stored]:
        """Return the bundle of every name that answers: ids, the default first, then aliases."""

    def bundle(self, name: str) -> Stored:
        """Return the bundle that is the default for a name; nothing is opened."""

    def running(self) -> Sequence[Running]:
        """Return what is loaded."""

    def speech_to_text(self, name: str) -> SpeechToText:
        """Return the speech-to-text model that a name stands for."""

    def changed(self) -> str | None:
        """Return why a loaded bundle cannot be used any more, None while all can."""

    def stalled_s(self) -> float:
        """Return the most seconds in which an engine's work has not moved on."""

    def speech_model(self, name: str) -> SpeechToText | None:
        """Return the speech-to-text model of a chat bundle, by the bundle's id."""

    def close(self) -> None:
        """Give the engines up."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A request's media, decoded; audio is not turned into text yet. budget: what became of the text of PDFs."""

    turns: Sequence[Turn]
    budget: TextBudget


@dataclass(frozen=True)
class Preset:
    """What the owner of a chat settles for its requests, by the names of /v1/chat.

    absent: fields of requests that lack them, or have null there; instead: fields in place of what requests say.
    """

    absent: Mapping[str, object] = field(default_factory=dict)
    instead: Mapping[str, object] = field(default_factory=dict)

    def filled(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """Return a request with these fields."""
        return {**body, **{n: value for n, value in self.absent.items() if body.get(n) is None}, **self.instead}


class Chat:
    """Requests in, replies out: for clients in process, routes over HTTP, watches and commands.

    models: which engine a name means; access: which media messages may name, and where they are decoded; limits: what a
    request may hold (default: those of this machine); preset: fields of every request; voices: what speaks. It owns
    models, access and voices, and closes them.
    """

    def __init__(
        self,
        models: Engines,
        access: Access,
        limits: Limits | None = None,
        *,
        preset: Preset | None = None,
        voices: Voices | None = None,
    ) -> None:
        self.models = models
        self.access = access
        self.limits = limits or Limits.of_this_machine()
        self.preset = preset or Preset()
        self.voices = voices or Voices()

    def read(self, body: Mapping[str, object], *, place: Place | None = None) -> Request:
        """Check a request's fields and fill in the defaults. Raises: as `read_request`."""
        return read_request(self.preset.filled(body), limits=self.limits, place=place)

    def read_text(self, text: str, body: Mapping[str, object], *, place: Place | None = None) -> Request:
        """Check a request to continue a text, without any turns. Raises: as `read_request`."""
        return read_continuation(text, self.preset.filled(body), limits=self.limits, place=place)

    def engine(self, name: str) -> Engine:
        """Return the engine of a model, opened if need be. Raises: ApiError."""
        with api_errors():
            return self.models.engine(name)

    def open(self, request: Request, *, access: Access | None = None) -> Opened:
        """Open a request's media, without the engine's help. access: as it is shared for this request.

        Raises: ApiError.
        """
        with api_errors():
            engine = self.models.engine(request.model)
            budget = _text_budget(engine, self.limits)
            opened = decode_media(
                request.messages,
                spec=engine.manifest,
                access=access or self.access,
                budget=budget,
                limits=self.limits,
                frames=request.video_frames,
                detail=request.detail,
                audio_access=AudioAccess(self.models.speech_model(engine.manifest.id), request.video_sound),
            )
            return Opened(opened, budget)

    def start(
        self,
        request: Request,
        *,
        access: Access | None = None,
        stopped: Callable[[], bool] | None = None,
        media: Opened | None = None,
    ) -> Reply:
        """Open the request's media, lay out its prompt and hand it to the engine. Raises: ApiError.

        access: as it is shared for this request; stopped: asked while audio is turned into text; media: what `open`
        gave, if it was called before.
        """
        media = media or self.open(request, access=access)
        with api_errors():
            engine = self.models.engine(request.model)
            manifest = engine.manifest
            prompt = self._prompt(request, media, manifest, stopped)
            thinks = reasons(manifest) and request.text is None
            handle = engine.stream(prompt, request.options)
            return Reply(
                str(uuid.uuid4()),
                manifest.id,
                handle,
                frozenset(tool.name for tool in request.tools),
                media.budget if request.has_pdf else None,
                _reasoning(request.messages[-1]) if thinks else "none",
                engine.tokenizer.encode,
            )

    def count(
        self,
        request: Request,
        *,
        access: Access | None = None,
        stopped: Callable[[], bool] | None = None,
        media: Opened | None = None,
    ) -> int:
        """Return how many positions the request's prompt takes, media included. Arguments and Raises: as `start`."""
        media = media or self.open(request, access=access)
        with api_errors():
            engine = self.models.engine(request.model)
            return engine.count(self._prompt(request, media, engine.manifest, stopped))

    def _prompt(
        self, request: Request, media: Opened, manifest: Manifest, stopped: Callable[[], bool] | None
    ) -> list[Piece]:
        """Lay out a request's prompt, audio turned into text where the model needs that. Raises: EdgeError."""
        if request.text is not None:
            return running(request.text, manifest)
        audio_access = AudioAccess(self.models.speech_model(manifest.id), request.video_sound, stopped)
        conversation = transcribed(media.turns, spec=manifest, audio_access=audio_access)
        return pieces(conversation, manifest, tools=request.tools)

    def read_transcription(self, audio: bytes, model: str, how: How, *, scores: bool = False) -> TranscriptionRequest:
        """Check a request for what is said in audio. how: as `read_how` gives it; scores: whether they are wanted.

        Raises: UnprocessableEntityError for what the model cannot do, ApiError 404 for one that is not there.
        """
        with api_errors():
            speech_to_text = self.models.speech_to_text(model)
            check_how(speech_to_text, how)
        return TranscriptionRequest(speech_to_text, audio, how, scores)

    def open_audio(self, request: TranscriptionRequest, *, access: Access | None = None) -> F32:
        """Decode a request's audio: (n,) float32, mono, 16 kHz. Raises: ApiError."""
        with api_errors():
            return decode_audio(request.audio, access=access or self.access, limits=self.limits.audio)

    def transcribe(
        self,
        request: TranscriptionRequest,
        samples: F32,
        *,
        stopped: Callable[[], bool] | None = None,
    ) -> Transcription:
        """Begin to transcribe audio. samples: as open_audio gives them; stopped: asked meanwhile. Raises: ApiError."""
        with api_errors():
            return Transcription(request, samples, stopped or _never)

    def read_speech(
        self, text: str, voice: str | None = None, *, language: str | None = None, speed: float = 1.0
    ) -> SynthesisRequest:
        """Check a request to speak a text. voice, language: as `Voices.choose`; speed: a factor, 0.25 to 4.

        Raises: UnprocessableEntityError for a voice or a language there is not, ApiError 400 without any voice.
        """
        with api_errors():
            check_speed(speed)
            return SynthesisRequest(text, self.voices.choose(voice, language), speed)

    def speak(
        self,
        request: SynthesisRequest,
        encoder: Callable[[int], Encoder],
        *,
        stopped: Callable[[], bool] | None = None,
    ) -> Synthesis:
        """Begin to speak a text. encoder: makes what the audio is written with, by its rate; stopped: asked meanwhile.

        Raises: ApiError.
        """
        with api_errors():
            return Synthesis(self.voices, request, encoder, stopped or _never)

    def tokenize(
        self, text: str, model: str | None = None, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Return the tokens of a text. model: None for the default one.

        add_special: behind those that every prompt begins with; parse_special: the spellings of control tokens stand
        for these, which no text does otherwise. Raises: ApiError.
        """
        with api_errors():
            engine = self._engine(model)
            first = list(engine.manifest.prompt.start_ids) if add_special else []
            return (
                [*first, *engine.tokenizer.encode_with_control(text)]
                if parse_special
                else [*first, *engine.tokenizer.encode(text)]
            )

    def token_bytes(self, ids: Sequence[int], model: str | None = None) -> list[bytes]:
        """Return the bytes of each token: of a control token its spelling. model: as `tokenize`. Raises: ApiError."""
        with api_errors():
            tokenizer = self._engine(model).tokenizer
            try:
                return [tokenizer.token_bytes(token) for token in ids]
            except ValueError as error:
                raise ParameterError(f"tokens: {str(error).removeprefix('token: ')}", field="tokens") from error

    def _engine(self, model: str | None) -> Engine:
        return self.models.engine(next(iter(self.models.ids()), "") if model is None else model)

    def close(self) -> None:
        """Give the engines and the voices up, and the processes that decode media."""
        self.models.close()
        self.voices.close()
        self.access.worker.close()


def next_logits(engine: Engine, messages: Sequence[MessageLike]) -> F32:
    """Return the logits (V,) of the first token of an answer; messages as chat.create accepts them.

    Raises: as `Engine.stream`, and MediaError.
    """
    budget = _text_budget(engine, Limits())
    conversation = turns(messages, spec=engine.manifest, access=Access(files=True), budget=budget)
    return engine.logits(pieces(conversation, engine.manifest))


def _text_budget(engine: Engine, limits: Limits) -> TextBudget:
    """Return a budget for the text of PDFs in one request: at most a quarter of the context."""
    n_tokens = min(limits.page_text_tokens, engine.context // 4)
    return TextBudget(engine.tokenizer.encode, engine.tokenizer.decode, n_tokens)


def _reasoning(last: Message) -> Start:
    """Return how the answer of a model that reasons begins; last: the message that it answers or goes on from."""
    if last.role != "assistant":
        return start_of(None)
    return start_of(" ".join(part for part in last.parts if isinstance(part, str)))


def _never() -> bool:
    return False
