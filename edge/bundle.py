"""A bundle on disk: the manifest as frozen dataclasses, read strictly, and the checks before anything is mapped."""

import dataclasses
import hashlib
import json
import math
import os
import re
import stat
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import BundleError

RUNTIME_VERSION = "0.1.0"
FORMAT = 1
MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"

_MAX_MANIFEST_BYTES = 8 << 20
_MAX_INT = 1 << 53
_MAX_DIMENSION = 1 << 24
_CHUNK_BYTES = 1 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")


@dataclass(frozen=True)
class Source:
    """What the bundle was made from: sha256 by file name, config keys that were ignored, notes for people."""

    architecture: str
    files: Mapping[str, str]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TensorRecord:
    """How one tensor was stored; `error` is the relative Frobenius error |W - Wq| / |W|."""

    scheme: Literal["fp32", "int8", "int4"]
    error: float


@dataclass(frozen=True)
class RecipeRecord:
    """The recipe's name and what it did to each tensor."""

    name: str
    tensors: Mapping[str, TensorRecord]


@dataclass(frozen=True)
class TextSpec:
    """The decoder's shape; `context` counts positions, `rotary_share` is the rotated share of a head."""

    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context: int
    rotary_share: float
    rope_base: float
    norm_eps: float
    logit_scale: float
    embedding: Literal["fp32", "int8"]


@dataclass(frozen=True)
class VisionSpec:
    """How a picture becomes tiles and a tile becomes embeds."""

    tile_px: int
    patch_px: int
    max_tiles: int
    tokens_per_tile: int
    resample: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_share: float
    order: Literal["cells-first", "whole-first"]
    frames: int


@dataclass(frozen=True)
class PromptSpec:
    """The prompt format, the wording for tools, every control token's id, and what ends an answer."""

    format: Literal["yasa"]
    tools: Literal["A", "B"]
    control: Mapping[str, int]
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]


@dataclass(frozen=True)
class MemorySpec:
    """Computed, not measured: bytes of all weights, bytes of cache per position."""

    weights_bytes: int
    cache_bytes_per_token: int


@dataclass(frozen=True)
class FileEntry:
    """Size and sha256 (hex) of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The only truth about a bundle."""

    format: int
    id: str
    aliases: tuple[str, ...]
    family: Literal["yasa", "yasa2"]
    min_runtime: str
    source: Source
    recipe: RecipeRecord
    text: TextSpec
    vision: VisionSpec | None
    audio: None
    prompt: PromptSpec
    memory: MemorySpec
    files: Mapping[str, FileEntry]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read and whose files have the declared sizes."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read the manifest and check names, kinds and sizes of all files; small files by sha256 too.

        Raises: BundleError naming the file and what is wrong with it.
        """
        path = Path(path)
        try:
            data = _read_small(path / MANIFEST)
            manifest = parse_manifest(data, file=str(path / MANIFEST))
            problems = list(_entry_problems(path, manifest))
            # The graphs and the tokenizer are small and decide everything else, so every open reads them whole.
            problems = problems or list(_content_problems(path, manifest, only_small=True))
        except OSError as error:
            raise BundleError(f"{path}: cannot be read as a bundle: {error.strerror}") from error
        if problems:
            raise BundleError("; ".join(problems))
        return cls(path, manifest)

    def file(self, name: str) -> Path:
        """Return the path of one of the manifest's files. Raises: BundleError when it lists no such file."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path / MANIFEST}: files has no {name!r}")
        return self.path / name


def verify(path: Path) -> list[str]:
    """Read every byte of a bundle; return every problem, none when it is sound. Writes nothing."""
    try:
        bundle = Bundle.open(path)
        return list(_content_problems(bundle.path, bundle.manifest, only_small=False))
    except BundleError as error:
        return [str(error)]
    except OSError as error:
        return [f"{path}: {error.strerror}"]


def parse_manifest(data: bytes, *, file: str) -> Manifest:
    """Parse a manifest strictly; format and min_runtime are looked at first.

    Raises: BundleError naming file and key.
    """
    document = _load_json(data, file)
    _check_format(document, file)
    manifest = _read(Manifest, document, file, "")
    if not isinstance(manifest, Manifest):
        raise BundleError(f"{file}: expected a JSON object")
    for key, wanted in _range_problems(manifest):
        raise BundleError(f"{file}: {key}: expected {wanted}")
    return manifest


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes: sorted keys, indent 1, a newline at the end.

    Raises: BundleError as parse_manifest does.
    """
    try:
        text = json.dumps(dataclasses.asdict(manifest), sort_keys=True, indent=1, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    data = (text + "\n").encode()
    parse_manifest(data, file=MANIFEST)
    return data


def _load_json(data: bytes, file: str) -> dict[str, object]:
    """Parse JSON without its traps: duplicate keys, NaN, huge numbers, endless depth, half surrogates."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, value in items:
            if key in result:
                raise BundleError(f"{file}: key {key!r:.200} stands twice")
            result[key] = value
        return result

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > _MAX_INT:
            raise BundleError(f"{file}: integer {text[:40]} is too large")
        return int(text)

    def real(text: str) -> float:
        if not math.isfinite(float(text)):
            raise BundleError(f"{file}: number {text[:40]} is not finite")
        return float(text)

    try:
        text = data.decode("utf-8")
        document = json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=real)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not a JSON document: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file}: expected a JSON object, got {type(document).__name__}")
    return document


def _check_format(document: Mapping[str, object], file: str) -> None:
    """Refuse what another runtime should read before looking at anything else."""
    declared = document.get("format")
    if type(declared) is not int or declared != FORMAT:
        raise BundleError(f"{file}: format: expected {FORMAT}, got {declared!r:.200}")
    wanted = document.get("min_runtime")
    match = _VERSION.fullmatch(wanted) if isinstance(wanted, str) else None
    if match is None:
        raise BundleError(f"{file}: min_runtime: expected a version such as 0.1.0, got {wanted!r:.200}")
    if tuple(map(int, match.groups())) > tuple(map(int, RUNTIME_VERSION.split("."))):
        raise BundleError(f"{file}: min_runtime: the bundle needs runtime {wanted}, this is {RUNTIME_VERSION}")


def _read(kind: object, value: object, file: str, key: str) -> object:
    """Turn a parsed JSON value into what a type annotation asks for. Raises: BundleError naming file and key."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, file, key)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _read(arguments[0], value, file, key)
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise BundleError(f"{file}: {key}: expected {len(arguments)} values, got {len(value)}")
        return tuple(_read(arguments[0], item, file, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {
            _read_text(name, file, key): _read(arguments[1], item, file, f"{key}.{name}")
            for name, item in value.items()
        }
    if kind is float and type(value) in (int, float):
        return float(typing.cast(float, value))
    if kind is str:
        return _read_text(value, file, key)
    if isinstance(kind, type) and type(value) is kind:
        return value
    name = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise BundleError(f"{file}: {key}: expected {name}, got {value!r:.200}")


def _read_dataclass(kind: type, value: object, file: str, key: str) -> object:
    if not isinstance(value, dict):
        raise BundleError(f"{file}: {key}: expected an object, got {value!r:.200}")
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in value.keys() - hints.keys():
        raise BundleError(f"{file}: unknown key {prefix}{name}"[:300])
    for name in hints.keys() - value.keys():
        raise BundleError(f"{file}: missing key {prefix}{name}")
    return kind(**{name: _read(hint, value[name], file, prefix + name) for name, hint in hints.items()})


def _read_text(value: object, file: str, key: str) -> str:
    if not isinstance(value, str):
        raise BundleError(f"{file}: {key}: expected a string, got {value!r:.200}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BundleError(f"{file}: {key}: half a surrogate pair in {value!r:.200}") from error
    return value


def _range_problems(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (key, what was expected) for every value outside its range."""
    if not _PLAIN_NAME.fullmatch(manifest.id):
        yield "id", f"letters, digits, dots and dashes, got {manifest.id!r:.200}"
    yield from _text_problems(manifest.text)
    if manifest.vision is not None:
        yield from _vision_problems(manifest.vision)
    if (manifest.family == "yasa2") != (manifest.vision is not None):
        yield "vision", f"{'an object' if manifest.family == 'yasa2' else 'null'} for family {manifest.family!r}"
    vocab_size = manifest.text.vocab_size
    for name, token in [*manifest.prompt.control.items(), *(("stop_ids", token) for token in manifest.prompt.stop_ids)]:
        if not 0 <= token < vocab_size:
            yield f"prompt.{name}", f"an id below the vocabulary of {vocab_size}, got {token}"
    if not manifest.prompt.stop_ids and not manifest.prompt.stop_strings:
        yield "prompt.stop_ids", "at least one stop id or stop string"
    for size in (manifest.memory.weights_bytes, manifest.memory.cache_bytes_per_token):
        if size < 0:
            yield "memory", f"bytes >= 0, got {size}"
    yield from _file_problems(manifest)


def _text_problems(text: TextSpec) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(text):
        value = getattr(text, field.name)
        if field.type is int and not 1 <= value <= _MAX_DIMENSION:
            yield f"text.{field.name}", f"1 to {_MAX_DIMENSION}, got {value}"
    if text.n_heads % text.n_kv_heads:
        yield "text.n_kv_heads", f"a divisor of n_heads {text.n_heads}, got {text.n_kv_heads}"
    if not 0 < text.rotary_share <= 1:
        yield "text.rotary_share", f"a share in (0, 1], got {text.rotary_share}"
    for name in ("rope_base", "norm_eps", "logit_scale"):
        if not getattr(text, name) > 0:
            yield f"text.{name}", f"a number above 0, got {getattr(text, name)}"


def _vision_problems(vision: VisionSpec) -> Iterator[tuple[str, str]]:
    largest_of = {"tile_px": 4096, "patch_px": 4096, "max_tiles": 256, "tokens_per_tile": 65536, "frames": 256}
    for name, largest in largest_of.items():
        if not 1 <= getattr(vision, name) <= largest:
            yield f"vision.{name}", f"1 to {largest}, got {getattr(vision, name)}"
    if not 0 < vision.crop_share <= 1:
        yield "vision.crop_share", f"a share in (0, 1], got {vision.crop_share}"
    if min(vision.std) <= 0:
        yield "vision.std", f"numbers above 0, got {vision.std}"


def _file_problems(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the file list itself, without looking at the disk."""
    wanted = {"decoder.onnx", "decoder.bin", "embedding.bin", "tokenizer.json"}
    if manifest.vision is not None:
        wanted |= {"vision.onnx", "vision.bin"}
    for name in sorted(wanted ^ manifest.files.keys()):
        yield f"files.{name}"[:200], "this file" if name in wanted else "no such file"
    for name, entry in manifest.files.items():
        if entry.bytes < 0 or not _SHA256.fullmatch(entry.sha256):
            yield f"files.{name}"[:200], f"bytes >= 0 and 64 hex digits, got {entry}"
    text = manifest.text
    row_bytes = text.hidden_size + 4 if text.embedding == "int8" else text.hidden_size * 4
    table = manifest.files.get("embedding.bin")
    if table is not None and table.bytes != text.vocab_size * row_bytes:
        yield "files.embedding.bin", f"{text.vocab_size * row_bytes} bytes from the text shape, got {table.bytes}"


def _entry_problems(path: Path, manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with the directory's entries: links, sizes, missing and unknown files."""
    found: dict[str, os.stat_result] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            found[entry.name] = entry.stat(follow_symlinks=False)
    for name in sorted(found.keys() - manifest.files.keys() - {MANIFEST, CERTIFICATE}):
        yield f"{path}: unknown file {name!r:.200}"
    for name, entry_stat in sorted(found.items()):
        if not stat.S_ISREG(entry_stat.st_mode):
            yield f"{path / name}: not a regular file (links and folders are refused)"
    for name, declared in sorted(manifest.files.items()):
        if name not in found:
            yield f"{path / name}: missing"
        elif found[name].st_size != declared.bytes:
            yield f"{path / name}: expected {declared.bytes} bytes, got {found[name].st_size}"


def _content_problems(path: Path, manifest: Manifest, *, only_small: bool) -> Iterator[str]:
    """Yield the files whose sha256 is not the manifest's."""
    for name, declared in sorted(manifest.files.items()):
        if only_small and name.endswith(".bin"):
            continue
        digest = hashlib.sha256()
        with _open_plain(path / name) as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
        if digest.hexdigest() != declared.sha256:
            yield f"{path / name}: its sha256 is not the manifest's: the file is damaged or was replaced"


def _read_small(path: Path) -> bytes:
    with _open_plain(path) as file:
        data = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(data) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: expected at most {_MAX_MANIFEST_BYTES} bytes")
    return data


def _open_plain(path: Path) -> typing.BinaryIO:
    """Open a regular file for reading without following a link or waiting on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")
