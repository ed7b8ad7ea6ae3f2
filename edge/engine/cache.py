"""The keys and values of every position read so far, one slot per conversation, and what of them can be used again."""

import mmap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import TextSpec, cache_bytes_per_token

LEAST_CONTEXT = 2048
ALIGNED = 8  # rows: chunks begin at multiples of it


@dataclass
class _Slot:
    """keys: what stands at each position that a prefill wrote; length: all positions, generated ones included."""

    keys: list[Hashable] = field(default_factory=list)
    length: int = 0
    busy: bool = False


class Cache:
    """Past and present of the decoder in one buffer: per layer and part (slots, n_kv_heads, capacity, head_dim).

    The memory is taken page by page as positions are written. Only positions written by a prefill are used again:
    a generated token's row is computed in another order of additions, and an answer must not depend on history.
    """

    def __init__(self, spec: TextSpec, *, capacity: int, slots: int) -> None:
        self.capacity = capacity
        self._token_bytes = bytes_per_token(spec)
        self.nbytes = self._token_bytes * capacity * slots
        self._slots = [_Slot() for _ in range(slots)]
        self._memory = _mapping(self.nbytes)
        shape = (spec.n_layers, 2, slots, spec.n_kv_heads, capacity, spec.head_dim)
        self._buffers = np.frombuffer(self._memory, np.float32).reshape(shape)

    @property
    def used_bytes(self) -> int:
        """The bytes of the positions in use."""
        return self._token_bytes * sum(slot.length for slot in self._slots)

    @property
    def n_slots(self) -> int:
        """How many conversations it has room for."""
        return len(self._slots)

    def views(self, first: int, last: int) -> list[tuple[str, F32]]:
        """Return ("N.key" or "N.value", its part for the slots first to last - 1), no copies."""
        parts = (("key", 0), ("value", 1))
        layers = enumerate(self._buffers)
        return [(f"{n}.{part}", layer[at, first:last]) for n, layer in layers for part, at in parts]

    def length(self, slot: int) -> int:
        """Return the number of positions in use."""
        return self._slots[slot].length

    def free(self, slot: int) -> int:
        """Return the number of positions left."""
        return self.capacity - self._slots[slot].length

    def has_free_slot(self) -> bool:
        """Return whether another conversation can begin."""
        return not all(slot.busy for slot in self._slots)

    def take(self, keys: Sequence[Hashable], *, n_read: int) -> int:
        """Take the free slot that gains most for a prompt and trim it to the positions that still hold.

        n_read: how many positions are left to be read at least. Two, for the logits of the last one: one row alone
        would be computed in another order of additions. What is kept ends at a multiple of ALIGNED: kernels compute
        rows in groups, and the rows of a group that was not full (in 4 bits, the last of an odd number) come out a
        few bits off. So every row stands in the group that a fresh reading would put it in.
        """
        shared = {n: common_prefix(slot.keys, keys) for n, slot in enumerate(self._slots) if not slot.busy}
        # What a slot loses counts against it, so that a shared opening does not cost another conversation its past.
        best = max(shared, key=lambda n: 2 * shared[n] - len(self._slots[n].keys))
        self._slots[best].busy = True
        kept = min(shared[best], max(0, len(keys) - n_read))
        self.trim(best, kept - kept % ALIGNED)
        return best

    def wrote(self, slot: int, keys: Sequence[Hashable]) -> None:
        """Note what a prefill wrote after the positions that were there."""
        self._slots[slot].keys.extend(keys)
        self._slots[slot].length += len(keys)

    def grew(self, slot: int) -> None:
        """Note one generated position."""
        self._slots[slot].length += 1

    def trim(self, slot: int, length: int) -> None:
        """Go back to fewer positions; nothing needs clearing."""
        entry = self._slots[slot]
        entry.length = min(entry.length, length)
        del entry.keys[length:]

    def release(self, slot: int) -> None:
        """Give a slot back; what its prefill wrote stays usable, what was generated does not."""
        entry = self._slots[slot]
        entry.busy = False
        entry.length = len(entry.keys)

    def forget(self) -> None:
        """Drop what could be used again from the slots that are free; when all are, give the memory back."""
        free = [entry for entry in self._slots if not entry.busy]
        for entry in free:
            entry.keys.clear()
            entry.length = 0
        if len(free) == len(self._slots) and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


def bytes_per_token(spec: TextSpec) -> int:
    """Return the bytes of one position: keys and values, all layers, float32."""
    return cache_bytes_per_token(n_layers=spec.n_layers, n_kv_heads=spec.n_kv_heads, head_dim=spec.head_dim)


def default_context(spec: TextSpec, *, slots: int, available_bytes: int) -> int:
    """Return the model's context, cut to what a quarter of the memory holds, but at least 2048 (or the model's)."""
    affordable = available_bytes // 4 // (slots * bytes_per_token(spec))
    return min(spec.context, max(LEAST_CONTEXT, affordable))


def common_prefix(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return how many leading elements are equal."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _mapping(nbytes: int) -> mmap.mmap:
    """Return anonymous memory whose pages are taken when they are first written."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, nbytes)
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # A head's positions lie far from the next head's: with huge pages the first token would take gigabytes.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
