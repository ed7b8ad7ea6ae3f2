"""What a voice is: it says one sentence as samples."""

from collections.abc import Callable
from typing import Protocol

from edge.arrays import F32
from edge.errors import ParameterError

SLOWEST, FASTEST = 0.25, 4.0  # factors of speed

Stopped = Callable[[], bool]


class Voice(Protocol):
    """Says sentences in one language. Safe to call from one thread at a time; any of them may close it.

    name: as it was opened; rate_hz: of its samples; languages: codes that it can be opened with, such as `en`.
    """

    @property
    def name(self) -> str: ...

    @property
    def rate_hz(self) -> int: ...

    @property
    def languages(self) -> tuple[str, ...]: ...

    def say(self, sentence: str, *, speed: float = 1.0, stopped: Stopped | None = None) -> F32:
        """Return one sentence of speakable text as mono samples (n,), -1 to 1; speed: a factor, 0.25 to 4.

        stopped: asked from another thread now and then while this takes its time; once it is true, this may end with no
        samples. Raises: ParameterError for a speed, VoiceError where it fails.
        """

    def close(self) -> None:
        """Free what it holds. Closing twice is fine."""


def check_speed(speed: float) -> None:
    """Raises: ParameterError for a factor of speed that no voice has."""
    if not SLOWEST <= speed <= FASTEST:  # NaN is in no range
        raise ParameterError(f"speed: expected {SLOWEST:g} to {FASTEST:g}, got {speed!r:.100}", field="speed")
