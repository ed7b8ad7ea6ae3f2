"""Opens the files of a checkpoint folder: plain names, regular files, capped JSON without surprises.

A GGUF file stands for the folder it came from: its small files are built from its metadata.
"""

import json
import stat
from collections.abc import Mapping
from pathlib import Path

from export.checkpoint.gguf.header import is_gguf
from export.checkpoint.gguf.source import small_file
from export.errors import CheckpointError

MAX_CONFIG_BYTES = 1 << 20


def plain_file(folder: Path, name: str) -> Path:
    """The real path of one file of a checkpoint folder.

    name: a plain file name. A link is followed only as the Hugging Face cache makes it: from
    `snapshots/REVISION/` to a blob of the same repository.
    Raises: CheckpointError if the name is not plain, the file is missing, not regular, or a foreign link.
    """
    if name in ("", ".", "..") or any(char in name for char in "/\\\0") or not name.isprintable():
        raise CheckpointError(f"{name!r} is not a plain file name inside the checkpoint folder")
    path = folder / name
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            path = _blob(folder, path)
            mode = path.lstat().st_mode
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{name}: cannot be opened: {_reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{name}: expected a regular file")
    return path


def has_file(folder: Path, name: str) -> bool:
    """Whether the folder has an entry of this name, of whatever kind."""
    if is_gguf(folder):
        return small_file(folder, name) is not None
    return (folder / name).exists() or (folder / name).is_symlink()


def read_json(folder: Path, name: str, *, max_bytes: int = MAX_CONFIG_BYTES) -> Mapping[str, object]:
    """The JSON object of one file of a checkpoint folder.

    Raises: CheckpointError if the file is missing, too large, not an object, or has a key twice.
    """
    return parse_object(read_bytes(folder, name, max_bytes=max_bytes), name=name)


def read_bytes(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """The bytes of one file of a checkpoint folder.

    Raises: CheckpointError if the file is missing or larger than max_bytes.
    """
    if is_gguf(folder):
        data = small_file(folder, name)
        if data is None:
            raise CheckpointError(f"{folder.name}: holds no {name}")
        return data
    path = plain_file(folder, name)
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{name}: {size} bytes, expected at most {max_bytes}")
    return path.read_bytes()


def parse_object(data: bytes, *, name: str) -> Mapping[str, object]:
    """A JSON object with every key once.

    Raises: CheckpointError naming the file and the reason.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError as error:
        raise CheckpointError(f"{name}: nested too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{name}: not the JSON expected: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


def _blob(folder: Path, link: Path) -> Path:
    """The target of a link of the Hugging Face cache (models--ORG--NAME/snapshots/REVISION/FILE -> blobs/HASH)."""
    real = folder.resolve(strict=True)
    target = link.resolve(strict=True)
    if real.parent.name != "snapshots" or target.parent != real.parent.parent / "blobs":
        raise CheckpointError(f"{link.name}: is a link to outside the checkpoint; expected a regular file")
    return target


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique: dict[str, object] = {}
    for key, value in pairs:
        if key in unique:
            raise ValueError(f"the key {key[:80]!r} occurs twice")
        unique[key] = value
    return unique


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
