"""The shapes and sizes that the tests of the embedded model's training share."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from scripts.tiny.lessons import labels as labelling
from scripts.tiny.lessons.sizes import FOUND, Shape
from scripts.tiny.pictures.scenes import Thing

SHAPE = Shape(vocab_size=2112)
GRID = SHAPE.grid


def square(x: float, y: float, colour: str = "red") -> Thing:
    corners = np.asarray([[x - 0.05, y - 0.1], [x + 0.05, y - 0.1], [x + 0.05, y + 0.1], [x - 0.05, y + 0.1]])
    return Thing(colour, "square", x, y, 0.1, 0.2, corners.astype(np.float32))


def drawn(thing: Thing) -> np.ndarray:
    image = np.zeros((200, 200, 3), np.uint8)
    cv2.fillPoly(image, [np.round(thing.corners * 200).astype(np.int32)], (255, 255, 255))
    return image


def told_of(things: list[Thing], surest: int) -> list[int]:
    sure = np.zeros(SHAPE.tokens, np.float32)
    sure[surest] = 1
    return [cell for ((cell, share),) in labelling.surer(things, sure, 12) if share == 1]


def said(cells: dict[int, tuple[float, float, float]]) -> npt.NDArray[np.float32]:
    """(144, FOUND) of a detector that says red squares: logit and place within the cell, of cells by number."""
    found = np.full((144, FOUND), -5, np.float32)
    for cell, (sure, x, y) in cells.items():
        found[cell, [0, 1, 13, 18, 19]] = sure, 5, 5, x, y
    return found
