"""Images: opened with limits, and handed on whole or as small as their tiles need them."""

import functools
import hashlib
import io
import logging
import re
import struct
import sys
from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from edge.arrays import U8
from edge.errors import MediaError, MemoryExhausted
from edge.media.bmp import bit_fields
from edge.media.decoded import Decoded, Options
from edge.media.detail import AUTO, LEVELS, Detail
from edge.media.resized import BAND_ROWS, Pixels, Resized, Source, resized
from edge.media.sniff import expect
from edge.media.tiles import Tower, TowerShape, targets
from edge.media.upright import masked, upright, whiten_key
from edge.media.variants import unsupported

T = TypeVar("T")

_LOG = logging.getLogger("edge")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_WEBP_PX_BYTES = 16  # libwebp's canvas, twice, its frame, and Pillow's pixels


def decode(data: bytes, options: Options) -> Decoded:
    """Decode an image: the whole of it as open_image does, or what a tower needs of it where that is less.

    options: max_px, memory_bytes (the most to use), and as `tower_options` gives them. arrays: the image; or, with the
    image's `width` and `height` as info, the fields `cells` and `whole` of `Resized`. Raises: as open_image.
    """
    max_px, max_bytes = int(options["max_px"] or 0), int(options.get("memory_bytes") or sys.maxsize)
    if "tile_px" not in options:
        return Decoded((_decoded(data, max_px, _whole, max_bytes=max_bytes),))
    share = options["crop_share"]
    resample: Literal["bilinear", "bicubic"] = "bilinear" if options["resample"] == "bilinear" else "bicubic"
    tile_px, patch_px, max_tiles = (int(options[name] or 0) for name in ("tile_px", "patch_px", "max_tiles"))
    tower = TowerShape(tile_px, patch_px, max_tiles, None if share is None else float(share), resample)
    finish = functools.partial(_reduced, tower=tower, detail=_detail(options))
    found = _decoded(data, max_px, finish, max_bytes=max_bytes)
    if not isinstance(found, Resized):
        return Decoded((found,))
    arrays = (found.cells,) if found.whole is None else (found.cells, found.whole)
    return Decoded(arrays, {"width": found.width, "height": found.height})


def tower_options(tower: Tower, detail: Detail = AUTO) -> Options:
    """Return the options with which `decode` gives what a tower needs for an image of this detail."""
    shape = {name: getattr(tower, name) for name in ("tile_px", "patch_px", "max_tiles", "crop_share", "resample")}
    return {**shape, "detail": detail.level, "most_tiles": detail.max_tiles}


def _detail(options: Options) -> Detail:
    """Return the detail that `tower_options` has put among the options."""
    level, most = options.get("detail"), options.get("most_tiles")
    found = next((known for known in LEVELS if known == level), AUTO.level)
    return Detail(found, None if most is None else int(most))


def received(decoded: Decoded, tower: Tower, *, max_px: int, detail: Detail = AUTO) -> U8 | Resized:
    """Return what `decode` gave for a tower, checked: who did it may not have been itself any more.

    Raises: MediaError.
    """
    arrays, info = decoded.arrays, decoded.info
    if not arrays or any(a.dtype != np.uint8 or a.shape[2:] != (3,) or not a.size for a in arrays):
        raise MediaError("decoding it failed")
    images = [np.asarray(array, np.uint8) for array in arrays]
    if not info:
        return images[0]
    width, height = info.get("width"), info.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 < height and width * height <= max_px):
        raise MediaError("decoding it failed")
    wanted = [(target.height, target.width, 3) for target in targets(width, height, tower, detail)]
    if [image.shape for image in images] != wanted:
        raise MediaError("decoding it failed")
    return Resized(width, height, images[0], images[1] if len(images) > 1 else None)


def open_image(data: bytes, *, max_px: int) -> U8:
    """Decode an image: (H, W, 3) uint8 RGB, upright, transparency on white, the first frame of an animation.

    The format is told by the data, its pixels are counted from the header before anything is decoded.
    Raises: MediaError with a text of ours; MemoryExhausted. Source: model-family.md, 4.
    """
    return _decoded(data, max_px, _whole)


def _decoded(data: bytes, max_px: int, finish: Callable[[Source], T], *, max_bytes: int = sys.maxsize) -> T:
    """Decode an image and return what becomes of it; its own pixels are held once."""
    name = expect("image", data).name
    try:
        if name == "PNG" and len(data) >= 24 and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            _check_pixels(width, height, max_px)  # before its chunks are copied
        if name == "WebP":  # which allocates when it is opened
            _check_pixels(*_webp_size(data), max_px, least=0)
            _check_memory(name, _webp_size(data), _WEBP_PX_BYTES, max_bytes)
        if name == "BMP" and (fields := bit_fields(data)) is not None:
            _check_pixels(fields.width, fields.height, max_px)
            return finish(Pixels(masked(data, fields)))
        with _file(name, data) as image:
            _check_pixels(image.width, image.height, max_px)
            _check_memory("progressive JPEG", image.size, _progressive_bytes(image), max_bytes)
            low = _low_bytes(name, data, image)
            if low is not None:
                whiten_key(image, low)
                del low
            return finish(upright(image, is_spare=True))
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
    """Accept an image that is already decoded, an (H, W, 3) uint8 RGB array or a PIL image: a copy of it, same shape.

    A PIL image is treated as a file is: turned upright, laid on white. Raises: MediaError, MemoryExhausted.
    """
    return _given(image, max_px, _whole)


def reduced(image: U8 | Image.Image, tower: Tower, *, max_px: int, detail: Detail = AUTO) -> U8 | Resized:
    """Accept an image as from_array does; return what a tower needs of it where that is less. Raises: as from_array."""
    return _given(image, max_px, functools.partial(_reduced, tower=tower, detail=detail))


def _given(image: U8 | Image.Image, max_px: int, finish: Callable[[Source], T]) -> T:
    try:
        if isinstance(image, Image.Image):
            _check_pixels(image.width, image.height, max_px)
            return finish(upright(image, is_spare=False))
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MediaError(f"image: expected an (H, W, 3) uint8 array or a PIL image, got {_described(image)}")
        _check_pixels(image.shape[1], image.shape[0], max_px)
        return finish(Pixels(image))
    except MediaError:
        raise
    except MemoryError as error:
        raise MemoryExhausted("image: no memory left to hold it") from error
    except Exception as error:
        _LOG.debug("image: a PIL image is not supported", exc_info=True)
        raise MediaError("image: the PIL image cannot be read as RGB") from error


def digest(image: U8 | Resized) -> str:
    """Return a sha256 (hex) of an image's shape and pixels: what a cache of embeddings is keyed by."""
    if not isinstance(image, Resized):
        state = hashlib.sha256(struct.pack("<2q", *image.shape[:2]))
        state.update(np.ascontiguousarray(image).data)
        return state.hexdigest()
    state = hashlib.sha256(struct.pack("<2q", image.width, image.height))
    for array in (image.cells, image.whole):
        if array is not None:
            state.update(struct.pack("<2q", *array.shape[:2]))
            state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def _reduced(source: Source, tower: Tower, detail: Detail) -> U8 | Resized:
    """Return what a tower needs of an image, all of it where that is not more."""
    width, height = source.size
    wanted = targets(width, height, tower, detail)
    if width * height <= sum(target.width * target.height for target in wanted):
        return _whole(source)
    cells, *rest = resized(source, wanted)
    return Resized(width, height, cells, rest[0] if rest else None)


def _whole(source: Source) -> U8:
    """Return all of an image: (H, W, 3)."""
    width, height = source.size
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND_ROWS):
        rgb[top : top + BAND_ROWS] = np.asarray(source.rows(top, min(top + BAND_ROWS, height)))
    return rgb


def _file(name: str, data: bytes) -> ImageFile.ImageFile:
    """Read an image's header. The plugins are called by name, so that nothing else Pillow can read is ever tried."""
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
    """Drop the chunks an image does not need: compressed texts and profiles unpack to many times their size."""
    kept = [_PNG_MAGIC]
    start = len(_PNG_MAGIC)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if kind in _PNG_CHUNKS:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _check_pixels(width: int, height: int, max_px: int, *, least: int = 1) -> None:
    if width < least or height < least:
        raise MediaError(f"image: expected at least one pixel, got {width} x {height}")
    if width * height > max_px:
        pixels = width * height
        raise MediaError(f"image: expected at most {max_px} pixels, got {width} x {height} = {pixels}")


def _check_memory(what: str, size: tuple[int, int], px_bytes: float, max_bytes: int) -> None:
    """Refuse what takes more memory than its pixels, before it does. Raises: MediaError with both numbers."""
    needed = int(size[0] * size[1] * px_bytes)
    if needed > max_bytes:
        raise MediaError(
            f"image: expected at most {max_bytes} bytes to decode it, a {what} of {size[0]} x {size[1]} needs "
            f"{needed}: save it smaller, or as a PNG or a JPEG that is not progressive"
        )


def _progressive_bytes(image: ImageFile.ImageFile) -> float:
    """Return the bytes a pixel that decoding takes where a JPEG is progressive: all its coefficients are held."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.info.get("progressive"):
        return 0
    parts = [(across, down) for _, across, down, _ in image.layer]
    most = max((across for across, _ in parts), default=1) * max((down for _, down in parts), default=1)
    return 4 + 2 * sum(across * down for across, down in parts) / most


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the width and height that a WebP header tells, 0 and 0 where it tells none."""
    head, kind = data[:30].ljust(30, b"\0"), data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0, 0


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


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"shape {value.shape} of {value.dtype}"
    return type(value).__name__
