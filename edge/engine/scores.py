"""The probabilities of an answer's tokens, cut to the text that is shown, so that the tokens join to it exactly."""

import codecs
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from edge.engine.handle import TokenScore

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class ShownToken:
    """A token as far as it is shown: its characters, its bytes, and the score that it was chosen with.

    A character of several tokens is the last one's; the others have their bytes alone.
    """

    text: str
    data: bytes
    score: TokenScore


class ShownTokens:
    """The tokens of one answer, taken as they come and given back as far as their text is shown."""

    def __init__(self) -> None:
        self._scores: list[TokenScore] = []
        self._ends: list[int] = []  # of each token, in bytes
        self._data = bytearray()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._chars: list[str] = []
        self._char_ends: list[int] = []  # of each character, in bytes
        self._n_given = 0

    def take(self, scores: Sequence[TokenScore]) -> None:
        """Take the scores of all tokens so far."""
        for score in scores[len(self._scores) :]:
            self._scores.append(score)
            for byte in score.data:
                self._data.append(byte)
                self._decoded(self._utf8.decode(bytes((byte,))))
            self._ends.append(len(self._data))

    def give(self, text: str, spans: Spans, *, whole: bool) -> list[ShownToken]:
        """Return the tokens that were not given yet: all, or those that end within what is shown by now.

        text: the decoded answer, of which spans are shown; white space before it was dropped.
        """
        if whole:
            self._decoded(self._utf8.decode(b"", final=True))
        written = "".join(self._chars)
        before = 0 if written.startswith(text) else len(written) - len(written.lstrip())
        shown = [(start + before, end + before) for start, end in spans if end > start]
        limit = len(self._chars) if whole else max((end for _, end in shown), default=0)
        tokens = []
        while self._n_given < len(self._scores):
            token = self._shown(self._n_given, shown, limit)
            if token is None:
                break
            self._n_given += 1
            if token.data or token.text:
                tokens.append(token)
        return tokens

    def _decoded(self, text: str) -> None:
        """Note characters that the last byte completed; one that replaces bytes that are none ends before the next."""
        n_complete = len(self._data) - len(self._utf8.getstate()[0])
        for i, char in enumerate(text, 1):
            self._chars.append(char)
            behind = sum(1 if later == "\ufffd" else len(later.encode()) for later in text[i:])
            self._char_ends.append(n_complete - behind)

    def _shown(self, i: int, spans: Spans, limit: int) -> ShownToken | None:
        """Return a token as far as it is shown, None where that is not settled: limit counts settled characters."""
        start, end = self._ends[i - 1] if i else 0, self._ends[i]
        text, data = "", bytearray()
        for place in range(*self._chars_of(start, end)):
            if place >= limit:
                return None
            if not any(first <= place < last for first, last in spans):
                continue
            char_start = self._char_ends[place - 1] if place else 0
            data += self._data[max(start, char_start) : min(end, self._char_ends[place])]
            if self._char_ends[place] <= end:
                text += self._chars[place]
        return ShownToken(text, bytes(data), self._scores[i])

    def _chars_of(self, start: int, end: int) -> tuple[int, int]:
        """Return the first character with a byte in [start, end) and the one behind the last; it may still come."""
        first = bisect_right(self._char_ends, start)
        return (first, bisect_left(self._char_ends, end) + 1) if end > start else (first, first)
