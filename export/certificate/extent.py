"""How much a certificate compares: the number of scored positions of every kind, by level."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["quick", "full"]

SLOTS: Final = 4  # answers that grow together: a step of four costs less than two steps of one
MAX_ANSWER: Final = 64  # tokens
INT8_POSITIONS: Final = 3000  # scored with a cache of 8 bits, about: their logits are kept a second time


@dataclass(frozen=True)
class Extent:
    """Scored positions: of the bundle's own answers, of running text, of given chat answers, of those about images.

    window: tokens of running text that are read together; stepped_windows: how many of them are read by steps, too.
    """

    answers: int
    text: int
    chat: int
    images: int
    window: int
    stepped_windows: int

    @property
    def positions(self) -> int:
        """The most positions that are scored in all; the last answers may be longer than was wanted."""
        return self.answers + SLOTS * MAX_ANSWER + self.text + self.chat + self.images


EXTENTS: Final[Mapping[Level, Extent]] = {
    "quick": Extent(answers=1000, text=1920, chat=600, images=200, window=256, stepped_windows=4),
    "full": Extent(answers=4000, text=12_000, chat=3000, images=1000, window=512, stepped_windows=16),
}
