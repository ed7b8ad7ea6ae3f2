"""JPEG images one after another in a stream of bytes: where each ends, and which break off."""

import re

_START = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_ENTROPY_END = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # stuffed and restart markers belong to the data
_END, _SCAN = 0xD9, 0xDA
_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_AFTER_SCAN = {0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE}  # tables, another scan, a comment; all else is damage
_APPLICATION = set(range(0xE0, 0xF0))  # among them the segments of thumbnails
_BEFORE_SCAN = {0xDA, 0xDB, 0xDD, 0xFE, *range(0xC0, 0xD0), *_APPLICATION}


class Jpegs:
    """Cuts a stream into its JPEG images. `held`: how many bytes wait for the rest of theirs."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # up to where the image in front was walked; 0: none begins there yet
        self._segment = 0  # where its last segment begins: one that broke off may have taken the next image in
        self._in_scan = False

    @property
    def held(self) -> int:
        """How many bytes wait for the rest of their image."""
        return len(self._data)

    def add(self, data: bytes) -> list[bytes]:
        """Take what came next; return the images that are whole by it. One that breaks off is left out."""
        self._data += data
        found = []
        while self._begin() and (walked := self._walk()) is not None:
            end, is_whole = walked
            if is_whole:
                found.append(bytes(self._data[:end]))
            self._drop(end)
        return found

    def _begin(self) -> bool:
        """Drop what lies in front of the next image; return whether one is there."""
        if self._at:
            return True
        start = self._data.find(_START)
        if start < 0:
            self._drop(max(0, len(self._data) - len(_START) + 1))
            return False
        self._drop(start)
        self._at = len(_START) - 1
        return True

    def _walk(self) -> tuple[int, bool] | None:
        """Return where the image ends and whether it is whole; None while its end is not there.

        Its segments are walked, as the images inside them (thumbnails) have ends of their own.
        """
        while True:
            found = (_ENTROPY_END if self._in_scan else _MARKER).search(self._data, self._at)
            if found is None:
                if self._in_scan:
                    self._at = max(self._at, len(self._data) - 1)  # a marker may straddle two reads
                return None
            marker, at = found[1][0], found.end()
            if marker == _END:
                return at, True
            follows = self._in_scan or found.start() == self._at
            if not follows or marker not in (_AFTER_SCAN if self._in_scan else _BEFORE_SCAN | _BARE):
                return max(len(_START) - 1, self._segment if found.start() != self._at else found.start()), False
            n_bytes = 0 if marker in _BARE else int.from_bytes(self._data[at : at + 2], "big")
            if len(self._data) < at + max(n_bytes, 0 if marker in _BARE else 2):
                return None
            again = self._data.find(_START, at, at + n_bytes + len(_START) - 1)
            if again >= 0 and marker not in _APPLICATION:
                return again, False
            self._segment = found.start()
            self._at, self._in_scan = at + n_bytes, marker == _SCAN

    def _drop(self, n_bytes: int) -> None:
        del self._data[:n_bytes]
        self._at, self._segment, self._in_scan = 0, 0, False
