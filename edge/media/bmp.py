"""BMP files whose pixels are bit fields: 16 or 32 bits each, and any of them red, green, blue or alpha."""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.arrays import U8
from edge.errors import MediaError

_HEADERS = (40, 52, 56, 108, 124)
_BIT_FIELDS, _ALPHA_BIT_FIELDS = 3, 6
_WITH_ALPHA_BYTES = 56  # a header of so many has a mask for alpha
_MASKS_AT = 54
_TYPES = {16: "<u2", 32: "<u4"}


@dataclass(frozen=True)
class BitFields:
    """Where the pixels are, and which bits are red, green, blue and, where it has any, alpha."""

    width: int
    height: int
    bits: int
    masks: tuple[int, ...]
    start: int
    row_bytes: int
    is_top_down: bool

    def rows(self, data: bytes, top: int, bottom: int) -> U8:
        """Return rows top to bottom - 1: (rows, W, 3 or 4) uint8. Raises: MediaError where the data ends before."""
        first = top if self.is_top_down else self.height - bottom
        start, end = (self.start + row * self.row_bytes for row in (first, first + bottom - top))
        if end > len(data):
            raise MediaError("image: the BMP data is damaged or cut off")
        stored = np.frombuffer(data, np.uint8, end - start, start).reshape(bottom - top, self.row_bytes)
        pixels = stored[:, : self.width * self.bits // 8].copy().view(_TYPES[self.bits])  # (rows, W)
        levels = np.stack([_levels(pixels, mask) for mask in self.masks], axis=2)
        return levels if self.is_top_down else levels[::-1]


def bit_fields(data: bytes) -> BitFields | None:
    """Read the header of a BMP, None for one without bit fields. Source: Windows' BITMAPV5HEADER."""
    if len(data) < _MASKS_AT:
        return None
    start, n_header, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", data, 10)
    if n_header not in _HEADERS or bits not in _TYPES or packing not in (_BIT_FIELDS, _ALPHA_BIT_FIELDS):
        return None
    n_masks = 4 if n_header >= _WITH_ALPHA_BYTES or packing == _ALPHA_BIT_FIELDS else 3
    if len(data) < _MASKS_AT + 4 * n_masks:
        return None
    masks = struct.unpack_from(f"<{n_masks}I", data, _MASKS_AT)
    if not any(masks[:3]):
        masks = (0xFF0000, 0xFF00, 0xFF) if bits == 32 else (0x7C00, 0x3E0, 0x1F)
    kept = masks if masks[-1] else masks[:3]
    return BitFields(width, abs(height), bits, kept, start, (width * bits + 31) // 32 * 4, height < 0)


def _levels(pixels: npt.NDArray[np.unsignedinteger], mask: int) -> U8:
    """Return the levels, 0 to 255, of the bits of a mask."""
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    levels = pixels >> shift & most
    return (levels if most == 0xFF else levels.astype(np.uint64) * 255 // most).astype(np.uint8)
