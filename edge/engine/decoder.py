"""The decoder graph over the shared cache: reading a chunk of one conversation, or one step of several."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.arrays import F32
from edge.bundle.manifest import TextSpec
from edge.engine.cache import Cache, Keys, Rows
from edge.engine.device_memory import Place
from edge.engine.kv import GRAPHS
from edge.engine.session import Shape, can_share_past, check_shapes
from edge.errors import MemoryExhausted

if TYPE_CHECKING:
    import onnxruntime as ort


_MAX_STEPS = 16  # bound at a time; each holds addresses, not memory

# Shapes: B rows of conversations, S rows of one of them, K scored rows, H hidden, V vocabulary.


class Decoder:
    """One session for reading and generating; past and present are the same buffers, bound once.

    Where a row comes out a few bits off without another beside it, the rounding of the next layer's inputs makes that
    large, and the same question would be answered in other words when others ask too. So steps feed an even number of
    rows then. Whether it is so depends on the weights and the processor: the first step tries it.
    """

    def __init__(self, session: "ort.InferenceSession", spec: TextSpec, cache: Cache) -> None:
        past = (None, spec.n_kv_heads, None, spec.head_dim)
        inputs: dict[str, Shape] = {"embeds": (None, None, spec.hidden_size), "seqlens_k": (None,)}
        inputs |= {"total_sequence_length": (), "n_logits": (1,)}
        inputs |= {f"past.{name}": past for name, _ in cache.rows([0]).parts}
        outputs = {"logits": (None, None, spec.vocab_size)}
        check_shapes(session, inputs=inputs, outputs=outputs, file=GRAPHS[cache.kv])
        self.cache = cache
        self._session = session
        self._spec = spec
        # Not known before the first step; nobody keeps the only row of one slot company.
        self._in_pairs: bool | None = None if cache.can_repeat or cache.n_slots > 1 else False
        # Source as of can_share_past: only the kernels of float32 and 8 bits were read.
        self._can_verify = cache.can_repeat and cache.kv != "fp16" and can_share_past(spec.n_heads)
        self._same_rows: dict[int, bool] = {}
        self._chunks: dict[int, _Bound] = {}
        self._steps: OrderedDict[tuple[int, ...], _Step] = OrderedDict()

    def read(self, slot: int, embeddings: F32, *, n_logits: int, options: "ort.RunOptions") -> F32:
        """Read the next rows of a conversation; return the logits (K, V) of its last n_logits rows.

        embeds: (S, H). The caller notes the new positions in the cache, so that a failed run leaves it as it was.
        """
        bound = self._chunks.get(slot)
        if bound is None:
            bound = self._chunks[slot] = _Bound(self._session, self.cache.rows([slot]))
        total = self.cache.length(slot) + len(embeddings)
        logits = np.empty((1, n_logits, self._spec.vocab_size), np.float32)
        bound.lengths[:] = total - 1
        bound.longest[...] = total
        bound.n_logits[:] = n_logits
        bound.bind("embeds", np.ascontiguousarray(embeddings[None]), "logits", logits)
        bound.run(options)
        scored: F32 = logits[0]
        return scored

    @property
    def can_verify(self) -> bool:
        """Whether `verify` gives the bits that `step` gives, as far as it was tried."""
        return self._can_verify and all(self._same_rows.values())

    def step(self, slots: Sequence[int], embeddings: F32, *, options: "ort.RunOptions") -> F32:
        """Feed one row to each of several conversations; return their logits (len(slots), V).

        embeds: (len(slots), H). The logits of a row are the same bits whatever rows are beside it. The caller notes
        the new positions in the cache.
        """
        if self._in_pairs is None:
            self._in_pairs = self._differs_alone(slots[0], embeddings[:1], options)
        rows = [*slots, self.cache.spare] if self._in_pairs and len(slots) % 2 else slots
        return self._feed(rows, embeddings, options)[: len(slots)]

    def verify(self, slot: int, embeddings: F32, *, options: "ort.RunOptions") -> F32:
        """Feed several rows at successive positions to one conversation; return their logits (n, V).

        embeds: (n, H), n even, MAX_ROWS at most. Bit for bit what `step` gives for one row after another: the first
        time for so many rows that is looked at, for the first of them. Where it is not so, that one alone is returned,
        and where there are no addresses left to show the conversation's memory in several places.
        """
        try:
            self._step((slot,) * len(embeddings))
        except MemoryExhausted:
            self._can_verify = False
            return self.step([slot], embeddings[:1], options=options)
        rows = self._feed([slot] * len(embeddings), embeddings, options)
        if len(embeddings) not in self._same_rows:
            alone = self.step([slot], embeddings[:1], options=options)
            self._same_rows[len(embeddings)] = np.array_equal(alone[0], rows[0])
            return rows if self.can_verify else alone
        return rows

    def _differs_alone(self, slot: int, embeddings: F32, options: "ort.RunOptions") -> bool:
        """Return whether a row alone gives other logits than one in company; they are written to the same place."""
        alone = self._feed([slot], embeddings, options)[0]
        return not np.array_equal(alone, self._feed([slot, self.cache.spare], embeddings, options)[0])

    def _feed(self, slots: Sequence[int], embeddings: F32, options: "ort.RunOptions") -> F32:
        """Return the logits of a row for each slot; those without embeddings are fed zeros."""
        step = self._step(tuple(slots))
        for row, slot in enumerate(step.slots):
            if slot not in slots and self.cache.free(slot) == 0:  # full and idle: the row in passing needs a place
                self.cache.trim(slot, self.cache.capacity - 1)
            step.bound.lengths[row] = self.cache.length(slot)
        if len(step.slots) > 1 and step.slots[0] == step.slots[1]:
            step.bound.lengths += np.arange(len(slots), dtype=np.int32)
        step.bound.longest[...] = step.bound.lengths.max() + 1
        rows = [*range(len(slots))] if step.slots == tuple(slots) else [step.slots.index(slot) for slot in slots]
        step.embeddings[:] = 0
        step.embeddings[rows[: len(embeddings)], 0] = embeddings
        step.bound.run(options)
        logits: F32 = step.logits[rows, 0]
        return logits

    def _step(self, slots: tuple[int, ...]) -> "_Step":
        """Return the graph bound to the rows of these slots, of the few that are kept."""
        if slots not in self._steps and len(self._steps) == _MAX_STEPS:
            self._steps.popitem(last=False)
        step = self._steps.pop(slots, None) or _Step(self._session, self.cache.rows(slots), self._spec)
        self._steps[slots] = step
        return step


class _Bound:
    """The graph bound to the cache of B rows; arrays stand for the inputs that change."""

    def __init__(self, session: "ort.InferenceSession", rows: Rows) -> None:
        self.lengths = np.zeros(len(rows.slots), np.int32)  # (B,) positions before the newest row
        self.longest = np.zeros((), np.int32)
        self.n_logits = np.ones(1, np.int64)
        self._session = session
        self._binding = session.io_binding()
        self._kept: dict[str, tuple[object, ort.OrtValue]] = {}
        self._inputs: set[str] = set()
        self._places: list[Place] = []  # the memory that is bound lives as long as they do
        self._is_on_device = any(isinstance(view, Place) for _, view in rows.parts)
        for name, view in rows.parts:
            if isinstance(view, Place):
                self._bind_place(name, view)
            else:
                self.bind(f"past.{name}", view, f"present.{name}", view)
        self._input("seqlens_k", self.lengths)
        self._input("total_sequence_length", self.longest)
        self._input("n_logits", self.n_logits)

    def bind(self, name: str, value: Keys, output: str, into: Keys) -> None:
        """Bind an input and the array that an output is written to."""
        self._input(name, value)
        self._binding.bind_ortvalue_output(output, self._value(output, into))

    def run(self, options: "ort.RunOptions") -> None:
        if self._is_on_device:  # binding copies an input to where it is read: what has changed since is not seen there
            for name, (_, value) in self._kept.items():
                if name in self._inputs:
                    self._binding.bind_ortvalue_input(name, value)
        self._session.run_with_iobinding(self._binding, options)

    def _bind_place(self, name: str, place: Place) -> None:
        """Bind keys or values on a device, as what is read and what is written: the same memory."""
        where = (place.device, 0, place.dtype, place.shape, place.address)
        self._binding.bind_input(f"past.{name}", *where)
        self._binding.bind_output(f"present.{name}", *where)
        self._places.append(place)

    def _input(self, name: str, value: npt.NDArray[np.generic]) -> None:
        self._inputs.add(name)
        self._binding.bind_ortvalue_input(name, self._value(name, value))

    def _value(self, name: str, value: npt.NDArray[np.generic]) -> "ort.OrtValue":
        import onnxruntime as ort

        bound = ort.OrtValue.ortvalue_from_numpy(value)
        self._kept[name] = (value, bound)  # the value aliases the array: both must live as long as the binding
        return bound


class _Step:
    """A step's arrays, bound once."""

    def __init__(self, session: "ort.InferenceSession", rows: Rows, spec: TextSpec) -> None:
        self.slots = rows.slots
        self.embeddings = np.zeros((len(rows.slots), 1, spec.hidden_size), np.float32)  # (B, 1, H)
        self.logits = np.zeros((len(rows.slots), 1, spec.vocab_size), np.float32)  # (B, 1, V)
        self.bound = _Bound(session, rows)
        self.bound.bind("embeds", self.embeddings, "logits", self.logits)
