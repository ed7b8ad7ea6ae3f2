"""A checkpoint, a folder or a GGUF file: its configuration and its tensors, read lazily and never executed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from export.arrays import F32, U8
from export.checkpoint import config as configuration
from export.checkpoint.config import ModelConfig
from export.checkpoint.entry import Entry
from export.checkpoint.files import has_file, parse_object, plain_file, read_bytes, read_json
from export.checkpoint.gguf import source
from export.checkpoint.gguf.header import is_gguf
from export.checkpoint.gguf.tensors import GgufEntry, read_rows, stored_rows
from export.checkpoint.shards import MAX_HEADER_BYTES, MAX_TENSORS, check_budget, read_header
from export.errors import CheckpointError

CONFIG: Final = "config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_STORED: Mapping[str, str] = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}
_CHECK_VALUES = 1 << 22  # values per finite check: its temporaries stay at a few MiB


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint; nothing but headers and configuration is in memory.

    files: the names of every file read so far and to be read, in order (the tokenizer's are not among them);
    path: the folder, or the GGUF file; parts: where its files are, for a GGUF file.
    """

    path: Path
    config: ModelConfig
    files: tuple[str, ...]
    entries: Mapping[str, Entry]
    parts: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, *, mmproj: Path | None = None) -> "Checkpoint":
        """Reads configuration and headers of a checkpoint folder, or of a GGUF file.

        mmproj: the projector file that belongs to a GGUF file.
        Raises: CheckpointError, ConfigError, UnsupportedError, each naming file and key. Source: limits.md, 3.
        """
        if is_gguf(path):
            return cls._open_gguf(path, mmproj)
        if mmproj is not None:
            raise CheckpointError(f"{path}: --mmproj belongs to a GGUF file, and this is none")
        if not path.is_dir():
            raise CheckpointError(f"{path}: expected a checkpoint folder or a GGUF file")
        config = read_json(path, CONFIG)
        # Before the weights: a checkpoint of another kind should hear that, whatever its weights are stored as.
        configuration.recognise(config)
        entries, shards = _entries(path)
        preprocessor = read_json(path, PREPROCESSOR) if has_file(path, PREPROCESSOR) else None
        shapes = {name: entry.shape for name, entry in entries.items()}
        files = (CONFIG, *([PREPROCESSOR] if preprocessor is not None else []), *shards)
        return cls(path, configuration.parse(config, preprocessor=preprocessor, shapes=shapes), files, entries)

    @classmethod
    def _open_gguf(cls, path: Path, mmproj: Path | None) -> "Checkpoint":
        found = source.describe(path, mmproj=mmproj)
        shapes = {name: entry.shape for name, entry in found.entries.items()}
        config = configuration.parse(found.config, preprocessor=found.preprocessor, shapes=shapes)
        config = replace(
            config, ignored=(*config.ignored, *found.ignored), notes=(*config.notes, *found.notes)
        )  # fmt: skip
        return cls(path, config, tuple(found.files), found.entries, found.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Every stored tensor's name, sorted."""
        return tuple(sorted(self.entries))

    def shape(self, name: str) -> tuple[int, ...]:
        """A stored tensor's shape. Raises: CheckpointError if there is no such tensor."""
        return self._entry(name).shape

    def kind(self, name: str) -> str:
        """The type that a tensor is stored as. Raises: CheckpointError if there is no such tensor."""
        return self._entry(name).dtype

    def stored_rows(self, name: str, rows: slice) -> U8:
        """Rows of a GGUF tensor as they are stored. Returns (rows, bytes of a row).

        Raises: CheckpointError if there is no such tensor in a GGUF file.
        """
        entry = self._entry(name)
        if not isinstance(entry, GgufEntry):
            raise CheckpointError(f"{name}: stored as {entry.dtype}, expected a tensor of a GGUF file")
        return stored_rows(entry, name, rows)

    def read(self, name: str, *, rows: slice | None = None) -> F32:
        """A stored tensor as float32, a fresh array; with rows, only that range of its first axis.

        Raises: CheckpointError if there is no such tensor, its dtype in safetensors is not bf16, f16 or f32, or a value
        is not finite (the message names tensor and row).
        """
        entry = self._entry(name)
        if isinstance(entry, GgufEntry):
            values = read_rows(entry, name, rows)
            _check_finite(values, name, 0 if rows is None else rows.indices(entry.shape[0])[0])
            return values
        if entry.dtype not in _STORED:
            raise CheckpointError(f"{name}: stored as {entry.dtype}, expected BF16, F16 or F32")
        if entry.n_bytes == 0:
            return np.zeros(entry.shape, np.float32)[rows if rows is not None else ...]
        stored = _map(name, entry)
        first = 0
        if rows is not None:
            first = rows.indices(entry.shape[0])[0]
            stored = stored[rows]
        values = _to_float32(stored, entry.dtype)
        _check_finite(values, name, first)
        return values

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise CheckpointError(f"{name}: no such tensor in {self.path.name}")
        return self.entries[name]


def _map(name: str, entry: Entry) -> npt.NDArray[np.generic]:
    """A stored tensor as it lies on disk; mapped for one read only, so that its pages do not stay ours."""
    try:
        data = np.memmap(entry.file, np.uint8, "r", entry.offset, (entry.n_bytes,))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name}: {entry.file.name} can no longer be read: {error}") from error
    return data.view(np.ndarray).view(_STORED[entry.dtype]).reshape(entry.shape)


def _to_float32(stored: npt.NDArray[np.generic], dtype: str) -> F32:
    if dtype != "BF16":
        return np.array(stored, np.float32, order="C")
    widened = np.array(stored, np.uint32, order="C")
    np.left_shift(widened, 16, out=widened)
    return widened.view(np.float32)


def _check_finite(values: F32, name: str, first_row: int) -> None:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _CHECK_VALUES):
        finite = np.isfinite(flat[start : start + _CHECK_VALUES])
        if not finite.all():
            at = start + int(np.argmin(finite))
            row_size = flat.size // values.shape[0] if values.ndim > 0 else 1
            raise CheckpointError(f"{name}: row {first_row + at // row_size}: {flat[at]}, expected finite values")


def _entries(path: Path) -> tuple[dict[str, Entry], tuple[str, ...]]:
    """All tensors of the folder, and the files that hold or list them."""
    single, index = has_file(path, SINGLE), has_file(path, INDEX)
    if single and index:
        raise CheckpointError(f"{SINGLE} and {INDEX} are both there: expected one of them")
    if single:
        return read_header(plain_file(path, SINGLE), name=SINGLE), (SINGLE,)
    if index:
        return _sharded(path)
    names = sorted(entry.name for entry in path.iterdir())
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise CheckpointError(f"{pickles[0]}: a pickle can run code and is refused; convert it to safetensors")
    shards = [name for name in names if name.endswith(".safetensors")]
    found = f"; found {shards[0]}, but no index that lists it" if shards else ""
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs and not shards:
        found = f"; found {ggufs[0]}: name a GGUF file itself, and a projector file with --mmproj"
    raise CheckpointError(f"{path.name}: expected {SINGLE} or {INDEX}{found}")


def _sharded(path: Path) -> tuple[dict[str, Entry], tuple[str, ...]]:
    index = read_bytes(path, INDEX, max_bytes=MAX_HEADER_BYTES)
    check_budget(index, INDEX)
    weight_map = parse_object(index, name=INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{INDEX}: weight_map: expected an object of file names")
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if not shard.endswith(".safetensors"):
            raise CheckpointError(f"{INDEX}: weight_map: {shard!r}: expected a .safetensors file")
    entries: dict[str, Entry] = {}
    for shard in shards:
        for name, entry in read_header(_shard_file(path, shard), name=shard).items():
            if weight_map.get(name) != shard:
                raise CheckpointError(f"{shard}: holds {name}, which {INDEX} places in {weight_map.get(name)}")
            entries[name] = entry
        if len(entries) > MAX_TENSORS:
            raise CheckpointError(f"{INDEX}: more than {MAX_TENSORS} tensors in all")
    missing = sorted(set(weight_map) - set(entries))
    if missing:
        raise CheckpointError(f"{INDEX}: {missing[0]} is not in {weight_map[missing[0]]}")
    return entries, (INDEX, *shards)


def _shard_file(path: Path, shard: str) -> Path:
    try:
        return plain_file(path, shard)
    except CheckpointError as error:
        raise CheckpointError(f"{INDEX}: weight_map: {error}") from error
