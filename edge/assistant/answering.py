"""A question on its way to speech, in a thread: transcribed, asked with what is seen, spoken sentence by sentence."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from edge.arrays import F32, U8
from edge.assistant.looking import asks_to_look, wants_image
from edge.assistant.phrases import apology, cause_of
from edge.assistant.settings import Settings
from edge.assistant.states import What
from edge.chat import Chat
from edge.chat.arguments import chat_request
from edge.devices.voice_activity import RATE_HZ
from edge.engine.handle import Handle
from edge.errors import ContextLengthError, DeviceError, EdgeError, RuntimeFailure
from edge.speech.languages import name_of
from edge.speech.speaker import Speaker, Spoken
from edge.tools.rounds import ToolStarted
from edge.tools.running import run, run_request
from edge.tools.toolset import Toolset
from edge.types import ChunkChatResponse

Message = Mapping[str, object]
Argument = Any  # of a method whose parameters another function has: there it has its type
Transcribe = Callable[[F32, Callable[[], bool]], str]  # samples (n,) at 16 kHz, and whether to stop -> text

_LOG = logging.getLogger("edge.assistant")
_SYSTEM = (
    "You are a voice assistant. What you answer is read aloud: answer in one to three short sentences of plain text "
    "in {language}, without lists, Markdown, links or emoji."
)


@dataclass(frozen=True, eq=False)
class Question:
    """What was asked. samples: (n,) at 16 kHz; look: returns what the camera sees, or raises a DeviceError."""

    samples: F32
    look: Callable[[], U8] | None = None


@dataclass(frozen=True, eq=False)
class News:
    """What came of a question so far: a transcript, a tool that was called, a sentence, the end, a failure."""

    what: What
    text: str = ""
    spoken: Spoken | None = None
    error: EdgeError | None = None


@dataclass(frozen=True, eq=False)
class Setup:
    """What questions are answered with.

    transcribe: None where the model accepts audio itself; model: its name.
    """

    chat: Chat
    model: str
    speaker: Speaker
    settings: Settings
    transcribe: Transcribe | None = None
    tools: Toolset | None = None


@dataclass
class Stages:
    """When the stages of an answer ended, in seconds of time.monotonic; asked_s: when its question had ended."""

    asked_s: float = field(default_factory=time.monotonic)
    ended_s: dict[str, float] = field(default_factory=dict)

    def end(self, stage: str) -> None:
        """Note that a stage ended, the first time that it did."""
        self.ended_s.setdefault(stage, time.monotonic())

    def ms(self) -> dict[str, int]:
        """Return the milliseconds from the end of the question to the end of each stage."""
        return {stage: round(1000 * (ended_s - self.asked_s)) for stage, ended_s in self.ended_s.items()}


class Answer:
    """One question being answered, or (say, question None) a text of the assistant's own being spoken.

    earlier: messages. news: what came of it, in order; text: of the answer so far; asked: the question as a message,
    as it is remembered; looked: whether an image is part of it.
    """

    def __init__(self, setup: Setup, question: Question | None, earlier: Sequence[Message], *, say: str = "") -> None:
        self.news: SimpleQueue[News] = SimpleQueue()
        self.stages = Stages()
        self.text = ""
        self.asked: Message | None = None
        self.looked = False
        self.is_own = question is None
        self._setup = setup
        self._question = question
        self._say = say
        self._earlier = list(earlier)
        self._stop = threading.Event()
        self._handle: Handle | None = None
        # A daemon: a program that ends must not wait for a model.
        self._thread = threading.Thread(target=self._run, name="edge-answer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """End at the generation's next step, chunk or tile; from any thread."""
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._answer()
        except EdgeError as error:
            self._fail(error)
        except MemoryError:
            self._fail(RuntimeFailure("no memory is left"))
        except Exception as error:
            _LOG.error("an answer failed: %s", type(error).__name__, exc_info=error)
            self._fail(RuntimeFailure(f"the answer failed: {type(error).__name__}"))

    def _answer(self) -> None:
        question = self._question
        if question is None:
            self._speak([self._say])
            return
        text = self._transcript(question)
        if text is not None:
            self.stages.end("transcript")
            if not any(c.isalnum() for c in text):
                self.news.put(News(What.EMPTY))
                return
            self.news.put(News(What.TRANSCRIPT, text))
        self._speak(self._pieces(self._message(question, text)))

    def _speak(self, pieces: Iterable[str]) -> None:
        for spoken in self._setup.speaker.say(pieces, stop=self._stop):
            self.stages.end("sentence")
            self.news.put(News(What.SENTENCE, spoken.text, spoken))
        if not self._stop.is_set():
            self.stages.end("answer")
            self.news.put(News(What.SPOKEN, self.text))

    def _transcript(self, question: Question) -> str | None:
        """Return what was asked; None where the model is to make it out from the audio."""
        transcribe = self._setup.transcribe
        if transcribe is None:
            return None
        return transcribe(question.samples, self._stop.is_set).strip()

    def _message(self, question: Question, text: str | None) -> Message:
        """Return the question as a message. Raises: DeviceError where it is about what is seen, and nothing is."""
        settings = self._setup.settings
        parts: list[Message] = []
        if question.look is not None and wants_image(settings.look, text, settings.language):
            try:
                parts.append({"type": "image", "image": question.look()})
                self.looked = True
            except DeviceError as error:
                if text is not None and asks_to_look(text, settings.language):
                    raise
                self.news.put(News(What.BLIND, str(error)))
        if text is None:
            spoken: Message = {"type": "audio", "audio": (question.samples, RATE_HZ)}
        else:
            spoken = {"type": "text", "text": text}
        self.asked = {"role": "user", "content": [spoken]}
        return {"role": "user", "content": [*parts, spoken]}

    def _pieces(self, message: Message) -> Iterator[str]:
        """Yield the answer's text piece by piece, tools called in between. Raises: EdgeError.

        A history that leaves no room in the context is left out.
        """
        try:
            yield from self._grow([*self._first(), *self._earlier, message])
        except EdgeError as error:
            if not (self._earlier and isinstance(cause_of(error), ContextLengthError) and not self.text):
                raise
            yield from self._grow([*self._first(), message])

    def _grow(self, messages: Sequence[Message]) -> Iterator[str]:
        setup, settings, shown = self._setup, self._setup.settings, ""
        request = run_request(
            messages=messages, model=setup.model, tools=setup.tools, max_rounds=settings.tool_rounds, cancel=self._stop,
            max_tokens=settings.max_tokens, temperature=settings.temperature, seed=settings.seed,
        )  # fmt: skip
        with contextlib.closing(run(request, self._ask)) as events:
            for event in events:
                if isinstance(event, ToolStarted):
                    self.news.put(News(What.TOOL, event.call.name))
                    shown = ""
                elif isinstance(event, ChunkChatResponse):
                    text = str(event.responses[0].chunk.content or "")
                    if text.startswith(shown):
                        self.text += text[len(shown) :]
                        yield text[len(shown) :]
                        shown = text

    def _ask(self, **fields: Argument) -> Generator[ChunkChatResponse, None, None]:
        """Yield an answer as it grows; `cancel` stops it. Raises: ApiError."""
        chat = self._setup.chat
        reply = chat.start(chat.read(chat_request(**fields)), stopped=self._stop.is_set)
        self._handle = reply.handle
        if self._stop.is_set():
            reply.handle.cancel()
        with contextlib.closing(reply.progress()) as arriving:
            for progress in arriving:
                self.stages.end("token")
                yield reply.chunk(progress)

    def _first(self) -> list[Message]:
        settings = self._setup.settings
        system = settings.system
        if system is None:
            system = _SYSTEM.format(language=name_of(settings.language.partition("-")[0]).capitalize())
        return [{"role": "system", "content": system}] if system else []

    def _fail(self, error: EdgeError) -> None:
        if not self._stop.is_set():
            self.news.put(News(What.FAILED, apology(error, self._setup.settings.language), error=error))
