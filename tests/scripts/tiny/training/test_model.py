"""The model is what its documents say: its code, its last stage, its optimizer."""

from __future__ import annotations

import pytest
import torch

from scripts.tiny.lessons.sizes import CODE
from scripts.tiny.training import optimizer
from scripts.tiny.training.model import Yasa
from tests.scripts.tiny.shapes import SHAPE


def test_directions_of_the_code_are_at_right_angles() -> None:
    basis = Yasa(SHAPE).basis.double()
    assert torch.allclose(basis @ basis.T, 0.25 * torch.eye(CODE, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 192, 192), (2, 512, 192), (2, 192, 512)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    turned = optimizer.orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(turned)
    assert values.quantile(0.05) > 0.6
    assert values.max() < 1.3


def test_the_last_stage_makes_the_last_map_of_the_one_before() -> None:
    model = Yasa(SHAPE)
    tiles = torch.randint(0, 255, (2, 3, SHAPE.tile_px, SHAPE.tile_px), dtype=torch.uint8)
    with torch.no_grad():
        maps = model.look(tiles)
        assert torch.equal(model.deepen(maps[2]), maps[3])
