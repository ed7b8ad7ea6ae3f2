"""Sizes and pixel formats of frames, told by their packets: OpenCV converts all as it converted the first.

Sources: ITU-T T.81, B.2.2; ITU-T H.264, 7.3.2.1; ITU-T H.265, 7.3.2.2; RFC 6386, 9.1; VP9 bitstream specification, 6.2;
ISO 14496-2, 6.2.3.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_H264 = ("H264", "X264", "AVC1", "AVC3")
_H264_SPS, _HEVC_SPS = 7, 33
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}  # profiles that tell a pixel format
_MAX_SPS_BYTES = 4096
_ROUNDED = 64
_START = re.compile(b"\x00\x00\x01")


@dataclass(frozen=True)
class Shape:
    """What all frames must have in common. size: width and height, where they are told; form: whatever else counts."""

    size: tuple[int, int] | None
    form: tuple[object, ...] = ()

    def fits(self, width: int, height: int) -> bool:
        """Return whether frames of this shape are shown in that size: coded sizes are rounded up, fields are halves."""
        if self.size is None:
            return False
        coded_width, coded_height = self.size
        return 0 <= coded_width - width < _ROUNDED and any(0 <= n * coded_height - height < _ROUNDED for n in (1, 2))


def announced(codec: str, packet: bytes) -> Shape | None:
    """Return the shape that a packet announces, None where it goes on with the one before.

    codec: a FourCC. packet: in the form of Annex B, or what a container keeps before all packets.
    """
    try:
        if codec in _H264 and packet[:1] == b"\1":
            return _h264(_Bits(packet[9 : 9 + _MAX_SPS_BYTES].replace(b"\0\0\3", b"\0\0")))
        if codec in ("MJPG", "JPEG"):
            return _jpeg(packet)
        if codec in _H264:
            return _one(_h264(unit) for unit in _units(packet, _H264_SPS, lambda head: head & 31, 1))
        if codec in ("HEVC", "HVC1", "HEV1", "H265"):
            return _one(_hevc(unit) for unit in _units(packet, _HEVC_SPS, lambda head: head >> 1 & 63, 2))
        if codec in ("VP80", "VP08"):
            return _vp8(packet)
        return _one(map(_vp9, _vp9_frames(packet))) if codec in ("VP90", "VP09") else _mpeg4(packet)
    except IndexError:
        return None  # cut off: the decoder has nothing to show either


def _one(found: Iterable[Shape | None]) -> Shape | None:
    """Return what several parts of a packet announce, one that is like no other where they differ."""
    shapes = tuple(dict.fromkeys(one for one in found if one is not None))
    return shapes[0] if len(shapes) == 1 else Shape(None, shapes) if shapes else None


class _Bits:
    """Bits of data, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, n: int) -> int:
        """Return the next n bits as a number. Raises: IndexError."""
        value = 0
        for _ in range(n):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def ue(self) -> int:
        """Return an Exp-Golomb code. Raises: IndexError."""
        n_zeros = 0
        while not self.take(1):
            n_zeros += 1
            if n_zeros > 32:
                raise IndexError
        return (1 << n_zeros) - 1 + self.take(n_zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _units(packet: bytes, wanted: int, kind: Callable[[int], int], n_head: int) -> Iterator[_Bits]:
    """Yield what NAL units of a kind hold, without the bytes that keep start codes out of them."""
    for found in _START.finditer(packet):
        at = found.end()
        if at < len(packet) and kind(packet[at]) == wanted:
            yield _Bits(packet[at + n_head : at + _MAX_SPS_BYTES].replace(b"\0\0\3", b"\0\0"))


def _jpeg(packet: bytes) -> Shape | None:
    at = packet.find(b"\xff\xd8")
    while at >= 0:
        marker = packet[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = (int.from_bytes(packet[at + n : at + n + 2], "big") for n in (5, 7))
            factors = tuple(packet[at + 11 + 3 * i] for i in range(packet[at + 9]))
            return Shape((width, height), (packet[at + 4], factors))
        if marker == 0xDA:  # what follows is the image itself
            return None
        has_length = marker not in (0xFF, 0xD8)
        at = packet.find(b"\xff", at + (2 + int.from_bytes(packet[at + 2 : at + 4], "big") if has_length else 1))
    return None


def _h264(bits: _Bits) -> Shape:
    profile = bits.take(8)
    bits.take(16)
    bits.ue()
    form: tuple[object, ...] = (1, 0, 0)
    if profile in _HIGH:
        chroma = bits.ue()
        planes = bits.take(1) if chroma == 3 else 0
        form = (chroma if not planes else 4, bits.ue(), bits.ue())
        bits.take(1)
        if bits.take(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling(bits, 16 if i < 6 else 64)
    bits.ue()
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.take(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    bits.ue()
    bits.take(1)
    width, rows = 16 * (bits.ue() + 1), 16 * (bits.ue() + 1)
    height = rows * (2 - bits.take(1))
    return Shape((width, height), form)  # as coded: what is cut off at the edges is so of all


def _skip_scaling(bits: _Bits, n: int) -> None:
    last = following = 8
    for _ in range(n):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _hevc(bits: _Bits) -> Shape:
    bits.take(4)
    n_layers = bits.take(3)  # beside the first
    bits.take(1 + 88 + 8)
    present = [(bits.take(1), bits.take(1)) for _ in range(n_layers)]
    if n_layers:
        bits.take(2 * (8 - n_layers))
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    bits.ue()
    chroma = bits.ue()
    if chroma == 3:
        bits.take(1)
    width, height = bits.ue(), bits.ue()
    if bits.take(1):
        for _ in range(4):
            bits.ue()
    return Shape((width, height), (chroma, bits.ue(), bits.ue()))


def _vp8(packet: bytes) -> Shape | None:
    if not packet or packet[0] & 1 or packet[3:6] != b"\x9d\x01\x2a":
        return None
    return Shape((int.from_bytes(packet[6:8], "little") & 0x3FFF, int.from_bytes(packet[8:10], "little") & 0x3FFF))


def _vp9_frames(packet: bytes) -> Iterator[bytes]:
    """Yield the frames of a packet: an index at its end says how many there are, and how long each is."""
    mark = packet[-1] if packet else 0
    n_frames, n_bytes = (mark & 7) + 1, (mark >> 3 & 3) + 1
    start = len(packet) - 2 - n_frames * n_bytes
    if mark >> 5 != 6 or start < 0 or packet[start] != mark:
        yield packet
        return
    at = 0
    for i in range(n_frames):
        end = at + int.from_bytes(packet[start + 1 + i * n_bytes : start + 1 + (i + 1) * n_bytes], "little")
        yield packet[at:end]
        at = end


def _vp9(packet: bytes) -> Shape | None:
    """Read the header of a frame: sizes are told where there is no frame of the same size to refer to."""
    bits = _Bits(packet)
    bits.take(2)
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    if bits.take(1):
        return None
    is_inter, is_shown, is_resilient = bits.take(1), bits.take(1), bits.take(1)
    if not is_inter:
        bits.take(24)
        return _vp9_size(bits, _vp9_color(bits, profile))
    is_intra = 0 if is_shown else bits.take(1)
    if not is_resilient:
        bits.take(2)
    if is_intra:
        bits.take(24)
        color = _vp9_color(bits, profile) if profile else (8, 1, 1)
        bits.take(8)
        return _vp9_size(bits, color)
    bits.take(8 + 12)
    return None if any(bits.take(1) for _ in range(3)) else _vp9_size(bits, None)


def _vp9_color(bits: _Bits, profile: int) -> tuple[object, ...]:
    depth = 10 + 2 * bits.take(1) if profile >= 2 else 8
    is_rgb = bits.take(3) == 7
    if not is_rgb:
        bits.take(1)
    if not profile & 1:
        return (depth, 1, 1)
    planes = (0, 0) if is_rgb else (bits.take(1), bits.take(1))
    bits.take(1)
    return (depth, *planes)


def _vp9_size(bits: _Bits, color: tuple[object, ...] | None) -> Shape:
    return Shape((bits.take(16) + 1, bits.take(16) + 1), color or ())


def _mpeg4(packet: bytes) -> Shape | None:
    """Return a video object layer as it is: written again for every key frame, and the same as long as sizes are."""
    found = re.search(rb"\x00\x00\x01[\x20-\x2f]", packet)
    if found is None:
        return None
    end = packet.find(b"\0\0\1", found.end())
    return Shape(None, (packet[found.end() : end if end >= 0 else len(packet)],))
