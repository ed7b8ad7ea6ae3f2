"""One answer while it grows: logits in, progress out, and the reason it ends."""

from dataclasses import dataclass

import numpy as np

from edge.arrays import F32
from edge.engine.detokenizer import ByteTokenizer, TextDecoder
from edge.engine.drafting import Draft
from edge.engine.grammar.constraint import Constraint
from edge.engine.grammar.format import Format
from edge.engine.handle import FinishReason, Handle, Progress, TokenScore
from edge.engine.sampling import log_probabilities, make_sampler
from edge.errors import NonFiniteError, ParameterError


@dataclass(frozen=True)
class Options:
    """How to generate. stop: strings that end the answer; fresh: it begins a turn, it does not continue one.

    form: what the answer must be an instance of; top_logprobs: how many tokens to score beside the chosen one;
    calls: whether tools are on offer, so that the tags of calls stand in the text for who reads calls from it.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    frequency_penalty: float
    presence_penalty: float
    seed: int | None
    stop: tuple[str, ...]
    fresh: bool
    form: Format | None = None
    top_logprobs: int | None = None
    calls: bool = False


@dataclass(frozen=True)
class Ends:
    """What ends every answer of a bundle, and which tokens are no text.

    control: every control token; call_tags: those around a call.
    """

    ids: frozenset[int]
    strings: tuple[str, ...]
    control: frozenset[int] = frozenset()
    call_tags: frozenset[int] = frozenset()


class Answer:
    """The state of one generation; `token` is the one to feed next, `draft` guesses those after it."""

    def __init__(
        self,
        handle: Handle,
        options: Options,
        ends: Ends,
        tokenizer: ByteTokenizer,
        n_input: int,
        constraint: Constraint | None = None,
        draft: Draft | None = None,
    ) -> None:
        self.handle = handle
        self.token = 0
        self.draft = draft
        self._max_tokens = options.max_tokens
        self._end_ids = ends.ids
        self._control = ends.control | ends.ids
        writes_calls = options.calls or (options.form is not None and options.form.is_call)
        self._silent = self._control - ends.call_tags if writes_calls else self._control
        self._n_input = n_input
        self._n_output = 0
        self._tokenizer = tokenizer
        self._constraint = constraint
        self._n_scored = options.top_logprobs
        self._scores: tuple[TokenScore, ...] = ()
        # No string may cut an instance short: inside one, what ends turns elsewhere is text.
        stop, turn_ends = (options.stop, ends.strings) if constraint is None else ((), ())
        self._text = TextDecoder(tokenizer, stop=stop, turn_ends=turn_ends, fresh=options.fresh)
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
        n_left = min(self._max_tokens - self._n_output, n_free + 1)  # the last one needs no position
        self.token = self._choose(logits, n_left)
        self._n_output += 1
        if self.draft is not None:
            self.draft.took(self.token)
        if self._n_scored is not None:
            self._scores += (self._score(logits, self._n_scored),)
        if self.token in self._end_ids:
            return self._finish("stop", end_of_turn=True)
        # A control token amid an answer says nothing: its name is no text.
        text = self._text.text if self.token in self._silent else self._text.push(self.token)
        if self._text.stopped:
            return self._finish("stop", end_of_turn=False)
        if self._constraint is not None and self._constraint.is_done:
            return self._finish("stop", end_of_turn=True)
        if self._n_output >= self._max_tokens:
            return self._finish("length", end_of_turn=False)
        if n_free == 0:
            return self._finish("context", end_of_turn=False)
        self._deliver(text, None)
        return True

    def _choose(self, logits: F32, n_left: int) -> int:
        if self._constraint is None:
            return self._sample(logits)
        if self.handle.hurried:
            n_left = min(n_left, self._constraint.n_needed)
        return self._constraint.choose(logits, self._sample, n_left=n_left)

    def _score(self, logits: F32, n: int) -> TokenScore:
        scores = log_probabilities(logits)
        ids = np.argpartition(scores, -n)[-n:] if n else np.empty(0, np.int64)
        best_first = sorted(ids.tolist(), key=lambda token: (-float(scores[token]), token))
        most_likely = tuple((self._tokenizer.decode_bytes([token]), float(scores[token])) for token in best_first)
        data = b"" if self.token in self._silent else self._tokenizer.decode_bytes([self.token])
        controls = tuple(token in self._control for token in best_first)
        return TokenScore(data, float(scores[self.token]), most_likely, controls)

    def _finish(self, reason: FinishReason, *, end_of_turn: bool) -> bool:
        if self.draft is not None:
            self.draft.end()
        self._deliver(self._text.finish(end_of_turn=end_of_turn), reason)
        return False

    def _deliver(self, text: str, reason: FinishReason | None) -> None:
        stop = None if reason is None else self._text.found
        self.handle.put(Progress(text, self._n_input, self._n_output, reason, self._scores, stop))


def check(options: Options) -> None:
    """Check what the sampler does not. Raises: ParameterError naming the field."""
    if options.max_tokens < 1:
        raise ParameterError(
            f"max_tokens: expected an integer >= 1, got {options.max_tokens!r:.200}", field="max_tokens"
        )
    if options.top_logprobs is not None and options.top_logprobs < 0:
        raise ParameterError(
            f"top_logprobs: expected an integer >= 0, got {options.top_logprobs!r:.200}", field="top_logprobs"
        )
    if not all(options.stop):
        raise ParameterError("stop: expected strings that are not empty, got ''", field="stop")
