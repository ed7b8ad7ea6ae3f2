"""Text that still grows, cut into sentences: each is there as soon as it is complete."""

import re
from collections.abc import Iterable, Iterator

from edge.speech.abbreviations import NEVER_AT_END, ORDINAL_POINT, SELDOM_AT_END
from edge.speech.markdown_blocks import HARD, SOFT, Blocks
from edge.speech.tags import Tags

_STOPS = ".!?…؟۔।॥።"
_WIDE_STOPS = "。！？｡．"
_CLOSERS = "\"'”’»›)]}*_~`」』）】》〉"
_OPENERS = "\"'“‘«‹„([{*_~`¿¡「『（【《〈-–—"
_END = re.compile(rf"[{re.escape(_STOPS)}]+[{re.escape(_CLOSERS)}]*\Z")
_WIDE_END = re.compile(rf"[{_WIDE_STOPS}…]*[{_WIDE_STOPS}][{re.escape(_CLOSERS)}{_WIDE_STOPS}]*\Z")
_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_WRAPPED_CHARS = 60  # a line of prose that was wrapped is longer than this
_LONG = 240  # a sentence's width; one character of Chinese, Japanese or Korean is as long as three letters
_LONGEST = 1000  # of one word
_SHORTEST_PART = 60
_CUTS = (re.compile(r"(?:[;:] |[；：—]|\s[–-]\s)"), re.compile(r"(?:, |[，、])"), re.compile(r"\s"))


class Sentences:
    """Cuts text without Markdown's blocks into sentences; whatever pieces it comes in, the sentences are the same.

    language: a code, such as `en`; in some, a point behind a number makes it an ordinal.
    """

    def __init__(self, language: str) -> None:
        self._has_ordinal_points = language.lower().replace("_", "-").partition("-")[0] in ORDINAL_POINT
        self._held = ""
        self._width = 0
        self._line_start = 0
        self._waits = ""  # the space behind what may be a sentence: what follows it decides

    def add(self, text: str) -> Iterator[str]:
        """Yield the sentences that a text completes."""
        for c in text:
            yield from self._take(c)

    def _take(self, c: str) -> Iterator[str]:
        if c == HARD:
            yield from self._cut(len(self._held))
        elif c.isspace():
            yield from self._space(c)
        else:
            if self._ends_before(c):
                yield from self._cut(len(self._held))
            elif self._waits and self._held:
                self._put(" ")
            if self._waits == SOFT:
                self._line_start = len(self._held)
            self._waits = ""
            self._put(c)
            yield from self._shorten()

    def _space(self, c: str) -> Iterator[str]:
        if not self._held:
            return
        self._waits = SOFT if SOFT in (c, self._waits) else " "
        if not self._is_in_code() and self._is_complete():
            yield from self._cut(len(self._held))

    def _is_complete(self) -> bool:
        """Return whether a sentence ends here, whatever follows the space."""
        found = _END.search(self._held)
        if found is None:
            return bool(_WIDE_END.search(self._held))
        stops = found[0].rstrip(_CLOSERS)
        if self._waits == SOFT:
            return stops != "." or self._word(found.start()) not in NEVER_AT_END
        if stops != found[0] or stops[-1] == "…" or stops.endswith(".."):
            return False
        return stops != "." or not _may_go_on(self._word(found.start()))

    def _ends_before(self, c: str) -> bool:
        """Return whether a sentence ends in front of this character, which is no space."""
        if not self._held or self._is_in_code():
            return False
        if not self._waits:
            return bool(_WIDE_END.search(self._held)) and c not in _CLOSERS + _WIDE_STOPS
        found = _END.search(self._held)
        if found is None:
            return self._waits == SOFT and not self._is_wrapped(c)
        follows = "lower" if c.islower() else "digit" if c.isdecimal() else "other"
        word = self._word(found.start()) if found[0].rstrip(_CLOSERS) == "." else ""
        return self._ends_with(word, follows)

    def _ends_with(self, word: str, follows: str) -> bool:
        """Return whether a point behind a word ends a sentence; follows: what comes next."""
        if word.isdecimal():
            is_ordinal = self._has_ordinal_points and len(word) <= 2
            return follows != "lower" and not is_ordinal and len(self._held) > len(word) + 1
        if word in NEVER_AT_END or _is_initial(word):
            return False
        return follows == "other" or (follows == "digit" and word not in SELDOM_AT_END)

    def _is_in_code(self) -> bool:
        """Return whether inline code is open, which ends with its line at the latest."""
        return self._waits != SOFT and self._held.count("`") % 2 == 1

    def _word(self, end: int) -> str:
        """Return the word in front of a point, in lower case but for initials."""
        word = self._held[:end].rsplit(None, 1)[-1] if self._held[:end].strip() else ""
        word = word.lstrip(_OPENERS)
        return word if len(word) == 1 else word.lower()

    def _is_wrapped(self, c: str) -> bool:
        """Return whether a sentence was wrapped into lines here; c: what the next line begins with."""
        if _WIDE.match(self._held[-1]):
            return False
        is_long = len(self._held) - self._line_start >= _WRAPPED_CHARS
        return c.islower() or (is_long and c.isalnum())

    def _put(self, c: str) -> None:
        self._held += c
        self._width += 3 if _WIDE.match(c) else 1

    def _shorten(self) -> Iterator[str]:
        """Cut a sentence that is too long: behind a semicolon, else a comma, else a word."""
        while self._width > _LONG:
            ends = ([m.end() for m in cut.finditer(self._held) if m.end() >= _SHORTEST_PART] for cut in _CUTS)
            end = next((found[-1] for found in ends if found), 0)
            if end == 0 and self._width > (_LONG if _WIDE.search(self._held) else _LONGEST):
                end = len(self._held) - 1
            if end == 0:
                return
            yield from self._cut(end)

    def _cut(self, end: int) -> Iterator[str]:
        sentence, self._held = self._held[:end].strip(), self._held[end:].lstrip()
        self._width = sum(3 if _WIDE.match(c) else 1 for c in self._held)
        self._line_start = max(0, self._line_start - end)
        self._waits = ""
        if sentence:
            yield sentence


def _may_go_on(word: str) -> bool:
    """Return whether a sentence may go on behind this word and a point."""
    return word.isdecimal() or word in NEVER_AT_END or word in SELDOM_AT_END or _is_initial(word) or "." in word


def _is_initial(word: str) -> bool:
    """Return whether a word is the first letter of a name; I is a word."""
    return len(word) == 1 and word.isalpha() and word != "I"


def sentences(pieces: Iterable[str], *, language: str) -> Iterator[str]:
    """Yield the sentences of Markdown as they become complete, with its marks inside of them.

    pieces: of the text, as they come; language: as for `Sentences`.
    """
    blocks, tags, cutter = Blocks(), Tags(), Sentences(language)
    for piece in pieces:
        yield from cutter.add(tags.add(blocks.add(piece)))
    yield from cutter.add(tags.add(blocks.end()))
