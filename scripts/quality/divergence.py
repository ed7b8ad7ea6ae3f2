"""How far a model's next-token probabilities lie from the reference's, over the whole vocabulary, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from export.arrays import F32, F64

ROWS: Final = 8
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Figures:
    """Over all positions: kl_* is KL(reference || model) in nats, top1 a share, perplexity of the text.

    kl_error: the standard error of the mean, positions taken as independent.
    """

    positions: int
    kl_mean: float
    kl_error: float
    kl_p99: float
    kl_max: float
    top1: float
    perplexity: float


@dataclass(frozen=True, eq=False)
class Expected:
    """What the reference says at n positions: probabilities (n, V), their negative entropy (n,), the winners (n,)."""

    probabilities: F64
    negative_entropy: F64
    top: Ids

    @classmethod
    def of(cls, logits: F32) -> Expected:
        """From logits (n, V)."""
        probabilities = np.empty(logits.shape)
        negative_entropy = np.empty(len(logits))
        for rows in _runs(len(logits)):
            wide, totals = _widened(logits[rows])
            wide -= totals[:, None]
            np.exp(wide, out=probabilities[rows])
            negative_entropy[rows] = np.einsum("nv,nv->n", probabilities[rows], wide)
        return cls(probabilities, negative_entropy, logits.argmax(1))


def kl(expected: Expected, logits: F32) -> F64:
    """KL(reference || model) in nats of each position, (n,). logits: the model's, (n, V)."""
    return _compared(expected, logits)[0]


class Divergence:
    """Gathers the positions of one model, a window at a time."""

    def __init__(self) -> None:
        self._kl: list[F64] = []
        self._same: list[npt.NDArray[np.bool_]] = []
        self._surprise: list[F64] = []

    def add(self, ids: Ids, expected: Expected, logits: F32) -> None:
        """Take a window: its token ids (n,), what the reference and the model say behind each. logits: (n, V)."""
        found, totals = _compared(expected, logits)
        self._kl.append(found)
        self._same.append(expected.top == logits.argmax(1))
        self._surprise.append(totals[:-1] - logits[np.arange(len(ids) - 1), ids[1:]])

    def figures(self) -> Figures:
        """What was gathered so far."""
        every = np.concatenate(self._kl)
        return Figures(
            positions=len(every),
            kl_mean=float(every.mean()),
            kl_error=float(every.std() / len(every) ** 0.5),
            kl_p99=float(np.percentile(every, 99)),
            kl_max=float(every.max()),
            top1=float(np.concatenate(self._same).mean()),
            perplexity=float(np.exp(np.concatenate(self._surprise).mean())),
        )


def _compared(expected: Expected, logits: F32) -> tuple[F64, F64]:
    """The KL of each position, and the logarithm of its sum of exponentials; (n,) each."""
    found, sums = np.empty(len(logits)), np.empty(len(logits))
    for rows in _runs(len(logits)):
        wide, totals = _widened(logits[rows])
        cross = np.einsum("nv,nv->n", expected.probabilities[rows], wide) - totals
        # Of two almost equal distributions the difference can round to less than nothing.
        found[rows] = np.maximum(expected.negative_entropy[rows] - cross, 0)
        sums[rows] = totals
    return found, sums


def _widened(logits: F32) -> tuple[F64, F64]:
    """Logits in float64, and the logarithm of the sum of exponentials of each row."""
    wide = logits.astype(np.float64)
    peaks = wide.max(1)
    totals: F64 = peaks + np.log(np.exp(wide - peaks[:, None]).sum(1))
    return wide, totals


def _runs(n_rows: int) -> Iterator[slice]:
    """Rows a few at a time: float64 of so many stays in the CPU's cache."""
    for start in range(0, n_rows, ROWS):
        yield slice(start, start + ROWS)
