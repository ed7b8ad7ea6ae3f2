"""The sizes of the model, and how a cell of its feature map is coded for the decoder and read by the detector."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.tiny.pictures.colours import COLOURS
from scripts.tiny.pictures.figures import SHAPES

CODED = (2, len(COLOURS), len(SHAPES), 18, 2)  # of a cell in labels.code: nothing? and how many; places, sides
CODE = sum(CODED)
KINDS = len(COLOURS) * len(SHAPES)
TALLY = 7  # how many of a picture's shapes an answer may be about, none to six
RIMS = 8  # no rim, curve, edge, and five kinds of corners
SAID = (1, len(COLOURS), len(SHAPES), 4)  # by detector and spotters of a cell: a shape?; its place and sides
FOUND = sum(SAID)


@dataclass(frozen=True)
class Shape:
    """The sizes of the model; tile_px / (8 * patch_px) is the side of its feature map, one token a cell."""

    vocab_size: int
    tile_px: int = 448
    patch_px: int = 4
    dims: tuple[int, ...] = (24, 48, 128, 256)
    depths: tuple[int, ...] = (1, 2, 3, 3)
    hidden_size: int = 192
    layers: int = 6
    heads: int = 3
    kv_heads: int = 3
    intermediate_size: int = 512
    rotary_pct: float = 0.25  # what is not rotated finds shapes wherever they are
    context: int = 4096

    @property
    def grid(self) -> int:
        return self.tile_px // (8 * self.patch_px)

    @property
    def tokens(self) -> int:
        return self.grid**2
