"""Tokens guessed from what was said before: a step checks several at once, and a wrong guess costs time, nothing else.

Source: the idea of prompt lookup decoding; where the last tokens stood before, what followed there is guessed again.
"""

import os
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from edge.engine.cache import MAX_ROWS
from edge.errors import ParameterError

VARIABLE = "EDGE_DRAFT"  # off: nothing is guessed
ROWS = (2, 4, 8, MAX_ROWS)  # of a step with guesses: even, since some kernels take rows in pairs

_LENGTHS = (4, 2)  # of what has to stand before a guess, the best first
_GAP = -1  # no token: what stands on its two sides was not said together
_REMEMBERED = 8192  # tokens of earlier answers
# What is supposed before anything was measured: a further row costs a fifth of the first, and of guesses after four
# known tokens four in five are right, after two half.
_ROW_COST = 0.2
_RIGHT = (0.8, 0.5)
_PRIOR_WEIGHT = 2.0  # guesses
_MEMORY = 0.9  # of what was seen, for every guess that is checked
_FADING = 0.98  # for every one that is not made
_SMOOTHING = 0.3  # of the newest time


def is_on() -> bool:
    """Return whether tokens are guessed: unless EDGE_DRAFT is off. Raises: ParameterError for another value."""
    value = os.environ.get(VARIABLE, "on").lower()
    if value not in ("on", "1", "off", "0"):
        raise ParameterError(f"{VARIABLE} is {value!r:.60}: expected on or off", field=VARIABLE)
    return value in ("on", "1")


class Pace:
    """How long steps of so many rows take, in seconds, measured as they are made."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._warm: set[int] = set()

    def took(self, n_rows: int, seconds: float) -> None:
        """Note one step; the first of so many rows binds memory and says nothing."""
        if n_rows in self._warm:
            before = self._seconds.get(n_rows, seconds)
            self._seconds[n_rows] = before + _SMOOTHING * (seconds - before)
        self._warm.add(n_rows)

    def cost(self, n_rows: int) -> float:
        """Return a step's time, as a multiple of that of a step of one row."""
        supposed = 1 + _ROW_COST * (n_rows - 1)
        alone, measured = self._seconds.get(1), self._seconds.get(n_rows)
        return supposed if alone is None or measured is None or alone <= 0 else measured / alone

    def best(self, n_guesses: int, right: float) -> int:
        """Return the rows of the step that gives most tokens a second; 1: guesses do not pay.

        n_guesses: how many tokens could be guessed; right: the share of guesses that is right, 0 to 1.
        """
        rates = {1: 1.0}
        for n_rows in (n_rows for n_rows in ROWS if n_rows <= 1 + n_guesses):
            expected = sum(right**n for n in range(n_rows))  # the step's own token, and guesses up to the first wrong
            rates[n_rows] = expected / self.cost(n_rows)
        return max(rates, key=lambda n_rows: rates[n_rows])


@dataclass
class _Record:
    """Of guesses after so many known tokens: how many were right, of how many; what is long ago counts less."""

    supposed: float
    n_right: float = 0.0
    n_checked: float = 0.0

    @property
    def rate(self) -> float:
        return (self.supposed * _PRIOR_WEIGHT + self.n_right) / (_PRIOR_WEIGHT + self.n_checked)

    def add(self, n_right: int, n_checked: int) -> None:
        self.n_right = self.n_right * _MEMORY**n_checked + n_right
        self.n_checked = self.n_checked * _MEMORY**n_checked + n_checked

    def fade(self) -> None:
        self.n_right *= _FADING
        self.n_checked *= _FADING


class Draft:
    """The guesses for one answer, made from its prompt, itself and earlier answers."""

    def __init__(self, drafting: "Drafting", earlier: Iterable[int], prompt: Sequence[Hashable]) -> None:
        self._drafting = drafting
        self._ids = [*earlier, _GAP, *(key if isinstance(key, int) else _GAP for key in prompt)]
        self._n_known = len(self._ids)
        self._n_indexed = 0
        self._followed: tuple[dict[tuple[int, ...], int], ...] = tuple({} for _ in _LENGTHS)
        self._records = tuple(_Record(right) for right in _RIGHT)
        self._level = 0

    def took(self, token: int) -> None:
        """Note the answer's next token."""
        self._ids.append(token)

    def guess(self, n_most: int) -> list[int]:
        """Return the tokens to check beside the newest one, at most n_most; none where that does not pay."""
        found = self._find(min(n_most, ROWS[-1] - 1))
        if not found:
            return []
        record = self._records[self._level]
        n_rows = self._drafting.pace.best(len(found), record.rate)
        if n_rows == 1:
            record.fade()
        return found[: n_rows - 1]

    def checked(self, n_guesses: int, n_right: int) -> None:
        """Note how many of the guesses were right, up to the first that was not."""
        self._records[self._level].add(n_right, min(n_guesses, n_right + 1))

    def end(self) -> None:
        """Remember the answer for those that follow."""
        self._drafting.remember(self._ids[self._n_known :])

    def _find(self, n_most: int) -> list[int]:
        """Return what followed when the newest tokens were said the last time."""
        self._index()
        for self._level, length in enumerate(_LENGTHS):
            at = self._followed[self._level].get(tuple(self._ids[-length:]))
            following = [] if at is None else self._ids[at : at + n_most]
            if _GAP in following:
                following = following[: following.index(_GAP)]
            if following:
                return following
        return []

    def _index(self) -> None:
        """Note what follows every few tokens, the newest ones apart: nothing follows them yet."""
        for length, followed in zip(_LENGTHS, self._followed, strict=True):
            for at in range(max(length, self._n_indexed), len(self._ids)):
                followed[tuple(self._ids[at - length : at])] = at
        self._n_indexed = len(self._ids)


class Drafting:
    """What an engine's answers share: the times of its steps, and the newest answers."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._earlier: tuple[int, ...] = ()

    def begin(self, prompt: Sequence[Hashable]) -> Draft:
        """Begin an answer. prompt: its positions' keys; those that are no token's id are never guessed."""
        return Draft(self, self._earlier, prompt)

    def remember(self, ids: Sequence[int]) -> None:
        """Note an answer."""
        self._earlier = (*self._earlier, _GAP, *ids)[-_REMEMBERED:]
