"""Images as small as their tiles need them, made band by band: beside the image itself next to nothing is held.

Pillow resizes in two passes: all rows, each by itself, then all columns, each by itself, with 8 bits in between; where
the height shrinks by far more than the width, the columns first. So a band of rows can be resized to its width alone
and put where the image's own pixels were, and a strip of columns to its height alone after that: the result is
Pillow's, bit for bit.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from edge.arrays import U8
from edge.errors import MediaError

Box = tuple[int, int, int, int]  # left, top, right, bottom

MAX_RESIZED_PX = 1 << 26
BAND_ROWS = 64

_STRIP_COLUMNS = 64
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPOSED = {1: 5, 2: 8, 3: 7, 4: 6, 5: 1, 6: 4, 7: 3, 8: 2}
_BACK = {**_TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, eq=False)
class Resized:
    """What the tiles of an image are cut from.

    width, height: of the image, in pixels; cells: (h, w, 3) uint8, the cells of its grid side by side; whole: (h, w, 3)
    uint8, all of it for one tile, None where it is a single cell.
    """

    width: int
    height: int
    cells: U8
    whole: U8 | None

    @property
    def nbytes(self) -> int:
        """The bytes that are held."""
        return self.cells.nbytes + (0 if self.whole is None else self.whole.nbytes)


def size_of(image: U8 | Resized) -> tuple[int, int]:
    """Return the width and height of an image in pixels, whatever is left of it."""
    return (image.width, image.height) if isinstance(image, Resized) else (image.shape[1], image.shape[0])


@dataclass(frozen=True)
class Target:
    """A size to resize to, and how."""

    width: int
    height: int
    resample: Image.Resampling

    def is_columns_first(self, width: int, height: int) -> bool:
        """Whether Pillow resizes the columns of an image of this size first. Source: Pillow 13, Resample.c."""
        return height > self.height and height - self.height > 2 * (width - self.width)

    def transposed(self) -> "Target":
        """Return the size of the image on its side."""
        return Target(self.height, self.width, self.resample)


class Source(Protocol):
    """An image that can be read in bands: RGB, upright."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""

    @property
    def is_spare(self) -> bool:
        """Whether `put` may write over what was read."""

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Return some rows as RGB."""

    def put(self, band: Image.Image, left: int, top: int) -> None:
        """Write RGB over the image."""

    def columns(self, left: int, right: int) -> Image.Image:
        """Return some columns of what was put, as RGB."""

    def transposed(self) -> "Source":
        """Return the same image with its rows as columns."""


class Stored:
    """A decoded image as a source. turn: its EXIF orientation; is_spare: whether nobody else reads it."""

    def __init__(self, image: Image.Image, turn: int, *, is_spare: bool) -> None:
        self._image = image
        self._turn = turn
        # Others have less room a pixel than RGB needs, or give colours back that differ in the last bit.
        self.is_spare = is_spare and image.mode in ("RGB", "RGBA") and not getattr(image, "readonly", 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        width, height = self._image.size
        return (height, width) if self._turn > 4 else (width, height)

    def take(self, box: Box) -> Image.Image:
        """Return a part of the image, in its own mode, upright."""
        part = self._image.crop(self._stored(box))
        return part.transpose(_TURNS[self._turn]) if self._turn in _TURNS else part

    def put(self, band: Image.Image, left: int, top: int) -> None:
        """Write RGB over the image."""
        box = self._stored((left, top, left + band.width, top + band.height))
        turned = band.transpose(_BACK[self._turn]) if self._turn in _BACK else band
        self._image.paste(turned.convert(self._image.mode), box)

    def columns(self, left: int, right: int) -> Image.Image:
        """Return some columns of what was put, as RGB."""
        part = self.take((left, 0, right, self.size[1]))
        part.info = {}  # a transparent colour was laid on white before
        return part.convert("RGB")

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Return some rows as RGB."""
        return self.take((0, top, self.size[0], bottom)).convert("RGB")

    def transposed(self) -> "Stored":
        """Return the same image with its rows as columns."""
        other = copy.copy(self)
        other._turn = _TRANSPOSED[self._turn]
        return other

    def _stored(self, box: Box) -> Box:
        """Return where a part of the upright image is stored."""
        left, top, right, bottom = box
        if self._turn > 4:
            left, top, right, bottom = top, left, bottom, right
        width, height = self._image.size
        if self._turn in (2, 3, 7, 8):
            left, right = width - right, width - left
        if self._turn in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        return left, top, right, bottom


class Pixels:
    """An array (H, W, 3) uint8 as a source; nothing is written over it."""

    is_spare = False

    def __init__(self, rgb: U8) -> None:
        self._rgb = rgb

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self._rgb.shape[1], self._rgb.shape[0]

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Return some rows as RGB."""
        return Image.fromarray(np.ascontiguousarray(self._rgb[top:bottom]))

    def put(self, band: Image.Image, left: int, top: int) -> None:
        """Refuse: the array is the caller's."""
        raise NotImplementedError

    def columns(self, left: int, right: int) -> Image.Image:
        """Refuse: nothing is put."""
        raise NotImplementedError

    def transposed(self) -> "Pixels":
        """Return the same image with its rows as columns."""
        return Pixels(self._rgb.transpose(1, 0, 2))


def resized(source: Source, targets: Sequence[Target]) -> list[U8]:
    """Return an image in each size, (h, w, 3) uint8, as `Image.resize` of the whole of it gives it.

    Raises: MediaError for an image too thin to resize.
    """
    made: dict[int, U8] = {}
    sides = [target.is_columns_first(*source.size) for target in targets]
    for is_turned in sorted(set(sides)):
        numbers = [n for n, side in enumerate(sides) if side == is_turned]
        view = source.transposed() if is_turned else source
        wanted = [targets[n].transposed() if is_turned else targets[n] for n in numbers]
        is_last = is_turned or not any(sides)
        for n, found in zip(numbers, _in_bands(view, wanted, in_place=is_last), strict=True):
            made[n] = np.ascontiguousarray(found.transpose(1, 0, 2)) if is_turned else found
    return [made[n] for n in range(len(targets))]


def _in_bands(source: Source, targets: Sequence[Target], *, in_place: bool) -> list[U8]:
    """Resize rows, then columns. in_place: whether the source is not needed any more."""
    width, height = source.size
    for target in targets:
        # A line of pixels grows without bound when its shortest edge must reach a given length.
        check_resized(target.width, max(target.height, height))
    places: list[tuple[Source, int]] = []
    free = 0
    for target in targets:
        if in_place and source.is_spare and free + target.width <= width:
            places.append((source, free))
            free += target.width
        else:
            places.append((Stored(Image.new("RGB", (target.width, height)), 1, is_spare=True), 0))
    for top in range(0, height, BAND_ROWS):
        band = source.rows(top, min(top + BAND_ROWS, height))
        for target, (place, left) in zip(targets, places, strict=True):
            place.put(band.resize((target.width, band.height), target.resample), left, top)
    return [_columns(place, left, target) for target, (place, left) in zip(targets, places, strict=True)]


def check_resized(width: int, height: int) -> None:
    """Refuse a size that no image is resized to. Raises: MediaError with both numbers."""
    if width * height > MAX_RESIZED_PX:
        raise MediaError(f"image: too thin: resizing it needs {width} x {height} pixels, at most {MAX_RESIZED_PX}")


def _columns(place: Source, start: int, target: Target) -> U8:
    """Resize what was put to its height: (h, w, 3)."""
    out = np.empty((target.height, target.width, 3), np.uint8)
    for left in range(0, target.width, _STRIP_COLUMNS):
        right = min(left + _STRIP_COLUMNS, target.width)
        strip = place.columns(start + left, start + right)
        out[:, left:right] = np.asarray(strip.resize((right - left, target.height), target.resample))
    return out
