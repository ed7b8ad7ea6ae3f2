"""Markdown that still grows, line by line: what is read of it, without marks, code and formulas."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

SOFT, HARD = "\n", "\f"  # ends of lines in what is read: a sentence may go on behind the first, never behind the other

_LINE_ENDS = "\n\r\x85\u2028\u2029"
_KEPT = "\t\u200c\u200d"  # the latter join letters, of Persian and Hindi for example, and emojis
_QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*")
_BULLETS = "-*+"
_LIST_NUMBER = re.compile(r"(\d{1,3}[.)])[ \t]+(?=\S)")
_MAYBE_NUMBER = re.compile(r"\d{1,3}(?:[.)][ \t]*)?")
_TABLE_RULE = re.compile(r"[\s|:=-]+")
_CELLS = re.compile(r"(?<!\\)\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")
_FENCE = re.compile(r"(`{3,}|~{3,})(.*)", re.DOTALL)
_ENDS_OF_FORMULAS = {"$$": "$$", "\\[": "\\]"}
_REASONING = {"<reasoning>": "</reasoning>", "<think>": "</think>", "<thinking>": "</thinking>"}

Mode = Literal["reasoning", "start", "text", "line", "code", "formula"]


@dataclass(frozen=True)
class _Begun:
    """How a line begins: what it is, what is read of its beginning, and whether it ends with a hard end."""

    mode: Mode
    text: str = ""
    is_hard: bool = False


class Blocks:
    """Reads Markdown as it comes; whatever pieces it comes in, the same is read.

    Headings, items of lists and rows of tables end hard, cells are joined by commas; quotes are read as text. Fenced
    code, formulas in `$$` or `\\[`, rules, and reasoning in front of an answer are left out, open ones to the end.
    """

    def __init__(self) -> None:
        self._mode: Mode = "reasoning"
        self._held = ""  # of a line, or a tag, that is not understood yet
        self._is_hard = False
        self._was_return = False
        self._closing = ""  # what ends reasoning, code or a formula
        self._turns: dict[Mode, Callable[[str], str]] = {
            "reasoning": self._reason,
            "start": self._begin,
            "text": self._pass,
            "line": self._take_line,
            "code": self._leave_code,
            "formula": self._leave_formula,
        }

    def add(self, text: str) -> str:
        """Return what can be read of a text by now."""
        return "".join(self._turns[self._mode](c) for c in self._clean(text))

    def _clean(self, text: str) -> Iterator[str]:
        """Yield the characters of a text with one kind of line end, and without those that say nothing."""
        for c in text:
            follows_return, self._was_return = self._was_return, c == "\r"
            if c in _LINE_ENDS:
                if not (c == "\n" and follows_return):
                    yield "\n"
            elif unicodedata.category(c)[0] != "C" or c in _KEPT:
                yield c
            elif unicodedata.category(c) == "Cc":
                yield " "

    def end(self) -> str:
        """Return the rest."""
        rest = self.add("\n") if self._mode in ("start", "line") and self._held else ""
        if self._mode == "reasoning" and not self._closing:
            held, self._held, self._mode = self._held, "", "start"
            rest = self.add(held + "\n")
        return rest + HARD

    def _reason(self, c: str) -> str:
        """Leave out reasoning, which is in front of everything else."""
        self._held += c
        if self._closing:
            if self._held.endswith(self._closing):
                self._held, self._closing, self._mode = "", "", "start"
            return ""
        begun = self._held.lstrip()
        if begun in _REASONING:
            self._held, self._closing = "", _REASONING[begun]
            return ""
        if any(tag.startswith(begun) for tag in _REASONING):
            return ""
        held, self._held, self._mode = self._held, "", "start"
        return self.add(held)

    def _begin(self, c: str) -> str:
        """Find out what a line is."""
        if c == "\n":
            line, self._held = self._held, ""
            return self._whole_line(line)
        self._held += c
        begun = _beginning(self._held)
        if begun is None:
            return ""
        self._mode, self._is_hard = begun.mode, begun.is_hard
        if begun.mode == "line":
            return ""
        if begun.mode == "formula":
            self._closing = _ENDS_OF_FORMULAS[self._held.lstrip(" \t>")[:2]]
        self._held = ""
        return begun.text

    def _pass(self, c: str) -> str:
        if c != "\n":
            return c
        self._mode = "start"
        return HARD if self._is_hard else SOFT

    def _take_line(self, c: str) -> str:
        """Hold a line that is understood only once it is whole."""
        if c != "\n":
            self._held += c
            return ""
        line, self._held, self._mode = self._held, "", "start"
        return self._whole_line(line)

    def _whole_line(self, line: str) -> str:
        """Read a line that was held to its end."""
        text = line[_quote_end(line) :].rstrip()
        fence = _FENCE.fullmatch(text)
        if fence is not None and not (fence[1][0] == "`" and "`" in fence[2]):
            self._mode, self._closing = "code", fence[1]
            return HARD
        if text.startswith("|"):
            return "" if _TABLE_RULE.fullmatch(text) else _row(text)
        if not text.strip("-*_=+ \t#"):
            return HARD  # empty, a rule, or what underlines a heading
        return text + SOFT

    def _leave_code(self, c: str) -> str:
        if c != "\n":
            self._held += c
            return ""
        line, self._held = self._held[_quote_end(self._held) :].rstrip(), ""
        if len(line) >= len(self._closing) and not line.strip(self._closing[0]):
            self._mode = "start"
        return ""

    def _leave_formula(self, c: str) -> str:
        """Leave out a formula: to its end, or to an empty line, where none can go on."""
        self._held += c
        if self._held.endswith(self._closing) or re.search(r"\n[ \t]*\n\Z", self._held):
            self._held, self._mode = "", "text"
            self._is_hard = False
            return self._pass(c) if c == "\n" else ""
        return ""


def _quote_end(line: str) -> int:
    found = _QUOTE.match(line)
    return found.end() if found else 0


def _beginning(line: str) -> _Begun | None:
    """Return how a line begins, None where more of it is needed."""
    text = line[_quote_end(line) :]
    if not text:
        return None
    first = text[0]
    if first in "`~":
        return _fence(text)
    if first == "#":
        return _heading(text)
    if first == "|":
        return _Begun("line")
    if first in _BULLETS or first in "_=":
        return _bullet(text)
    if first in "•◦▪‣":
        rest = text[1:].lstrip()
        return _Begun("text", HARD + rest) if rest else None
    if first.isdecimal():
        return _numbered(text)
    if first in "$\\" and len(text) == 1:
        return None
    return _Begun("formula") if text[:2] in _ENDS_OF_FORMULAS else _Begun("text", text)


def _fence(text: str) -> _Begun | None:
    rest = text.lstrip(text[0])
    if len(text) - len(rest) >= 3:
        return _Begun("line")
    return _Begun("text", text) if rest else None


def _heading(text: str) -> _Begun | None:
    rest = text.lstrip("#")
    if not rest.strip():
        return None
    is_heading = len(text) - len(rest) <= 6 and rest[0] in " \t"
    return _Begun("text", HARD + rest.lstrip(), is_hard=True) if is_heading else _Begun("text", text)


def _bullet(text: str) -> _Begun | None:
    """Tell items, rules, emphasis and plain text apart that begin with the same signs."""
    if not text.strip("-*_=+ \t"):
        return None
    rest = text[1:].lstrip()
    is_item = text[0] in _BULLETS and text[1] in " \t"
    return _Begun("text", HARD + rest) if is_item else _Begun("text", text)


def _numbered(text: str) -> _Begun | None:
    if _MAYBE_NUMBER.fullmatch(text):
        return None
    found = _LIST_NUMBER.match(text)
    return _Begun("text", text) if found is None else _Begun("text", f"{HARD}{found[1]} {text[found.end() :]}")


def _row(line: str) -> str:
    """Return a row of a table as its cells with commas between them."""
    cells = (cell.strip().replace("\\|", "|") for cell in _CELLS.split(line.strip()))
    return HARD + ", ".join(cell for cell in cells if cell) + HARD
