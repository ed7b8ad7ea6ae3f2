"""One answer while it grows: logits in, progress out, and the reason it ends."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.decode import ByteTokenizer, TextDecoder
from edge.errors import NonFiniteError, ParameterError
from edge.handle import FinishReason, Handle, Progress
from edge.sampling import make_sampler

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """How to generate. stop: strings that end the answer; fresh: it begins a turn, it does not continue one."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    frequency_penalty: float
    presence_penalty: float
    seed: int | None
    stop: tuple[str, ...]
    fresh: bool


@dataclass(frozen=True)
class Ends:
    """What ends every answer of a bundle."""

    ids: frozenset[int]
    strings: tuple[str, ...]


class Answer:
    """The state of one generation; `token` is the one to feed next."""

    def __init__(self, handle: Handle, options: Options, ends: Ends, tokenizer: ByteTokenizer, n_input: int) -> None:
        self.handle = handle
        self.token = 0
        self._max_tokens = options.max_tokens
        self._end_ids = ends.ids
        self._n_input = n_input
        self._n_output = 0
        self._text = TextDecoder(tokenizer, stop=options.stop, turn_ends=ends.strings, fresh=options.fresh)
        self._sample = make_sampler(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            frequency_penalty=options.frequency_penalty,
            presence_penalty=options.presence_penalty,
            seed=options.seed,
        )

    def take(self, logits: F32, *, n_free: int) -> bool:
        """Choose a token, deliver what it makes visible, and return whether another one may follow.

        logits: (V,) float32 of the last position; n_free: positions left. Raises: NonFiniteError naming the step.
        """
        if not np.isfinite(logits).all():
            raise NonFiniteError(f"token {self._n_output + 1} of the answer")
        self.token = self._sample(logits)
        self._n_output += 1
        if self.token in self._end_ids:
            return self._finish("stop", end_of_turn=True)
        text = self._text.push(self.token)
        if self._text.stopped:
            return self._finish("stop", end_of_turn=False)
        if self._n_output >= self._max_tokens:
            return self._finish("length", end_of_turn=False)
        if n_free == 0:
            return self._finish("context", end_of_turn=False)
        self._deliver(text, None)
        return True

    def _finish(self, reason: FinishReason, *, end_of_turn: bool) -> bool:
        self._deliver(self._text.finish(end_of_turn=end_of_turn), reason)
        return False

    def _deliver(self, text: str, reason: FinishReason | None) -> None:
        self.handle.put(Progress(text, self._n_input, self._n_output, reason))


def check(options: Options) -> None:
    """Check what the sampler does not. Raises: ParameterError naming the field."""
    if options.max_tokens < 1:
        raise ParameterError(
            f"max_tokens: expected an integer >= 1, got {options.max_tokens!r:.200}", field="max_tokens"
        )
    if not all(options.stop):
        raise ParameterError("stop: expected strings that are not empty, got ''", field="stop")
