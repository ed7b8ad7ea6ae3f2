"""The keys and values of every position read so far, one slot per conversation, and what of them can be used again."""

import contextlib
import math
import mmap
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from edge.arrays import F16, F32, I8, U8
from edge.bundle.manifest import TextSpec
from edge.engine.device_memory import DeviceMemory, Place
from edge.engine.kv import DTYPES, VALUE_BYTES, Kv, bytes_per_token
from edge.engine.pages import Pages
from edge.errors import MemoryExhausted

ALIGNED = 8  # rows: chunks begin at multiples of it
MAX_ROWS = 16  # of one conversation in a step

Keys = F16 | F32 | I8  # or values


@dataclass
class _Slot:
    """keys: what stands at each position that a prefill wrote; length: all positions, generated ones included."""

    keys: list[Hashable] = field(default_factory=list)
    length: int = 0
    busy: bool = False


@dataclass(frozen=True, eq=False)
class Rows:
    """The cache as a step sees it, row by row: the slot of each of B rows, and every part's keys or values.

    parts: ("N.key" or "N.value", its memory: (B, n_kv_heads, capacity, head_dim)), no copies, or its place on a device.
    """

    slots: tuple[int, ...]
    parts: list[tuple[str, Keys | Place]]


class Cache:
    """Past and present of the decoder in one buffer: per layer and part (slots, n_kv_heads, capacity, head_dim).

    The memory is taken page by page as positions are written. Only positions written by a prefill are used again:
    a generated token's row is computed in another order of additions, and an answer must not depend on history.
    The slot `spare` belongs to no conversation: rows that only keep others company are written there.
    kv: what a value is, float32, float16 or 8 bits. device: None for memory of the process, else all of it is on that
    device of onnxruntime's.
    """

    def __init__(
        self, spec: TextSpec, *, capacity: int, slots: int, kv: Kv = "fp32", device: str | None = None
    ) -> None:
        self.kv = kv
        self.capacity = capacity
        self.spare = slots
        self._token_bytes = bytes_per_token(spec, kv)
        self.nbytes = self._token_bytes * capacity * slots
        self._slots = [_Slot() for _ in range(slots)]
        self._n_parts = 2 * spec.n_layers
        row_bytes = VALUE_BYTES[kv] * spec.n_kv_heads * spec.head_dim
        # A part of a slot is whole pages, so that it can stand in several places.
        n_rows = _rounded_up(capacity, mmap.PAGESIZE // math.gcd(row_bytes, mmap.PAGESIZE))
        self._part_shape = (spec.n_kv_heads, n_rows, spec.head_dim)
        self.device = device
        self._pages: Pages | DeviceMemory
        if device is None:
            self._pages = Pages(self._n_parts * (slots + 1), row_bytes * n_rows)
        else:
            self._pages = DeviceMemory(self._n_parts, (slots + 1, *self._part_shape), DTYPES[kv], device)
        self._repeated: dict[int, U8] = {}

    @property
    def used_bytes(self) -> int:
        """The bytes of the positions in use."""
        return self._token_bytes * sum(slot.length for slot in self._slots)

    @property
    def n_slots(self) -> int:
        """How many conversations it has room for."""
        return len(self._slots)

    @property
    def can_repeat(self) -> bool:
        """Whether a step can have several rows of one conversation, or leave out slots between two."""
        return self._pages.can_repeat

    def rows(self, slots: Sequence[int]) -> Rows:
        """Return the memory of a step's rows; of every slot from the first to the last where they cannot be arranged.

        slots: in any order; one slot alone up to MAX_ROWS times: its rows stand at successive positions. All of them
        see what any of them writes.
        Raises: MemoryExhausted where there are no addresses left for a slot several times.
        """
        if self.can_repeat and len(slots) > 1 and len(set(slots)) == 1:
            return self._view(slots, self._repeats(slots[0]), n_rows=MAX_ROWS)
        first, stop = min(slots), max(slots) + 1
        if isinstance(self._pages, DeviceMemory):
            return self._named(range(first, stop), self._pages.places(first, stop - first))
        if self.can_repeat and list(slots) != [*range(first, stop)]:
            with contextlib.suppress(MemoryExhausted):  # no addresses left
                return self._view(slots, self._arranged(slots), n_rows=len(slots))
        return self._view(range(first, stop), self._pages.whole, n_rows=self.n_slots + 1, first=first)

    def length(self, slot: int) -> int:
        """Return the number of positions in use; the spare slot has none."""
        return 0 if slot == self.spare else self._slots[slot].length

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
        if len(free) == len(self._slots):
            self._pages.clear()

    def _view(self, slots: Sequence[int], memory: U8, *, n_rows: int, first: int = 0) -> Rows:
        """Return len(slots) of the n_rows of memory, from the first on, as the rows of these slots."""
        parts = memory.view(DTYPES[self.kv]).reshape(self._n_parts, n_rows, *self._part_shape)
        return self._named(slots, parts[:, first : first + len(slots)])

    def _named(self, slots: Sequence[int], parts: Iterable[Keys | Place]) -> Rows:
        names = (f"{n}.{kind}" for n in range(self._n_parts // 2) for kind in ("key", "value"))
        return Rows(tuple(slots), list(zip(names, parts, strict=True)))

    def _arranged(self, slots: Sequence[int]) -> U8:
        if isinstance(self._pages, DeviceMemory):
            raise MemoryExhausted("keys and values on a device are in one place")
        n_in_part = self.n_slots + 1
        return self._pages.arranged([part * n_in_part + slot for part in range(self._n_parts) for slot in slots])

    def _repeats(self, slot: int) -> U8:
        """Return a slot MAX_ROWS times; fewer are the first of them, so that its pages are looked up once."""
        if slot not in self._repeated:
            self._repeated[slot] = self._arranged([slot] * MAX_ROWS)
        return self._repeated[slot]


def common_prefix(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return how many leading elements are equal."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _rounded_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
