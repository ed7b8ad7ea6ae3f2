"""The embedding table, mapped from the bundle: a token touches one row, so the table costs no memory."""

from collections.abc import Sequence

import numpy as np

from edge.arrays import F32
from edge.bundle.bundle import Bundle

FILE = "embedding.bin"


class Embedding:
    """Rows of the embedding table as float32, whatever they are stored as.

    fp32: (V, H) little-endian float32. int8: (V, H) int8, then (V,) float32 scales.
    """

    def __init__(self, bundle: Bundle) -> None:
        path, text = bundle.file(FILE), bundle.manifest.text
        shape = (text.vocab_size, text.hidden_size)
        self._table: np.memmap[tuple[int, ...], np.dtype[np.float32] | np.dtype[np.int8]]
        self._scales: F32 | None = None
        if text.embedding == "fp32":
            self._table = np.memmap(path, "<f4", mode="r", shape=shape)
        else:
            self._table = np.memmap(path, "i1", mode="r", shape=shape)
            self._scales = np.memmap(path, "<f4", mode="r", offset=shape[0] * shape[1], shape=shape[:1])

    def rows(self, ids: Sequence[int]) -> F32:
        """Return the rows of the tokens: (n, H) float32."""
        index = np.asarray(ids, np.int64)
        rows = self._table[index].astype(np.float32)
        return rows if self._scales is None else rows * self._scales[index, None]
