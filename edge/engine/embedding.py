"""The embedding table, mapped from the bundle: a token touches one row, so the table costs no memory."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.arrays import F32
from edge.bundle.bundle import Bundle
from edge.bundle.manifest import TABLE_BLOCK

FILE = "embedding.bin"
ZERO_POINT = 128  # of rows in blocks


class Embedding:
    """Rows of the embedding table as float32, whatever they are stored as.

    fp32: (V, H) little-endian float32. int8: (V, H) int8, then (V,) float32 scales. int8-block32: (V, B, 32) uint8,
    each row filled up to whole blocks, then (V, B) float16 scales; a value q stands for (q - 128) * scale.
    """

    def __init__(self, bundle: Bundle) -> None:
        path, text = bundle.file(FILE), bundle.manifest.text
        self._n_columns = text.hidden_size
        self._in_blocks = text.embedding == "int8-block32"
        blocks = -(-text.hidden_size // TABLE_BLOCK)
        shape, kind, scales, scale_kind = {
            "fp32": ((text.vocab_size, text.hidden_size), "<f4", (0,), "<f4"),
            "int8": ((text.vocab_size, text.hidden_size), "i1", (text.vocab_size, 1), "<f4"),
            "int8-block32": ((text.vocab_size, blocks, TABLE_BLOCK), "u1", (text.vocab_size, blocks, 1), "<f2"),
        }[text.embedding]
        self._table: npt.NDArray[np.generic] = np.memmap(path, kind, mode="r", shape=shape)
        self._scales: npt.NDArray[np.generic] | None = None
        if scales != (0,):
            self._scales = np.memmap(path, scale_kind, mode="r", offset=self._table.nbytes, shape=scales)

    def rows(self, ids: Sequence[int]) -> F32:
        """Return the rows of the tokens: (n, H) float32."""
        index = np.asarray(ids, np.int64)
        rows = self._table[index].astype(np.float32)
        if self._in_blocks:
            rows -= ZERO_POINT
        if self._scales is not None:
            rows *= self._scales[index].astype(np.float32)
        whole: F32 = rows.reshape(len(index), -1)[:, : self._n_columns]
        return whole
