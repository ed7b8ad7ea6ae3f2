"""How far two sets of logits lie apart, gathered a run of the vocabulary at a time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.arrays import F32, F64


@dataclass(frozen=True)
class Agreement:
    """Over all positions; kl is KL(reference || bundle) in nats, top1 a share, difference of the raw logits."""

    positions: int
    kl_mean: float
    kl_p99: float
    kl_max: float
    top1: float
    largest_difference: float


class Comparison:
    """Gathers runs of the vocabulary in order; nothing of the size of the whole logits is ever held.

    Each softmax is summed around the largest logit so far, and rescaled when a larger one comes.
    """

    def __init__(self, n_positions: int) -> None:
        self._reference = _Softmax(n_positions)
        self._bundle = _Softmax(n_positions)
        self._weighted = np.zeros(n_positions)  # sum of exp(reference - peak) * (reference - bundle)
        self._largest = 0.0

    def add(self, reference: F32, bundle: F32) -> None:
        """Take the next run of both. reference, bundle: (positions, run)."""
        difference = reference.astype(np.float64) - bundle
        shares, rescale = self._reference.add(reference)
        self._bundle.add(bundle)
        self._weighted = self._weighted * rescale + (shares * difference).sum(1)
        self._largest = max(self._largest, float(np.abs(difference).max()))

    def result(self) -> Agreement:
        """What was seen so far."""
        mean_difference = self._weighted / self._reference.total
        kl = np.maximum(mean_difference - self._reference.log_total() + self._bundle.log_total(), 0)  # (positions,)
        return Agreement(
            positions=len(kl),
            kl_mean=float(kl.mean()),
            kl_p99=float(np.percentile(kl, 99)),
            kl_max=float(kl.max()),
            top1=float((self._reference.top == self._bundle.top).mean()),
            largest_difference=self._largest,
        )


class _Softmax:
    """The running peak, sum and winner of each position."""

    def __init__(self, n_positions: int) -> None:
        self.peak: F64 = np.full(n_positions, -np.inf)
        self.total: F64 = np.zeros(n_positions)
        self.top: npt.NDArray[np.int64] = np.zeros(n_positions, np.int64)
        self._n_seen = 0

    def add(self, run: F32) -> tuple[F64, F64]:
        """Returns exp(run - peak) (positions, run), and what earlier sums are multiplied by (positions,)."""
        winner = run.argmax(1)
        best = run[np.arange(len(run)), winner].astype(np.float64)
        self.top = np.where(best > self.peak, self._n_seen + winner, self.top)
        peak = np.maximum(best, self.peak)
        rescale = np.exp(self.peak - peak)
        shares = np.exp(run - peak[:, None])
        self.total = self.total * rescale + shares.sum(1)
        self.peak = peak
        self._n_seen += run.shape[1]
        return shares, rescale

    def log_total(self) -> F64:
        """The logarithm of the sum of exponentials."""
        total: F64 = self.peak + np.log(self.total)
        return total


def row_cosines(one: F32, other: F32) -> F64:
    """The cosine between matching rows. one, other: (n, H) -> (n,); a row of zeros has the cosine 0."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    cosines: F64 = (a * b).sum(1) / np.maximum(lengths, 1e-300)
    return cosines
