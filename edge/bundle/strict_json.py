"""JSON of ours, read without its traps, and turned into frozen dataclasses that mirror its keys exactly.

A key whose field has a default may be missing; written, it is left out where it has that value.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Literal

from edge.errors import BundleError

_MAX_INT = 1 << 53


def load(data: bytes, *, file: str) -> dict[str, object]:
    """Parse a JSON object without JSON's traps: duplicate keys, NaN, huge numbers, endless depth, half surrogates.

    Raises: BundleError naming the file.
    """

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, value in items:
            if key in result:
                raise BundleError(f"{file}: key {key!r:.200} is given twice")
            result[key] = value
        return result

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > _MAX_INT:
            raise BundleError(f"{file}: integer {text[:40]} is too large")
        return int(text)

    def real(text: str) -> float:
        if not math.isfinite(float(text)):
            raise BundleError(f"{file}: number {text[:40]} is not finite")
        return float(text)

    try:
        text = data.decode("utf-8")
        document = json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=real)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not a JSON document: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file}: expected a JSON object, got {type(document).__name__}")
    return document


def read(kind: object, value: object, *, file: str, key: str = "") -> object:
    """Turn a parsed JSON value into what a type annotation asks for. Raises: BundleError naming file and key."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, file, key)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # the second where a Literal may be None
        return None if value is None else read(arguments[0], value, file=file, key=key)
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise BundleError(f"{file}: {key}: expected {len(arguments)} values, got {len(value)}")
        return tuple(read(arguments[0], item, file=file, key=f"{key}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {
            _read_text(name, file, key): read(arguments[1], item, file=file, key=f"{key}.{name}")
            for name, item in value.items()
        }
    if kind is float and type(value) in (int, float):
        return float(typing.cast(float, value))
    if kind is str:
        return _read_text(value, file, key)
    if isinstance(kind, type) and type(value) is kind:
        return value
    name = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise BundleError(f"{file}: {key}: expected {name}, got {value!r:.200}")


def plain(value: object) -> object:
    """Return a dataclass as JSON has it: its keys, without those whose value is the default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: plain(item) for field, item in fields if item != field.default}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _read_dataclass(kind: type, value: object, file: str, key: str) -> object:
    if not isinstance(value, dict):
        raise BundleError(f"{file}: {key}: expected an object, got {value!r:.200}")
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    optional = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    for name in value.keys() - hints.keys():
        raise BundleError(f"{file}: unknown key {prefix}{name}"[:300])
    for name in hints.keys() - value.keys() - optional:
        raise BundleError(f"{file}: missing key {prefix}{name}")
    given = {name: hint for name, hint in hints.items() if name in value}
    return kind(**{name: read(hint, value[name], file=file, key=prefix + name) for name, hint in given.items()})


def _read_text(value: object, file: str, key: str) -> str:
    if not isinstance(value, str):
        raise BundleError(f"{file}: {key}: expected a string, got {value!r:.200}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BundleError(f"{file}: {key}: half a surrogate pair in {value!r:.200}") from error
    return value
