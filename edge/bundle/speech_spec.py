"""What a manifest says of a Whisper model: its shape, and the rules that its decoding follows."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_DIMENSION = 1 << 24
_TOKENS = ("start", "end", "no_timestamps")  # of SpeechSpec: ids, which may be 0


@dataclass(frozen=True)
class SpeechSpec:
    """A Whisper model: its shape, and the rules that its decoding follows.

    n_mels, n_frames: of the log-mel of one window; n_positions: encoder rows of it; context: tokens of one window's
    text, prompt and timestamps included; languages: code ("en") to token, none in an English-only model; tasks:
    "transcribe" and "translate" to tokens; suppress: tokens that are never chosen, begin_suppress: never first;
    max_first_timestamp: the last timestamp that may come first, counted in steps of 20 ms, null for any.
    """

    n_mels: int
    n_frames: int
    n_positions: int
    hidden_size: int
    n_layers: int
    n_heads: int
    head_dim: int
    vocab_size: int
    context: int
    start: int
    end: int
    no_timestamps: int
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    suppress: tuple[int, ...]
    begin_suppress: tuple[int, ...]
    max_first_timestamp: int | None

    @property
    def first_timestamp(self) -> int:
        """The token of 0.00 s; every later one stands for 20 ms more."""
        return self.no_timestamps + 1

    @property
    def previous(self) -> int | None:
        """The token before a text that precedes a window's, None in a vocabulary without it.

        Source: openai-whisper's tokenizer, whose last tokens before the timestamps are startofprev, nospeech and
        notimestamps.
        """
        return self._control(self.no_timestamps - 2)

    @property
    def no_speech(self) -> int | None:
        """The token of a window without speech, None in a vocabulary without it. Source: as `previous`."""
        return self._control(self.no_timestamps - 1)

    def _control(self, token: int) -> int | None:
        known = (self.start, *self.languages.values(), *self.tasks.values())
        return token if token > self.end and token not in known else None


def speech_problems(speech: SpeechSpec) -> Iterator[tuple[str, str]]:
    """Yield (key, what was expected) for every value outside its range."""
    for field in dataclasses.fields(speech):
        value = getattr(speech, field.name)
        if field.name not in _TOKENS and field.type is int and not 1 <= value <= MAX_DIMENSION:
            yield f"speech.{field.name}", f"1 to {MAX_DIMENSION}, got {value}"
    if speech.n_frames != 2 * speech.n_positions:
        yield "speech.n_frames", f"twice n_positions {speech.n_positions}, got {speech.n_frames}"
    named = [(name, token) for name in ("languages", "tasks") for token in getattr(speech, name).values()]
    named += [(name, token) for name in ("suppress", "begin_suppress") for token in getattr(speech, name)]
    for name, token in [*((name, getattr(speech, name)) for name in _TOKENS), *named]:
        if not 0 <= token < speech.vocab_size:
            yield f"speech.{name}", f"an id below the vocabulary of {speech.vocab_size}, got {token}"
    if not speech.end < speech.first_timestamp < speech.vocab_size:
        wanted = f"an id between end {speech.end} and the last of the vocabulary of {speech.vocab_size}"
        yield "speech.no_timestamps", f"{wanted}, got {speech.no_timestamps}"
    if speech.max_first_timestamp is not None and speech.max_first_timestamp < 0:
        yield "speech.max_first_timestamp", f"steps >= 0, got {speech.max_first_timestamp}"
