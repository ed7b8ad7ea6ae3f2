"""A request's body as JSON: its depth and its number of values are counted before anything is built from it."""

import json
import math
import re
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from edge.limits import Limits
from edge.types import ApiError

_CHUNK_BYTES = 1 << 18
_MARKS = b'"[]{},'
_OTHERS = bytes(set(range(256)) - set(_MARKS))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(data: bytes, limits: Limits | None = None) -> dict[str, object]:
    """Return the object that a body holds.

    Refused with a 400: what is not JSON in UTF-8 or not an object, NaN, infinities, keys that come twice, half a
    surrogate pair, more levels or values than the limits allow; with a 413: more bytes.
    Raises: ApiError.
    """
    limits = limits or Limits()
    if len(data) > limits.body_bytes:
        detail = f"body: expected at most {limits.body_bytes} bytes, got {len(data)}"
        raise ApiError(status_code=413, body={"detail": detail})
    _check_shape(data, limits)
    try:
        value = json.loads(
            data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_distinct
        )
    except UnicodeDecodeError as error:
        raise _refusal(f"body: expected UTF-8, got something else at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _refusal(f"body: expected JSON: {error.msg} at character {error.pos}") from error
    except ValueError as error:  # an integer of thousands of digits, and what the hooks below refuse
        reason = str(error) if str(error).startswith("expected") else "a number is too long"
        raise _refusal(f"body: {reason}") from error
    if not isinstance(value, dict):
        raise _refusal(f"body: expected a JSON object, got {type(value).__name__}")
    if _SURROGATE.search(data):
        _check_strings(value)
    return value


def _check_shape(data: bytes, limits: Limits) -> None:
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
