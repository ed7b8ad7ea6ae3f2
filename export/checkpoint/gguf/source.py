"""A GGUF file, or all parts of a split one, in the place of a checkpoint folder: its small files and its tensors."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from export.arrays import F32
from export.checkpoint.config import POSITION_GRID
from export.checkpoint.gguf import metadata as described
from export.checkpoint.gguf import names, tokenizer
from export.checkpoint.gguf.header import Header, is_gguf, read_header
from export.checkpoint.gguf.metadata import Metadata
from export.checkpoint.gguf.tensors import GgufEntry, read_entries, read_rows
from export.errors import CheckpointError, UnsupportedError

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_TEXT_PREFIX: Final = {"llama": "model.", "yasa2": "model.language_model."}
_MAX_PARTS: Final = 1_000
_TABLE_ERROR: Final = 2e-3  # of a sine in half precision, computed by another library


@dataclass(frozen=True)
class Parts:
    """One model: the metadata of its first file, the tensors of all, by their GGUF names."""

    metadata: Metadata
    tensors: Mapping[str, GgufEntry]
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Described:
    """What a checkpoint's files would say. files: each by the name that the manifest has for it."""

    config: Mapping[str, object]
    preprocessor: Mapping[str, object] | None
    entries: Mapping[str, GgufEntry]
    files: Mapping[str, Path]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def open_text(path: Path) -> Parts:
    """The text model that a file holds, all its parts checked. Raises: CheckpointError, UnsupportedError."""
    status = path.stat()
    return _open_text(path.absolute(), status.st_size, status.st_mtime_ns)


def describe(path: Path, *, mmproj: Path | None) -> Described:
    """The model of a file, and of a projector file beside it. Raises: CheckpointError, UnsupportedError.

    A text file with Reka's image tokens needs its projector: without, it is not known what it was made for.
    """
    parts = open_text(path)
    text = _text_config(parts)
    if mmproj is None:
        _check_alone(parts)
        config: dict[str, object] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **text}
        entries = _text_entries(parts, "llama")
        return Described(config, None, entries, _files(parts.paths), _ignored(parts), (_note(parts.tensors),))
    vision = _open_mmproj(mmproj)
    config = {
        "architectures": ["Yasa2ForConditionalGeneration"], "model_type": "yasa2",
        "text_config": {"model_type": "yasa_model", **text}, **_vision_config(vision),
    }  # fmt: skip
    entries = {**_text_entries(parts, "yasa2"), **names.vision_entries(vision.tensors)}
    files = _files((*parts.paths, *vision.paths))
    notes = (_note(parts.tensors), f"{_note(vision.tensors)}; tiles and pooling as the released model has them")
    return Described(
        config, described.preprocessor_config(vision.metadata), entries, files, _ignored(parts), notes
    )  # fmt: skip


def is_quantized(path: Path) -> bool:
    """Whether the text model of a file has quantized layers. Raises: CheckpointError, UnsupportedError."""
    kinds = {entry.dtype for name, entry in open_text(path).tensors.items() if name.startswith("blk.")}
    return not kinds <= {"F32", "F16", "BF16"}


def small_file(path: Path, name: str) -> bytes | None:
    """A small file of the checkpoint that a GGUF file came from, built from its metadata; None if it has none.

    Raises: CheckpointError, TokenizerError, UnsupportedError.
    """
    parts = open_text(path)
    metadata = parts.metadata
    if name == "config.json":
        return _json({"architectures": ["LlamaForCausalLM"], "model_type": "llama", **_text_config(parts)})
    if name == "generation_config.json":
        return _json(described.generation_config(metadata))
    if name == "tokenizer.json":
        return tokenizer.tokenizer_json(metadata)
    if name == "tokenizer_config.json":
        return tokenizer.tokenizer_config(metadata)
    template = tokenizer.chat_template(metadata)
    if name == "chat_template.jinja" and template is not None:
        return template.encode("utf-8")
    return None


@lru_cache(maxsize=2)
def _open_text(path: Path, _size: int, _modified_ns: int) -> Parts:
    """Kept, because each small file is asked for by itself; read anew where the file is another."""
    first = read_header(path)
    metadata = Metadata(first)
    described.check_text(metadata)
    headers = [first, *_other_parts(first, metadata)]
    tensors: dict[str, GgufEntry] = {}
    for header in headers:
        for name, entry in read_entries(header).items():
            if name in tensors:
                raise CheckpointError(f"{header.path.name}: {name}: is in {tensors[name].file.name} too")
            tensors[name] = entry
    expected = metadata.integer("split.tensors.count", default=len(tensors), least=0)
    if len(tensors) != expected:
        raise CheckpointError(f"{path.name}: {len(tensors)} tensors in all its parts, expected {expected}")
    return Parts(metadata, tensors, tuple(header.path for header in headers))


def _other_parts(first: Header, metadata: Metadata) -> list[Header]:
    """The further files of a split model, which lie beside the first under the names that llama.cpp gives them."""
    count = metadata.integer("split.count", default=1, least=0)
    if count <= 1:
        return []
    match = _PART.fullmatch(first.path.name)
    if match is None or int(match[3]) != count or count > _MAX_PARTS:
        raise CheckpointError(
            f"{first.path.name}: one of {count} parts, expected the name NAME-00001-of-{count:05}.gguf, which tells"
            " the others"
        )
    names_of_all = [f"{match[1]}-{at:05}-of-{count:05}.gguf" for at in range(1, count + 1)]
    if metadata.integer("split.no", default=0, least=0) != 0:
        raise CheckpointError(f"{first.path.name}: is not the first part: name {names_of_all[0]}")
    headers = []
    for at, name in enumerate(names_of_all[1:], start=1):
        path = first.path.with_name(name)
        if not is_gguf(path):
            raise CheckpointError(f"{first.path.name}: its part {name} is missing: all {count} parts must be beside it")
        header = read_header(path)
        if header.metadata.get("split.no") != at or header.metadata.get("split.count") != count:
            raise CheckpointError(f"{name}: is not part {at + 1} of {count}")
        headers.append(header)
    return headers


def _open_mmproj(path: Path) -> Parts:
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a projector file (--mmproj)")
    header = read_header(path.absolute())
    metadata = Metadata(header)
    described.check_projector(metadata)
    return Parts(metadata, read_entries(header), (header.path,))


def _text_config(parts: Parts) -> dict[str, object]:
    """The decoder's keys of config.json."""
    table = parts.tensors.get("token_embd.weight")
    if table is None:
        raise CheckpointError(
            f"{parts.metadata.file}: token_embd.weight is missing: this file holds no whole text model"
        )
    factors = parts.tensors.get(names.ROPE_FACTORS)
    divisors = None if factors is None else read_rows(factors, names.ROPE_FACTORS, None).tolist()
    stored = tuple(_text_entries(parts, "llama"))
    return described.text_config(parts.metadata, stored, vocab_size=table.shape[0], rope_factors=divisors)


def _text_entries(parts: Parts, family: str) -> dict[str, GgufEntry]:
    shape = described.text_shape(parts.metadata)
    return names.text_entries(
        parts.tensors, prefix=_TEXT_PREFIX[family], head_dim=shape.head_dim, rotary_dim=shape.rotary_dim,
        n_heads=shape.n_heads, n_kv_heads=shape.n_kv_heads,
    )  # fmt: skip


def _vision_config(vision: Parts) -> dict[str, object]:
    widths, depths = names.stages(vision.tensors)
    positions = vision.tensors.get(names.POSITIONS)
    if positions is not None and positions.shape[-1] == widths[-1]:
        _check_positions(read_rows(positions, names.POSITIONS, None), vision.metadata.file)
    return described.vision_config(vision.metadata, widths, depths, pos_embed=positions is not None)


def _check_positions(table: F32, file: str) -> None:
    """Refuse a table of positions that is not the one that yasa2 adds. table: (cells, channels)."""
    cells, channels = table.shape
    omega = 10_000.0 ** -(np.arange(channels // 4) / (channels / 4))
    row, column = np.divmod(np.arange(cells), POSITION_GRID)
    waves = [wave(place[:, None] * omega) for place in (column, row) for wave in (np.sin, np.cos)]
    expected = np.concatenate(waves, axis=1)
    if expected.shape != table.shape or not np.allclose(table, expected, atol=_TABLE_ERROR):
        raise UnsupportedError(f"{file}: {names.POSITIONS} is another table of positions than yasa2's: not supported")


def _check_alone(parts: Parts) -> None:
    """Refuse a text file that needs a projector. Raises: UnsupportedError."""
    if set(described.VISION_TOKENS) <= tokenizer.control_tokens(parts.metadata):
        raise UnsupportedError(
            f"{parts.metadata.file}: is the text half of a Reka Edge model (its tokens say so):"
            " name the file of its vision tower with --mmproj"
        )


def _files(paths: tuple[Path, ...]) -> dict[str, Path]:
    """Each file by its name, and a projector of the same name as the text model by another."""
    files: dict[str, Path] = {}
    for path in paths:
        files[path.name if path.name not in files else f"mmproj-{path.name}"] = path
    return files


def _ignored(parts: Parts) -> tuple[str, ...]:
    return described.unread(parts.metadata)


def _note(tensors: Mapping[str, GgufEntry]) -> str:
    """How the tensors are stored: "from GGUF: 210 Q4_1, 61 F32"."""
    kinds, counts = np.unique([entry.dtype for entry in tensors.values()], return_counts=True)
    stored = sorted(zip(counts.tolist(), kinds.tolist(), strict=True), reverse=True)
    return "from GGUF: " + ", ".join(f"{count} {kind}" for count, kind in stored)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value).encode("utf-8")
