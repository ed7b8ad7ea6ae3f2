"""What was said lately: so many turns, for so many minutes."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Message = Mapping[str, object]


@dataclass(frozen=True)
class _Turn:
    at_s: float
    messages: tuple[Message, ...]


class History:
    """The turns of a conversation. turns: the most that are kept; minutes: how long one is kept."""

    def __init__(self, *, turns: int, minutes: float) -> None:
        self._kept_s = minutes * 60
        self._turns: deque[_Turn] = deque(maxlen=max(0, turns))

    def messages(self, now_s: float) -> list[Message]:
        """Return the messages that are still kept, the oldest first."""
        while self._turns and now_s - self._turns[0].at_s > self._kept_s:
            self._turns.popleft()
        return [message for turn in self._turns for message in turn.messages]

    def add(self, messages: Sequence[Message], now_s: float) -> None:
        """Keep a turn: a question, and what was answered."""
        self._turns.append(_Turn(now_s, tuple(messages)))

    def clear(self) -> None:
        """Forget everything."""
        self._turns.clear()
