"""From logits to a token: a sampler is a closure that carries its own random numbers and what it has chosen so far."""

import math
import random
from collections.abc import Callable

import numpy as np

from edge.arrays import F32, I64
from edge.errors import NonFiniteError, ParameterError

Sampler = Callable[[F32], int]

GREEDY_BELOW = 1e-5


def make_sampler(
    *,
    temperature: float,
    top_p: float,
    top_k: int,
    frequency_penalty: float,
    presence_penalty: float,
    seed: int | None,
) -> Sampler:
    """Return a sampler (logits (V,) float32 -> id); order: penalties, temperature, top_k, top_p.

    A temperature below 1e-5 is greedy. Equal seeds draw equal numbers; without a seed the system's are used.
    Raises: ParameterError for a value out of range. The sampler raises NonFiniteError when no logit can be chosen.
    Source: chat-interface.md, 2.
    """
    _check("temperature", temperature, 0 <= temperature < math.inf, "a number >= 0")
    _check("top_p", top_p, 0 < top_p <= 1, "a number in (0, 1]")
    _check("top_k", top_k, top_k >= 1, "an integer >= 1")
    _check("frequency_penalty", frequency_penalty, -2 <= frequency_penalty <= 2, "a number in [-2, 2]")
    _check("presence_penalty", presence_penalty, -2 <= presence_penalty <= 2, "a number in [-2, 2]")
    uniform = _uniform(seed)
    counts: dict[int, int] = {}

    def sample(logits: F32) -> int:
        if counts and (frequency_penalty or presence_penalty):
            logits = penalize(logits, counts, frequency_penalty, presence_penalty)
        if temperature < GREEDY_BELOW:
            token = int(np.argmax(logits))
            if not np.isfinite(logits[token]):
                raise NonFiniteError("sampling")
        else:
            token = _draw(logits, temperature, top_k, top_p, uniform())
        counts[token] = counts.get(token, 0) + 1
        return token

    return sample


def greedy(logits: F32) -> int:
    """Return the id of the largest logit, the smallest id among equals. logits: (V,) float32."""
    return int(np.argmax(logits))


def log_probabilities(logits: F32) -> F32:
    """Return the natural logarithms of the probabilities, (V,), all finite. logits: (V,) float32, finite."""
    shifted = (logits - logits.max()).astype(np.float64)
    result: F32 = (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)
    return result


def penalize(logits: F32, counts: dict[int, int], frequency: float, presence: float) -> F32:
    """Return a copy with count * frequency + presence taken from every token generated so far."""
    ids = np.fromiter(counts.keys(), np.int64, len(counts))
    times = np.fromiter(counts.values(), np.float64, len(counts))
    result = logits.copy()
    result[ids] -= (times * frequency + presence).astype(np.float32)
    return result


def _draw(logits: F32, temperature: float, top_k: int, top_p: float, share: float) -> int:
    """Choose by inverse distribution at `share` in [0, 1) among the tokens that top_k and top_p leave."""
    ids = _largest(logits, top_k)  # (k,) best first
    scores = logits[ids].astype(np.float64)
    if not len(scores) or not np.isfinite(scores[0]):
        raise NonFiniteError("sampling")
    # Subtracting the largest before dividing keeps any temperature and any logit inside float64.
    with np.errstate(over="ignore", under="ignore"):
        cumulated = np.cumsum(np.exp((scores - scores[0]) / temperature))
    n_kept = int(np.searchsorted(cumulated, top_p * cumulated[-1])) + 1
    cumulated = cumulated[:n_kept]
    place = int(np.searchsorted(cumulated, share * cumulated[-1], side="right"))
    return int(ids[min(place, len(cumulated) - 1)])


def _largest(logits: F32, k: int) -> I64:
    """Return the ids of the k largest logits, best first, the smaller id first among equals."""
    if k < len(logits):
        threshold = np.partition(logits, len(logits) - k)[len(logits) - k]
        # Fewer than k may be chosen at all: then there is no need to put the others into order.
        ids = np.flatnonzero(logits >= threshold if threshold > -np.inf else logits > -np.inf)
    else:
        ids = np.arange(len(logits))
    best_first: I64 = ids[np.argsort(-logits[ids], kind="stable")][:k]
    return best_first


def _uniform(seed: int | None) -> Callable[[], float]:
    """Return a source of numbers in [0, 1); Python promises the same ones for a seed in every version."""
    if seed is None:
        return random.Random().random
    # Python drops the sign of a seed; folding it in keeps -1 and 1 apart.
    return random.Random(2 * abs(seed) + (seed < 0)).random


def _check(field: str, value: float, good: bool, wanted: str) -> None:
    if not good:
        raise ParameterError(f"{field}: expected {wanted}, got {value!r:.200}", field=field)
