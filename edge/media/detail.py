"""How finely an image is looked at: OpenAI's `detail`, and a limit on its tiles."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["auto", "low", "high"]

LEVELS: tuple[Level, ...] = ("auto", "low", "high")


@dataclass(frozen=True)
class Detail:
    """How many tiles an image may make.

    level: "low" is one tile, "auto" the model's rule, "high" the model's rule for an image twice as wide and high.
    max_tiles: the most tiles of an image, the one that shows all of it included; None is the model's number. Neither
    makes more tiles than the model's rule makes of large images.
    """

    level: Level = "auto"
    max_tiles: int | None = None


AUTO = Detail()
ONE_TILE = Detail("low")
