"""Reads safetensors headers without trusting them; the data stays on disk.

The format: 8 bytes of little-endian header length N, N bytes of JSON (name -> dtype, shape, data_offsets), the data.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from export.checkpoint.entry import Entry
from export.checkpoint.files import parse_object
from export.errors import CheckpointError

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 50_000
MAX_RANK = 8
MAX_NAME_CHARS = 512

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip

_NAME = re.compile(r"[A-Za-z0-9_.]+")
# Counted before parsing, so that a small hostile file cannot become a large tree of Python objects:
# a tensor's entry has 4 colons, 1 brace, 2 brackets and at most MAX_RANK + 4 commas; the rest is room for metadata.
_BUDGET: Mapping[bytes, int] = {
    b":": 4 * MAX_TENSORS + 100_000,
    b"{": MAX_TENSORS + 10_000,
    b"[": 2 * MAX_TENSORS + 10_000,
    b",": (MAX_RANK + 4) * MAX_TENSORS + 100_000,
}


def read_header(path: Path, *, name: str) -> dict[str, Entry]:
    """The tensors of one safetensors file.

    path: the real file; name: how messages call it.
    Raises: CheckpointError if the header is too large, not JSON, has a name twice or of odd characters, more than
    50 000 tensors, unknown dtypes, sizes that do not follow from shape and dtype, or data with holes or overlaps.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > size - 8:
            raise CheckpointError(f"{name}: header of {length} bytes in a file of {size}: truncated or no safetensors")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(f"{name}: header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
        data = file.read(length)
    if data[:1] != b"{":
        raise CheckpointError(f"{name}: no safetensors header; expected it to start with '{{'")
    check_budget(data, name)
    header = dict(parse_object(data, name=name))
    _check_metadata(header.pop("__metadata__", {}), name)
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{name}: {len(header)} tensors, expected at most {MAX_TENSORS}")
    entries = {key: _entry(path, name, key, value, 8 + length) for key, value in header.items()}
    _check_contiguous(entries, name, start=8 + length, end=size)
    return entries


def check_budget(data: bytes, name: str) -> None:
    """Refuses JSON that would grow into far more objects than 50 000 tensors need. Raises: CheckpointError."""
    for mark, limit in _BUDGET.items():
        count = data.count(mark)
        if count > limit:
            raise CheckpointError(
                f"{name}: header with {count} times {mark.decode()!r}, expected at most {limit} ({MAX_TENSORS} tensors)"
            )


def _check_metadata(metadata: object, name: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{name}: __metadata__: expected an object of strings")


def _entry(path: Path, name: str, key: str, value: object, start: int) -> Entry:
    if len(key) > MAX_NAME_CHARS or not _NAME.fullmatch(key):
        raise CheckpointError(f"{name}: tensor name {key[:80]!r}, expected up to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ .")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{name}: {key}: expected exactly dtype, shape and data_offsets")
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(f"{name}: {key}: dtype {str(dtype)[:40]!r}, expected one of {', '.join(DTYPE_BITS)}")
    shape = _naturals(value["shape"], MAX_RANK, f"{name}: {key}: shape")
    offsets = _naturals(value["data_offsets"], 2, f"{name}: {key}: data_offsets")
    n_bytes = math.prod(shape) * DTYPE_BITS[dtype] // 8
    if len(offsets) != 2 or offsets[1] - offsets[0] != n_bytes:
        raise CheckpointError(
            f"{name}: {key}: data_offsets {list(offsets)}, expected {n_bytes} bytes for {shape} {dtype}"
        )
    return Entry(path, dtype, shape, start + offsets[0], n_bytes)


def _naturals(value: object, limit: int, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > limit:
        raise CheckpointError(f"{what}: expected a list of at most {limit} integers")
    for item in value:
        if type(item) is not int or not 0 <= item < 1 << 63:
            raise CheckpointError(f"{what}: {str(item)[:40]}: expected integers from 0 to 2^63 - 1")
    return tuple(value)


def _check_contiguous(entries: Mapping[str, Entry], name: str, *, start: int, end: int) -> None:
    at = start
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].n_bytes)):
        if entry.offset != at:
            raise CheckpointError(f"{name}: {key}: data at byte {entry.offset}, expected {at}: a hole or an overlap")
        at += entry.n_bytes
    if at != end:
        raise CheckpointError(f"{name}: data ends at byte {at}, expected the end of the file at {end}")
