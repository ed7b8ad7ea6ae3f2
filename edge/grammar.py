"""Answers held to a JSON schema: which tokens may come next, and which ones still end a valid instance in time.

The grammar is llguidance's. At every moment an ending is known that completes the instance within the tokens that are
left; a token after which there is none is not taken, the ending's first token is. Nothing is kept between requests:
compiling takes milliseconds, and what is not kept needs no limit.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from edge.bounds import tightened
from edge.completion import Completion, Place, allowed
from edge.errors import RuntimeFailure, SchemaError, shown
from edge.pattern import match_of
from edge.references import check_levels
from edge.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

F32 = npt.NDArray[np.float32]
Sampler = Callable[[F32], int]

MAX_DEPTH = 64  # of an instance; limits.md allows no deeper JSON in a request either
MAX_DIGITS = 64  # of a number: a model that repeats itself must not make one that no reader takes
_WRITTEN = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "lenient": False}
_MAX_TOKEN_BYTES = 24  # of the tokens that an ending is cut into
_MOST_BYTES = 16_384  # of a shortest instance
_MOST_TEXTS = 32
_MAX_LEXER_STATES = 20_000  # of 1 to 2 kB each: what a grammar may grow to while it is used
_MAX_GRAMMAR_SIZE = 200_000
_MAX_OPTIONAL = 2000  # properties: compiling takes time by the square of those of one object
_MAX_PATTERNS = 64  # of names: by the cube
_MAX_DIVISORS = 20_000  # their sum: by a state for each remainder
_MAX_DIGITS_OF_DIVISORS = 9
_MAX_MULTIPLE = 100_000  # of all divisors: those that meet in one number become one


@dataclass(frozen=True)
class Format:
    """What an answer must be: an instance of `grammar` (llguidance's Lark), inside tool_call tags if it is a call.

    field: of the request, and limit, what it calls max_tokens, for messages; names: keys that schemas require; texts:
    matches of their patterns; unions: there are alternatives.
    """

    grammar: str
    field: str
    is_call: bool
    names: tuple[str, ...]
    texts: tuple[str, ...]
    unions: bool
    limit: str = "max_tokens"


def schema_format(schema: Mapping[str, object], *, field: str) -> Format:
    """Return the format of a schema's instances, written as json.dumps writes them, without further white space.

    Raises: SchemaError, as call_format.
    """
    return _format(f"start: {_inline(schema, field)}\n", field, [schema], is_call=False)


def call_format(tools: Mapping[str, Mapping[str, object]], *, field: str) -> Format:
    """Return the format of one call; tools: by name, the schema of each one's arguments."""
    rules = ["start: " + " | ".join(f"call_{i}" for i in range(len(tools)))]
    for i, (name, schema) in enumerate(tools.items()):
        head = json.dumps('{"name": ' + json.dumps(name) + ', "arguments": ')
        rules += [f'call_{i}: {head} arguments_{i} "}}"', f"arguments_{i}: {_inline(schema, field)}"]
    return _format("\n".join(rules) + "\n", field, [*tools.values()], is_call=True)


@dataclass
class Held:
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
        self.held = Held()
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = sorted(end_ids)
        self._made = threading.Lock()
        self._vocabularies: tuple[LLTokenizer, LLTokenizer] | None = None
        self._ids: dict[bytes, int] = {}

    def constraint(self, form: Format, *, most: int) -> "Constraint":
        """Return what holds one answer of at most `most` tokens to a format.

        Raises: SchemaError (a keyword that is not covered, by name; or the number of tokens that are needed).
        """
        over_tokens, over_bytes = self._tokenizers()
        began_s = time.perf_counter()
        by_token = self._matcher(over_tokens, form)
        by_byte = self._matcher(over_bytes, form)
        frame = self._frame(form)
        constraint = Constraint(self, form, by_token, by_byte, frame)
        # Looked for without regard to `most`, so that a refusal can say how many it would take.
        if not constraint.begin():
            raise SchemaError(f"{form.field}: no instance was found that could be written")
        if constraint.n_needed > most:
            raise SchemaError(
                f"{form.limit}: expected at least {constraint.n_needed}, what the shortest answer to {form.field} "
                f"needs; there is room for {most}"
            )
        constraint.opening_s = time.perf_counter() - began_s
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
                over_tokens = _vocabulary(pieces, special, self._end_ids, encode=self._tokenizer.encode)
                bytes_alone = [bytes((byte,)) for byte in range(256)]
                self._vocabularies = over_tokens, _vocabulary([*bytes_alone, b"<end>"], [256], [256], encode=None)
            return self._vocabularies

    def _matcher(self, vocabulary: "LLTokenizer", form: Format) -> "LLMatcher":
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, max_grammar_size=_MAX_GRAMMAR_SIZE)
        matcher = LLMatcher(vocabulary, form.grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise SchemaError(f"{form.field}: {_reason(matcher.get_error())}")
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
        self._texts = _quoted(form.texts)
        self._unions = form.unions
        self._place = Place()
        self._ending = Ending(b"", ())
        self._is_whole = False
        self.opening_s = 0.0  # what compiling and the first search took; counted with the first token

    def begin(self) -> bool:
        """Look for the shortest instance; tell whether there is one."""
        ending = self._search(self._by_byte, self._place, most=_MOST_BYTES)
        if ending is None:
            return False
        self._ending = ending
        return True

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
        else:
            allowed_logits = np.where(self._grammars.mask(self._by_token), logits, np.float32(-np.inf))
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

    def _settle(self, token: int, n_left: int) -> int:
        """Return the token, taken, if the instance can be ended in n_left more; else the known ending's first."""
        if self._grammars.is_end(token) or self._take(token, n_left):
            return token
        if not self._ending.ids:  # whole already, as a number is that could go on
            return self._grammars.end_id
        token = self._ending.ids[0]
        self._follow(token)
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
            # No token is longer than _MAX_TOKEN_BYTES when an ending is cut, so nothing longer could fit.
            ending = self._search(after, place, most=min(n_left * _MAX_TOKEN_BYTES, _MOST_BYTES))
        if ending is None or len(ending.ids) > n_left:
            return False
        self._commit(token, after, place, ending)
        return True

    def _follow(self, token: int) -> None:
        """Take the first token of the known ending."""
        data = self._grammars.bytes_of(token)
        after = self._by_byte.deep_copy()
        place = _walk(after, self._place, data)
        if place is None:
            raise RuntimeFailure("the grammar does not take its own ending")
        self._commit(token, after, place, Ending(self._ending.data[len(data) :], self._ending.ids[1:]))

    def _commit(self, token: int, after: "LLMatcher", place: Place, ending: Ending) -> None:
        if not self._by_token.consume_token(token):
            raise RuntimeFailure(f"the grammar gave up: {_reason(self._by_token.get_error())}")
        self._by_byte, self._place, self._ending = after, place, ending
        self._is_whole = bool(after.is_accepting()) and not allowed(after)

    def _known_ending(self, token: int, data: bytes, after: "LLMatcher", place: Place) -> Ending | None:
        """Return an ending that needs no search: none, the rest of the one before, or that one once more."""
        if after.is_accepting():
            return Ending(b"", ())
        known = self._ending
        if known.ids and known.ids[0] == token:
            return Ending(known.data[len(data) :], known.ids[1:])
        if known.data.startswith(data):
            rest = known.data[len(data) :]
            return Ending(rest, self._grammars.fewest(rest))
        trial = after.deep_copy()
        return known if known.data and _walk(trial, place, known.data) is not None and trial.is_accepting() else None

    def _search(self, matcher: "LLMatcher", place: Place, *, most: int) -> Ending | None:
        search = Completion(matcher, place, names=self._names, texts=self._texts, unions=self._unions)
        data = search.shortest(most=most)
        return None if data is None else Ending(data, self._grammars.fewest(data))


def _walk(matcher: "LLMatcher", place: Place, data: bytes) -> Place | None:
    """Take bytes; return where they lead, None where grammar, limits or an object's own keys forbid it."""
    if matcher.try_consume_tokens([*data]) != len(data):
        return None
    for byte in data:
        place = place.after(byte)
        if place.mode == "twice" or len(place.open) > MAX_DEPTH:
            return None
        if place.mode == "in number" and not _is_readable(place.part):
            return None
    return place


def _is_readable(number: bytes) -> bool:
    """Tell whether a number, or the beginning of one, stays within what readers of JSON take."""
    if len(number) > MAX_DIGITS:
        return False
    try:
        return math.isfinite(float(number))
    except ValueError:  # "-", "1.", "1e": not a number yet
        return True


def _vocabulary(
    pieces: Sequence[bytes],
    special: Sequence[int],
    end_ids: Sequence[int],
    *,
    encode: Callable[[str], list[int]] | None,
) -> "LLTokenizer":
    from llguidance import LLTokenizer, TokenizerWrapper

    wrapped = TokenizerWrapper(_Vocabulary(pieces, special, end_ids, encode))
    return LLTokenizer(wrapped, eos_token=[*end_ids])


class _Vocabulary:
    """Tokens and how text becomes some of them, in the shape that llguidance reads."""

    bos_token_id: int | None = None

    def __init__(
        self,
        pieces: Sequence[bytes],
        special: Sequence[int],
        end_ids: Sequence[int],
        encode: Callable[[str], list[int]] | None,
    ) -> None:
        self.tokens = [*pieces]
        self.special_token_ids = [*special]
        self.eos_token_id = end_ids[0]
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """Encode text. Raises: AttributeError for bytes, by which llguidance learns that it must not pass any."""
        return [*text.encode()] if self._encode is None else self._encode(text)


def _inline(schema: Mapping[str, object], field: str) -> str:
    check_levels(schema, field=field)
    return "%json " + json.dumps({**tightened(schema, field=field), "x-guidance": _WRITTEN}, default=dict)


def _format(grammar: str, field: str, schemas: Sequence[Mapping[str, object]], *, is_call: bool) -> Format:
    """Return a format with what its schemas tell a search: names, matches of patterns, whether there are unions."""
    names: dict[str, None] = {}
    texts: dict[str, None] = {}
    unions = len(schemas) > 1
    n_optional = n_patterns = 0
    divisors: list[Decimal] = []
    waiting: list[object] = [*schemas]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            required, patterns = node.get("required"), node.get("patternProperties")
            n_optional += _n_optional(node.get("properties"), required)
            n_patterns += len(patterns) if isinstance(patterns, Mapping) else 0
            divisors += _divisors(node.get("multipleOf"))
            listed = required if isinstance(required, list | tuple) else ()
            names.update(dict.fromkeys(name for name in listed if isinstance(name, str)))
            for pattern in (node.get("pattern"), *(patterns if isinstance(patterns, Mapping) else ())):
                text = match_of(pattern) if isinstance(pattern, str) else None
                texts.update({} if text is None else {text: None})
            unions = unions or "anyOf" in node or "oneOf" in node
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node
    if n_optional > _MAX_OPTIONAL:
        raise SchemaError(
            f"{field}: expected at most {_MAX_OPTIONAL} properties that are not required, got {n_optional}"
        )
    if n_patterns > _MAX_PATTERNS:
        raise SchemaError(f"{field}: expected at most {_MAX_PATTERNS} patternProperties, got {n_patterns}")
    _check_divisors(divisors, field)
    return Format(grammar, field, is_call, tuple(names), tuple(texts)[:_MOST_TEXTS], unions)


def _n_optional(properties: object, required: object) -> int:
    if not isinstance(properties, Mapping):
        return 0
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list | tuple) else set()
    return len(properties.keys() - needed)


def _divisors(value: object) -> list[Decimal]:
    return [Decimal(repr(value))] if isinstance(value, int | float) and not isinstance(value, bool) and value else []


def _check_divisors(divisors: Sequence[Decimal], field: str) -> None:
    """Refuse divisions that take too many states: of single numbers, and of those that may meet in one.

    Raises: SchemaError.
    """
    got = shown(", ".join(map(str, divisors)))
    most = f"{field}: multipleOf: expected divisors of at most {_MAX_DIVISORS} in sum"
    finest = min((divisor.normalize().as_tuple().exponent for divisor in divisors if divisor.is_finite()), default=0)
    scale = -min(int(finest), 0)
    if scale > _MAX_DIGITS_OF_DIVISORS or sum(_coefficient(divisor) for divisor in divisors) > _MAX_DIVISORS:
        raise SchemaError(f"{most} (0.01 counts as 1), got {got}")
    multiple = math.lcm(*{abs(int(divisor.scaleb(scale))) for divisor in divisors}) if len(divisors) > 1 else 1
    if multiple > _MAX_MULTIPLE:
        raise SchemaError(f"{most}, and with a common multiple of at most {_MAX_MULTIPLE}, got {got}")


def _coefficient(divisor: Decimal) -> int:
    """Return a divisor without its decimal point; 100 is 100, for it takes as many states."""
    exponent = int(divisor.normalize().as_tuple().exponent)
    return (
        abs(int(divisor.scaleb(max(0, -exponent)))) if abs(exponent) <= _MAX_DIGITS_OF_DIVISORS else _MAX_DIVISORS + 1
    )


def _quoted(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return texts as they stand between the quotes of JSON, those that can."""
    return tuple(json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace") for text in texts)


def _reason(error: str) -> str:
    """Return what llguidance says is wrong, without the grammar that it quotes."""
    lines = [line.strip() for line in error.splitlines() if not line.strip()[:1].isdigit() and line.strip(" ^")]
    line = " ".join(lines).partition("failed to compile JSON schema: ")[2] or " ".join(lines)
    return line.replace("Unimplemented keys", "keywords that are not covered")[:300]
