"""A question on its way to speech, in a thread: transcribed, asked with what is seen, spoken sentence by sentence."""

import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from edge.arrays import F32, U8
from edge.assistant.looking import wants_image
from edge.assistant.phrases import apology, cause_of
from edge.assistant.settings import Settings
from edge.assistant.states import What
from edge.chat import Chat
from edge.chat.reply import Reply
from edge.devices.voice_activity import RATE_HZ
from edge.engine.handle import Handle, Progress
from edge.errors import ContextLengthError, DeviceError, EdgeError, RuntimeFailure
from edge.speech.languages import name_of
from edge.speech.speaker import Speaker, Spoken

Message = Mapping[str, object]
Transcribe = Callable[[F32, Callable[[], bool]], str]  # samples (n,) at 16 kHz, and whether to stop -> text

_LOG = logging.getLogger("edge.assistant")
_SYSTEM = (
    "You are a voice assistant. What you answer is read aloud: answer in one to three short sentences of plain text "
    "in {language}, without lists, Markdown, links or emoji."
)


class Tools(Protocol):
    """What is used of an `edge.tools` toolset."""

    @property
    def schemas(self) -> Sequence[Mapping[str, object]]: ...

    def call(self, name: str, arguments_json: str) -> str: ...


@dataclass(frozen=True, eq=False)
class Question:
    """What was asked. samples: (n,) at 16 kHz; rgb: what the camera saw then; blind: why it saw nothing."""

    samples: F32
    rgb: U8 | None = None
    blind: DeviceError | None = None


@dataclass(frozen=True, eq=False)
class News:
    """What came of a question so far: a transcript, a tool that was called, a sentence, the end, a failure."""

    what: What
    text: str = ""
    spoken: Spoken | None = None
    error: EdgeError | None = None


@dataclass(frozen=True, eq=False)
class Setup:
    """What questions are answered with. transcribe: None where the model takes audio itself; model: its name."""

    chat: Chat
    model: str
    speaker: Speaker
    settings: Settings
    transcribe: Transcribe | None = None
    tools: Tools | None = None


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
        if wants_image(settings.look, text, settings.language):
            if question.rgb is not None:
                self.looked = True
                parts.append({"type": "image", "image": question.rgb})
            elif question.blind is not None and text is not None and settings.look == "auto":
                raise question.blind
        if text is None:
            spoken: Message = {"type": "audio", "audio": (question.samples, RATE_HZ)}
        else:
            spoken = {"type": "text", "text": text}
        self.asked = {"role": "user", "content": [spoken]}
        return {"role": "user", "content": [*parts, spoken]}

    def _pieces(self, message: Message) -> Iterator[str]:
        """Yield the answer's text piece by piece, tools called in between. Raises: EdgeError."""
        messages = [*self._first(), *self._earlier, message]
        for _ in range(1 + self._setup.settings.tool_rounds):
            reply = self._begin(messages, message)
            last = yield from self._grow(reply)
            calls = None if last is None else reply.response(last).responses[0].message.tool_calls
            if not calls or self._setup.tools is None:
                return
            outputs = []
            for call in calls:
                self.news.put(News(What.TOOL, call.name))
                output = self._setup.tools.call(call.name, json.dumps(call.parameters))
                outputs.append({"tool_call_id": call.id, "output": output})
            messages += [
                {"role": "assistant", "content": "", "tool_calls": [call.dict() for call in calls]},
                {"role": "tool_output", "content": outputs},
            ]

    def _begin(self, messages: list[Message], message: Message) -> Reply:
        """Start a generation; where a long history leaves no room, without that."""
        try:
            return self._start(messages)
        except EdgeError as error:
            if not (self._earlier and isinstance(cause_of(error), ContextLengthError)):
                raise
            del messages[len(self._first()) : messages.index(message)]
            return self._start(messages)

    def _start(self, messages: Sequence[Message]) -> Reply:
        setup, settings = self._setup, self._setup.settings
        body: dict[str, object] = {
            "messages": list(messages),
            "model": setup.model,
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed,
        }
        if setup.tools is not None and setup.tools.schemas:
            body["tools"] = list(setup.tools.schemas)
        reply = setup.chat.start(setup.chat.read(body), stopped=self._stop.is_set)
        self._handle = reply.handle
        if self._stop.is_set():
            reply.handle.cancel()
        return reply

    def _grow(self, reply: Reply) -> Generator[str, None, Progress | None]:
        """Yield what is new of a reply's text; return its last progress, None where it was cancelled."""
        shown, last = "", None
        for last in reply.progress():
            self.stages.end("token")
            text = reply.said(last).content
            if text.startswith(shown):
                self.text += text[len(shown) :]
                yield text[len(shown) :]
                shown = text
        return last if last is not None and last.finish_reason is not None else None

    def _first(self) -> list[Message]:
        settings = self._setup.settings
        system = settings.system
        if system is None:
            system = _SYSTEM.format(language=name_of(settings.language.partition("-")[0]).capitalize())
        return [{"role": "system", "content": system}] if system else []

    def _fail(self, error: EdgeError) -> None:
        if not self._stop.is_set():
            self.news.put(News(What.FAILED, apology(error, self._setup.settings.language), error=error))
