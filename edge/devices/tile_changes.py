"""Which tiles of a stream changed since they were encoded; the embeddings of the others are used again."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.arrays import F32, U8
from edge.bundle.manifest import VisionSpec
from edge.engine.pieces import Encoded
from edge.media.tiles import tiles

THRESHOLD = 8.0
REFRESH_S = 60.0

_BLOCK_PX = 8


@dataclass(frozen=True, eq=False)
class TileUpdate:
    """A frame as the decoder takes it. n_encoded: of its tiles, how many went through the tower just now."""

    tiles: tuple[Encoded, ...]
    n_encoded: int


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A tile's embeddings, and what was encoded: the means of its blocks in grey levels (3, B, B); at_s: when."""

    known: Encoded
    blocks: F32
    at_s: float


class TileMemory:
    """The tiles of the last frame.

    encode: runs a tile (3, T, T) through the tower. A tile is encoded again when a block of 8 x 8 of its pixels is on
    average more than `threshold` grey levels (of 256) away from what was encoded: noise averages out, a small thing
    does not, and what creeps is noticed because it is not the last frame that is compared with. After refresh_s a tile
    is encoded anyway, unless its pixels are the same to the bit.
    """

    def __init__(self, spec: VisionSpec, encode: Callable[[F32], F32], *, threshold: float, refresh_s: float) -> None:
        self._spec = spec
        self._encode = encode
        self._threshold = threshold
        self._refresh_s = refresh_s
        self._shape: tuple[int, ...] = ()
        self._encoded: list[_Encoded] = []

    def look(self, rgb: U8, now_s: float) -> TileUpdate:
        """Return a frame's tiles. rgb: (H, W, 3); now_s: of a monotonic clock. Raises: MediaError, as encoding does."""
        if rgb.shape != self._shape:
            self._shape, self._encoded = rgb.shape, []
        n_encoded, made = 0, []
        for i, tile in enumerate(tiles(rgb, self._spec)):
            before = self._encoded[i] if self._encoded else None
            now = self._again(tile, before, now_s)
            n_encoded += before is None or now.known is not before.known
            made.append(now)
        self._encoded = made
        return TileUpdate(tuple(encoded.known for encoded in made), n_encoded)

    def _again(self, tile: F32, before: _Encoded | None, now_s: float) -> _Encoded:
        """Return what was encoded before if it still shows the tile, or encode it."""
        blocks = self._blocks(tile)
        if before is not None:
            same = float(np.abs(blocks - before.blocks).max()) <= self._threshold
            if same and now_s - before.at_s < self._refresh_s:
                return before
        digest = f"tile {hashlib.sha256(np.ascontiguousarray(tile).data).hexdigest()}"
        if before is not None and digest == before.known.digest:
            return _Encoded(before.known, before.blocks, now_s)
        return _Encoded(Encoded(self._encode(tile), digest), blocks, now_s)

    def _blocks(self, tile: F32) -> F32:
        """Return the means of a tile's blocks, in grey levels: (3, T, T) -> (3, B, B); those at the end may be cut."""
        edges = np.arange(0, tile.shape[1], _BLOCK_PX)
        sums = np.add.reduceat(np.add.reduceat(tile, edges, axis=2), edges, axis=1)
        sides = np.diff(np.append(edges, tile.shape[1])).astype(np.float32)
        grey = 255 * np.array(self._spec.std, np.float32)[:, None, None]
        blocks: F32 = (sums / np.outer(sides, sides) * grey).astype(np.float32)
        return blocks
