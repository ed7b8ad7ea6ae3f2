"""A request's body as JSON: its depth and its number of values are counted before anything is built from it."""

import codecs
import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import numpy as np

from edge.limits import Limits
from edge.types import ApiError

_CHUNK_BYTES = 1 << 18
_MARKS = b'"[]{},'
_OTHERS = bytes(set(range(256)) - set(_MARKS))
_LONG_BYTES = 64 << 10  # media that long are cut in an outline
_KEPT_BYTES = 1 << 10  # of it, at its beginning; and some at its end
_END_BYTES = 64
_MAX_QUOTES = 400_000  # what has more is looked at no further
_NAMED = re.compile(rb'"data"\s*:\s*\Z')
_LISTED = re.compile(rb'"images"\s*:\s*\[\s*\Z')
_NEXT = re.compile(rb"\s*,\s*")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


Data = bytes | bytearray
Whole = Callable[[], dict[str, object]]


def read_outline(data: Data, limits: Limits | None = None) -> tuple[dict[str, object], Whole | None]:
    """Return the object that a body holds, its media cut, and what gives all of it; None where nothing is cut.

    What is wrong with the fields of a body shows in its outline, which costs next to no memory. What gives all of it is
    called once. A bytearray is emptied as soon as it is not needed. Refused: as read_json. Raises: ApiError.
    """
    limits = limits or Limits()
    _check_data(data, limits)
    cuts = list(_cuts(data))
    if not cuts:
        return _parsed(data, is_spent=True), None
    view, parts, start = memoryview(data), [], 0
    for first, last in cuts:
        parts.append(view[start:first])
        start = last
    outline = b"".join([*parts, view[start:]])
    del view, parts
    return _parsed(outline, cuts), functools.partial(_parsed, data, is_spent=True)


def read_json(data: Data, limits: Limits | None = None) -> dict[str, object]:
    """Return the object that a body holds.

    Refused with a 400: what is not JSON in UTF-8 or not an object, NaN, infinities, keys that come twice, half a
    surrogate pair, more levels or values than the limits allow; with a 413: more bytes.
    Raises: ApiError.
    """
    _check_data(data, limits or Limits())
    return _parsed(data)


def _check_data(data: Data, limits: Limits) -> None:
    """Check what costs no memory to check: size, depth, values, UTF-8. Raises: ApiError."""
    if len(data) > limits.body_bytes:
        detail = f"body: expected at most {limits.body_bytes} bytes, got {len(data)}"
        raise ApiError(status_code=413, body={"detail": detail})
    _check_shape(data, limits)
    _check_utf8(data)


def _parsed(data: Data, cuts: Sequence[tuple[int, int]] = (), *, is_spent: bool = False) -> dict[str, object]:
    """Parse what was checked. Raises: ApiError 400.

    cuts: what was cut out of it, for the place of an error; is_spent: whether a bytearray is not needed any more.
    """
    has_escapes = _SURROGATE.search(data) is not None
    text = data.decode("utf-8")
    if is_spent and isinstance(data, bytearray):
        data.clear()
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        place = error.pos
        for first, last in cuts:  # in order, and in ASCII
            place += last - first if first < place else 0
        raise _refusal(f"body: expected JSON: {error.msg} at character {place}") from error
    except ValueError as error:  # an integer of thousands of digits, and what the hooks below refuse
        reason = str(error) if str(error).startswith("expected") else "a number is too long"
        raise _refusal(f"body: {reason}") from error
    if not isinstance(value, dict):
        raise _refusal(f"body: expected a JSON object, got {type(value).__name__}")
    if has_escapes:
        _check_strings(value)
    return value


def _cuts(data: Data) -> Iterator[tuple[int, int]]:
    """Yield where media are cut: all but their beginnings and ends, in groups of four characters.

    Media are long strings of base64: data: URLs, what is called "data", and what is in a list called "images".
    """
    at, listed = data.find(b'"'), -1  # where the last string of such a list ends
    for _ in range(_MAX_QUOTES):
        end = data.find(b'"', at + 1)
        if at < 0 or end < 0:
            return
        is_listed = _is_listed(data, at, listed)
        listed = end if is_listed else listed if listed == at else -1
        first = at + 1 + _KEPT_BYTES
        last = first + (end - _END_BYTES - first) // 4 * 4
        is_long = end - at > _LONG_BYTES and data.find(b"\\", at, end) < 0
        is_named = is_listed or data.startswith(b"data:", at + 1) or _NAMED.search(data, max(0, at - 16), at)
        if is_long and is_named and all(data[place - 4 : place + 4].isascii() for place in (first, last)):
            yield first, last
        at = end


def _is_listed(data: Data, at: int, listed: int) -> bool:
    """Return whether a string that begins at a quote is in a list called "images". listed: where one before it ends."""
    if 0 <= listed < at:
        return _NEXT.fullmatch(data, listed + 1, at) is not None
    return listed < 0 and _LISTED.search(data, max(0, at - 24), at) is not None


def _check_utf8(data: Data) -> None:
    """Check the encoding, a chunk at a time. Raises: ApiError 400."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _CHUNK_BYTES):
        chunk = data[start : start + _CHUNK_BYTES]
        try:
            decoder.decode(chunk, final=start + len(chunk) == len(data))
        except UnicodeDecodeError as error:
            place = start + len(chunk) - len(error.object) + error.start
            raise _refusal(f"body: expected UTF-8, got something else at byte {place}") from error


def _check_shape(data: Data, limits: Limits) -> None:
    """Count depth and values, a chunk at a time. Raises: ApiError 400."""
    level, quotes, n_values, held = 0, 0, 1, b""
    for start in range(0, len(data), _CHUNK_BYTES):
        chunk = held + data[start : start + _CHUNK_BYTES]
        n_slashes = len(chunk) - len(chunk.rstrip(b"\\"))
        held = chunk[-1:] if n_slashes % 2 else b""  # what it escapes comes with the next chunk
        plain = chunk[: len(chunk) - len(held)].replace(b"\\\\", b"").replace(b'\\"', b"")
        marks = np.frombuffer(plain.translate(None, _OTHERS), np.uint8)
        opened_quotes = quotes + np.cumsum(marks == ord('"'))
        outside = opened_quotes % 2 == 0
        opens = outside & ((marks == ord("[")) | (marks == ord("{")))
        closes = outside & ((marks == ord("]")) | (marks == ord("}")))
        levels = level + np.cumsum(opens.astype(np.int64) - closes)
        n_values += int(np.count_nonzero(opens) + np.count_nonzero(outside & (marks == ord(","))))
        if len(marks):
            level, quotes = int(levels[-1]), int(opened_quotes[-1])
            if levels.max() > limits.json_depth:
                most = limits.json_depth
                raise _refusal(f"body: expected at most {most} levels of JSON, got {levels.max()} or more")
        if n_values > limits.json_values:
            raise _refusal(f"body: expected at most {limits.json_values} JSON values, got {n_values} or more")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"expected JSON, got {name}")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"expected a number that fits, got {text[:200]}")
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"expected each key once, got {twice[:200]!r} again")
    return fields


def _check_strings(value: dict[str, object]) -> None:
    """Refuse half a surrogate pair, which no tokenizer and no UTF-8 can hold. Raises: ApiError 400 with its place."""
    for place, text in _strings(value, ()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            at = ".".join(map(str, place))
            raise _refusal(f"{at}: expected Unicode text, got half a surrogate pair") from error


def _strings(value: object, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every string, keys included, with where it stands. The depth was checked before."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield (*place, "a key"), key
            yield from _strings(item, (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _strings(item, (*place, i))


def _refusal(detail: str) -> ApiError:
    return ApiError(status_code=400, body={"detail": detail})
