"""Text that still grows, cut into sentences."""

import re
from collections.abc import Iterable, Iterator

_END = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。！？])")


def sentences(pieces: Iterable[str], *, language: str) -> Iterator[str]:
    """Yield the sentences of a text as they become complete. pieces: of the text, as they come."""
    held = ""
    for piece in pieces:
        *whole, held = _END.split(held + piece)
        yield from (sentence.strip() for sentence in whole if sentence.strip())
    if held.strip():
        yield held.strip()
