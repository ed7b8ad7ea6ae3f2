"""The frames of FLAC data, found by their headers: where to go on after one that is damaged. Source: RFC 9639, 8, 9."""

import re
from dataclasses import dataclass

_STREAMINFO_BYTES = 4 + 4 + 34  # the mark, the head of a block, the block
_LAST = 0x80
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_MAX_CHANCES = 100_000


def _crc_table() -> bytes:
    table = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = (rest << 1 ^ 0x07 if rest & 0x80 else rest << 1) & 0xFF
        table.append(rest)
    return bytes(table)


_CRC8 = _crc_table()


@dataclass(frozen=True)
class Place:
    """A frame: at which byte it begins, and at which sample."""

    at: int
    sample: int


def without_length(data: bytes, at: int | None = None) -> bytes:
    """Return the stream from the frame at `at` on, all of it if None, that says nothing of its length."""
    start = _first(data) if at is None else at
    info = bytearray(data[:_STREAMINFO_BYTES])
    info[4] |= _LAST
    info[21] &= 0xF0  # 36 bits: the number of samples
    info[22:26] = bytes(4)
    return bytes(info) + data[start:]


def n_samples(data: bytes) -> int:
    """Return how many samples the header says that there are, 0 where it does not."""
    return int.from_bytes(data[21:26], "big") & (1 << 36) - 1


def next_frame(data: bytes, *, behind: Place) -> Place | None:
    """Return the first frame of a later sample, found behind a place in the data; None where none is left."""
    start = max(behind.at, _first(data))
    block_frames = int.from_bytes(data[10:12], "big")  # the longest block, and that of all but the last if it is fixed
    for i, found in enumerate(_SYNC.finditer(data, start)):
        sample = _sample(data, found.start(), block_frames)
        if sample is not None and sample > behind.sample:
            return Place(found.start(), sample)
        if i >= _MAX_CHANCES:
            return None
    return None


def _first(data: bytes) -> int:
    """Return where the blocks of metadata end."""
    at, is_last = 4, False
    while not is_last and at + 4 <= len(data):
        is_last = bool(data[at] & _LAST)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at


def _sample(data: bytes, at: int, block_frames: int) -> int | None:
    """Return the first sample of the frame whose header is there, None where there is none."""
    if len(data) < at + 6 or data[at + 2] >> 4 == 0 or data[at + 2] & 15 == 15 or data[at + 3] & 1:
        return None
    n_more = 8 - (data[at + 4] ^ 0xFF).bit_length()  # bytes as UTF-8 counts them
    if n_more == 1 or n_more > 7:
        return None
    number = data[at + 4] & (0xFF >> n_more + 1 if n_more else 0x7F)
    end = at + 4 + max(1, n_more)
    for byte in data[at + 5 : end]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    end += {6: 1, 7: 2}.get(data[at + 2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(data[at + 2] & 15, 0)
    crc = 0
    for byte in data[at:end]:
        crc = _CRC8[crc ^ byte]
    if len(data) <= end or crc != data[end]:
        return None
    return number if data[at + 1] & 1 else number * block_frames
