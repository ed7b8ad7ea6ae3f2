"""From tokens to text that may be shown: holds back half characters, half stop strings and trailing white space."""

import codecs
from collections.abc import Sequence
from typing import Protocol


class ByteTokenizer(Protocol):
    """The one thing decoding needs of a tokenizer."""

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of the tokens, joined."""


class TextDecoder:
    """The text of one answer, token by token.

    stop: strings that end the answer and are no part of it; the text before them stays as it is.
    turn_ends: strings that end the turn as an end token does: white space before them is dropped.
    fresh: the answer begins a turn, so leading white space is dropped (it would glue words in a completion).
    Source: model-family.md, 7 (white space of answers).
    """

    def __init__(self, tokenizer: ByteTokenizer, *, stop: Sequence[str], turn_ends: Sequence[str], fresh: bool) -> None:
        self._tokenizer = tokenizer
        self._stop = (*stop, *turn_ends)
        self._turn_ends = frozenset(turn_ends).difference(stop)
        self._strip_left = fresh
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._released = ""
        self._held = ""
        self._stopped = False
        self._found: str | None = None

    @property
    def text(self) -> str:
        """The whole text released so far; it only ever grows."""
        return self._released

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found: nothing more will be released."""
        return self._stopped

    @property
    def found(self) -> str | None:
        """The string of `stop` that ended the answer, None where none did."""
        return self._found

    def push(self, token: int) -> str:
        """Take one token; return the whole text released so far."""
        return self._take(self._utf8.decode(self._tokenizer.decode_bytes([token])))

    def finish(self, *, end_of_turn: bool) -> str:
        """End the answer and return its whole text; at the end of a turn trailing white space is dropped."""
        self._take(self._utf8.decode(b"", final=True))
        if not self._stopped:
            self._released += self._held.rstrip() if end_of_turn else self._held
            self._held = ""
            self._stopped = True
        return self._released

    def _take(self, text: str) -> str:
        if self._stopped:
            return self._released
        self._held += text
        if self._strip_left:
            self._held = self._held.lstrip()
            self._strip_left = not self._held
        found = [(place, stop) for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            place, stop = min(found)
            rest = self._held[:place]
            self._released += rest.rstrip() if stop in self._turn_ends else rest
            self._held = ""
            self._stopped = True
            self._found = None if stop in self._turn_ends else stop
            return self._released
        n_sure = len(self._held[: self._n_before_half_stop()].rstrip())
        self._released += self._held[:n_sure]
        self._held = self._held[n_sure:]
        return self._released

    def _n_before_half_stop(self) -> int:
        """Return where the longest end of the held text begins that could become a stop string."""
        held = self._held
        for place in range(max(0, len(held) - max(map(len, self._stop), default=0) + 1), len(held)):
            if any(stop.startswith(held[place:]) for stop in self._stop):
                return place
        return len(held)
