"""How an assistant behaves, and every default of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.assistant.looking import Look
from edge.errors import ParameterError

if TYPE_CHECKING:
    from edge.devices.learned_voice import Vad


@dataclass(frozen=True)
class Settings:
    """How an assistant behaves; times in seconds.

    wake: names or files of wake words, none for the button alone. wake_threshold: the score that wakes, each model's
    own unless given; refractory_s: no second wake word for so long; guard: by what part of the rest to 1 thresholds are
    raised while it speaks itself. vad: what tells speech. listen_s: how long it waits for a question; silence_s: what
    silence ends one; longest_s: of one. follow_up_s: how long a question needs no wake word after an answer, 0 for
    never. history_turns, history_minutes: what is remembered. look: whether questions get an image of the camera.
    language: of questions and answers; speed: of the voice, a factor. system: the system message, one for spoken
    answers unless given, "" for none. max_tokens: of an answer; temperature, seed: of its sampling; tool_rounds: how
    often an answer may call tools. sounds: whether changes of state are heard. once: end after one answer.
    """

    wake: Sequence[str | Path] = ("okay_nabu",)
    wake_threshold: float | None = None
    refractory_s: float = 2.0
    guard: float = 0.5
    vad: "Vad" = "auto"
    listen_s: float = 6.0
    silence_s: float = 0.8
    longest_s: float = 30.0
    follow_up_s: float = 6.0
    history_turns: int = 8
    history_minutes: float = 5.0
    look: Look = "auto"
    language: str = "en"
    system: str | None = None
    max_tokens: int = 200
    speed: float = 1.0
    temperature: float | None = None
    seed: int | None = None
    tool_rounds: int = 4
    sounds: bool = True
    once: bool = False

    def __post_init__(self) -> None:
        """Raises: ParameterError for a time that is none."""
        for name in ("refractory_s", "listen_s", "silence_s", "longest_s", "follow_up_s", "history_minutes"):
            value, least = (
                getattr(self, name),
                0.0 if name in ("follow_up_s", "history_minutes", "refractory_s") else 0.1,
            )
            if not least <= value < float("inf"):
                raise ParameterError(f"{name}: expected {least:g} or more, got {value!r:.100}", field=name)
        if self.look not in ("auto", "always", "never"):
            raise ParameterError(f"look: expected auto, always or never, got {self.look!r:.100}", field="look")
