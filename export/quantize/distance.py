"""How far a quantized matrix is from the one it stands for."""

import numpy as np

from export.arrays import F32
from export.graph import BLOCK_BYTES


class Distance:
    """The relative Frobenius error |W - Wq| / |W|, gathered block by block."""

    def __init__(self) -> None:
        self._error = 0.0
        self._norm = 0.0

    def add(self, block: F32, stored: F32) -> None:
        """Count a block and what is stored in its place."""
        step = max(1, BLOCK_BYTES // max(1, block[:1].nbytes))  # in float64 a whole matrix would be twice as large
        for first in range(0, len(block), step):
            rows = slice(first, first + step)
            self._error += _energy(block[rows] - stored[rows])
            self._norm += _energy(block[rows])

    def relative(self) -> float:
        """The error so far; six digits, so that it is the same on machines that sum in another order."""
        return float(f"{(self._error / self._norm) ** 0.5:.6g}") if self._norm else 0.0


def _energy(block: F32) -> float:
    return float(np.square(block, dtype=np.float64).sum())
