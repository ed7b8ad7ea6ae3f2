"""Reads the header of a GGUF file without trusting it; the tensors stay on disk.

The format, all little-endian: the magic "GGUF", a version, the numbers of tensors and of metadata keys, the metadata
(key, type, value), the tensors (name, dimensions with the fastest first, type, offset), padding, the data.
Source: docs/gguf.md of the ggml project.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from export.errors import CheckpointError, UnsupportedError

MAGIC: Final = b"GGUF"
SUFFIX: Final = ".gguf"
VERSIONS: Final = (2, 3)
MAX_HEADER_BYTES: Final = 256 << 20  # a vocabulary with its merges has some MiB
MAX_TENSORS: Final = 50_000
MAX_KEYS: Final = 10_000
MAX_KEY_BYTES: Final = 1_000
MAX_STRING_BYTES: Final = 8 << 20  # a chat template is a few KiB
MAX_ARRAY: Final = 4 << 20  # elements: a vocabulary has some 10^5
MAX_RANK: Final = 4
DEFAULT_ALIGNMENT: Final = 32
MAX_ALIGNMENT: Final = 1 << 20

Value = str | bool | int | float | list[str] | list[int] | list[float]

_NUMBERS: Final[Mapping[int, str]] = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True)
class Stored:
    """One tensor as the header describes it; dims: fastest first; offset: bytes from the start of the file."""

    name: str
    dims: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself. tensors keep their order; their sizes are not checked yet (the types decide)."""

    path: Path
    size: int
    metadata: Mapping[str, Value]
    tensors: tuple[Stored, ...]
    start: int = field(repr=False)  # of the data, in bytes
    alignment: int = DEFAULT_ALIGNMENT


def is_gguf(path: Path) -> bool:
    """Whether the path is a file that is, or calls itself, GGUF (an empty, torn or unreadable one included)."""
    if not path.is_file():
        return False
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """The metadata and tensors of one GGUF file.

    Raises: CheckpointError if it is no GGUF file, truncated, or has counts, strings or arrays beyond every real one,
    a key or tensor twice, or a type of metadata that does not exist; UnsupportedError for another version or byte
    order.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start != MAGIC:
                raise CheckpointError(f"{path.name}: starts with {start!r}, expected {MAGIC!r}: no GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened: {error.strerror}") from error


def _parse(path: Path, data: mmap.mmap) -> Header:
    cursor = _Cursor(data, path.name)
    cursor.at = len(MAGIC)
    _check_version(cursor.number("<u4"), path.name)
    n_tensors = cursor.count("tensors", MAX_TENSORS)
    n_keys = cursor.count("metadata keys", MAX_KEYS)
    metadata: dict[str, Value] = {}
    for _ in range(n_keys):
        key = cursor.string("a metadata key", MAX_KEY_BYTES)
        if key in metadata:
            raise CheckpointError(f"{path.name}: the metadata key {key!r} occurs twice")
        metadata[key] = cursor.value(key)
    alignment = _alignment(metadata, path.name)
    tensors: dict[str, Stored] = {}
    for _ in range(n_tensors):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise CheckpointError(f"{path.name}: the tensor {tensor.name!r} occurs twice")
        tensors[tensor.name] = tensor
    start = -(-cursor.at // alignment) * alignment
    placed = tuple(Stored(tensor.name, tensor.dims, tensor.type, start + tensor.offset) for tensor in tensors.values())
    return Header(path, len(data), metadata, placed, start, alignment)


def _check_version(version: int, name: str) -> None:
    if version & 0xFFFF == 0 and version != 0:
        raise UnsupportedError(f"{name}: a big-endian GGUF file is not supported, expected little-endian")
    if version not in VERSIONS:
        raise UnsupportedError(f"{name}: GGUF version {version} is not supported, expected 2 or 3")


def _alignment(metadata: Mapping[str, Value], name: str) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise CheckpointError(f"{name}: general.alignment is {alignment!r}, expected a power of two from 8 on")
    return alignment


def _tensor(cursor: "_Cursor") -> Stored:
    name = cursor.string("a tensor's name", MAX_KEY_BYTES)
    n_dims = cursor.number("<u4")
    if not name or not name.isprintable() or not 1 <= n_dims <= MAX_RANK:
        raise CheckpointError(
            f"{cursor.name}: tensor {name[:80]!r} of {n_dims} dimensions, expected a printable name, 1 to {MAX_RANK}"
        )
    dims = tuple(cursor.number("<u8") for _ in range(n_dims))
    if min(dims) < 1 or math.prod(dims) >= 1 << 62:
        raise CheckpointError(
            f"{cursor.name}: {name}: dimensions {dims}, expected sizes from 1 on that a file can hold"
        )
    return Stored(name, dims, cursor.number("<u4"), cursor.number("<u8"))


class _Cursor:
    """Reads one value after another and never beyond the end; `name` is how messages call the file."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self.at = 0
        self.name = name
        self._data = data

    def take(self, n_bytes: int, what: str) -> bytes:
        """The next bytes. Raises: CheckpointError at the end of the file."""
        if n_bytes > len(self._data) - self.at:
            raise CheckpointError(
                f"{self.name}: truncated: {what} needs {n_bytes} bytes at byte {self.at} of {len(self._data)}"
            )
        if self.at + n_bytes > MAX_HEADER_BYTES:
            raise CheckpointError(f"{self.name}: header of more than {MAX_HEADER_BYTES} bytes at {what}")
        self.at += n_bytes
        return self._data[self.at - n_bytes : self.at]

    def number(self, kind: str) -> int:
        """One unsigned integer; kind: a numpy type such as "<u4"."""
        return int.from_bytes(self.take(int(kind[2:]), "the header"), "little")

    def count(self, what: str, limit: int) -> int:
        """A number of things to come. Raises: CheckpointError above the limit."""
        count = self.number("<u8")
        if count > limit:
            raise CheckpointError(f"{self.name}: {count} {what}, expected at most {limit}")
        return count

    def string(self, what: str, limit: int) -> str:
        """A length and UTF-8. Raises: CheckpointError above the limit, or if it is not UTF-8."""
        length = self.number("<u8")
        if length > limit:
            raise CheckpointError(f"{self.name}: {what} of {length} bytes, expected at most {limit}")
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.name}: {what} is not UTF-8: {error.reason}") from error

    def value(self, key: str) -> Value:
        """The value of a metadata key: its type, then itself."""
        kind = self.number("<u4")
        if kind == _STRING:
            return self.string(key, MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self._array(key)
        return self._numbers(kind, 1, key)[0]

    def _array(self, key: str) -> list[str] | list[int] | list[float]:
        kind = self.number("<u4")
        n_elements = self.count(f"elements in {key}", MAX_ARRAY)
        if kind != _STRING:
            return self._numbers(kind, n_elements, key)
        if 8 * n_elements > len(self._data) - self.at:  # before anything is collected: each has at least its length
            raise CheckpointError(f"{self.name}: truncated: {key} has {n_elements} strings")
        return [self.string(key, MAX_STRING_BYTES) for _ in range(n_elements)]

    def _numbers(self, kind: int, n_elements: int, key: str) -> list[int] | list[float]:
        if kind not in _NUMBERS:
            raise CheckpointError(f"{self.name}: {key}: no GGUF value has the type {kind}")
        stored = np.dtype(_NUMBERS[kind])
        data = self.take(n_elements * stored.itemsize, key)
        if kind == 6:  # as the shortest decimal that is this float32: 1e-05, not 9.999999747378752e-06
            return [float(str(value)) for value in np.frombuffer(data, stored)]
        if kind == 7:
            flags: list[int] = [bool(byte) for byte in data]
            return flags
        values: list[int] | list[float] = np.frombuffer(data, stored).tolist()
        return values
