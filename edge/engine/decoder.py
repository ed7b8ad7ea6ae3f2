"""decoder.onnx over the shared cache: reading a chunk of one conversation, or one step of several."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.arrays import F32
from edge.bundle.manifest import TextSpec
from edge.engine.cache import Cache
from edge.engine.session import Shape, check_shapes

if TYPE_CHECKING:
    import onnxruntime as ort


# Shapes: B conversations, S rows of one of them, K scored rows, H hidden, V vocabulary.


class Decoder:
    """One session for reading and generating; past and present are the same buffers, bound once.

    in_pairs: steps feed an even number of rows where they can. Kernels for 4 bits take rows in pairs, and a row
    without another comes out a few bits off, which the rounding of the next layer's inputs makes large: the same
    question would be answered in other words when others ask too. With one slot nobody else ever asks.
    """

    def __init__(
        self, session: "ort.InferenceSession", spec: TextSpec, cache: Cache, *, in_pairs: bool = False
    ) -> None:
        past = (None, spec.n_kv_heads, None, spec.head_dim)
        inputs: dict[str, Shape] = {"embeds": (None, None, spec.hidden_size), "seqlens_k": (None,)}
        inputs |= {"total_sequence_length": (), "n_logits": (1,)}
        inputs |= {f"past.{name}": past for name, _ in cache.views(0, 1)}
        outputs = {"logits": (None, None, spec.vocab_size)}
        check_shapes(session, inputs=inputs, outputs=outputs, file="decoder.onnx")
        self.cache = cache
        self._session = session
        self._spec = spec
        self._in_pairs = in_pairs
        self._chunks: dict[int, _Bound] = {}
        self._steps: dict[tuple[int, int], _Step] = {}

    def read(self, slot: int, embeddings: F32, *, n_logits: int, options: "ort.RunOptions") -> F32:
        """Read the next rows of a conversation; return the logits (K, V) of its last n_logits rows.

        embeds: (S, H). The caller notes the new positions in the cache, so that a failed run leaves it as it was.
        """
        bound = self._chunks.get(slot)
        if bound is None:
            bound = self._chunks[slot] = _Bound(self._session, self.cache, slot, slot + 1)
        total = self.cache.length(slot) + len(embeddings)
        logits = np.empty((1, n_logits, self._spec.vocab_size), np.float32)
        bound.lengths[:] = total - 1
        bound.longest[...] = total
        bound.n_logits[:] = n_logits
        bound.bind("embeds", np.ascontiguousarray(embeddings[None]), "logits", logits)
        bound.run(options)
        scored: F32 = logits[0]
        return scored

    def step(self, slots: Sequence[int], embeddings: F32, *, options: "ort.RunOptions") -> F32:
        """Feed one row to each of several conversations; return their logits (len(slots), V).

        embeds: (len(slots), H). Slots in between that are not asked for are fed nothing that stays: what is written
        after their last position is never read.
        """
        first, last = self._range(slots)
        step = self._steps.get((first, last))
        if step is None:
            step = self._steps[first, last] = _Step(self._session, self.cache, first, last, self._spec)
        for slot in range(first, last):
            if self.cache.free(slot) == 0:  # full and idle: the row in passing needs a place
                self.cache.trim(slot, self.cache.capacity - 1)
            step.bound.lengths[slot - first] = self.cache.length(slot)
        step.bound.longest[...] = step.bound.lengths.max() + 1
        rows = [slot - first for slot in slots]
        step.embeddings[:] = 0
        step.embeddings[rows, 0] = embeddings
        step.bound.run(options)
        logits: F32 = step.logits[rows, 0]
        return logits

    def _range(self, slots: Sequence[int]) -> tuple[int, int]:
        """Return the first slot of a step and the one after its last."""
        first, last = min(slots), max(slots) + 1
        if self._in_pairs and (last - first) % 2:
            if last < self.cache.n_slots:
                last += 1
            elif first > 0:
                first -= 1
        return first, last


class _Bound:
    """The graph bound to the cache of the slots first to last - 1; arrays stand for the inputs that change."""

    def __init__(self, session: "ort.InferenceSession", cache: Cache, first: int, last: int) -> None:
        self.lengths = np.zeros(last - first, np.int32)  # (B,) positions before the newest row
        self.longest = np.zeros((), np.int32)
        self.n_logits = np.ones(1, np.int64)
        self._session = session
        self._binding = session.io_binding()
        self._kept: dict[str, tuple[object, object]] = {}
        for name, view in cache.views(first, last):
            self.bind(f"past.{name}", view, f"present.{name}", view)
        self._input("seqlens_k", self.lengths)
        self._input("total_sequence_length", self.longest)
        self._input("n_logits", self.n_logits)

    def bind(self, name: str, value: F32, output: str, into: F32) -> None:
        """Bind an input and the array that an output is written to."""
        self._input(name, value)
        self._binding.bind_ortvalue_output(output, self._value(output, into))

    def run(self, options: "ort.RunOptions") -> None:
        self._session.run_with_iobinding(self._binding, options)

    def _input(self, name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> None:
        self._binding.bind_ortvalue_input(name, self._value(name, value))

    def _value(self, name: str, value: npt.NDArray[np.generic]) -> "ort.OrtValue":
        import onnxruntime as ort

        bound = ort.OrtValue.ortvalue_from_numpy(value)
        self._kept[name] = (value, bound)  # the value aliases the array: both must live as long as the binding
        return bound


class _Step:
    """A step's arrays, bound once."""

    def __init__(self, session: "ort.InferenceSession", cache: Cache, first: int, last: int, spec: TextSpec) -> None:
        self.embeddings = np.zeros((last - first, 1, spec.hidden_size), np.float32)  # (B, 1, H)
        self.logits = np.zeros((last - first, 1, spec.vocab_size), np.float32)  # (B, 1, V)
        self.bound = _Bound(session, cache, first, last)
        self.bound.bind("embeds", self.embeddings, "logits", self.logits)
