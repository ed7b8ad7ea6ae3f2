"""Media that were decoded lately, kept under a limit in bytes: a conversation sends its images with every turn."""

import hashlib
import threading
from collections import OrderedDict

from edge.media.decoded import Decoded, Options

LIMIT_BYTES = 32 << 20  # some eight photographs as five tiles need them
ENTRY_BYTES = 2 << 10  # what one takes besides: of images of a few pixels, nearly all
_CHARACTER_BYTES = 4  # at most

Key = tuple[str, bytes, tuple[tuple[str, object], ...]]


class RecentMedia:
    """What media decoded to, by their bytes and how they were decoded; any thread may ask it.

    limit_bytes: of all that is kept, ENTRY_BYTES for each included; over it, the least recently used are evicted first.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.nbytes = 0
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Key, Decoded] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def key(kind: str, data: bytes, options: Options) -> Key:
        """Return what media are kept under."""
        return kind, hashlib.sha256(data).digest(), tuple(sorted(options.items()))

    def recall(self, key: Key) -> Decoded | None:
        """Return what is kept under a key."""
        with self._lock:
            decoded = self._kept.get(key)
            if decoded is not None:
                self._kept.move_to_end(key)
            return decoded

    def remember(self, key: Key, decoded: Decoded) -> None:
        """Keep what media decoded to, read-only from now on, unless it alone is over the limit."""
        n_bytes = _n_bytes(decoded)
        with self._lock:
            if n_bytes > self._limit_bytes or key in self._kept:
                return
            for array in decoded.arrays:
                array.flags.writeable = False
            while self.nbytes + n_bytes > self._limit_bytes:
                self.nbytes -= _n_bytes(self._kept.popitem(last=False)[1])
            self._kept[key] = decoded
            self.nbytes += n_bytes


def _n_bytes(decoded: Decoded) -> int:
    n_characters = sum(len(str(value)) for value in decoded.info.values())
    return ENTRY_BYTES + sum(array.nbytes for array in decoded.arrays) + _CHARACTER_BYTES * n_characters
