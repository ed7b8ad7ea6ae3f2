"""WAV and AIFF whose headers were never finished: a recorder that is cut off leaves sizes of 0.

Sources: Multimedia Programming Interface 1.0 (RIFF), EBU Tech 3306 (RF64), Audio Interchange File Format 1.3.
"""

import struct
from collections.abc import Iterator

_HEAD_BYTES = 12
_MAX_CHUNKS = 1000
_UNKNOWN = 0xFFFFFFFF
_PLAIN = (b"NONE", b"sowt", b"twos", b"raw ", b"fl32", b"FL32", b"fl64", b"FL64")  # AIFF-C that counts no packets


def with_sizes(data: bytes) -> bytes:
    """Return WAV, RF64 or AIFF data whose samples have a size, which is that of all the bytes that are left.

    As it is where a size is said, or where chunks and no samples follow one of 0.
    """
    if data[:4] == b"FORM":
        return _aiff(data)
    if data[:4] not in (b"RIFF", b"RF64", b"BW64"):
        return data
    for name, size, start in _chunks(data, "<"):
        if name == b"data" and size in (0, _UNKNOWN):
            n_bytes = len(data) - start
            if size == 0 and (n_bytes == 0 or _are_chunks(data, start, "<")):
                return data
            return _sized(data, start, n_bytes)
    return data


def _sized(data: bytes, start: int, n_bytes: int) -> bytes:
    """Write the size of the samples, and that of the whole, where they belong."""
    changed = bytearray(data)
    struct.pack_into("<I", changed, start - 4, min(n_bytes, _UNKNOWN - 1))
    struct.pack_into("<I", changed, 4, min(len(data) - 8, _UNKNOWN - 1))
    changed[:4] = b"RIFF"  # what is in memory here is never too long for it
    return bytes(changed)


def _aiff(data: bytes) -> bytes:
    chunks = {name: (size, start) for name, size, start in _chunks(data, ">")}
    common_size, common = chunks.get(b"COMM", (0, 0))
    size, start = chunks.get(b"SSND", (0, 0))
    if common_size < 18 or not start or len(data) < common + 18 or size > 8:
        return data
    n_channels, _, n_bits = struct.unpack_from(">HIH", data, common)
    is_plain = data[8:12] == b"AIFF" or data[common + 18 : common + 22] in _PLAIN
    frame_bytes = n_channels * -(-n_bits // 8)
    n_bytes = len(data) - start - 8
    if not is_plain or not frame_bytes or n_bytes <= 0 or any(_are_chunks(data, start + n, ">") for n in (0, 8)):
        return data
    changed = bytearray(data)
    struct.pack_into(">I", changed, common + 2, n_bytes // frame_bytes)
    struct.pack_into(">I", changed, start - 4, n_bytes + 8)
    struct.pack_into(">I", changed, 4, len(data) - 8)
    return bytes(changed)


def _chunks(data: bytes, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and start of what each chunk holds, until one reaches the end."""
    at = _HEAD_BYTES
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        (size,) = struct.unpack_from(order + "I", data, at + 4)
        yield data[at : at + 4], size, at + 8
        at += 8 + size + (size & 1)


def _are_chunks(data: bytes, at: int, order: str) -> bool:
    """Return whether chunks fill the data from here to its end, and no samples."""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return at >= len(data) - 1
        (size,) = struct.unpack_from(order + "I", data, at + 4)
        if not all(0x20 <= byte < 0x7F for byte in data[at : at + 4]):
            return False
        at += 8 + size + (size & 1)
    return False
