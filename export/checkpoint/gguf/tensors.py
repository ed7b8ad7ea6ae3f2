"""The tensors of a GGUF file: their types, their places, and their rows as float32.

Every type that the `gguf` package can dequantize is read; rows are mapped and dequantized only when they are asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from export.arrays import F32, U8
from export.checkpoint.entry import Entry
from export.checkpoint.gguf.header import Header, Stored
from export.errors import CheckpointError, UnsupportedError

# Formats that ggml had once, by number: the enumeration no longer names them.
_REMOVED: Final[Mapping[int, str]] = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip


@dataclass(frozen=True)
class GgufEntry(Entry):
    """A tensor of a GGUF file; shape: slowest first, dtype: the name of the ggml type.

    head_dim, rotary_dim: of queries and keys, whose rotated rows are stored in pairs (0: rows in their own order).
    """

    head_dim: int = 0
    rotary_dim: int = 0

    @property
    def row_bytes(self) -> int:
        """The bytes of one index of the first axis."""
        return self.n_bytes // self.shape[0]


def read_entries(header: Header) -> dict[str, GgufEntry]:
    """The tensors of one file, by their GGUF names.

    Raises: UnsupportedError for a type that cannot be dequantized; CheckpointError if a row is no whole number of
    blocks, or a tensor lies outside of the file, off its alignment, or over another one.
    """
    entries = {tensor.name: _entry(header, tensor) for tensor in header.tensors}
    end = header.start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].n_bytes)):
        if entry.offset < end:
            raise CheckpointError(
                f"{header.path.name}: {name}: data at byte {entry.offset}, inside of another tensor's"
            )
        end = entry.offset + entry.n_bytes
    return entries


def read_rows(entry: GgufEntry, name: str, rows: slice | None) -> F32:
    """Some rows of a tensor as float32, a fresh array. name: how messages call it. Raises: CheckpointError."""
    data = stored_rows(entry, name, rows)
    if data.size == 0:
        return np.zeros((0, *entry.shape[1:]), np.float32)
    kind = GGMLQuantizationType[entry.dtype]
    block, block_bytes = GGML_QUANT_SIZES[kind]
    width = data.size if len(entry.shape) == 1 else entry.shape[-1] // block * block_bytes
    with np.errstate(all="ignore"):  # what is not finite is found, and named, by whoever reads
        values = dequantize(data.reshape(-1, width), kind)
    return np.ascontiguousarray(values, np.float32).reshape(data.shape[0], *entry.shape[1:])


def stored_rows(entry: GgufEntry, name: str, rows: slice | None) -> U8:
    """Some rows of a tensor in the checkpoint's order, as they are stored. Returns (rows, row_bytes).

    Raises: CheckpointError if the file can no longer be read.
    """
    first, stop, _ = (rows or slice(None)).indices(entry.shape[0])
    if entry.head_dim == 0:
        return _map(entry, name, first, stop)
    # Whole heads are mapped: the rows of one head are mixed among themselves alone.
    low, high = first // entry.head_dim * entry.head_dim, -(-stop // entry.head_dim) * entry.head_dim
    return _map(entry, name, low, high)[_head_rows(entry, first, stop) - low]


def _map(entry: GgufEntry, name: str, first: int, stop: int) -> U8:
    if stop <= first:
        return np.zeros((0, entry.row_bytes), np.uint8)
    size = (stop - first) * entry.row_bytes
    try:
        data = np.memmap(entry.file, np.uint8, "r", entry.offset + first * entry.row_bytes, (size,))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name}: {entry.file.name} can no longer be read: {error}") from error
    return np.array(data).reshape(stop - first, entry.row_bytes)


def _head_rows(entry: GgufEntry, first: int, stop: int) -> npt.NDArray[np.int64]:
    """Where the rows first .. stop are stored: value i of a head's rotated part next to value i + half."""
    rows = np.arange(first, stop)
    head, at = np.divmod(rows, entry.head_dim)
    half = entry.rotary_dim // 2
    part, pair = np.divmod(at, half)
    stored: npt.NDArray[np.int64] = head * entry.head_dim + np.where(at < entry.rotary_dim, 2 * pair + part, at)
    return stored


def _entry(header: Header, tensor: Stored) -> GgufEntry:
    where = f"{header.path.name}: {tensor.name}"
    kind = _kind(tensor, where)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if tensor.dims[0] % block:
        raise CheckpointError(
            f"{where}: rows of {tensor.dims[0]} values, expected a multiple of {block} for {kind.name}"
        )
    if len(tensor.dims) == 1 and block > 1:
        raise CheckpointError(f"{where}: a vector stored as {kind.name}, expected vectors of plain numbers")
    n_bytes = math.prod(tensor.dims) // block * block_bytes
    if tensor.offset % header.alignment:
        raise CheckpointError(f"{where}: data at byte {tensor.offset}, expected a multiple of {header.alignment}")
    if tensor.offset + n_bytes > header.size:
        raise CheckpointError(
            f"{where}: truncated: its data ends at byte {tensor.offset + n_bytes} of a file of {header.size}"
        )
    return GgufEntry(header.path, kind.name, tensor.dims[::-1], tensor.offset, n_bytes)


def _kind(tensor: Stored, where: str) -> GGMLQuantizationType:
    try:
        kind = GGMLQuantizationType(tensor.type)
    except ValueError:
        known = _REMOVED.get(tensor.type, f"number {tensor.type}")
        raise UnsupportedError(f"{where}: stored as {known}, a type that is not supported") from None
    if not _is_readable(kind):
        raise UnsupportedError(f"{where}: stored as {kind.name}, which cannot be dequantized and is not supported")
    return kind


@cache
def _is_readable(kind: GGMLQuantizationType) -> bool:
    """Whether the installed `gguf` package dequantizes a type."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
