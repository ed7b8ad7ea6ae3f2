"""An assistant at work, block by block of its microphone: what it hears, what it plays, and which state follows."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from edge.arrays import F32
from edge.assistant import sounds
from edge.assistant.answering import Answer, News, Question, Setup
from edge.assistant.blocks import Blocks
from edge.assistant.events import Event
from edge.assistant.history import History
from edge.assistant.phrases import apology, cause_of
from edge.assistant.players import Player
from edge.assistant.settings import Settings
from edge.assistant.states import TABLE, Act, State, What, after
from edge.assistant.view import View
from edge.devices.learned_voice import detector
from edge.devices.voice_activity import BLOCK_S, RATE_HZ, Loudness, Patience, Utterances
from edge.errors import DeviceError, EdgeError
from edge.speech.speaker import Spoken
from edge.speech.wake_word import WakeWords

_ECHO_S = 0.25  # after a sound of its own that it may still hear
_LEAST_SPEECH_S = 0.25  # what is shorter is a click
_TAIL_S, _LEAST_AFTER_WAKE_S = (
    0.5,
    0.45,
)  # speech that begins so soon may be the rest of the wake word: then it is short
_WAIT_S = 0.2
_BEAT_BLOCKS = 33
_AT_REST = (State.IDLE, State.MUTED, State.LOST)
_SAYING = (State.THINKING, State.SPEAKING, State.ERROR)
_SOUNDS = {Act.SOUND_WAKE: "wake", Act.SOUND_HEARD: "heard", Act.SOUND_NOTHING: "nothing", Act.SOUND_STOP: "stop"}


@dataclass(frozen=True)
class Order:
    """What comes from outside: a button, a command, a timer. text: what a timer says."""

    what: What
    text: str = ""
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Parts:
    """What an assistant is made of.

    beat: called about once a second; clock: seconds; waits: time stands still while an answer is made.
    """

    setup: Setup
    blocks: Blocks
    player: Player
    wake: WakeWords
    view: View | None
    tell: Callable[[Event], None]
    beat: Callable[[], None]
    clock: Callable[[], float] | None
    waits: bool
    stopping: threading.Event


class Loop:
    """Runs an assistant. orders: what comes from outside, from any thread."""

    def __init__(self, parts: Parts) -> None:
        self.orders: SimpleQueue[Order] = SimpleQueue()
        self.state = State.IDLE
        self._parts = parts
        self._settings: Settings = parts.setup.settings
        self._history = History(turns=self._settings.history_turns, minutes=self._settings.history_minutes)
        self._detector = detector(self._settings.vad)
        self._patience = Patience(self._settings.silence_s, self._settings.longest_s)
        self._utterances = Utterances(self._patience, self._detector)
        self._said: F32 | None = None
        self._answer: Answer | None = None
        self._sentences: list[str] = []
        self._complete = True
        self._n_blocks = 0
        self._since_s = self._loud_s = float("-inf")
        self._was_woken = False
        self._error: EdgeError | None = None
        self._rings: list[Order] = []
        self._answered = False

    def run(self) -> None:
        """Work until told to stop, or the end of a file. Raises: DeviceError for a file that cannot be read."""
        try:
            self._tell(What.START)
            for block in self._parts.blocks:
                self._n_blocks += 1
                self._tick(block)
                if self._is_over():
                    break
        finally:
            if self._answer is not None:
                self._answer.cancel()
            self._tell(What.END)

    def stalled_s(self) -> float:
        """Return the seconds in which the model's work has not moved on."""
        return self._parts.setup.chat.models.stalled_s()

    def now(self) -> float:
        """Return the time in seconds: the audio's, or the clock's."""
        clock = self._parts.clock
        return self._n_blocks * BLOCK_S if clock is None else clock()

    def _tick(self, block: F32 | None) -> None:
        if self._n_blocks % _BEAT_BLOCKS == 1:
            self._parts.beat()
        self._obey()
        self._take_news()
        self._check_microphone()
        if block is not None:
            self._hear(block)
        self._check_times()
        self._parts.player.advance(BLOCK_S)
        if not self._parts.player.idle:
            self._loud_s = self.now()
        elif self.state in _SAYING and self._complete:
            self._happen(What.SPOKEN, **self._figures())

    def _is_over(self) -> bool:
        is_at_rest = self._parts.player.idle and self._complete
        if self._settings.once and self._answered and self.state in (State.IDLE, State.FOLLOW_UP) and is_at_rest:
            return True
        return self._parts.blocks.ended and is_at_rest and self.state in (State.IDLE, State.MUTED)

    def _obey(self) -> None:
        """Take orders; a timer waits until nothing else is said."""
        while True:
            try:
                order = self.orders.get_nowait()
            except Empty:
                break
            if order.what is What.RING:
                self._rings.append(order)
            elif order.what is What.FAILED:  # a loudspeaker: nothing to say it with
                self._tell(What.FAILED, reason=order.reason)
            else:
                self._happen(order.what)
        if self._rings and self._complete and What.RING in TABLE[self.state]:
            ring = self._rings.pop(0)
            self._happen(What.RING, reason=ring.text)
            self._say(ring.text)

    def _take_news(self) -> None:
        """Take what came of the answer. Where time stands still, the next news is waited for when it is due."""
        while self._answer is not None and not self._complete:
            answer = self._answer
            if not self._parts.waits:
                try:
                    news = answer.news.get_nowait()
                except Empty:
                    return
            elif self.state is State.THINKING or self._parts.player.idle:
                try:
                    news = answer.news.get(timeout=_WAIT_S)
                except Empty:
                    if self._parts.stopping.is_set() or not self.orders.empty():
                        return
                    continue
            else:
                return
            self._take(answer, news)

    def _take(self, answer: Answer, news: News) -> None:
        """Take one piece of news of the answer in hand."""
        if news.what is What.SENTENCE and news.spoken is not None:
            self._sentences.append(news.text)
            self._parts.player.put(news.spoken)
            if self.state is State.THINKING:
                self._happen(What.SENTENCE, sentence=news.text, **self._figures())
        elif news.what is What.SPOKEN:
            self._complete = True
            self._remember(answer)
        elif news.what is What.TRANSCRIPT:
            self._tell(What.TRANSCRIPT, transcript=news.text)
        elif news.what is What.TOOL:
            self._tell(What.TOOL, tool=news.text)
        elif news.what is What.BLIND:
            self._tell(What.BLIND, reason=news.text)
        elif news.what is What.EMPTY:
            self._complete = True
            self._happen(What.EMPTY, reason="nothing was understood")
        else:
            self._complete = True
            self._error = news.error
            self._happen(What.FAILED, reason=_reason(news.error), **self._figures())

    def _check_microphone(self) -> None:
        lost = self._parts.blocks.lost
        if lost is not None and What.LOST in TABLE[self.state]:
            self._happen(What.LOST, reason=lost)
            self._parts.player.release()
        elif lost is None and self.state is State.LOST and self._complete and self._parts.player.idle:
            self._happen(What.BACK)  # a timer is told to its end first

    def _hear(self, block: F32) -> None:
        if self.state in (State.MUTED, State.LOST):
            return
        is_own = self.now() - self._loud_s < _ECHO_S
        woken = self._parts.wake.heard(block, raised=self._settings.guard if is_own else 0.0)
        if woken is not None and not (is_own and self._says(woken.phrase)):
            self._happen(What.WAKE, wake_word=woken.phrase, score=round(woken.score, 3))
        elif self.state in (State.LISTENING, State.FOLLOW_UP):
            self._listen(block, is_own=is_own)
        elif isinstance(self._detector, Loudness):
            self._detector.is_speech(block)  # it knows the room by what it hears all the time

    def _listen(self, block: F32, *, is_own: bool) -> None:
        """Take a block of a question; while a sound of its own is heard, none begins."""
        utterances = self._utterances
        if is_own and not utterances.speaking:
            utterances.hold(block)
            return
        said = utterances.add(block)
        if utterances.speaking and self.state is State.FOLLOW_UP:
            self._happen(What.SPEECH)
        if said is None:
            return
        began_s = self.now() - self._since_s - len(said) / RATE_HZ - self._patience.silence_s
        is_tail = self._was_woken and began_s < _TAIL_S
        if utterances.speech_s >= (_LEAST_AFTER_WAKE_S if is_tail else _LEAST_SPEECH_S):
            self._asked(said)

    def _asked(self, said: F32) -> None:
        self._said = said
        self._happen(What.UTTERANCE, seconds=round(len(said) / RATE_HZ, 2))

    def _check_times(self) -> None:
        now_s = self.now()
        waited_s = now_s - max(self._since_s, self._loud_s)
        if self.state is State.LISTENING and not self._utterances.speaking and waited_s > self._settings.listen_s:
            self._happen(What.SILENCE, reason="nobody spoke")
        elif self.state is State.FOLLOW_UP and waited_s > self._settings.follow_up_s:
            self._happen(What.SILENCE)

    def _happen(self, what: What, **fields: object) -> None:
        """Go to the state that follows, tell it, and do what there is to do."""
        if what not in TABLE[self.state]:
            return
        step = after(self.state, what)
        self.state = step.state
        if Act.LISTEN in step.acts:
            self._was_woken = what is What.WAKE
        self._tell(what, **fields)
        for act in step.acts:
            self._do(act)
        if self.state in _AT_REST and self._parts.view is not None:
            self._parts.view.close()

    def _do(self, act: Act) -> None:
        if act in _SOUNDS:
            self._sound(_SOUNDS[act])
        else:
            {
                Act.CANCEL: self._cancel,
                Act.HUSH: self._parts.player.hush,
                Act.LISTEN: self._begin_listening,
                Act.FINISH: self._finish,
                Act.ASK: self._ask,
                Act.APOLOGIZE: self._apologize,
                Act.RING: lambda: self._sound("ring", always=True),
                Act.RESET: self._reset,
            }[act]()

    def _cancel(self) -> None:
        """End the answer; what was said of it is remembered."""
        answer, self._answer = self._answer, None
        if answer is not None and not self._complete:
            answer.cancel()
            answer.text = " ".join(self._sentences)
            self._remember(answer)
        self._complete = True

    def _remember(self, answer: Answer) -> None:
        if answer.asked is not None and answer.text.strip():
            reply: Mapping[str, object] = {"role": "assistant", "content": answer.text.strip()}
            self._history.add([answer.asked, reply], self.now())

    def _begin_listening(self) -> None:
        if not isinstance(self._detector, Loudness):
            self._detector.reset()
        self._utterances = Utterances(self._patience, self._detector)
        self._since_s = self.now()
        if self._parts.view is not None and self._settings.look != "never":
            with suppress(DeviceError):  # told when it is asked to look
                self._parts.view.open()

    def _finish(self) -> None:
        """End the question now, as the button says."""
        said = self._utterances.end()
        if said is None:
            self._happen(What.SILENCE, reason="nobody spoke")
        else:
            self._asked(said)

    def _ask(self) -> None:
        if self._said is None:
            return
        view = self._parts.view
        question, self._said = Question(self._said, None if view is None else view.look), None
        most = self._parts.setup.chat.limits.audios - 1
        self._begin(Answer(self._parts.setup, question, self._history.messages(self.now(), audio=most)))
        self._answered = True

    def _apologize(self) -> None:
        self._sound("error")
        if self._error is not None:
            self._say(apology(self._error, self._settings.language))

    def _say(self, text: str) -> None:
        """Say a text of its own."""
        self._begin(Answer(self._parts.setup, None, (), say=text))

    def _begin(self, answer: Answer) -> None:
        self._answer, self._complete, self._sentences = answer, False, []
        answer.start()

    def _reset(self) -> None:
        self._parts.wake.reset()
        self._detector.reset()

    def _sound(self, name: str, *, always: bool = False) -> None:
        if self._settings.sounds or always:
            rate_hz = self._parts.setup.speaker.rate_hz  # a device that is opened again for each rate would be late
            self._parts.player.put(Spoken("", sounds.sound(name, rate_hz), rate_hz))

    def _says(self, phrase: str) -> bool:
        """Whether what is being said has the wake word in it: then it is its own."""
        said = "".join(c for c in " ".join(self._sentences).casefold() if c.isalnum() or c == " ")
        return phrase.casefold() in said

    def _figures(self) -> dict[str, object]:
        """Return what an answer's events say of it."""
        answer = self._answer
        if answer is None or answer.is_own:
            return {}
        return {"image": answer.looked, "answer": answer.text.strip(), "ms": answer.stages.ms()}

    def _tell(self, what: What, **fields: object) -> None:
        self._parts.tell(Event(self.now(), self.state, what, fields))


def _reason(error: EdgeError | None) -> str:
    """Return why something failed; who reads the events owns the machine."""
    return "" if error is None else str(cause_of(error))
