"""Packets of Opus: how long each is, and what to put in the place of one that no decoder reads. Source: RFC 6716, 3."""

_FRAME_MS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4
_MAX_MS, _MAX_FRAME_BYTES = 120, 1275
_CODE, _SAME = 3, 0xFC  # bits of the first byte: how many frames there are, and what they have in common


def length_ms(packet: bytes) -> float | None:
    """Return how long a packet plays, None for one that is not built as it has to be."""
    if not packet:
        return None
    frame_ms, code = _FRAME_MS[packet[0] >> 3], packet[0] & _CODE
    if code == 0:
        return frame_ms if len(packet) - 1 <= _MAX_FRAME_BYTES else None
    if code == 1:
        return 2 * frame_ms if len(packet) % 2 and len(packet) // 2 <= _MAX_FRAME_BYTES else None
    if code == 2:
        size, at = _size(packet, 1)
        return 2 * frame_ms if size is not None and 0 <= len(packet) - at - size <= _MAX_FRAME_BYTES else None
    n_frames = packet[1] & 0x3F if len(packet) > 1 else 0
    if n_frames == 0 or n_frames * frame_ms > _MAX_MS or not _fits(packet, n_frames):
        return None
    return n_frames * frame_ms


def silent(like: bytes) -> bytes:
    """Return a packet as long as a whole one, in which nothing was sent: decoders fill it as one that is lost."""
    code = like[0] & _CODE
    if code == 0:
        return like[:1]
    n_frames = 2 if code < _CODE else like[1] & 0x3F
    return bytes([like[0] | _CODE, n_frames])


def _fits(packet: bytes, n_frames: int) -> bool:
    """Return whether a packet of any number of frames is long enough for them and what it is filled up with."""
    at, n_left = 2, len(packet) - 2
    if packet[1] & 0x40:
        more = 255
        while more == 255:
            if at >= len(packet):
                return False
            more = packet[at]
            at, n_left = at + 1, n_left - 1 - (254 if more == 255 else more)
    if not packet[1] & 0x80:
        return n_left >= 0 and n_left % n_frames == 0 and n_left // n_frames <= _MAX_FRAME_BYTES
    for _ in range(n_frames - 1):
        size, end = _size(packet, at)
        if size is None:
            return False
        at, n_left = end, n_left - (end - at) - size
    return 0 <= n_left <= _MAX_FRAME_BYTES


def _size(packet: bytes, at: int) -> tuple[int | None, int]:
    """Return the length of a frame as it is written there, and where that ends."""
    if at >= len(packet):
        return None, at
    if packet[at] < 252:
        return packet[at], at + 1
    if at + 1 >= len(packet):
        return None, at
    return packet[at] + 4 * packet[at + 1], at + 2
