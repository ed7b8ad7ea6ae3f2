"""Pictures: opened with limits, laid on white, and cut into the tiles the vision tower reads."""

import hashlib
import io
import logging
import math
import re
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from edge.bundle import VisionSpec
from edge.errors import MediaError, MemoryExhausted
from edge.media.bmp import BitFields, bit_fields
from edge.media.decoded import Decoded, Options
from edge.media.sniff import expect
from edge.media.variants import unsupported

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_LOG = logging.getLogger("edge")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_BAND_ROWS = 256
_MAX_RESIZED_PX = 1 << 26
_ORIENTATION_TAG = 0x0112
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode(data: bytes, options: Options) -> Decoded:
    """Decode a picture as open_image does; options: max_px."""
    return Decoded((open_image(data, max_px=int(options["max_px"] or 0)),))


def open_image(data: bytes, *, max_px: int) -> U8:
    """Decode a picture: (H, W, 3) uint8 RGB, upright, transparency on white, the first frame of an animation.

    The format is told by the data, its pixels are counted from the header before anything is decoded.
    Raises: MediaError with a text of ours; MemoryExhausted. Source: reka-edge.md, 4.
    """
    name = expect("image", data).name
    try:
        if name == "PNG" and len(data) >= 24 and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            _check_pixels(width, height, max_px)  # before its chunks are copied
        if name == "BMP" and (fields := bit_fields(data)) is not None:
            _check_pixels(fields.width, fields.height, max_px)
            return _masked(data, fields)
        with _file(name, data) as image:
            _check_pixels(image.width, image.height, max_px)
            low = _low_bytes(name, data, image)
            return _rgb(image if low is None else _without_key(image, low))
    except MediaError:
        raise
    except MemoryError as error:
        raise MemoryExhausted("image: no memory left to decode it") from error
    except Image.DecompressionBombError as error:
        # Raised on opening, from the header too: the two formats whose size is read with their first frame.
        found = re.search(r"\d+", str(error))
        raise MediaError(f"image: expected at most {max_px} pixels, got {found and found[0]}") from error
    except Exception as error:
        _LOG.debug("image: %s not decoded", name, exc_info=True)
        found_out = unsupported(name, data) or f"the {name} data is damaged or cut off"
        raise MediaError(f"image: {found_out}") from error


def from_array(image: U8 | Image.Image, *, max_px: int) -> U8:
    """Take a picture that is already decoded, an (H, W, 3) uint8 RGB array or a PIL image: a copy of it, same shape.

    A PIL image is treated as a file is: turned upright, laid on white. Raises: MediaError, MemoryExhausted.
    """
    try:
        if isinstance(image, Image.Image):
            _check_pixels(image.width, image.height, max_px)
            return _rgb(image)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MediaError(f"image: expected an (H, W, 3) uint8 array or a PIL image, got {_described(image)}")
        _check_pixels(image.shape[1], image.shape[0], max_px)
        return np.array(image, order="C")
    except MediaError:
        raise
    except MemoryError as error:
        raise MemoryExhausted("image: no memory left to hold it") from error
    except Exception as error:
        _LOG.debug("image: a PIL image was not taken", exc_info=True)
        raise MediaError("image: the PIL image cannot be read as RGB") from error


def digest(rgb: U8) -> str:
    """Return a sha256 (hex) of a picture's shape and pixels: what a cache of embeds is keyed by."""
    state = hashlib.sha256(struct.pack("<2q", *rgb.shape[:2]))
    state.update(np.ascontiguousarray(rgb).data)
    return state.hexdigest()


def tile_count(width: int, height: int, spec: VisionSpec) -> int:
    """Return how many tiles a picture of this size makes. Source: reka-edge.md, 4."""
    grid = _grid(width, height, spec)
    return 1 if grid is None else grid[0] * grid[1] + 1


def tiles(rgb: U8, spec: VisionSpec) -> Iterator[F32]:
    """Yield a picture's tiles one by one, each (3, T, T) float32, normalised. rgb: (H, W, 3) uint8.

    Raises: MediaError for a picture too thin to resize. Source: reka-edge.md, 4.
    """
    whole = Image.fromarray(rgb)
    grid = _grid(whole.width, whole.height, spec)
    bicubic = Image.Resampling.BICUBIC
    if grid is None:
        yield _tile(_resized(whole, _best(whole.width, whole.height, spec), bicubic), spec)
        return
    if spec.order == "whole-first":
        yield _tile(whole, spec)
    yield from _cells(whole, grid, spec)
    if spec.order == "cells-first":
        yield _tile(whole, spec)


def frame_tile(rgb: U8, spec: VisionSpec) -> F32:
    """Return the one tile of a film's frame: (3, T, T) float32, normalised. rgb: (H, W, 3) uint8."""
    return _tile(Image.fromarray(rgb), spec)


def _cells(whole: Image.Image, grid: tuple[int, int], spec: VisionSpec) -> Iterator[F32]:
    """Yield the tiles of a grid, row by row."""
    columns, rows = grid
    cell_width = _to_multiple(whole.width // columns, spec.patch_px)
    cell_height = _to_multiple(whole.height // rows, spec.patch_px)
    width, height = _best(cell_width, cell_height, spec)
    resized = _resized(whole, (columns * width, rows * height), Image.Resampling.BICUBIC)
    for row in range(rows):
        for column in range(columns):
            left, top = column * width, row * height
            yield _tile(resized.crop((left, top, left + width, top + height)), spec)


def fit(image: Image.Image, *, side: int, crop_share: float | None, resample: str) -> Image.Image:
    """Resize a picture as a tile of side x side needs it, once: doing it again changes nothing.

    Tiles of less than 384 px that have a crop_share keep the proportions: the shortest edge becomes side / crop_share.
    """
    size = (side, side)
    if side < 384 and crop_share is not None:
        shortest = int(side / crop_share)
        longest = int(shortest * max(image.size) / min(image.size))
        size = (shortest, longest) if image.width <= image.height else (longest, shortest)
    return _resized(image, size, _RESAMPLE[resample])


def _tile(image: Image.Image, spec: VisionSpec) -> F32:
    """Bring a picture to T x T, normalised: (3, T, T)."""
    side = spec.tile_px
    image = fit(image, side=side, crop_share=spec.crop_share, resample=spec.resample)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.asarray(image)[top : top + side, left : left + side]  # (T, T, 3)
    mean, std = np.array(spec.mean), np.array(spec.std)
    # 256 grey levels per channel: a table instead of arithmetic on every pixel.
    table = ((np.arange(256)[None, :] / 255 - mean[:, None]) / std[:, None]).astype(np.float32)  # (3, 256)
    return np.stack([table[channel][pixels[:, :, channel]] for channel in range(3)])


def _grid(width: int, height: int, spec: VisionSpec) -> tuple[int, int] | None:
    """Return the grid (columns, rows) a picture is cut into, None when it stays whole."""
    n = min(-(-width * height // spec.tile_px**2), spec.max_tiles)
    if n <= 1:
        return None
    counts = [n, n + 1] if n < spec.max_tiles else [n]
    grids = [(columns, count // columns) for count in counts for columns in range(1, count + 1) if count % columns == 0]
    wanted = math.log(width / height)
    return min(grids, key=lambda grid: abs(wanted - math.log(grid[0] / grid[1])))


def _best(width: int, height: int, spec: VisionSpec) -> tuple[int, int]:
    """Return the size of about T x T pixels that keeps a picture's proportions, in multiples of the patch."""
    ratio = width / height
    best_height = int(spec.tile_px / math.sqrt(ratio))
    best_width = int(best_height * ratio)
    return _to_multiple(best_width, spec.patch_px), _to_multiple(best_height, spec.patch_px)


def _to_multiple(length: int, step: int) -> int:
    return max(step, round(length / step) * step)


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    # A line of pixels grows without bound when its shortest edge must reach a given length.
    width, height = size
    if width * height > _MAX_RESIZED_PX:
        raise MediaError(f"image: too thin: resizing it takes {width} x {height} pixels, at most {_MAX_RESIZED_PX}")
    return image.resize(size, resample)


def _file(name: str, data: bytes) -> ImageFile.ImageFile:
    """Read a picture's header. The plugins are called by name, so that nothing else Pillow can read is ever tried."""
    if name == "JPEG":
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if name == "PNG":
        return PngImagePlugin.PngImageFile(io.BytesIO(_plain_png(data)))
    if name == "WebP":
        return WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    if name == "GIF":
        return GifImagePlugin.GifImageFile(io.BytesIO(data))
    return BmpImagePlugin.BmpImageFile(io.BytesIO(data))


def _plain_png(data: bytes) -> bytes:
    """Drop the chunks a picture does not need: compressed texts and profiles unpack to many times their size."""
    kept = [_PNG_MAGIC]
    start = len(_PNG_MAGIC)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if kind in _PNG_CHUNKS:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _check_pixels(width: int, height: int, max_px: int) -> None:
    if width < 1 or height < 1:
        raise MediaError(f"image: expected at least one pixel, got {width} x {height}")
    if width * height > max_px:
        pixels = width * height
        raise MediaError(f"image: expected at most {max_px} pixels, got {width} x {height} = {pixels}")


def _rgb(image: Image.Image) -> U8:
    """Decode, convert and turn a picture: (H, W, 3). In bands, so that only one copy of it is ever whole."""
    depth = _png_depth(image)
    image.load()
    turn = _orientation(image.info.get("exif", b""))
    width, height = image.size
    rgb = np.empty((width, height, 3) if turn > 4 else (height, width, 3), dtype=np.uint8)
    stored = _as_stored(rgb, turn)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        stored[top:bottom] = np.asarray(_on_white(image.crop((0, top, width, bottom)), depth))
    return rgb


def _low_bytes(name: str, data: bytes, image: ImageFile.ImageFile) -> Image.Image | None:
    """Decode the low bytes of a PNG of 16-bit colours with a colour key, which both bytes have to match; else None.

    What reads little-endian levels takes the other byte of each.
    """
    if not isinstance(image.info.get("transparency"), tuple) or [tile.args for tile in image.tile] != ["RGB;16B"]:
        return None
    low = _file(name, data)
    low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
    low.load()
    return low


def _without_key(high: Image.Image, low: Image.Image) -> Image.Image:
    """Keep the high bytes of 16-bit colours, but for the one that stands for transparency: it is white."""
    key = np.array(high.info["transparency"])  # (3,), 0 to 65535
    plain = Image.new("RGB", high.size)
    for top in range(0, high.height, _BAND_ROWS):
        box = (0, top, high.width, min(top + _BAND_ROWS, high.height))
        colours = np.array(high.crop(box))
        keyed = (colours == key >> 8).all(axis=2) & (np.asarray(low.crop(box)) == (key & 255)).all(axis=2)
        colours[keyed] = 255
        plain.paste(Image.fromarray(colours), box)
    plain.info["exif"] = high.info.get("exif", b"")
    return plain


def _masked(data: bytes, fields: BitFields) -> U8:
    """Decode a BMP of bit fields: (H, W, 3). An alpha of 0 everywhere is none: programs leave it unset."""
    rgb = np.empty((fields.height, fields.width, 3), dtype=np.uint8)
    is_seen = False
    for top in range(0, fields.height, _BAND_ROWS):
        band = fields.rows(data, top, min(top + _BAND_ROWS, fields.height))
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


def _as_stored(rgb: U8, turn: int) -> U8:
    """View an upright picture in the order its pixels are stored in the file; turn: EXIF orientation."""
    if turn > 4:
        rgb = rgb.transpose(1, 0, 2)  # (W, H, 3)
    if turn in (3, 4, 6, 7):
        rgb = rgb[::-1]
    if turn in (2, 3, 7, 8):
        rgb = rgb[:, ::-1]
    return rgb


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"shape {value.shape} of {value.dtype}"
    return type(value).__name__
