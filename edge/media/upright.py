"""Decoded images as RGB: upright, transparency on white, whatever the file's depth and colour key."""

import logging
import struct

import numpy as np
from PIL import Image

from edge.arrays import U8
from edge.media.bmp import BitFields
from edge.media.resized import BAND_ROWS, Source, Stored

_LOG = logging.getLogger("edge")
_ORIENTATION_TAG = 0x0112


def upright(image: Image.Image, *, is_spare: bool) -> Source:
    """Decode an image, so that it can be read in bands: RGB, upright, transparency on white."""
    depth = _png_depth(image)
    image.load()
    return _Upright(image, _orientation(image.info.get("exif", b"")), depth, is_spare=is_spare)


class _Upright(Stored):
    """A decoded image whose transparency is laid on white as it is read."""

    def __init__(self, image: Image.Image, turn: int, depth: int, *, is_spare: bool) -> None:
        super().__init__(image, turn, is_spare=is_spare)
        self._depth = depth

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Return some rows as RGB."""
        return _on_white(self.take((0, top, self.size[0], bottom)), self._depth)


def whiten_key(high: Image.Image, low: Image.Image) -> None:
    """Make the one of 16-bit colours that stands for transparency white; the high bytes of the others are kept."""
    high.load()
    key = np.array(high.info.pop("transparency"))  # (3,), 0 to 65535
    for top in range(0, high.height, BAND_ROWS):
        box = (0, top, high.width, min(top + BAND_ROWS, high.height))
        colours = np.array(high.crop(box))
        keyed = (colours == key >> 8).all(axis=2) & (np.asarray(low.crop(box)) == (key & 255)).all(axis=2)
        colours[keyed] = 255
        high.paste(Image.fromarray(colours), box)


def masked(data: bytes, fields: BitFields) -> U8:
    """Decode a BMP of bit fields: (H, W, 3). An alpha of 0 everywhere is none: programs leave it unset."""
    rgb = np.empty((fields.height, fields.width, 3), dtype=np.uint8)
    is_seen = False
    for top in range(0, fields.height, BAND_ROWS):
        band = fields.rows(data, top, min(top + BAND_ROWS, fields.height))
        if band.shape[2] == 4 and not is_seen and (is_seen := bool(band[:, :, 3].any())):
            rgb[:top] = 255  # so they were transparent, what is above
        pixels = band if is_seen else band[:, :, :3]
        rgb[top : top + len(band)] = np.asarray(_on_white(Image.fromarray(np.ascontiguousarray(pixels)), 8))
    return rgb


def _on_white(band: Image.Image, depth: int) -> Image.Image:
    """Convert to RGB, transparency laid on white."""
    key = band.info.get("transparency")
    if band.mode.startswith("I;16"):
        return _grey16_on_white(band, key)
    if depth in (2, 4) and band.mode == "L" and isinstance(key, int):
        band.info["transparency"] = key * 255 // (2**depth - 1)  # stored in the file's grey levels, not in 256
    if not band.has_transparency_data:
        return band.convert("RGB")
    colours = band.convert("RGBA")
    white = Image.new("RGB", band.size, "white")
    white.paste(colours, mask=colours.getchannel("A"))
    return white


def _grey16_on_white(band: Image.Image, key: object) -> Image.Image:
    """Keep the high byte, as Pillow does for 16-bit colours; its own conversion of greys clips at 255."""
    grey = np.asarray(band)  # (rows, W) uint16
    high = (grey >> 8).astype(np.uint8)
    if isinstance(key, int):
        high[grey == key] = 255
    return Image.fromarray(high).convert("RGB")


def _png_depth(image: Image.Image) -> int:
    """Return the bits of a grey level of a PNG that is not decoded yet, 8 for anything else."""
    for tile in getattr(image, "tile", []):
        if tile.codec_name == "zip" and tile.args in ("L;2", "L;4"):
            return int(tile.args[-1])
    return 8


def _orientation(exif: object) -> int:
    """Return the EXIF orientation, 1 to 8; 1 when there is none or it cannot be read."""
    data = exif.removeprefix(b"Exif\x00\x00") if isinstance(exif, bytes) else b""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (n_entries,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * n_entries, 12):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), data, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        _LOG.debug("image: EXIF data cut off")
    return 1
