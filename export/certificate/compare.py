"""How far two sets of logits lie apart, gathered a run of the vocabulary at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from export.arrays import F32, F64

NOT_GIVEN: Final = -1  # the target of a position whose next token is not known
BLOCK: Final = 1024  # positions that are added at once: a run of the vocabulary is held for them in float64

_MAX_NLL = 700.0  # nats; of more, float64 has no exp

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """Over all positions; kl is KL(reference || bundle) in nats, top1 a share, difference of the raw logits."""

    positions: int
    kl_mean: float
    kl_p99: float
    kl_max: float
    top1: float
    largest_difference: float


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood of the tokens that follow, by each of the two."""

    reference: float
    bundle: float
    positions: int


@dataclass(frozen=True, eq=False)
class Scores:
    """Position by position: KL in nats, whether the most likely token agrees, the largest difference of a logit.

    reference_nll, bundle_nll: of the token that follows, in nats; NaN where it is not known.
    """

    kl: F64
    same_top: Bools
    difference: F64
    reference_nll: F64
    bundle_nll: F64

    @classmethod
    def joined(cls, parts: Sequence["Scores"]) -> "Scores":
        """Several one behind another; none at all is no position."""
        fields = ("kl", "same_top", "difference", "reference_nll", "bundle_nll")
        empty = cls(np.zeros(0), np.zeros(0, np.bool_), np.zeros(0), np.zeros(0), np.zeros(0))
        return cls(*(np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in fields))

    def select(self, chosen: Bools) -> "Scores":
        """The scores of some positions. chosen: (positions,)."""
        return Scores(
            self.kl[chosen], self.same_top[chosen], self.difference[chosen], self.reference_nll[chosen],
            self.bundle_nll[chosen],
        )  # fmt: skip

    def agreement(self) -> Agreement:
        """All positions together. Raises: ValueError where there is none."""
        if not len(self.kl):
            raise ValueError("agreement: expected at least one position")
        return Agreement(
            positions=len(self.kl),
            kl_mean=float(self.kl.mean()),
            kl_p99=float(np.percentile(self.kl, 99)),
            kl_max=float(self.kl.max()),
            top1=float(self.same_top.mean()),
            largest_difference=float(self.difference.max()),
        )

    def perplexity(self) -> Perplexity | None:
        """Of both, where the next token is known; None where it never is."""
        known = np.isfinite(self.reference_nll)
        if not known.any():
            return None
        reference, bundle = (min(float(nll[known].mean()), _MAX_NLL) for nll in (self.reference_nll, self.bundle_nll))
        return Perplexity(math.exp(reference), math.exp(bundle), int(known.sum()))


class Comparison:
    """Gathers runs of the vocabulary in order; nothing of the size of the whole logits is ever held.

    Each softmax is summed around the largest logit so far, and rescaled when a larger one comes.
    """

    def __init__(self, n_positions: int, targets: Sequence[int] | None = None) -> None:
        """targets: the token that follows each position, NOT_GIVEN where it is not known; None for none at all."""
        self._targets = np.full(n_positions, NOT_GIVEN) if targets is None else np.array(targets, np.int64)
        self._reference = _Softmax(n_positions)
        self._bundle = _Softmax(n_positions)
        self._weighted = np.zeros(n_positions)  # sum of exp(reference - peak) * (reference - bundle)
        self._largest = np.zeros(n_positions)

    def add(self, reference: F32, bundle: F32) -> None:
        """Take the next run of both. reference, bundle: (positions, run)."""
        for start in range(0, len(reference), BLOCK):
            rows = slice(start, start + BLOCK)
            self._add(rows, reference[rows], bundle[rows])
        self._reference.n_seen += reference.shape[1]
        self._bundle.n_seen += reference.shape[1]

    def _add(self, rows: slice, reference: F32, bundle: F32) -> None:
        targets = self._targets[rows]
        difference = reference.astype(np.float64) - bundle
        shares, rescale = self._reference.add(rows, reference, targets)
        self._bundle.add(rows, bundle, targets)
        self._weighted[rows] = self._weighted[rows] * rescale + (shares * difference).sum(1)
        self._largest[rows] = np.maximum(self._largest[rows], np.abs(difference).max(1))

    def scores(self) -> Scores:
        """What was seen so far, position by position."""
        mean_difference = self._weighted / self._reference.total
        reference, bundle = self._reference.log_total(), self._bundle.log_total()  # (positions,)
        kl = np.maximum(mean_difference - reference + bundle, 0)
        same_top = self._reference.top == self._bundle.top
        return Scores(
            kl, same_top, self._largest.copy(), reference - self._reference.at_target, bundle - self._bundle.at_target
        )

    def result(self) -> Agreement:
        """What was seen so far, all positions together."""
        return self.scores().agreement()


class _Softmax:
    """The running peak, sum and winner of each position, and the logit of its target (NaN until that was seen)."""

    def __init__(self, n_positions: int) -> None:
        self.peak: F64 = np.full(n_positions, -np.inf)
        self.total: F64 = np.zeros(n_positions)
        self.at_target: F64 = np.full(n_positions, np.nan)
        self.top: npt.NDArray[np.int64] = np.zeros(n_positions, np.int64)
        self.n_seen = 0

    def add(self, rows: slice, run: F32, targets: npt.NDArray[np.int64]) -> tuple[F64, F64]:
        """Returns exp(run - peak) (rows, run), and what earlier sums are multiplied by (rows,)."""
        winner = run.argmax(1)
        best = run[np.arange(len(run)), winner].astype(np.float64)
        self.top[rows] = np.where(best > self.peak[rows], self.n_seen + winner, self.top[rows])
        peak = np.maximum(best, self.peak[rows])
        rescale = np.exp(self.peak[rows] - peak)
        shares: F64 = np.exp(run - peak[:, None])
        self.total[rows] = self.total[rows] * rescale + shares.sum(1)
        self.peak[rows] = peak
        here = np.flatnonzero((targets >= self.n_seen) & (targets < self.n_seen + run.shape[1]))
        self.at_target[rows.start + here] = run[here, targets[here] - self.n_seen]
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
