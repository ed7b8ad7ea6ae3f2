"""What a program and its decoding process say to each other: JSON and raw bytes, never pickles, checked on arrival."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from edge.media.decoded import Array, Decoded, Json

MAX_HEAD_BYTES = 16 << 20

_MAX_ARRAYS = 4096
_MAX_AXES = 4


class WireError(Exception):
    """The other side ended, or said what nobody asked for."""


def send(stream: BinaryIO, head: Mapping[str, Json], parts: Sequence[bytes | memoryview] = ()) -> None:
    """Write a head and what belongs to it. Raises: OSError."""
    text = json.dumps(head, separators=(",", ":")).encode("ascii")
    stream.write(struct.pack("<I", len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Json]:
    """Read a head. Raises: WireError, OSError."""
    (n_bytes,) = struct.unpack("<I", take(stream, 4))
    if n_bytes > MAX_HEAD_BYTES:
        raise WireError(f"expected a head of at most {MAX_HEAD_BYTES} bytes, got {n_bytes}")
    try:
        head = json.loads(take(stream, n_bytes))
    except (ValueError, RecursionError) as error:
        raise WireError("expected a head of JSON") from error
    if not isinstance(head, dict):
        raise WireError(f"expected an object for a head, got {type(head).__name__}")
    return head


def take(stream: BinaryIO, n_bytes: int) -> bytes:
    """Read exactly so many bytes. Raises: WireError when there are fewer, OSError."""
    data = stream.read(n_bytes)
    if len(data) != n_bytes:
        raise WireError(f"expected {n_bytes} bytes, got {len(data)}")
    return data


def send_decoded(stream: BinaryIO, decoded: Decoded, *, is_last: bool = False) -> None:
    """Write what decoding gave. is_last: whether the process ends after it."""
    arrays = [np.ascontiguousarray(array) for array in decoded.arrays]
    shapes = [{"dtype": array.dtype.name, "shape": array.shape} for array in arrays]
    # An array without elements has no bytes, and cannot be seen as such.
    parts = [array.data.cast("B") for array in arrays if array.size]
    send(stream, {"arrays": shapes, "info": decoded.info, "last": is_last}, parts)


def receive_decoded(stream: BinaryIO, head: Mapping[str, Json], *, max_bytes: int) -> Decoded:
    """Read the arrays that a head announces, at most max_bytes of them. Raises: WireError, OSError."""
    listed, info = head.get("arrays"), head.get("info")
    if not isinstance(listed, list) or len(listed) > _MAX_ARRAYS or not isinstance(info, dict):
        raise WireError("expected arrays and info")
    arrays: list[Array] = []
    for entry in listed:
        array = _empty(entry, max_bytes)
        max_bytes -= array.nbytes
        if array.size and stream.readinto(array.data.cast("B")) != array.nbytes:  # type: ignore[attr-defined]
            raise WireError("an array is cut off")
        arrays.append(array)
    return Decoded(tuple(arrays), info)


def _empty(entry: Json, max_bytes: int) -> Array:
    """Return an array as one was announced, its elements not set. Raises: WireError."""
    fields = entry if isinstance(entry, dict) else {}
    shape, dtype = fields.get("shape"), fields.get("dtype")
    if dtype not in ("uint8", "float32") or not isinstance(shape, list) or len(shape) > _MAX_AXES:
        raise WireError("expected dtype and shape of an array")
    if not all(isinstance(length, int) and 0 <= length <= max_bytes for length in shape):
        raise WireError("expected lengths for a shape")
    if math.prod(shape) * (4 if dtype == "float32" else 1) > max_bytes:
        raise WireError("expected fewer bytes of arrays")
    return np.empty(shape, np.uint8) if dtype == "uint8" else np.empty(shape, np.float32)
