"""The states of an assistant: what follows in which state upon what, and nothing else.

    idle --wake word--> listening --utterance--> thinking --first sentence--> speaking --spoken--> follow-up
    follow-up --speech--> listening, --silence--> idle

A wake word or a button goes to listening from anywhere but lost and muted; whatever was being answered or said ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """What an assistant does."""

    IDLE = "idle"  # waits for its wake word
    LISTENING = "listening"  # to a question
    THINKING = "thinking"  # transcribes, looks and reads the prompt
    SPEAKING = "speaking"
    FOLLOW_UP = "follow-up"  # waits for a question without a wake word
    ERROR = "error"  # says what went wrong
    MUTED = "muted"  # listens to nothing
    LOST = "lost"  # has no microphone


class What(StrEnum):
    """What happens."""

    START = "start"
    WAKE = "wake"
    TALK = "talk"  # the button
    SPEECH = "speech"  # somebody begins to speak
    UTTERANCE = "utterance"  # and has fallen silent
    SILENCE = "silence"  # nobody spoke in time
    EMPTY = "empty"  # nothing was understood in an utterance
    SENTENCE = "sentence"  # the first one of an answer is ready
    SPOKEN = "spoken"  # everything that was to be said
    FAILED = "failed"
    STOP = "stop"
    MUTE = "mute"
    UNMUTE = "unmute"
    RING = "ring"  # a timer
    LOST = "lost"
    BACK = "back"
    TRANSCRIPT = "transcript"
    TOOL = "tool"
    BLIND = "blind"  # the camera failed, and the question is answered without it
    END = "end"


class Act(StrEnum):
    """What an assistant has to do when its state changes, in this order."""

    CANCEL = "cancel"  # the answer that is being made
    HUSH = "hush"  # silence what is being played
    LISTEN = "listen"  # begin an utterance
    FINISH = "finish"  # end the utterance now
    ASK = "ask"  # answer the utterance
    APOLOGIZE = "apologize"  # say what went wrong
    RING = "ring"
    RESET = "reset"  # forget the audio so far
    SOUND_WAKE = "sound wake"
    SOUND_HEARD = "sound heard"
    SOUND_NOTHING = "sound nothing"
    SOUND_STOP = "sound stop"


@dataclass(frozen=True)
class Step:
    """The next state, and what there is to do."""

    state: State
    acts: tuple[Act, ...] = ()


_HUSH = (Act.CANCEL, Act.HUSH)
_LISTEN = Step(State.LISTENING, (Act.LISTEN, Act.SOUND_WAKE))
_LISTEN_INSTEAD = Step(State.LISTENING, (*_HUSH, Act.LISTEN, Act.SOUND_WAKE))
_END = Step(State.IDLE, (*_HUSH, Act.SOUND_STOP))
_MUTE = Step(State.MUTED, (*_HUSH, Act.SOUND_STOP))
# A timer may be told while it hears nothing: it ends where somebody can ask again.
_UNMUTE = Step(State.IDLE, (*_HUSH, Act.RESET, Act.SOUND_WAKE))
_LOST = Step(State.LOST, (Act.RESET,))
_APOLOGY = Step(State.ERROR, (Act.CANCEL, Act.APOLOGIZE))
_RING = Step(State.SPEAKING, (Act.RING,))

TABLE: Mapping[State, Mapping[What, Step]] = MappingProxyType(
    {
        State.IDLE: {
            What.WAKE: _LISTEN,
            What.TALK: _LISTEN,
            What.RING: _RING,
            What.MUTE: _MUTE,
            What.LOST: _LOST,
            What.FAILED: _APOLOGY,
        },
        State.LISTENING: {
            What.WAKE: Step(State.LISTENING, (Act.LISTEN,)),
            What.TALK: Step(State.LISTENING, (Act.FINISH,)),
            What.UTTERANCE: Step(State.THINKING, (Act.ASK, Act.SOUND_HEARD)),
            What.SILENCE: Step(State.IDLE, (Act.SOUND_NOTHING,)),
            What.STOP: _END,
            What.MUTE: _MUTE,
            What.LOST: _LOST,
            What.FAILED: _APOLOGY,
        },
        State.THINKING: {
            What.WAKE: _LISTEN_INSTEAD,
            What.TALK: _LISTEN_INSTEAD,
            What.SENTENCE: Step(State.SPEAKING),
            What.SPOKEN: Step(State.FOLLOW_UP, (Act.LISTEN,)),
            What.EMPTY: Step(State.IDLE, (Act.SOUND_NOTHING,)),
            What.FAILED: _APOLOGY,
            What.STOP: _END,
            What.MUTE: _MUTE,
        },
        State.SPEAKING: {
            What.WAKE: _LISTEN_INSTEAD,
            What.TALK: _LISTEN_INSTEAD,
            What.SPOKEN: Step(State.FOLLOW_UP, (Act.LISTEN,)),
            What.FAILED: _APOLOGY,
            What.STOP: _END,
            What.MUTE: _MUTE,
        },
        State.FOLLOW_UP: {
            What.WAKE: _LISTEN,
            What.TALK: _LISTEN,
            What.SPEECH: Step(State.LISTENING),
            What.SILENCE: Step(State.IDLE),
            What.RING: _RING,
            What.STOP: Step(State.IDLE),
            What.MUTE: _MUTE,
            What.LOST: _LOST,
            What.FAILED: _APOLOGY,
        },
        State.ERROR: {
            What.WAKE: _LISTEN_INSTEAD,
            What.TALK: _LISTEN_INSTEAD,
            What.SPOKEN: Step(State.IDLE),
            What.STOP: _END,
            What.MUTE: _MUTE,
        },
        State.MUTED: {
            What.MUTE: _UNMUTE,  # a second time takes it back
            What.UNMUTE: _UNMUTE,
            What.RING: Step(State.MUTED, (Act.RING,)),
            What.STOP: Step(State.MUTED, _HUSH),
        },
        State.LOST: {
            What.BACK: Step(State.IDLE, (Act.RESET,)),
            What.RING: Step(State.LOST, (Act.RING,)),
            What.STOP: Step(State.LOST, _HUSH),
            What.MUTE: Step(State.MUTED, _HUSH),
        },
    }
)


def after(state: State, what: What) -> Step:
    """Return what follows in a state upon what happens; what means nothing there changes nothing."""
    return TABLE[state].get(what, Step(state))
