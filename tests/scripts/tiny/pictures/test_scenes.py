"""Images are turned and mirrored together with what is in them."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.tiny.pictures import scenes
from tests.scripts.tiny.shapes import drawn, square


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_picture_shows_what_its_label_says(turn: int) -> None:
    before = square(0.3, 0.8)
    image, (after,) = scenes.turned_around(drawn(before), [before], turn)
    assert (image != drawn(after)).mean() < 0.005, "only edges may round the other way"
    assert np.allclose([after.x, after.y], after.corners.mean(0), atol=1e-6)
    assert np.allclose([after.width, after.height], np.ptp(after.corners, axis=0), atol=1e-6)


def test_eight_turns_are_eight_different_pictures() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert len({scenes.turned_around(image, [], turn)[0].tobytes() for turn in range(8)}) == 8
