"""Pictures: opened with limits, laid on white, and cut into the tiles the vision tower reads."""

import functools
import hashlib
import io
import logging
import math
import re
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from edge.bundle.manifest import VisionSpec
from edge.errors import MediaError, MemoryExhausted
from edge.media.bmp import BitFields, bit_fields
from edge.media.decoded import Decoded, Options
from edge.media.resized import BAND_ROWS, Pixels, Resized, Source, Stored, Target, check_resized, resized
from edge.media.sniff import expect
from edge.media.variants import unsupported

T = TypeVar("T")
U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_LOG = logging.getLogger("edge")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_WEBP_PX_BYTES = 16  # libwebp's canvas, twice, its frame, and Pillow's pixels
_ORIENTATION_TAG = 0x0112
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Tower(Protocol):
    """What of a vision tower decides the sizes of tiles: a `VisionSpec`, or a `TowerShape`."""

    @property
    def tile_px(self) -> int:
        """The side of a tile."""

    @property
    def patch_px(self) -> int:
        """What the sides of cells are multiples of."""

    @property
    def max_tiles(self) -> int:
        """The most cells of a grid."""

    @property
    def crop_share(self) -> float | None:
        """What of a tile's shortest edge is kept."""

    @property
    def resample(self) -> Literal["bilinear", "bicubic"]:
        """How a tile is made."""


@dataclass(frozen=True)
class TowerShape:
    """A tower's shape as it goes to the decoding process."""

    tile_px: int
    patch_px: int
    max_tiles: int
    crop_share: float | None
    resample: Literal["bilinear", "bicubic"]


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
    found = _decoded(data, max_px, functools.partial(_reduced, tower=tower), max_bytes=max_bytes)
    if not isinstance(found, Resized):
        return Decoded((found,))
    arrays = (found.cells,) if found.whole is None else (found.cells, found.whole)
    return Decoded(arrays, {"width": found.width, "height": found.height})


def tower_options(tower: Tower) -> Options:
    """Return the options with which `decode` gives what a tower needs."""
    return {name: getattr(tower, name) for name in ("tile_px", "patch_px", "max_tiles", "crop_share", "resample")}


def received(decoded: Decoded, tower: Tower, *, max_px: int) -> U8 | Resized:
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
    wanted = [(target.height, target.width, 3) for target in _targets(width, height, tower)]
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
            return finish(Pixels(_masked(data, fields)))
        with _file(name, data) as image:
            _check_pixels(image.width, image.height, max_px)
            _check_memory("progressive JPEG", image.size, _progressive_bytes(image), max_bytes)
            low = _low_bytes(name, data, image)
            if low is not None:
                _whiten_key(image, low)
                del low
            return finish(_source(image, is_spare=True))
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


def reduced(image: U8 | Image.Image, tower: Tower, *, max_px: int) -> U8 | Resized:
    """Accept an image as from_array does; return what a tower needs of it where that is less. Raises: as from_array."""
    return _given(image, max_px, functools.partial(_reduced, tower=tower))


def _given(image: U8 | Image.Image, max_px: int, finish: Callable[[Source], T]) -> T:
    try:
        if isinstance(image, Image.Image):
            _check_pixels(image.width, image.height, max_px)
            return finish(_source(image, is_spare=False))
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MediaError(f"image: expected an (H, W, 3) uint8 array or a PIL image, got {_described(image)}")
        _check_pixels(image.shape[1], image.shape[0], max_px)
        return finish(Pixels(image))
    except MediaError:
        raise
    except MemoryError as error:
        raise MemoryExhausted("image: no memory left to hold it") from error
    except Exception as error:
        _LOG.debug("image: a PIL image was not taken", exc_info=True)
        raise MediaError("image: the PIL image cannot be read as RGB") from error


def size_of(image: U8 | Resized) -> tuple[int, int]:
    """Return the width and height of an image in pixels, whatever is left of it."""
    return (image.width, image.height) if isinstance(image, Resized) else (image.shape[1], image.shape[0])


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


def tile_count(width: int, height: int, spec: VisionSpec) -> int:
    """Return how many tiles a picture of this size makes. Source: model-family.md, 4."""
    grid = _grid(width, height, spec)
    return 1 if grid is None else grid[0] * grid[1] + 1


def tiles(image: U8 | Resized, spec: VisionSpec) -> Iterator[F32]:
    """Yield an image's tiles one by one, each (3, T, T) float32, normalised. image: (H, W, 3) uint8, or what is left.

    Raises: MediaError for an image too thin to resize. Source: model-family.md, 4.
    """
    grid = _grid(*size_of(image), spec)
    if isinstance(image, Resized):
        cells = Image.fromarray(image.cells)
        overview = functools.partial(_normalised, image.cells if image.whole is None else image.whole, spec)
    else:
        whole = Image.fromarray(image)
        target = _targets(whole.width, whole.height, spec)[0]
        cells = _resized(whole, (target.width, target.height), target.resample)
        overview = functools.partial(_tile, whole, spec)
    if grid is None:
        yield _tile(cells, spec)
        return
    if spec.order == "whole-first":
        yield overview()
    yield from _cells(cells, grid, spec)
    if spec.order == "cells-first":
        yield overview()


def frame_tile(rgb: U8, spec: VisionSpec) -> F32:
    """Return the one tile of a video's frame: (3, T, T) float32, normalised. rgb: (H, W, 3) uint8."""
    return _tile(Image.fromarray(rgb), spec)


def _cells(resized: Image.Image, grid: tuple[int, int], spec: VisionSpec) -> Iterator[F32]:
    """Yield the tiles of a grid whose cells are the right size, row by row."""
    columns, rows = grid
    width, height = resized.width // columns, resized.height // rows
    for row in range(rows):
        for column in range(columns):
            left, top = column * width, row * height
            yield _tile(resized.crop((left, top, left + width, top + height)), spec)


def _targets(width: int, height: int, tower: Tower) -> list[Target]:
    """Return what an image is resized to: its cells side by side, and, where it has several, all of it for one tile."""
    grid = _grid(width, height, tower)
    if grid is None:
        return [Target(*_best(width, height, tower), Image.Resampling.BICUBIC)]
    columns, rows = grid
    cell = (_to_multiple(width // columns, tower.patch_px), _to_multiple(height // rows, tower.patch_px))
    cell_width, cell_height = _best(*cell, tower)
    fitted = _fitted(width, height, tower.tile_px, tower.crop_share)
    cells = Target(columns * cell_width, rows * cell_height, Image.Resampling.BICUBIC)
    return [cells, Target(*fitted, _RESAMPLE[tower.resample])]


def _reduced(source: Source, tower: Tower) -> U8 | Resized:
    """Return what a tower needs of an image, all of it where that is not more."""
    width, height = source.size
    targets = _targets(width, height, tower)
    if width * height <= sum(target.width * target.height for target in targets):
        return _whole(source)
    cells, *rest = resized(source, targets)
    return Resized(width, height, cells, rest[0] if rest else None)


def _whole(source: Source) -> U8:
    """Return all of an image: (H, W, 3)."""
    width, height = source.size
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND_ROWS):
        rgb[top : top + BAND_ROWS] = np.asarray(source.rows(top, min(top + BAND_ROWS, height)))
    return rgb


def fit(image: Image.Image, *, side: int, crop_share: float | None, resample: str) -> Image.Image:
    """Resize a picture as a tile of side x side needs it, once: doing it again changes nothing.

    Tiles of less than 384 px that have a crop_share keep the proportions: the shortest edge becomes side / crop_share.
    """
    return _resized(image, _fitted(image.width, image.height, side, crop_share), _RESAMPLE[resample])


def _fitted(width: int, height: int, side: int, crop_share: float | None) -> tuple[int, int]:
    """Return the size that `fit` resizes to."""
    if side >= 384 or crop_share is None:
        return side, side
    shortest = int(side / crop_share)
    longest = int(shortest * max(width, height) / min(width, height))
    return (shortest, longest) if width <= height else (longest, shortest)


def _tile(image: Image.Image, spec: VisionSpec) -> F32:
    """Bring a picture to T x T, normalised: (3, T, T)."""
    fitted = fit(image, side=spec.tile_px, crop_share=spec.crop_share, resample=spec.resample)
    return _normalised(np.asarray(fitted), spec)


def _normalised(fitted: U8, spec: VisionSpec) -> F32:
    """Cut the middle of an image that was made to fit a tile, and normalise it: (3, T, T)."""
    side, (height, width) = spec.tile_px, fitted.shape[:2]
    left, top = (width - side) // 2, (height - side) // 2
    pixels = fitted[top : top + side, left : left + side]  # (T, T, 3)
    mean, std = np.array(spec.mean), np.array(spec.std)
    # 256 grey levels per channel: a table instead of arithmetic on every pixel.
    table = ((np.arange(256)[None, :] / 255 - mean[:, None]) / std[:, None]).astype(np.float32)  # (3, 256)
    return np.stack([table[channel][pixels[:, :, channel]] for channel in range(3)])


def _grid(width: int, height: int, spec: Tower) -> tuple[int, int] | None:
    """Return the grid (columns, rows) a picture is cut into, None when it stays whole."""
    n = min(-(-width * height // spec.tile_px**2), spec.max_tiles)
    if n <= 1:
        return None
    counts = [n, n + 1] if n < spec.max_tiles else [n]
    grids = [(columns, count // columns) for count in counts for columns in range(1, count + 1) if count % columns == 0]
    wanted = math.log(width / height)
    return min(grids, key=lambda grid: abs(wanted - math.log(grid[0] / grid[1])))


def _best(width: int, height: int, spec: Tower) -> tuple[int, int]:
    """Return the size of about T x T pixels that keeps a picture's proportions, in multiples of the patch."""
    ratio = width / height
    best_height = int(spec.tile_px / math.sqrt(ratio))
    best_width = int(best_height * ratio)
    return _to_multiple(best_width, spec.patch_px), _to_multiple(best_height, spec.patch_px)


def _to_multiple(length: int, step: int) -> int:
    return max(step, round(length / step) * step)


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    check_resized(*size)
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
            f"image: expected at most {max_bytes} bytes to decode it, a {what} of {size[0]} x {size[1]} takes "
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


def _source(image: Image.Image, *, is_spare: bool) -> Source:
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


def _whiten_key(high: Image.Image, low: Image.Image) -> None:
    """Make the one of 16-bit colours that stands for transparency white; the high bytes of the others are kept."""
    high.load()
    key = np.array(high.info.pop("transparency"))  # (3,), 0 to 65535
    for top in range(0, high.height, BAND_ROWS):
        box = (0, top, high.width, min(top + BAND_ROWS, high.height))
        colours = np.array(high.crop(box))
        keyed = (colours == key >> 8).all(axis=2) & (np.asarray(low.crop(box)) == (key & 255)).all(axis=2)
        colours[keyed] = 255
        high.paste(Image.fromarray(colours), box)


def _masked(data: bytes, fields: BitFields) -> U8:
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


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"shape {value.shape} of {value.dtype}"
    return type(value).__name__
