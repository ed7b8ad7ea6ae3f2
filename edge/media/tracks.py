"""What MP4 and Matroska say of their tracks: kind, codec, and how images are turned and mirrored to be shown.

Sources: ISO 14496-12, 8.2.2, 8.3.2, 8.4.3 and 8.5.2; RFC 9559, 5.1.4.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge.arrays import U8

if TYPE_CHECKING:
    import cv2

Kind = Literal["video", "audio", "other"]
Data = bytes | mmap
Square = tuple[tuple[int, int], tuple[int, int]]

_MAX_BOXES = 10_000  # of one level
_MAX_TRACKS = 64
_KINDS: dict[bytes, Kind] = {b"vide": "video", b"soun": "audio"}
_EBML_KINDS: dict[int, Kind] = {1: "video", 2: "audio"}
_AS_IT_IS: Square = ((1 << 16, 0), (0, 1 << 16))
_SEGMENT, _TRACKS, _ENTRY, _TYPE, _CODEC = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x86
_VIDEO, _PROJECTION, _PROJECTION_TYPE, _YAW, _PITCH, _ROLL = 0xE0, 0x7670, 0x7671, 0x7673, 0x7674, 0x7675
_CLUSTER, _EBML = 0x1F43B675, b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True)
class Turn:
    """How a decoded image becomes the one that is shown: rows and columns swapped first, then flipped."""

    is_transposed: bool = False
    flips_x: bool = False
    flips_y: bool = False

    def applied(self, pixels: U8) -> U8:
        """Return (H, W, C) pixels as they are shown, a view of them."""
        shown = pixels.swapaxes(0, 1) if self.is_transposed else pixels
        return shown[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1]


@dataclass(frozen=True)
class Track:
    """A track. codec: as the container spells it; turn: None where nothing is said."""

    kind: Kind
    codec: str = ""
    turn: Turn | None = None


def tracks(data: Data) -> list[Track]:
    """Return the tracks of an MP4 or Matroska file in its order, none where it cannot be read or is another format."""
    try:
        found = _matroska(data) if data[:4] == _EBML else _iso_media(data)
        return [track for _, track in zip(range(_MAX_TRACKS), found, strict=False)]
    except (struct.error, IndexError, ValueError):
        return []


def is_fragmented(data: Data) -> bool:
    """Return whether an MP4 is written in pieces, whose times may begin anywhere."""
    try:
        return any(kind == b"moof" for kind, _, _ in _boxes(data, 0, len(data)))
    except struct.error:
        return False


def turn_of(capture: "cv2.VideoCapture", data: Data) -> Turn:
    """Return how the images of an open video are shown: by the container's own word, else by OpenCV's."""
    import cv2

    found, index = tracks(data), int(capture.get(cv2.CAP_PROP_VIDEO_STREAM))
    videos = [track for track in found if track.kind == "video"]
    if 0 <= index < len(found) and found[index].kind == "video":
        videos = [found[index]]
    if videos and videos[0].turn is not None:
        return videos[0].turn
    degrees = int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360  # clockwise
    return {90: Turn(True, True), 180: Turn(False, True, True), 270: Turn(True, False, True)}.get(degrees, Turn())


# --- MP4 ----------------------------------------------------------------------------------------------------------


def _boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the boxes of a level: where what they hold begins and ends."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, head = struct.unpack(">I", data[start : start + 4])[0], 8
        if size == 1:
            size, head = struct.unpack(">Q", data[start + 8 : start + 16])[0], 16
        stop = end if size == 0 else start + size
        if size and size < head:
            return
        yield data[start + 4 : start + 8], start + head, min(stop, end)
        start = stop


def _box(data: Data, place: tuple[int, int], *names: bytes) -> tuple[int, int] | None:
    """Return where what a box holds begins and ends, found by the names of the levels."""
    for name in names:
        found = next(((start, end) for kind, start, end in _boxes(data, *place) if kind == name), None)
        if found is None:
            return None
        place = found
    return place


def _iso_media(data: Data) -> Iterator[Track]:
    movie = _box(data, (0, len(data)), b"moov")
    if movie is None:
        return
    header = _box(data, movie, b"mvhd")
    whole = _AS_IT_IS if header is None else _matrix(data, header, (36, 48))
    for kind, start, end in _boxes(data, *movie):
        if kind == b"trak":
            yield _trak(data, (start, end), whole)


def _trak(data: Data, place: tuple[int, int], whole: Square) -> Track:
    handler, samples = _box(data, place, b"mdia", b"hdlr"), _box(data, place, b"mdia", b"minf", b"stbl", b"stsd")
    kind = "other" if handler is None else _KINDS.get(data[handler[0] + 8 : handler[0] + 12], "other")
    codec = "" if samples is None else data[samples[0] + 12 : samples[0] + 16].decode("latin-1")
    header = _box(data, place, b"tkhd")
    if kind != "video" or header is None:
        return Track(kind, codec)
    own = _matrix(data, header, (40, 52))
    both = np.array(own, np.float64) @ np.array(whole, np.float64)
    return Track(kind, codec, _turn_of(both.tolist()))


def _matrix(data: Data, place: tuple[int, int], offsets: tuple[int, int]) -> Square:
    """Return a, b, c and d of a header's matrix. offsets: where it begins, by the header's version."""
    start = place[0] + offsets[data[place[0]] == 1]
    a, b, _, c, d = struct.unpack(">5i", data[start : start + 20])
    return (a, b), (c, d)


def _turn_of(matrix: list[list[float]]) -> Turn | None:
    """Return the turn that is nearest to a matrix: (x, y) becomes (a x + c y, b x + d y)."""
    (a, b), (c, d) = matrix
    if a * d == b * c:
        return None
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


# --- Matroska -----------------------------------------------------------------------------------------------------


def _elements(data: Data, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (id, start, end) of the elements of a level: where what they hold begins and ends."""
    for _ in range(_MAX_BOXES):
        if start >= end:
            return
        name, start = _number(data, start, keeps_mark=True)
        size, start = _number(data, start, keeps_mark=False)
        stop = end if size < 0 else min(start + size, end)
        yield name, start, stop
        start = stop


def _number(data: Data, start: int, *, keeps_mark: bool) -> tuple[int, int]:
    """Return a number of variable length, -1 for an unknown size, and where it ends."""
    n_bytes = 9 - data[start].bit_length()
    if n_bytes > 8:
        raise ValueError("no number of variable length")
    value = int.from_bytes(data[start : start + n_bytes], "big")
    if not keeps_mark:
        value &= (1 << 7 * n_bytes) - 1
        if value == (1 << 7 * n_bytes) - 1:
            value = -1
    return value, start + n_bytes


def _matroska(data: Data) -> Iterator[Track]:
    for name, start, end in _elements(data, 0, len(data)):
        if name != _SEGMENT:
            continue
        for part, part_start, part_end in _elements(data, start, end):
            if part == _TRACKS:
                entries = _elements(data, part_start, part_end)
                yield from (_entry(data, at, stop) for kind, at, stop in entries if kind == _ENTRY)
                return


def _entry(data: Data, start: int, end: int) -> Track:
    fields = {name: (at, stop) for name, at, stop in _elements(data, start, end)}
    at, stop = fields.get(_TYPE, (0, 0))
    kind = _EBML_KINDS.get(int.from_bytes(data[at:stop], "big"), "other")
    at, stop = fields.get(_CODEC, (0, 0))
    codec = data[at:stop].decode("latin-1").rstrip("\0")
    if kind != "video" or _VIDEO not in fields:
        return Track(kind, codec)
    projection = {name: place for name, *place in _elements(data, *fields[_VIDEO])}.get(_PROJECTION)
    return Track(kind, codec, None if projection is None else _projected(data, projection[0], projection[1]))


def _projected(data: Data, start: int, end: int) -> Turn | None:
    """Return the turn of a flat image: a yaw of 180 degrees mirrors it, then a roll turns it counterclockwise."""
    fields = {name: data[at:stop] for name, at, stop in _elements(data, start, end)}
    yaw, pitch, roll = (_float(fields.get(name, b"")) for name in (_YAW, _PITCH, _ROLL))
    if any(fields.get(_PROJECTION_TYPE, b"")) or not all(map(math.isfinite, (yaw, pitch, roll))):
        return None
    mirrors_x, mirrors_y = (-1 if round(angle / 90) % 4 == 2 else 1 for angle in (yaw, pitch))
    quarters = round(roll / 90) % 4
    cos, sin = ((1, 0), (0, -1), (-1, 0), (0, 1))[quarters]
    return _turn_of([[mirrors_x * cos, mirrors_x * sin], [-mirrors_y * sin, mirrors_y * cos]])


def _float(data: bytes) -> float:
    return float(struct.unpack({4: ">f", 8: ">d"}[len(data)], data)[0]) if len(data) in (4, 8) else 0.0
