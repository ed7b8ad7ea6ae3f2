"""A text that a regular expression matches, short and quickly found: a guess for the grammar to check."""

_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": " ", "S": "a", "b": "", "B": ""}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_CANDIDATES = "a0 A_-.!bB1é"  # for classes that say what they do not hold
_MAX_LENGTH = 4096


def match_of(pattern: str) -> str | None:
    """Return a text that holds a match of `pattern`; None where its syntax is not understood."""
    try:
        reader = _Reader(pattern)
        text = reader.alternatives()
        return text if reader.place == len(pattern) else None
    except (IndexError, ValueError, RecursionError):
        return None


class _Reader:
    """Reads a pattern from left to right, writing what matches."""

    def __init__(self, pattern: str) -> None:
        self.place = 0
        self._pattern = pattern

    def alternatives(self) -> str:
        """Read up to a closing parenthesis or the end; return the shortest alternative's text."""
        texts = [self._sequence()]
        while self._peek() == "|":
            self.place += 1
            texts.append(self._sequence())
        return min(texts, key=len)

    def _peek(self) -> str:
        return self._pattern[self.place : self.place + 1]

    def _next(self) -> str:
        self.place += 1
        return self._pattern[self.place - 1]

    def _sequence(self) -> str:
        text = ""
        while self._peek() not in ("", "|", ")"):
            atom = self._atom()
            fewest = self._fewest()
            # Told before it is made: what {4096} does to {4096} does not fit into any memory.
            if len(text) + len(atom) * fewest > _MAX_LENGTH:
                raise ValueError("too long")
            text += atom * fewest
        return text

    def _atom(self) -> str:
        sign = self._next()
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._class()
        if sign == "\\":
            return self._escape()
        return {".": "a", "^": "", "$": ""}.get(sign, sign)

    def _group(self) -> str:
        if self._peek() == "?":
            self.place += 1
            if self._next() != ":":
                raise ValueError("only plain groups are read")
        text = self.alternatives()
        if self._next() != ")":
            raise ValueError("expected )")
        return text

    def _escape(self) -> str:
        sign = self._next()
        if sign in ("x", "u"):
            n_digits = 2 if sign == "x" else 4
            self.place += n_digits
            return chr(int(self._pattern[self.place - n_digits : self.place], 16))
        return _CLASSES.get(sign, _CONTROLS.get(sign, sign))

    def _class(self) -> str:
        """Return one character of a class."""
        negated = self._peek() == "^"
        self.place += negated
        members: list[tuple[str, str]] = []
        while self._peek() != "]" or not members:
            first = self._escape() if self._next() == "\\" else self._pattern[self.place - 1]
            last = first
            if self._peek() == "-" and self._pattern[self.place + 1] != "]":
                self.place += 1
                last = self._escape() if self._next() == "\\" else self._pattern[self.place - 1]
            members.append((first, last))
        self.place += 1
        if not negated:
            return members[0][0]
        free = (sign for sign in _CANDIDATES if not any(first <= sign <= last for first, last in members))
        return str(next(free, ""))

    def _fewest(self) -> int:
        """Read a quantifier, if there is one; return how often it wants an atom at least."""
        sign = self._peek()
        fewest = 1
        if sign in ("*", "?", "+"):
            self.place += 1
            fewest = int(sign == "+")
        elif sign == "{":
            end = self._pattern.index("}", self.place)
            fewest = int(self._pattern[self.place + 1 : end].partition(",")[0])
            self.place = end + 1
        else:
            return fewest
        self.place += self._peek() == "?"  # a lazy one
        return fewest
