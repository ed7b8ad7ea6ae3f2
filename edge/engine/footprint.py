"""The memory that a model will take, part by part, before anything of it is loaded; what fits, and what would.

Counted from shapes; what is not weights or cache was measured, with onnxruntime 1.32 on x86-64 (docs/plan.md).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from edge.bundle.manifest import TextSpec
from edge.bundle.shape import ModelShape, TowerShape
from edge.engine.kv import KVS as KVS
from edge.engine.kv import LEAST_CONTEXT, Kv, bytes_per_token

CHUNK: Final = 256  # rows of a prompt that are read at a time

# Measured in MiB: what a process has once onnxruntime, the tokenizers' library and the server are imported, its own and
# of shared libraries; a decoding process, the same way; and a photograph of 12 million pixels while it is decoded.
_PROCESS: Final = 36 << 20
_LIBRARIES: Final = 50 << 20
_DECODING: Final = 18 << 20
_DECODING_LIBRARIES: Final = 4 << 20  # beside those that it shares with the first process
_PHOTOGRAPH: Final = 36 << 20
_UNMAPPED_SHARE: Final = 0.02  # of a decoder's bytes: what stays in memory of the process's own beside packed weights
_TOKENIZER_SHARE: Final = 25  # bytes in memory for one of tokenizer.json: vocabulary, merges and their index
# Of the largest values between layers: how many of them onnxruntime's arena holds by the end of a prompt or a tile.
_ARENA_SHARE: Final = 4.5
_TILE_SHARE: Final = 4.0
_STEP: Final = 64  # positions: contexts that are found are multiples of it
_SPARE_SHARE: Final = 16  # one part in so many of all memory is left to the system
_TABLE: Final = "embedding table"
_LOADED_FIRST: Final = ("decoder", "tokenizer", "rotary tables", "Python and onnxruntime", "shared libraries")


@dataclass(frozen=True)
class Part:
    """One part of the memory. mapped: pages of files, which the system drops, and reads again, when it is short."""

    name: str
    n_bytes: int
    mapped: bool = False


@dataclass(frozen=True)
class Load:
    """How a model is loaded.

    context: positions of each slot; kv: how keys and values are kept; packed: whether packed weights are mapped from a
    file of this device, else they are packed into memory of the process's own; processes: that decode media, two in a
    server.
    """

    context: int
    slots: int = 1
    kv: Kv = "fp32"
    packed: bool = False
    processes: int = 2


@dataclass(frozen=True)
class Footprint:
    """What a load takes. loading_bytes: the most while the decoder is loaded, pages of its file included."""

    load: Load
    parts: tuple[Part, ...]
    loading_bytes: int

    @property
    def anonymous_bytes(self) -> int:
        """What nothing but swap makes room for."""
        return sum(part.n_bytes for part in self.parts if not part.mapped)

    @property
    def mapped_bytes(self) -> int:
        """Pages of files that a step touches."""
        return sum(part.n_bytes for part in self.parts if part.mapped)

    @property
    def total_bytes(self) -> int:
        """Both together."""
        return self.anonymous_bytes + self.mapped_bytes

    @property
    def needed_bytes(self) -> int:
        """What there must be room for, or each step reads from the disk: all but the table, of which it needs a row."""
        return self.total_bytes - sum(part.n_bytes for part in self.parts if part.name == _TABLE)

    @property
    def peak_bytes(self) -> int:
        """The most that is resident at any time: at work, or at the end of the decoder's packing."""
        return max(self.total_bytes, self.loading_bytes)


def footprint(shape: ModelShape, load: Load) -> Footprint:
    """Count the memory of a load."""
    parts = tuple(_parts(shape, load))
    stored = sum(matrix.stored_bytes for matrix in shape.decoder)
    first = sum(part.n_bytes for part in parts if part.name in _LOADED_FIRST)
    return Footprint(load, parts, stored + first)


def cache_bytes(text: TextSpec, load: Load) -> int:
    """Return the bytes of the cache with all of its positions in use."""
    return bytes_per_token(text, load.kv) * load.context * load.slots


def room(total: int) -> int:
    """Return what of a machine's memory a model may take: all but a share that is left to the system."""
    return total - max(total // _SPARE_SHARE, 200 << 20)


def largest_context(shape: ModelShape, load: Load, *, room_bytes: int) -> int:
    """Return the most positions that fit, at most the model's; 0 where not even the least of them do."""
    rest = footprint(shape, replace(load, context=0)).needed_bytes
    each = cache_bytes(shape.text, replace(load, context=1))
    affordable = (room_bytes - rest) // max(1, each)
    least = min(LEAST_CONTEXT, shape.text.context)
    if affordable < least:
        return 0
    return min(shape.text.context, affordable - affordable % _STEP)


def alternatives(
    shape: ModelShape, load: Load, *, room_bytes: int, packed: Collection[Kv] | None = None
) -> Iterator[Load]:
    """Yield other loads of a model that fit: a smaller context, 8-bit keys and values, one slot, packed weights.

    packed: the kvs whose engines have packed weights; unless given, all or none as in the load.
    """
    int8 = replace(load, kv="int8", packed=load.packed if packed is None else "int8" in packed)
    tried = [load, *([int8] if shape.has_int8_cache else [])]
    tried += [replace(each, slots=1) for each in tried] if load.slots > 1 else []
    tried += [replace(each, packed=True) for each in tried]
    for each in dict.fromkeys(tried):
        context = largest_context(shape, each, room_bytes=room_bytes)
        if context:
            yield replace(each, context=min(context, load.context))


def _parts(shape: ModelShape, load: Load) -> Iterator[Part]:
    text = shape.text
    touched = sum(matrix.packed_bytes for matrix in shape.decoder)
    kept = sum(matrix.kept_bytes for matrix in shape.decoder)
    yield Part("decoder", touched if load.packed else kept, mapped=load.packed)
    if load.packed:
        yield Part("decoder, not mapped", int(_UNMAPPED_SHARE * sum(matrix.stored_bytes for matrix in shape.decoder)))
    for name, tower in (("vision tower", shape.vision), ("audio tower", shape.audio)):
        if tower is not None:
            yield Part(name, tower.kept_bytes, mapped=load.packed)
    kv = {"fp32": "", "fp16": ", float16", "int8": ", 8 bits"}[load.kv]
    slots = f", {load.slots} slots" if load.slots > 1 else ""
    yield Part(f"cache of {load.context} positions{slots}{kv}", cache_bytes(text, load))
    yield Part("activations", _activations(text) + max(map(_tile, (shape.vision, shape.audio))))
    yield Part("rotary tables", 4 * text.context * text.head_dim)
    yield Part("tokenizer", _TOKENIZER_SHARE * shape.files.get("tokenizer.json", 0))
    yield Part("Python and onnxruntime", _PROCESS)
    if shape.vision is not None or shape.audio is not None:
        yield Part("decoding of media", load.processes * _DECODING + _PHOTOGRAPH)
    yield Part(_TABLE, shape.files.get("embedding.bin", 0), mapped=True)
    yield Part("shared libraries", _LIBRARIES + load.processes * _DECODING_LIBRARIES, mapped=True)


def _activations(text: TextSpec) -> int:
    widest = max(2 * text.intermediate_size, (text.n_heads + 2 * text.n_kv_heads) * text.head_dim)
    return int(_ARENA_SHARE * 4 * CHUNK * widest) + 4 * text.vocab_size


def _tile(tower: TowerShape | None) -> int:
    return 0 if tower is None else int(_TILE_SHARE * 4 * tower.n_widest)
