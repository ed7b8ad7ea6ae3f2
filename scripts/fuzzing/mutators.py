"""Mutations of any bytes and of the structure of each format, with the checksums that a decoder expects."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

Mutator = Callable[[bytes, random.Random], bytes]
Chunk = tuple[int, int]  # where a chunk begins and ends

EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MAX_CHANGES = 6
_PDF_WORDS = (b"0", b"-1", b"1e38", b"99999999999", b"1 0 R", b"null", b"[", b"<<", b"/Kids")
_EBML_IDS = (b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x16T\xaek", b"\x1fC\xb6u", b"\xae", b"\xe0", b"\xe1")


def any_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, delete, repeat or cut off a few bytes, or put numbers at the edges of their types there."""
    mutated = bytearray(data)
    for _ in range(rng.randint(1, _MAX_CHANGES)):
        if not mutated:
            break
        at = rng.randrange(len(mutated))
        rng.choice((_flip, _overwrite, _number, _delete, _repeat, _cut))(mutated, at, rng)
    return bytes(mutated)


def png(data: bytes, rng: random.Random) -> bytes:
    """Change chunks of a PNG and give each its right checksum, so that a decoder reads on."""
    chunks = [data[start:end] for start, end in _png_chunks(data)]
    chunks = _shuffled(chunks, rng)
    out = [data[:8]]
    for chunk in chunks:
        kind, body = chunk[4:8], chunk[8:-4]
        if rng.random() < 0.3:
            body = any_bytes(body, rng) if body else body
        out.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(out)


def boxes(data: bytes, rng: random.Random) -> bytes:
    """Change one box of an MP4, at any depth: its kind, its size or its contents."""
    start, end = rng.choice(_boxes(data) or [(0, len(data))])
    mutated = bytearray(data)
    choice = rng.randrange(4)
    if choice == 0:
        struct.pack_into(">I", mutated, start, rng.choice(EDGES))
    elif choice == 1:
        mutated[start + 4 : start + 8] = rng.choice((b"free", b"moov", b"trak", b"stbl", b"mdat", b"elst", b"stsz"))
    elif choice == 2:
        del mutated[start:end]
    else:
        mutated[start + 8 : end] = any_bytes(bytes(mutated[start + 8 : end]), rng)
    return bytes(mutated)


def ebml(data: bytes, rng: random.Random) -> bytes:
    """Change the bytes behind one of the elements that a Matroska file is built from."""
    places = [at for name in _EBML_IDS for at in _found(data, name)]
    at = rng.choice(places) if places else 0
    return data[:at] + any_bytes(data[at : at + 64], rng) + data[at + 64 :]


def riff(data: bytes, rng: random.Random) -> bytes:
    """Change chunks of a RIFF file (WAV, AVI, WebP): their order, sizes and contents."""
    chunks = [data[start:end] for start, end in _riff_chunks(data)]
    body = b"".join(_with_size(chunk, rng) for chunk in _shuffled(chunks, rng))
    size = rng.choice((len(body) + 4, len(body) + 4, *EDGES[-4:], 0))
    return data[:4] + struct.pack("<I", size) + data[8:12] + body


def ogg(data: bytes, rng: random.Random) -> bytes:
    """Change pages of an Ogg stream, and give each its right checksum."""
    starts = _found(data, b"OggS") or [0]
    pages = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    out = []
    for page in _shuffled(pages, rng):
        changed = any_bytes(page[27:], rng) if rng.random() < 0.3 else page[27:]
        whole = bytearray(page[:22] + bytes(4) + page[26:27] + changed)
        if len(whole) >= 27:
            struct.pack_into("<I", whole, 22, _ogg_crc(whole))
        out.append(bytes(whole))
    return b"".join(out)


def segments(data: bytes, rng: random.Random) -> bytes:
    """Change segments of a JPEG: their order and contents."""
    starts = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xC0 <= data[at + 1] <= 0xFE] or [0]
    parts = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    return data[: starts[0]] + b"".join(
        part[:2] + any_bytes(part[2:], rng) if len(part) > 2 and rng.random() < 0.2 else part
        for part in _shuffled(parts, rng)
    )


def objects(data: bytes, rng: random.Random) -> bytes:
    """Change words of a PDF outside of its streams: numbers, names and references."""
    words = data.split(b" ")
    for _ in range(rng.randint(1, _MAX_CHANGES)):
        at = rng.randrange(len(words))
        words[at] = rng.choice((*_PDF_WORDS, words[rng.randrange(len(words))]))
    return b" ".join(words)


def mixed(structured: Mutator) -> Mutator:
    """Return a mutator that changes the structure or any bytes, each half of the time, and sometimes both."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.7:
            data = structured(data, rng)
        return any_bytes(data, rng) if rng.random() < 0.5 else data

    return mutate


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.randrange(256)


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4))
    value = rng.choice(EDGES) & (256**size - 1)
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _delete(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.choice((1, 2, 16, 256))]


def _repeat(data: bytearray, at: int, rng: random.Random) -> None:
    piece = data[at : at + rng.choice((1, 4, 64, 1024))]
    data[at:at] = piece * rng.choice((1, 2, 16))


def _cut(data: bytearray, at: int, rng: random.Random) -> None:
    if rng.random() < 0.3:
        del data[at:]


def _shuffled(parts: Sequence[bytes], rng: random.Random) -> list[bytes]:
    """Return parts with one of them dropped, repeated or moved, or as they were."""
    out = list(parts)
    if len(out) < 2:
        return out
    at = rng.randrange(len(out))
    choice = rng.randrange(6)
    if choice == 0:
        del out[at]
    elif choice == 1:
        out.insert(at, out[rng.randrange(len(out))])
    elif choice == 2:
        out.insert(rng.randrange(len(out)), out.pop(at))
    return out


def _with_size(chunk: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return chunk[:4] + struct.pack("<I", rng.choice(EDGES)) + chunk[8:]
    return chunk[:8] + any_bytes(chunk[8:], rng) if len(chunk) > 8 and rng.random() < 0.2 else chunk


def _png_chunks(data: bytes) -> list[Chunk]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        chunks.append((at, min(end, len(data))))
        at = end
    return chunks


def _riff_chunks(data: bytes) -> list[Chunk]:
    chunks, at = [], 12
    while at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        end = at + 8 + size + size % 2
        chunks.append((at, min(end, len(data))))
        at = end
    return chunks


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> list[Chunk]:
    """Return the boxes of an MP4, those inside of others too."""
    found: list[Chunk] = []
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= end - start:
            break
        found.append((start, start + size))
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf"):
            found += _boxes(data, start + 8, start + size)
        start += size
    return found


def _found(data: bytes, name: bytes) -> list[int]:
    places, at = [], data.find(name)
    while at >= 0:
        places.append(at)
        at = data.find(name, at + 1)
    return places


def _ogg_crc(page: bytes | bytearray) -> int:
    """Return the checksum of a page whose own field is zero. Source: RFC 3533, 6."""
    crc = 0
    for byte in page:
        crc = (crc << 8) & 0xFFFFFFFF ^ _OGG_TABLE[(crc >> 24) ^ byte]
    return crc


def _ogg_entry(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = (value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1
    return value & 0xFFFFFFFF


_OGG_TABLE = tuple(map(_ogg_entry, range(256)))
