"""The residual stream in another orthogonal basis: the same model, whose outliers are spread over all channels.

Norms only measure a length once their gains are folded into the layers that follow, so a rotation of the stream passes
through them: what writes into the stream is multiplied by it from the left, what reads from it by its inverse from the
right. Values are rotated head by head besides, and turned back by the layer that reads them. Nothing is left to do at
run time. Ashkboos et al., QuaRot, 2024, without the online transforms.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from export.arrays import F32, F64
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights

SEED: Final = 5  # of the signs, and of the basis where a size is no power of two

_READS: Mapping[str, str] = {"q": "norm1", "k": "norm1", "v": "norm1", "gate": "norm2", "up": "norm2"}
_LINEAR = re.compile(r"text\.layers\.(\d+)\.(q|k|v|o|gate|up|down)\.(weight|bias)")
_WRITES = re.compile(r"(?:audio\.)?projection\.2\.(weight|bias)")
_NORM = re.compile(r"text\.(layers\.\d+\.norm[12]\.weight|norm)")


def basis(size: int) -> F32:
    """An orthogonal matrix (size, size) that spreads every channel over all: Hadamard's, with signs drawn at random.

    A size that is no power of two gets the product of Hadamard's matrix and one drawn at random for the odd factor.
    """
    power = size & -size
    matrix: F64 = np.ones((1, 1))
    while len(matrix) < power:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    random = np.random.default_rng(SEED)
    if size > power:
        odd, upper = np.linalg.qr(random.standard_normal((size // power, size // power)))
        matrix = np.kron(odd * np.sign(np.diag(upper)), matrix)
    signs = random.choice([-1.0, 1.0], size)
    return np.ascontiguousarray(matrix * signs, np.float32)


def is_rotated(rows: F32, plain: F32, stream: F32) -> bool:
    """Whether rows of a bundle's embedding table are nearer to those of the rotated stream than to the plain ones.

    rows, plain: (n, H), of the bundle and of the checkpoint; stream: the basis, (H, H).
    """
    return bool(np.linalg.norm(rows - turned(plain, stream)) < np.linalg.norm(rows - plain))


def turned(rows: F32, stream: F32) -> F32:
    """Rows that are in the stream, or read from it, for the rotated one. rows: (n, H); stream: the basis, (H, H)."""
    values: F32 = rows @ stream.T
    return values


class RotatedWeights(Weights):
    """The weights of a checkpoint for a rotated stream: the same roles, norms without gains.

    A tied table becomes two: the head takes the gains of the last norm.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises: as Weights."""
        super().__init__(checkpoint)
        text = checkpoint.config.text
        self._head_dim = text.head_dim
        self._stream = basis(text.hidden_size)
        self._head = basis(text.head_dim)
        self._kept: tuple[str, F32] | None = None

    def tensor(self, role: str, *, rows: slice | None = None) -> F32:
        """One weight, as `Weights.tensor` returns it. Raises: CheckpointError."""
        linear = _LINEAR.fullmatch(role)
        if linear is not None:
            return self._linear(role, linear[1], linear[2], rows)
        if role == "text.embed":
            return turned(super().tensor(role, rows=rows), self._stream)
        if role == "text.head":
            return turned(super().tensor(role, rows=rows) * super().tensor("text.norm"), self._stream)
        if _WRITES.fullmatch(role):
            return self._part(role, lambda whole: self._stream @ whole, rows)
        if _NORM.fullmatch(role):
            return np.ones(self.shape(role), np.float32)
        return super().tensor(role, rows=rows)

    def _linear(self, role: str, layer: str, part: str, rows: slice | None) -> F32:
        if part in ("o", "down"):
            return self._part(role, lambda whole: self._stream @ self._from_heads(whole, part), rows)
        if role.endswith("bias"):
            values = super().tensor(role, rows=rows)
            return self._by_head(values[:, None])[:, 0] if part == "v" else values
        gains = super().tensor(f"text.layers.{layer}.{_READS[part]}.weight")
        values = turned(super().tensor(role, rows=rows) * gains, self._stream)
        return self._by_head(values) if part == "v" else values  # heads are whole in every run of rows

    def _by_head(self, rows: F32) -> F32:
        """Rotate each head's rows. (heads * head_dim, n) -> the same"""
        heads = rows.reshape(-1, self._head_dim, rows.shape[1])
        return np.ascontiguousarray((self._head @ heads).reshape(rows.shape))

    def _from_heads(self, whole: F32, part: str) -> F32:
        """Turn the heads' values back before the layer that reads them: o, its columns head by head; never a bias."""
        if part != "o" or whole.ndim == 1:
            return whole
        heads = whole.reshape(len(whole), -1, self._head_dim)
        return np.ascontiguousarray((heads @ self._head.T).reshape(whole.shape))

    def _part(self, role: str, rotated: Callable[[F32], F32], rows: slice | None) -> F32:
        """Some rows of a matrix whose rows all depend on all of the stored ones: the last such is kept."""
        if self._kept is None or self._kept[0] != role:
            self._kept = None  # before the next one is made
            self._kept = role, np.ascontiguousarray(rotated(super().tensor(role)), np.float32)
        whole = self._kept[1]
        return whole if rows is None else whole[rows]
