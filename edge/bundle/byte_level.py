"""The alphabet of a byte-level BPE, and the bytes that its vocabulary may lack."""

from collections.abc import Iterable, Mapping
from typing import Final

# Bytes that UTF-8 never has, those of control characters that no text needs, and those that begin the characters of
# planes 4 to 16, which Unicode has assigned none but for private use. A text that has one is refused by name.
RARE_BYTES: Final = frozenset({*range(0x20), 0x7F, 0xC0, 0xC1, *range(0xF1, 0x100)} - {*b"\t\n\r"})


def byte_alphabet() -> tuple[str, ...]:
    """Return the printable character that stands for each of the 256 bytes, in byte order.

    Printable Latin-1 stands for itself, the other bytes for U+0100 and up.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    shifted = {byte: 256 + index for index, byte in enumerate(others)}
    return tuple(chr(shifted.get(byte, byte)) for byte in range(256))


BYTE_OF: Final[Mapping[str, int]] = {char: byte for byte, char in enumerate(byte_alphabet())}


def missing_bytes(vocab: Iterable[str]) -> tuple[int, ...]:
    """Return the bytes that no token of a vocabulary stands for, in order."""
    return tuple(sorted({*range(256)} - {BYTE_OF[token] for token in vocab if token in BYTE_OF}))
