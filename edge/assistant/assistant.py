"""The assistant: a microphone, wake words, a model, a voice, a loudspeaker and a camera, opened and closed together."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from edge.arrays import F32
from edge.assistant.answering import Setup, Transcribe
from edge.assistant.blocks import Blocks, Source, is_device
from edge.assistant.events import Event
from edge.assistant.loop import Loop, Order, Parts
from edge.assistant.phrases import phrase
from edge.assistant.players import LivePlayer, Player, Timeline
from edge.assistant.settings import Settings
from edge.assistant.states import State, What
from edge.assistant.view import View
from edge.chat import Chat
from edge.chat.attachments import Access
from edge.devices.camera import Camera
from edge.devices.loudspeaker import Loudspeaker
from edge.errors import DeviceError, ParameterError, UnsupportedError
from edge.models import Models
from edge.speech import wake_word
from edge.speech.speaker import Speaker
from edge.speech.speech_to_text import SpeechToText
from edge.speech.transcriber import ENGLISH, How
from edge.speech.wake_word import WakeWords
from edge.tools.toolset import Toolset

NO_LOUDSPEAKER = "none"


class Assistant:
    """Listens for a wake word, then to a question, answers it and speaks; a context manager.

    microphone, camera: as for `edge.Microphone` and `edge.Camera`; loudspeaker: as for `edge.Loudspeaker`, a .wav file,
    or "none". voice: as for `edge.Speaker`. model: id, alias or folder of a chat bundle, speech: of its speech-to-text
    model. transcribe: a function in its place, (samples, stopped) -> text. tools: a `Toolset` that the model may call.
    on_event: called with each `Event`, in the thread of `run`. on_beat: called by it about once a
    second, while it works. settings: everything else. chat: one that is open
    already, which stays open.

    Where the microphone is a file, time is the position in it: a .wav loudspeaker then holds, second by second, what
    was said while the microphone's file was heard, and nothing depends on how fast the machine is.

        with Assistant(microphone="question.wav", loudspeaker="answer.wav", on_event=print) as assistant:
            assistant.run()

    Raises: ParameterError, DeviceError, VoiceError, UnknownModelError, UnsupportedError for what it cannot work with.
    """

    def __init__(
        self,
        *,
        microphone: Source = None,
        loudspeaker: int | str | Path | None = None,
        camera: int | str | Path | Camera | View | None = None,
        voice: str | Path | None = None,
        model: str | Path | None = None,
        speech: str | Path | None = None,
        transcribe: Transcribe | None = None,
        tools: Toolset | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_beat: Callable[[], None] | None = None,
        settings: Settings | None = None,
        chat: Chat | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._stopping = threading.Event()
        self._held = ExitStack()
        with ExitStack() as held:  # what is open already is closed where the rest cannot be opened
            wake = WakeWords(
                [wake_word.load(name) for name in self.settings.wake],
                threshold=self.settings.wake_threshold,
                refractory_s=self.settings.refractory_s,
            )
            held.callback(wake.close)
            speaker = held.enter_context(Speaker(voice, language=self.settings.language, speed=self.settings.speed))
            setup = self._setup(held, chat, model, speech, speaker, transcribe, tools, looks=camera is not None)
            view = camera if camera is None or isinstance(camera, View) else View(camera)
            if view is not None:
                held.callback(view.close)
            is_file = not (is_device(microphone) or str(microphone) == "-")
            player = self._player(loudspeaker)
            held.callback(player.close)
            is_timeline = isinstance(player, Timeline)
            blocks = Blocks(microphone, paced=is_file and not is_timeline, stopping=self._stopping)
            started_s = time.monotonic()
            self._loop = Loop(
                Parts(
                    setup, blocks, player, wake, view, on_event or _ignore, on_beat or _nothing,
                    waits=is_file and is_timeline,
                    clock=None if is_file else lambda: time.monotonic() - started_s, stopping=self._stopping,
                )
            )  # fmt: skip
            self._held = held.pop_all()

    @property
    def state(self) -> State:
        """What it does now."""
        return self._loop.state

    def run(self) -> None:
        """Work until `end`, or the end of a file and of what was asked in it. Raises: DeviceError for such a file."""
        self._loop.run()

    def stalled_s(self) -> float:
        """Return the seconds in which the model's work has not moved on, as `Engine.stalled_s`."""
        return self._loop.stalled_s()

    def talk(self) -> None:
        """Do as if the wake word was said; while it listens, the question ends. From any thread, as the others."""
        self._order(What.TALK)

    def stop(self) -> None:
        """Fall silent, and wait for the wake word."""
        self._order(What.STOP)

    def mute(self) -> None:
        """Listen to nothing; a second time takes it back."""
        self._order(What.MUTE)

    def unmute(self) -> None:
        """Listen again."""
        self._order(What.UNMUTE)

    def ring(self, text: str | None = None) -> None:
        """Ring as a timer does, then say a text, as soon as nothing else is said."""
        self._loop.orders.put(Order(What.RING, text or phrase("timer", self.settings.language)))

    def end(self) -> None:
        """Have `run` end; also from a signal's handler."""
        self._stopping.set()

    def close(self) -> None:
        """Give everything back. Closing twice is fine."""
        self._stopping.set()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, what: What) -> None:
        self._loop.orders.put(Order(what))

    def _player(self, loudspeaker: int | str | Path | None) -> Player:
        if str(loudspeaker) == "-":
            raise ParameterError("loudspeaker: standard output has the events; expected a device or a .wav file",
                                 field="loudspeaker")  # fmt: skip
        if loudspeaker == NO_LOUDSPEAKER:
            return Timeline()
        if Path(str(loudspeaker)).suffix.lower() == ".wav":
            return Timeline(Path(str(loudspeaker)))

        def fault(error: DeviceError) -> None:
            self._loop.orders.put(Order(What.FAILED, reason=str(error)))

        return LivePlayer(Loudspeaker(loudspeaker), fault)

    def _setup(
        self,
        held: ExitStack,
        chat: Chat | None,
        model: str | Path | None,
        speech: str | Path | None,
        speaker: Speaker,
        transcribe: Transcribe | None,
        tools: Toolset | None,
        *,
        looks: bool,
    ) -> Setup:
        """Open the model, and find what transcribes for it."""
        if chat is None:
            chat = Chat(Models(model=model, aliases={}, threads=None, context=None, speech=speech), Access())
            held.callback(chat.close)
        manifest = chat.engine(
            next(iter(chat.models.ids()), "no bundle")
        ).manifest  # the one that is named is the first
        if looks and manifest.vision is None:
            raise UnsupportedError(f"{manifest.id} accepts no images: it cannot look through a camera")
        speech_to_text = chat.models.speech_model(manifest.id)
        if transcribe is None and speech_to_text is not None:
            transcribe = _transcriber(speech_to_text, self.settings.language)
        if transcribe is None and manifest.audio is None:
            raise UnsupportedError(
                f"{manifest.id} does not accept audio: edge models speech {manifest.id} SPEECH-BUNDLE sets a "
                "speech-to-text model for it"
            )
        return Setup(chat, manifest.id, speaker, self.settings, transcribe, tools)


def _transcriber(model: SpeechToText, language: str) -> Transcribe:
    """Return what transcribes with a speech bundle, in a language where it knows several. Raises: UnsupportedError."""
    code = language.partition("-")[0]
    if not model.spec.languages and code != ENGLISH:
        raise UnsupportedError(f"{model.id} transcribes English only, not {language!r:.50}: use a model that knows it")
    model.open()  # the first question does not wait for it, and what is damaged is told at the start
    how = How(language=code if code in (model.spec.languages or {}) else None)

    def transcribe(samples: F32, stopped: Callable[[], bool]) -> str:
        return model.listen(samples, how=how, stopped=stopped, heard=_ignore).text

    return transcribe


def _ignore(_: object) -> None:
    """Do nothing with it."""


def _nothing() -> None:
    """Do nothing."""
