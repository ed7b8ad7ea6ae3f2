"""Answers held to a JSON schema: which tokens may come next, and which ones still end a valid instance in time.

The grammar is llguidance's. At every moment an ending is known that completes the instance within the tokens that are
left; a token after which there is none is not taken, the ending's first token is. Nothing is kept between requests:
compiling takes milliseconds, and what is not kept needs no limit.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from edge.arrays import F32
from edge.engine.grammar.format import Format
from edge.engine.grammar.least import MOST_BYTES
from edge.engine.grammar.shortest import Completion, Place, allowed, behind_scalar
from edge.engine.grammar.vocabulary import vocabulary
from edge.engine.tokenizer import Tokenizer
from edge.errors import SchemaError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Sampler = Callable[[F32], int]

_MAX_TOKEN_BYTES = 24  # of the tokens that an ending is cut into
_MAX_LEXER_STATES = 20_000  # of 1 to 2 kB each: what a grammar may grow to while it is used
_MAX_GRAMMAR_SIZE = 200_000
_STEP_FUEL = 200_000  # of the lexer, for one call: some 20 ms, however its states grow
_SEARCH_STEPS = 2500  # of the search before an answer begins, beside an example
_TOKEN_STEPS = 2500  # of the search behind one token, which every conversation waits for

# What llguidance's errors have in them, and what a request is told.
_REFUSALS = (
    ("Unsatisfiable schema", "expected a schema that has an instance, got one whose keywords rule out every value"),
    ("lookarounds", "pattern: ^ is supported only where a match begins and $ only where it ends: leave others out"),
    ("Unable to determine", "pattern: too large together with the lengths, formats and patterns beside it"),
    ("regex parse error", "pattern: expected a regular expression as ECMA-262 and Rust both read it"),
    ("min/maxProperties", "minProperties and maxProperties are supported only where every property is required"),
    ("disjoint", "patternProperties: expected patterns of which no two match one name"),
    ("circular references", "$ref: a schema that refers to itself is supported only without keywords beside the $ref"),
    ("Failed to generate regex", "expected bounds with a number between them"),
    ("too big", "expected a smaller schema: fewer values in enum, properties or patterns"),
    ("", "expected a simpler schema: the keywords in it are supported, but not all of them together"),
)
_NO_INSTANCE = "no instance was found that could be written: make its patterns, lengths and numbers of items smaller"

_log = logging.getLogger("edge")


@dataclass
class GrammarStats:
    """What holding answers to formats took so far: their tokens, and the seconds, without those of sampling."""

    n_tokens: int = 0
    seconds: float = 0.0


class Ending(NamedTuple):
    """Text that makes the instance whole, and the tokens that write it."""

    data: bytes
    ids: tuple[int, ...]


class Grammars:
    """A vocabulary, ready for grammars; what llguidance needs of it is made when it is first asked for."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, end_ids: Sequence[int]) -> None:
        self.held = GrammarStats()
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = sorted(end_ids)
        self._made = threading.Lock()
        self._compiling = threading.Lock()
        self._vocabularies: tuple[LLTokenizer, LLTokenizer] | None = None
        self._ids: dict[bytes, int] = {}

    def constraint(self, form: Format, *, most: int) -> "Constraint":
        """Return what holds one answer of at most `most` tokens to a format.

        Raises: SchemaError (a keyword that is not covered, by name; or the number of tokens that are needed).
        """
        over_tokens, over_bytes = self._tokenizers()
        with self._compiling:  # one at a time: what many compile at once would hold up everybody else
            began_s = time.perf_counter()
            by_token = self._matcher(over_tokens, form)
            by_byte = self._matcher(over_bytes, form)
            constraint = Constraint(self, form, by_token, by_byte, self._frame(form))
            # Looked for without regard to `most`, so that a refusal can say how many it would take.
            if not constraint.begin():
                raise SchemaError(f"{form.field}: {_NO_INSTANCE}")
            constraint.opening_s = time.perf_counter() - began_s
        if constraint.n_needed > most:
            raise SchemaError(
                f"{form.limit}: expected at least {constraint.n_needed}, what the shortest answer to {form.field} "
                f"needs; there is room for {most}"
            )
        return constraint

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token stands for."""
        return self._tokenizer.token_bytes(token)

    @property
    def end_id(self) -> int:
        """A token that ends the turn."""
        return self._end_ids[0]

    def is_end(self, token: int) -> bool:
        """Tell whether a token ends the turn."""
        return token in self._end_ids

    def mask(self, matcher: "LLMatcher") -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, (V,)."""
        packed = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        return np.unpackbits(packed, count=self._vocab_size, bitorder="little").view(np.bool_)

    def fewest(self, data: bytes) -> tuple[int, ...]:
        """Return the fewest tokens that write these bytes."""
        n_tokens = [0] * (len(data) + 1)  # from each byte to the end
        first: list[int] = [0] * len(data)
        for i in reversed(range(len(data))):
            n_tokens[i] = len(data) + 1
            for j in range(i + 1, min(i + _MAX_TOKEN_BYTES, len(data)) + 1):
                token = self._ids.get(data[i:j])
                if token is not None and n_tokens[j] + 1 < n_tokens[i]:
                    n_tokens[i], first[i] = n_tokens[j] + 1, token
        ids: list[int] = []
        i = 0
        while i < len(data):
            ids.append(first[i])
            i += len(self.bytes_of(first[i]))
        return tuple(ids)

    def _tokenizers(self) -> "tuple[LLTokenizer, LLTokenizer]":
        with self._made:
            if self._vocabularies is None:
                control = frozenset(self._tokenizer.control.values())
                pieces = [self.bytes_of(token) for token in range(self._vocab_size)]
                self._ids = {data: token for token, data in enumerate(pieces) if data and token not in control}
                special = sorted(control.union(self._end_ids))
                over_tokens = vocabulary(pieces, special, self._end_ids, encode=self._tokenizer.encode)
                missing = self._tokenizer.missing  # what no token writes is in no ending either
                bytes_alone = [b"" if byte in missing else bytes((byte,)) for byte in range(256)]
                self._vocabularies = over_tokens, vocabulary([*bytes_alone, b"<end>"], [256], [256], encode=None)
            return self._vocabularies

    def _matcher(self, vocabulary: "LLTokenizer", form: Format) -> "LLMatcher":
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(
            max_lexer_states=_MAX_LEXER_STATES, max_grammar_size=_MAX_GRAMMAR_SIZE, step_lexer_fuel=_STEP_FUEL
        )
        matcher = LLMatcher(vocabulary, form.grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise SchemaError(f"{form.field}: {_refusal(matcher.get_error())}")
        return matcher

    def _frame(self, form: Format) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens around an instance."""
        if not form.is_call:
            return (), ()
        control = self._tokenizer.control
        return (control["<tool_call>"], *self._tokenizer.encode("\n")), (control["</tool_call>"],)


class Constraint:
    """The state of one answer that is held to a grammar."""

    def __init__(
        self,
        grammars: Grammars,
        form: Format,
        by_token: "LLMatcher",
        by_byte: "LLMatcher",
        frame: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:
        self._grammars = grammars
        self._by_token = by_token
        self._by_byte = by_byte
        self._before, self._behind = frame
        self._names = _quoted(form.names)
        self._texts = tuple(text.encode() for text in form.texts) if form.is_text else _quoted(form.texts)
        self._unions = form.unions
        self._example = form.example
        self._place = Place("text" if form.is_text else "value", digits=form.digits)
        self._ending = Ending(b"", ())
        self._is_whole = False
        self._is_ending = False  # nothing but the known ending may follow
        self.opening_s = 0.0  # what compiling and the first search took; counted with the first token

    def begin(self) -> bool:
        """Look for the shortest instance; tell whether there is one."""
        example = self._checked(self._example)
        ending = self._search(self._by_byte, self._place, most=MOST_BYTES, n_steps=_SEARCH_STEPS)
        found = [it for it in (ending, example) if it is not None]
        if not found:
            return False
        self._ending = min(found, key=lambda it: len(it.ids))
        return True

    def _checked(self, example: str | None) -> Ending | None:
        """Return an example as an ending, if the grammar accepts it as a whole."""
        if example is None:
            return None
        data, after = example.encode("utf-8", "replace"), self._by_byte.deep_copy()
        after.compute_bitmask()  # the first step is the longest, and here it holds up no other thread
        is_instance = _walk(after, self._place, data) is not None and after.is_accepting()
        return Ending(data, self._grammars.fewest(data)) if is_instance else None

    @property
    def n_needed(self) -> int:
        """How many more tokens the known ending takes, tags included."""
        return len(self._before) + len(self._ending.ids) + len(self._behind)

    @property
    def is_done(self) -> bool:
        """Whether the instance is whole and nothing may follow."""
        return self._is_whole and not self._behind

    def choose(self, logits: F32, sample: Sampler, *, n_left: int) -> int:
        """Return the next token. logits: (V,) float32; n_left: tokens that may still come, this one included."""
        began_s = time.perf_counter()
        if self._before or self._is_whole:
            token = self._frame()
        elif (mask := self._mask()) is None:
            token = self._end()
        else:
            allowed_logits = np.where(mask, logits, np.float32(-np.inf))
            sampling_from_s = time.perf_counter()
            token = sample(allowed_logits)
            began_s += time.perf_counter() - sampling_from_s  # sampling is no work of the grammar's
            token = self._settle(token, n_left - 1 - len(self._behind))
        held = self._grammars.held
        held.n_tokens += 1
        held.seconds += self.opening_s + time.perf_counter() - began_s
        self.opening_s = 0.0
        return token

    def _frame(self) -> int:
        """Take the next of the tokens around the instance."""
        if self._before:
            token, *rest = self._before
            self._before = tuple(rest)
        else:
            token, *rest = self._behind
            self._behind = tuple(rest)
        return token

    def _mask(self) -> npt.NDArray[np.bool_] | None:
        """Return which tokens may come next, None where nothing but the known ending does.

        llguidance gives up where its lexer would have too many states. What was written then is the beginning of an
        instance still, and its ending was found before.
        """
        if self._is_ending:
            return None
        mask = self._grammars.mask(self._by_token)
        self._is_ending = self._by_token.is_error() or not mask.any()
        return None if self._is_ending else mask

    def _settle(self, token: int, n_left: int) -> int:
        """Return the token, taken, if the instance can be ended in n_left more; else the known ending's first."""
        if self._grammars.is_end(token) or self._take(token, n_left):
            return token
        return self._end()

    def _end(self) -> int:
        """Return the next token of the known ending, taken; behind the last one, the end of the turn."""
        if not self._ending.ids:  # whole already, as a number is that could go on
            return self._grammars.end_id
        token = self._ending.ids[0]
        data = self._grammars.bytes_of(token)
        ending = Ending(self._ending.data[len(data) :], self._ending.ids[1:])
        after = self._by_byte.deep_copy()
        place = _walk(after, self._place, data)
        self._commit(token, after, self._place if place is None else place, ending)
        return token

    def _take(self, token: int, n_left: int) -> bool:
        """Take a token if the instance can be ended in n_left more; tell whether it was taken."""
        data = self._grammars.bytes_of(token)
        after = self._by_byte.deep_copy()
        place = _walk(after, self._place, data)
        if place is None:
            return False
        ending = self._known_ending(token, data, after, place)
        if ending is None or len(ending.ids) > n_left:
            ending = self._near_ending(after, place)
        if ending is None:
            # No token is longer than _MAX_TOKEN_BYTES when an ending is cut, so nothing longer could fit.
            most = min(n_left * _MAX_TOKEN_BYTES, MOST_BYTES)
            ending = self._search(after, place, most=most, n_steps=_TOKEN_STEPS)
        if ending is None or len(ending.ids) > n_left:
            return False
        self._commit(token, after, place, ending)
        return True

    def _commit(self, token: int, after: "LLMatcher", place: Place, ending: Ending) -> None:
        self._is_ending = self._is_ending or after.is_error() or not self._by_token.consume_token(token)
        self._by_byte, self._place, self._ending = after, place, ending
        if self._is_ending:
            self._is_whole = not ending.ids
        else:
            self._is_whole = bool(after.is_accepting()) and not allowed(after)

    def _known_ending(self, token: int, data: bytes, after: "LLMatcher", place: Place) -> Ending | None:
        """Return an ending that needs no search: none, the rest of the one before, or that one once more."""
        if after.is_accepting():
            return Ending(b"", ())
        known = self._ending
        if known.ids and known.ids[0] == token:
            return Ending(known.data[len(data) :], known.ids[1:])
        if known.data.startswith(data):
            return Ending(known.data[len(data) :], self._ids_behind(len(data)))
        trial = after.deep_copy()
        return known if known.data and _walk(trial, place, known.data) is not None and trial.is_accepting() else None

    def _near_ending(self, after: "LLMatcher", place: Place) -> Ending | None:
        """Return an ending that differs from the one before in nothing but the string or number that is begun."""
        rest = behind_scalar(self._ending.data, self._place, len(place.open))
        first = self._completion(after, place, _TOKEN_STEPS).scalar_end(most=MOST_BYTES) if rest else None
        if first is None:
            return None
        # The rest was in this place before: its keys and its depth are known to be right.
        trial = after.deep_copy()
        if _walk(trial, place, first) is None or trial.try_consume_tokens([*rest]) != len(rest):
            return None
        behind = self._ids_behind(len(self._ending.data) - len(rest))
        return Ending(first + rest, (*self._grammars.fewest(first), *behind)) if trial.is_accepting() else None

    def _ids_behind(self, n_bytes: int) -> tuple[int, ...]:
        """Return tokens of the known ending without its first n_bytes; one that is cut is written by smaller ones."""
        n_left = len(self._ending.data) - n_bytes
        kept = 0
        i = len(self._ending.ids)
        while i and kept + (n_more := len(self._grammars.bytes_of(self._ending.ids[i - 1]))) <= n_left:
            kept += n_more
            i -= 1
        return (*self._grammars.fewest(self._ending.data[n_bytes : n_bytes + n_left - kept]), *self._ending.ids[i:])

    def _search(self, matcher: "LLMatcher", place: Place, *, most: int, n_steps: int) -> Ending | None:
        data = self._completion(matcher, place, n_steps).shortest(most=most)
        return None if data is None else Ending(data, self._grammars.fewest(data))

    def _completion(self, matcher: "LLMatcher", place: Place, n_steps: int) -> Completion:
        how = {"names": self._names, "texts": self._texts}
        return Completion(matcher, place, **how, unions=self._unions, n_most_steps=n_steps)


def _walk(matcher: "LLMatcher", place: Place, data: bytes) -> Place | None:
    """Take bytes; return where they lead, None where grammar, limits or an object's own keys forbid it."""
    if matcher.try_consume_tokens([*data]) != len(data):
        return None
    for byte in data:
        place = place.after(byte)
        if not place.is_allowed:
            return None
    return place


def _quoted(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return texts as they stand between the quotes of JSON, those that can."""
    return tuple(json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace") for text in texts)


def _refusal(error: str) -> str:
    """Return what a request is told of a grammar that llguidance does not compile; its own words go to the log."""
    _log.info("llguidance refused a grammar: %.500s", error)
    return next((said for found, said in _REFUSALS if found in error), _REFUSALS[-1][1])
