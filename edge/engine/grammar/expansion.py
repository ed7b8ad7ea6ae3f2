"""How large a regular expression is with its counted repeats written out, reckoned from its text alone.

The syntax is the one that ECMA-262, Python and Rust share; what means something else in Rust's, which is llguidance's,
is written the way that Rust reads it. Nothing is compiled: a hundred characters may stand for a million states.
"""

from collections.abc import Callable
from typing import NamedTuple

MAX_SHORTEST = 4096  # characters of the shortest match: what is forced is written out at once
MAX_STATES = 500_000
MAX_LENGTH = 4096  # characters of a pattern itself: what may be left out takes time by the square of it
_MAX_NESTING = 100
_CONTROLS = frozenset("nrtfv")
_CLASSES = frozenset("dDwWsS")
_HEX = frozenset("0123456789abcdefABCDEF")
_LOOK_AROUND = "look-around, (?=, (?!, (?<= and (?<!, is not supported: describe what is allowed without it"
_BOUNDARY = r"\b and \B are not supported: leave them out"
_BACK_REFERENCE = "a reference to a group is not supported: leave it out"


class PatternError(ValueError):
    """A regular expression that is not supported; the message says what and what to do."""


class Size(NamedTuple):
    """Of a regular expression: its states with repeats written out, and the characters of its shortest match."""

    n_states: int
    n_shortest: int


def checked_pattern(pattern: str, error: Callable[[str], Exception]) -> str:
    """Return a pattern as llguidance reads it; error: makes what is raised of a message."""
    if len(pattern) > MAX_LENGTH:
        raise error(f"expected at most {MAX_LENGTH} characters, got {len(pattern)}; a list of words is an enum")
    try:
        reader = _Reader(pattern)
        size = reader.whole()
    except IndexError as cause:
        raise error("expected a regular expression, got one that ends in the middle") from cause
    except PatternError as cause:
        raise error(str(cause)) from cause
    if size.n_shortest > MAX_SHORTEST:
        raise error(f"expected a shortest match of at most {MAX_SHORTEST} characters, got one of {size.n_shortest}")
    if size.n_states > MAX_STATES:
        raise error(f"expected at most {MAX_STATES} characters with repeats written out, got {size.n_states}")
    return reader.written


def size_of(pattern: str) -> Size:
    """Return how large a pattern is. Raises: PatternError, IndexError for one that ends in the middle."""
    return _Reader(pattern).whole()


class _Reader:
    """Reads a pattern from left to right; `written` is what llguidance is given."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0
        self._written: list[str] = []

    @property
    def written(self) -> str:
        return "".join(self._written)

    def whole(self) -> Size:
        size = self._alternatives(0)
        if self._place < len(self._pattern):
            raise PatternError(f"expected a regular expression, got a ) that closes nothing at {self._place}")
        return size

    def _peek(self, n: int = 1) -> str:
        return self._pattern[self._place : self._place + n]

    def _next(self) -> str:
        """Return the next character, which is kept as it is."""
        sign = self._skip()
        self._written.append(sign)
        return sign

    def _skip(self) -> str:
        """Return the next character, which is not kept."""
        self._place += 1
        return self._pattern[self._place - 1]

    def _alternatives(self, depth: int) -> Size:
        if depth > _MAX_NESTING:
            raise PatternError(f"expected at most {_MAX_NESTING} groups in each other")
        sizes = [self._sequence(depth)]
        while self._peek() == "|":
            self._next()
            sizes.append(self._sequence(depth))
        return Size(sum(size.n_states for size in sizes), min(size.n_shortest for size in sizes))

    def _sequence(self, depth: int) -> Size:
        n_states = n_shortest = 0
        while self._peek() not in ("", "|", ")"):
            size = self._atom(depth)
            least, most = self._repeats()
            n_states += size.n_states * max(1, least if most is None else most)
            n_shortest += size.n_shortest * least
        return Size(n_states, n_shortest)

    def _atom(self, depth: int) -> Size:
        sign = self._peek()
        if sign == "(":
            return self._group(depth)
        if sign == "[":
            return self._class()
        if sign == "\\":
            return self._escape(in_class=False)
        if sign in ("^", "$"):
            self._next()
            return Size(0, 0)
        if sign in ("*", "+", "?"):
            raise PatternError(f"expected something to repeat before {sign} at {self._place}")
        if sign == "{":
            self._skip()
            self._written.append("\\{")
            return Size(1, 1)
        self._next()
        return Size(1, 1)

    def _group(self, depth: int) -> Size:
        self._next()
        if self._peek() == "?":
            self._next()
            if self._peek() in ("=", "!") or self._peek(2) in ("<=", "<!"):
                raise PatternError(_LOOK_AROUND)
            if not self._opening():
                return Size(0, 0)
        size = self._alternatives(depth + 1)
        if self._peek() != ")":
            raise PatternError("expected a regular expression, got a ( that is not closed")
        self._next()
        return size

    def _opening(self) -> bool:
        """Read what follows `(?`; tell whether there is a group, not only flags for what comes after it."""
        if self._peek() in ("P", "<"):
            if self._peek() == "P":
                self._next()
            if self._peek() != "<":
                raise PatternError(_BACK_REFERENCE)
            while self._next() != ">":
                pass
            return True
        while self._peek() in ("i", "s"):
            self._next()
        sign = self._next()
        if sign not in (":", ")"):
            raise PatternError(f"expected a group of the form (...), (?:...) or (?<name>...), got (?{sign}")
        return sign == ":"

    def _class(self) -> Size:
        self._next()
        if self._peek() == "^":
            self._next()
        is_first = True
        while is_first or self._peek() != "]":
            sign = self._peek()
            if sign == "]" and self._pattern.find("]", self._place + 1) < 0:
                raise PatternError("expected characters in [], got none")
            if sign == "\\":
                self._escape(in_class=True)
            else:
                self._skip()
                # Rust reads these as sets in sets, and as what sets have in common.
                self._written.append("\\" + sign if sign in ("[", "&", "~") else sign)
            is_first = False
        self._next()
        return Size(1, 1)

    def _escape(self, *, in_class: bool) -> Size:
        self._skip()
        sign = self._skip()
        if sign in ("b", "B") and not in_class:
            raise PatternError(_BOUNDARY)
        if sign in ("k", *"123456789") and not in_class:
            raise PatternError(_BACK_REFERENCE)
        if sign in ("A", "z", "Z") and not in_class:
            self._written.append("^" if sign == "A" else "$")
            return Size(0, 0)
        self._written.append(self._character(sign))
        return Size(1, 1)

    def _character(self, sign: str) -> str:
        """Return what is escaped as Rust writes it."""
        if sign in ("x", "u") and self._peek() != "{":
            return f"\\{sign}{self._digits(2 if sign == 'x' else 4)}"
        if sign in ("x", "u", "p", "P"):
            return f"\\{sign}{self._named()}"
        if sign == "c" and self._peek().isascii() and self._peek().isalpha():
            return f"\\x{ord(self._skip().upper()) - 64:02x}"
        if sign in ("0", "b"):
            return "\\x00" if sign == "0" else "\\x08"
        if sign in _CONTROLS or sign in _CLASSES:
            return "\\" + sign
        if sign.isascii() and sign.isalnum():
            raise PatternError(f"\\{sign} is not supported: write the character itself, or \\x and its two digits")
        return "\\" + sign if sign.isascii() and sign.isprintable() else sign

    def _digits(self, n: int) -> str:
        digits = "".join(self._skip() for _ in range(n))
        if not _HEX.issuperset(digits):
            raise PatternError(f"expected {n} hexadecimal digits, got {digits!r}")
        return digits

    def _named(self) -> str:
        """Return what follows \\p, \\x or \\u: one letter, or a name in braces."""
        name = self._skip()
        while name.startswith("{") and not name.endswith("}"):
            name += self._skip()
        return name

    def _repeats(self) -> tuple[int, int | None]:
        """Read a quantifier, if there is one; return how often at least and at most, None for without end."""
        sign = self._peek()
        least, most = 1, 1 if sign not in ("*", "+") else None
        if sign in ("*", "?", "+"):
            self._next()
            least = int(sign == "+")
        elif sign == "{" and (counted := self._counted()) is not None:
            least, most = counted
        else:
            return 1, 1
        if self._peek() == "?":  # a lazy one matches the same texts
            self._next()
        if self._peek() in ("*", "+", "?") or (self._peek() == "{" and self._is_count()):
            raise PatternError(f"expected one quantifier, got another at {self._place}: put the first into a group")
        return least, most

    def _counted(self) -> tuple[int, int | None] | None:
        """Read `{n}`, `{n,}`, `{n,m}` or `{,m}`; None where the brace is only a brace."""
        if not self._is_count():
            return None
        end = self._pattern.index("}", self._place)
        low, comma, high = self._pattern[self._place + 1 : end].partition(",")
        if max(len(low), len(high)) > 9:
            raise PatternError("expected a count of at most 9 digits")
        least = int(low or 0)
        most = least if not comma else int(high) if high else None
        if most is not None and most < least:
            raise PatternError(f"expected counts in rising order, got {{{low},{high}}}")
        self._place = end + 1
        self._written.append("{" + str(least) + comma + high + "}")
        return least, most

    def _is_count(self) -> bool:
        end = self._pattern.find("}", self._place, self._place + 32)
        digits = self._pattern[self._place + 1 : end].replace(",", "", 1) if end > 0 else ""
        return bool(digits) and digits.isascii() and digits.isdigit()
