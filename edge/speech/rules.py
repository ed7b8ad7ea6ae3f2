"""How Whisper's next token is chosen: among those that its rules for text and timestamps allow."""

from collections.abc import Sequence

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import SpeechSpec

GREEDY = 1e-5  # lower temperatures choose the most likely token
STEP_S = 0.02  # from one timestamp to the next


class Rules:
    """The rules of one model. Source: transformers' WhisperTimeStampLogitsProcessor and its neighbours."""

    def __init__(self, spec: SpeechSpec) -> None:
        self._spec = spec
        self._never = np.array([*spec.suppress, spec.no_timestamps], np.int64)
        self._not_first = np.array(spec.begin_suppress, np.int64)

    def choose(self, logits: F32, spoken: Sequence[int]) -> int:
        """Return the most likely token that may follow. logits, spoken: as `allowed`."""
        return int(self.allowed(logits, spoken).argmax())

    def allowed(self, logits: F32, spoken: Sequence[int]) -> F32:
        """Return the logits of what may follow, -inf for the rest.

        logits: (V,) float32; spoken: the window's tokens so far.
        """
        scores = logits.copy()
        if not spoken:
            scores[self._not_first] = -np.inf
        scores[self._never] = -np.inf
        self._pair(scores, spoken)
        if not spoken:
            self._begin(scores)
        first = self._spec.first_timestamp
        # When the timestamps together are likelier than any one word, it is one of them.
        if log_sum(scores[first:]) > scores[:first].max():
            scores[:first] = -np.inf
        return scores

    def language(self, logits: F32) -> int:
        """Return the most likely language's token. logits: (V,) float32, after the start token alone."""
        tokens = sorted(self._spec.languages.values())
        return tokens[int(logits[tokens].argmax())]

    def _pair(self, scores: F32, spoken: Sequence[int]) -> None:
        """Timestamps come in pairs, one ends and one begins a stretch of text, and never go back."""
        first = self._spec.first_timestamp
        is_last = bool(spoken) and spoken[-1] >= first
        is_pair = is_last and (len(spoken) < 2 or spoken[-2] >= first)
        if is_pair:
            scores[first:] = -np.inf
        elif is_last:
            scores[: self._spec.end] = -np.inf
        times = [token for token in spoken if token >= first]
        if times:
            opens = is_last and not is_pair  # what begins may begin where the text before it ended
            scores[first : times[-1] + (not opens)] = -np.inf

    def _begin(self, scores: F32) -> None:
        """The first token is a timestamp, and not a late one."""
        first, latest = self._spec.first_timestamp, self._spec.max_first_timestamp
        scores[:first] = -np.inf
        if latest is not None:
            scores[first + latest + 1 :] = -np.inf


def sampled(scores: F32, temperature: float, luck: np.random.Generator) -> int:
    """Return a token by its probability at a temperature, below GREEDY the most likely one.

    scores: (V,) float32, -inf for what may not follow. The largest of the logits with noise of Gumbel's distribution is
    a sample of their softmax.
    """
    if temperature < GREEDY:
        return int(scores.argmax())
    return int((scores.astype(np.float64) / temperature + luck.gumbel(size=len(scores))).argmax())


def log_sum(scores: F32) -> float:
    """Return log(sum(exp(scores))), -inf when all of them are."""
    peak = scores.max()
    if not np.isfinite(peak):
        return -np.inf
    return float(peak + np.log(np.exp((scores - peak).astype(np.float64)).sum()))
