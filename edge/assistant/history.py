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

    def messages(self, now_s: float, *, audio: int) -> list[Message]:
        """Return the messages that are still kept, the oldest first.

        audio: how many of their turns may have audio, the newest; older ones with audio are left out.
        """
        while self._turns and now_s - self._turns[0].at_s > self._kept_s:
            self._turns.popleft()
        heard = [turn for turn in self._turns if _has_audio(turn.messages)]
        left_out = {id(turn) for turn in heard[: max(0, len(heard) - audio)]}
        return [message for turn in self._turns if id(turn) not in left_out for message in turn.messages]

    def add(self, messages: Sequence[Message], now_s: float) -> None:
        """Keep a turn: a question, and what was answered."""
        self._turns.append(_Turn(now_s, tuple(messages)))

    def clear(self) -> None:
        """Forget everything."""
        self._turns.clear()


def _has_audio(messages: Sequence[Message]) -> bool:
    contents = [content for message in messages if isinstance(content := message.get("content"), list)]
    return any(part.get("type") == "audio" for content in contents for part in content)
