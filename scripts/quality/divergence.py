"""How far a model's next-token probabilities lie from the reference's, over the whole vocabulary, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.arrays import F32, F64

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
    top: npt.NDArray[np.int64]

    @classmethod
    def of(cls, logits: F32) -> Expected:
        """From logits (n, V)."""
        wide = logits.astype(np.float64)
        wide -= log_totals(wide)[:, None]
        probabilities = np.exp(wide)
        return cls(probabilities, np.einsum("nv,nv->n", probabilities, wide), wide.argmax(1))


def log_totals(logits: F64) -> F64:
    """The logarithm of the sum of exponentials of each row, (n,)."""
    peaks = logits.max(1)
    totals: F64 = peaks + np.log(np.exp(logits - peaks[:, None]).sum(1))
    return totals


def kl(expected: Expected, logits: F32) -> F64:
    """KL(reference || model) in nats of each position, (n,). logits: the model's, (n, V)."""
    wide = logits.astype(np.float64)
    return _kl(expected, wide, log_totals(wide))


class Divergence:
    """Gathers the positions of one model, a window at a time."""

    def __init__(self) -> None:
        self._kl: list[F64] = []
        self._same: list[npt.NDArray[np.bool_]] = []
        self._surprise: list[F64] = []

    def add(self, ids: Ids, expected: Expected, logits: F32) -> None:
        """Take a window: its token ids (n,), what the reference and the model say behind each. logits: (n, V)."""
        wide = logits.astype(np.float64)
        totals = log_totals(wide)
        self._kl.append(_kl(expected, wide, totals))
        self._same.append(expected.top == wide.argmax(1))
        self._surprise.append(totals[:-1] - wide[np.arange(len(ids) - 1), ids[1:]])

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


def _kl(expected: Expected, wide: F64, totals: F64) -> F64:
    cross = np.einsum("nv,nv->n", expected.probabilities, wide) - totals
    # Of two almost equal distributions the difference can round to less than nothing.
    found: F64 = np.maximum(expected.negative_entropy - cross, 0)
    return found
