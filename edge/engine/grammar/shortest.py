"""The shortest way to end a text, mostly JSON, that a grammar has begun, found by trying bytes on the grammar itself.

Nothing here knows a schema: what may follow, llguidance says. JSON's structure decides what is tried first (close what
is open, take a number before a string before an object), and where several ways lead on, each is tried to its end.
"""

import functools
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from llguidance import LLMatcher

Mode = Literal["value", "key", "colon", "in key", "in string", "in number", "in word", "after", "twice", "text"]

MAX_DEPTH = 64  # of an instance; limits.md allows no deeper JSON in a request either
MAX_DIGITS = 64  # of a number: a model that repeats itself must not make one that no reader takes
# Of a number with a fraction, leading zeros apart: what a float tells apart, so that 0.99...9 is not read as 1.
MAX_SIGNIFICANT = 15
_NUMBER = b"-+.eE0123456789"
_CHOICES = 24  # a mask of more bytes than this is free text
_BEAM = 32  # ways kept side by side inside one string or number
_STEPS = 2000  # bytes tried before only the first choice is followed
_SCALAR_STEPS = 4000  # bytes tried before a string or number is given up
_CLOSERS = b"}],"


class Place(NamedTuple):
    """Where in a JSON text its end is; mode "twice": behind a key that its object has already; "text": in no JSON.

    open: the brackets not closed yet; keys: of each of them; part: what a key or number says so far; digits: how many
    a number with a fraction may have.
    """

    mode: Mode = "value"
    open: bytes = b""
    keys: tuple[frozenset[str], ...] = ()
    part: bytes = b""
    escaped: bool = False
    digits: int = MAX_SIGNIFICANT

    @property
    def is_allowed(self) -> bool:
        """Whether readers of JSON accept what is written so far: no key twice, not too deep, no endless number."""
        if self.mode == "in number":
            return is_readable(self.part, self.digits)
        return self.mode != "twice" and len(self.open) <= MAX_DEPTH

    def after(self, byte: int) -> "Place":
        """Return the place one byte on; the text is taken to be JSON."""
        if self.mode == "text":
            return self
        if self.mode in ("in key", "in string"):
            return self._in_text(byte)
        if self.mode == "in number" and byte in _NUMBER:
            return self._replace(part=self.part + bytes((byte,)))
        if byte in b" \n\r\t" or (self.mode == "in word" and chr(byte).isalpha()):
            return self
        if byte in b"}]":
            return self._on("after", self.open[:-1], self.keys[:-1])
        if byte == ord(","):
            return self._on("key" if self.open.endswith(b"{") else "value", self.open, self.keys)
        if byte == ord(":"):
            return self._on("value", self.open, self.keys)
        return self._begin(byte)

    def _begin(self, byte: int) -> "Place":
        """Return the place after the first byte of a key or value."""
        if byte == ord('"'):
            return self._on("in key" if self.mode == "key" else "in string", self.open, self.keys)
        if byte in b"{[":
            mode: Mode = "key" if byte == ord("{") else "value"
            return self._on(mode, self.open + bytes((byte,)), (*self.keys, frozenset()))
        return self._on("in number" if byte in _NUMBER else "in word", self.open, self.keys, bytes((byte,)))

    def _in_text(self, byte: int) -> "Place":
        part = self.part + bytes((byte,)) if self.mode == "in key" else b""
        if self.escaped:
            return self._replace(part=part, escaped=False)
        if byte != ord('"'):
            return self._replace(part=part, escaped=byte == ord("\\"))
        if self.mode == "in string":
            return self._on("after", self.open, self.keys)
        name = _name(self.part)
        known = self.keys[-1]
        mode: Mode = "twice" if name in known else "colon"
        return self._on(mode, self.open, (*self.keys[:-1], known | {name}))

    def _on(self, mode: Mode, brackets: bytes, keys: tuple[frozenset[str], ...], part: bytes = b"") -> "Place":
        return Place(mode, brackets, keys, part, digits=self.digits)


class Completion:
    """A search from one state of a matcher over bytes (ids 0 to 255).

    names: keys that schemas require, tried before other keys; texts: ends of strings to try, without quotes;
    unions: one string may decide what the rest must be; n_most_steps: bytes tried before the search is given up. The
    matcher is left as it was.
    """

    def __init__(
        self,
        matcher: "LLMatcher",
        place: Place,
        *,
        names: Sequence[bytes] = (),
        texts: Sequence[bytes] = (),
        unions: bool = False,
        n_most_steps: int = 12_000,
    ) -> None:
        self._matcher = matcher.deep_copy()
        self._places = [place]
        self._taken = bytearray()
        self._names = names
        self._texts = texts
        self._unions = unions
        self._n_steps = 0
        self._n_most_steps = n_most_steps
        self._classes: dict[bytes, bytes] = {}  # of a mask: one byte for each way on

    def scalar_end(self, *, most: int) -> bytes | None:
        """Return the shortest end of the string or number that is begun, None where none is begun or found."""
        options = allowed(self._matcher)
        if self._place.mode == "in number":
            return b"" if any(byte in _CLOSERS for byte in options) else self._scalar(_CLOSERS, options, most)
        if self._place.mode == "in string" and not self._place.escaped:
            return self._scalar(b'"', options, most)
        return b"" if self._place.mode == "after" else None

    def shortest(self, *, most: int) -> bytes | None:
        """Return the shortest end that was found, None when none has `most` bytes or fewer."""
        return self._finish(0, most)

    @property
    def _place(self) -> Place:
        return self._places[-1]

    def _finish(self, depth: int, most: int) -> bytes | None:
        """Go on until the value at `depth` open brackets is whole; return what was taken. Stays put for None."""
        start = len(self._taken)
        while not self._is_whole(depth):
            left = most - (len(self._taken) - start)
            taken = self._next(left) if left > 0 and self._n_steps < self._n_most_steps else None
            if taken is None or len(taken) > left or not self._take(taken, depth):
                self._go_back(start)
                return None
        return bytes(self._taken[start:])

    def _is_whole(self, depth: int) -> bool:
        place = self._place
        if len(place.open) != depth or place.mode not in ("after", "in number", "in word", "text"):
            return False
        if depth == 0:
            return bool(self._matcher.is_accepting())
        return place.mode == "after" or any(byte in _CLOSERS for byte in allowed(self._matcher))

    def _take(self, data: bytes, depth: int) -> bool:
        """Take bytes until the value at `depth` is whole; tell whether the grammar took them."""
        for i, byte in enumerate(data):
            if i and self._is_whole(depth):
                return True
            if self._matcher.try_consume_tokens([byte]) != 1:
                return False
            self._n_steps += 1
            self._taken.append(byte)
            self._places.append(self._place.after(byte))
            if not self._place.is_allowed:
                return False
        return True

    def _go_back(self, length: int) -> None:
        self._matcher.rollback(len(self._taken) - length)
        del self._taken[length:]
        del self._places[length + 1 :]

    def _next(self, most: int) -> bytes | None:
        """Return what to take next, a byte or more. None: nothing was found in `most` bytes."""
        # Asked first, for llguidance works on a mask without holding up other threads.
        options = allowed(self._matcher)
        if len(options) == 1:
            return bytes(self._matcher.compute_ff_bytes()) or options
        place = self._place
        if place.mode == "text":
            return self._text(options, most)
        if not options:
            return None
        if place.escaped:
            return bytes([next(byte for byte in options if byte != ord("u"))])
        if place.mode == "in string":
            return self._string(options, most)
        if place.mode == "in key":
            return self._key(options, most)
        if place.mode == "value":
            return self._value(options, most)
        close = next((byte for byte in b'}],"' if byte in options), None)
        return self._scalar(_CLOSERS, options, most) if close is None else bytes([close])

    def _text(self, options: bytes, most: int) -> bytes | None:
        """End a text that is no JSON: as one of the guesses does, or by the shortest way that is found."""
        guess = min(filter(self._fits, self._texts), key=len, default=None)
        shorter = self._widen(b"", options, most if guess is None else len(guess) - 1, deep=False)
        if shorter is None and guess is None:
            return self._widen(b"", options, most, deep=True)
        return guess if shorter is None else shorter

    def _key(self, options: bytes, most: int) -> bytes | None:
        """Follow the names that are required; where they part, try each to the object's end."""
        part = self._place.part
        names = [name for name in self._names if name.startswith(part) and _name(name) not in self._place.keys[-1]]
        known = [(name + b'"')[len(part)] for name in names]
        ways = [byte for byte in dict.fromkeys(known) if byte in options]
        if not ways:
            return self._scalar(b'"', options, most)
        if len(ways) == 1:
            return bytes(ways)
        return self._best([bytes((way,)) for way in ways], len(self._place.open) - 1, most)

    def _string(self, options: bytes, most: int) -> bytes | None:
        """End a string; where its text may decide what follows, try each way on to the end of what it stands in."""
        shortest = self._scalar(b'"', options, most)
        if shortest is None or not self._unions or len(options) > _CHOICES or self._n_steps > _STEPS:
            return shortest
        ways = {shortest[0]: shortest}
        for byte in self._ways_on(self._matcher, options, b'"', deep=False):
            text = self._widen(b'"', bytes((byte,)), most, deep=False) if byte not in ways else None
            ways.update({} if text is None else {byte: text})
        return shortest if len(ways) < 2 else self._best([*ways.values()], max(0, len(self._place.open) - 1), most)

    def _value(self, options: bytes, most: int) -> bytes | None:
        """Choose what kind of value is the shortest."""
        if ord("]") in options:
            return b"]"
        numbers = bytes(byte for byte in options if byte in _NUMBER)
        number = self._scalar(_CLOSERS, numbers, most) if numbers else None
        ways = [bytes((byte,)) for byte in b'"[ntf{' if byte in options]
        if number is None and len(ways) == 1:
            return ways[0]
        return self._best(ways, len(self._place.open), most, found=number)

    def _best(self, ways: Sequence[bytes], depth: int, most: int, *, found: bytes | None = None) -> bytes | None:
        """Try each way until the value at `depth` is whole; return the shortest, or at least the first."""
        best, start = found, len(self._taken)
        for way in ways:
            limit = (most if best is None else len(best) - 1) - len(way)
            if best is not None and (limit < 1 or self._n_steps > _STEPS):
                break
            rest = self._finish(depth, limit) if self._take(way, -1) else None
            self._go_back(start)
            best = best if rest is None else way + rest
        return best

    def _scalar(self, goal: bytes, first: bytes, most: int) -> bytes | None:
        """Return the shortest text after which a byte of `goal` may follow (or the grammar may end), width first."""
        guess = min(filter(self._fits, self._texts), key=len, default=None) if goal == b'"' else None
        if guess is not None and len(guess) < most:
            shorter = self._widen(goal, first, len(guess), deep=False)
            return guess + goal if shorter is None else shorter
        found = self._widen(goal, first, most, deep=False)
        return self._widen(goal, first, most, deep=True) if found is None else found

    def _fits(self, text: bytes) -> bool:
        """Tell whether a string or new key may end with this text."""
        after = self._matcher.deep_copy()
        self._n_steps += len(text)
        goal = b"" if self._place.mode == "text" else b'"'
        return after.try_consume_tokens([*text]) == len(text) and self._is_end(after, text, goal)

    def _widen(self, goal: bytes, first: bytes, most: int, *, deep: bool) -> bytes | None:
        """Search a string or number layer by layer; deep: tell more states apart, and try every byte."""
        if goal == b'"' and ord(goal) in first and self._is_end(self._matcher, b"", goal):
            return goal
        ways = [(self._matcher, b"")]
        n_most_steps = self._n_steps + _SCALAR_STEPS
        for n in range(most):
            following: dict[tuple[bytes, ...], tuple[LLMatcher, bytes]] = {}
            for matcher, text in ways:
                options = first if n == 0 else allowed(matcher)
                for byte in self._ways_on(matcher, options, goal, deep=deep):
                    if goal == _CLOSERS and byte in _NUMBER and not self._is_readable(text + bytes((byte,))):
                        continue
                    after = self._tried(matcher, byte)
                    if after is None:
                        continue
                    if self._is_end(after, text + bytes((byte,)), goal):
                        return text + bytes((byte,)) + (goal if goal == b'"' else b"")
                    look = _deep_look(after) if deep and goal == _CLOSERS else _look(after)
                    following.setdefault(look, (after, text + bytes((byte,))))
            ways = [*following.values()][: _BEAM * (1 + 3 * deep)]
            if self._n_steps > n_most_steps:
                return None
        return None

    def _is_readable(self, text: bytes) -> bool:
        """Tell whether a number may go on with this text, or be it."""
        begun = self._place.part if self._place.mode == "in number" else b""
        return is_readable(begun + text, self._place.digits)

    def _is_end(self, matcher: "LLMatcher", text: bytes, goal: bytes) -> bool:
        """Tell whether a string or number may end after this text; a key must be new in its object."""
        if goal != b'"':
            return bool(matcher.is_accepting()) or any(byte in goal for byte in allowed(matcher))
        if ord('"') not in allowed(matcher):
            return False
        return self._place.mode != "in key" or _name(self._place.part + text) not in self._place.keys[-1]

    def _ways_on(self, matcher: "LLMatcher", options: bytes, goal: bytes, *, deep: bool) -> bytes:
        """Return one byte for each of the ways on; bytes of free text mostly lead the same way."""
        if goal == _CLOSERS and deep:
            return options
        if goal != _CLOSERS:
            options = _to_try(options, is_json=goal != b"", deep=deep)
        if len(options) < 2:
            return options
        mask = matcher.compute_bitmask() + options
        if mask not in self._classes:
            ways: dict[tuple[bytes, ...], int] = {}
            for byte in options:
                after = self._tried(matcher, byte)
                if after is not None:
                    ways.setdefault(_look(after), byte)
            self._classes[mask] = bytes(ways.values())
        return self._classes[mask]

    def _tried(self, matcher: "LLMatcher", byte: int) -> "LLMatcher | None":
        self._n_steps += 1
        after = matcher.deep_copy()
        return after if after.consume_token(byte) else None


def allowed(matcher: "LLMatcher") -> bytes:
    """Return the bytes that may follow; the end, which a matcher over bytes counts as id 256, is none of them."""
    return _members(matcher.compute_bitmask())


@functools.lru_cache(4096)
def _members(mask: bytes) -> bytes:
    return bytes(byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1)


@functools.lru_cache(4096)
def _to_try(options: bytes, *, is_json: bool, deep: bool) -> bytes:
    """Return which bytes of a text to try: no escapes in JSON, and plain characters where there are any."""
    options = bytes(byte for byte in options if not is_json or byte not in b'\\"')
    return options if deep else bytes(byte for byte in options if 0x20 <= byte < 0x7F) or options


def behind_scalar(data: bytes, place: Place, depth: int) -> bytes:
    """Return what follows the first string or number that ends at `depth` open brackets in the end of a JSON text."""
    for i, byte in enumerate(data):
        if byte in _CLOSERS and place.mode in ("after", "in number", "in word") and len(place.open) == depth:
            return data[i:]
        place = place.after(byte)
    return b""


def is_readable(number: bytes, digits: int = MAX_SIGNIFICANT) -> bool:
    """Tell whether a number, or the beginning of one, stays within what readers of JSON accept.

    digits: how many it may have, leading zeros apart, if it has a fraction.
    """
    if len(number) > MAX_DIGITS:
        return False
    mantissa = number.lower().partition(b"e")[0]
    if b"." in mantissa and len(mantissa.replace(b".", b"").lstrip(b"-0")) > digits:
        return False
    try:
        return math.isfinite(float(number))
    except ValueError:  # "-", "1.", "1e": not a number yet
        return True


def _look(matcher: "LLMatcher") -> tuple[bytes, ...]:
    """Return what a state looks like from outside: what may follow, and what must."""
    return matcher.compute_bitmask(), bytes(matcher.compute_ff_bytes())


def _deep_look(matcher: "LLMatcher") -> tuple[bytes, ...]:
    """Return what a state and the states after it look like: remainders of a division differ only there."""
    looks = [matcher.compute_bitmask()]
    for byte in allowed(matcher):
        after = matcher.deep_copy()
        looks.append(after.compute_bitmask() if after.consume_token(byte) else b"")
    return tuple(looks)


def _name(part: bytes) -> str:
    """Return the name that a key's text, without its quotes, stands for."""
    try:
        return str(json.loads(b'"' + part + b'"'))
    except ValueError:  # half a character or escape: it cannot end here
        return part.decode("utf-8", "replace")
