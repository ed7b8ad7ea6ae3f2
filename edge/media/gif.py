"""How many frames a GIF has and how long each is shown, told by its blocks. Source: GIF89a specification, 18 to 26."""

from collections.abc import Iterator

_USUAL_MS = 100.0  # how long browsers show a frame whose delay is 0 or 10
_SHORTEST_MS = 20.0
_HEAD_BYTES, _IMAGE_BYTES = 13, 9
_EXTENSION, _IMAGE, _DELAY = 0x21, 0x2C, 0xF9


def delays_ms(data: bytes) -> Iterator[float]:
    """Yield how long each frame is shown, as far as the blocks of an animation follow one another."""
    if len(data) < _HEAD_BYTES:
        return
    at, delay_ms = _HEAD_BYTES + _table_bytes(data[10]), 0.0
    while at + 1 < len(data):
        kind = data[at]
        if kind == _EXTENSION:
            if data[at + 1] == _DELAY and len(data) >= at + 8:
                delay_ms = 10.0 * int.from_bytes(data[at + 4 : at + 6], "little")
            at = _behind_blocks(data, at + 2)
        elif kind == _IMAGE:
            if len(data) <= at + _IMAGE_BYTES + 1:
                return
            yield delay_ms if delay_ms >= _SHORTEST_MS else _USUAL_MS
            at, delay_ms = _behind_blocks(data, at + 1 + _IMAGE_BYTES + _table_bytes(data[at + _IMAGE_BYTES]) + 1), 0.0
        elif kind == 0:
            at += 1  # a block without bytes that some writers leave
        else:
            return


def _table_bytes(flags: int) -> int:
    """Return how long a table of colours is, by the flags that announce it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_blocks(data: bytes, at: int) -> int:
    """Return where a run of blocks ends that each begin with their length."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
