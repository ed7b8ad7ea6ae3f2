"""The manifest of a bundle as frozen dataclasses, read strictly, every value within its range."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edge.bundle.prompt_spec import PromptSpec as PromptSpec
from edge.bundle.prompt_spec import prompt_problems
from edge.bundle.speech_spec import MAX_DIMENSION, speech_problems
from edge.bundle.speech_spec import SpeechSpec as SpeechSpec
from edge.bundle.strict_json import load, plain, read
from edge.bundle.voice_spec import SPEAKERS, VOICE, Family, speakers_bytes, voice_problems
from edge.bundle.voice_spec import LicenseSpec as LicenseSpec
from edge.bundle.voice_spec import VoiceSpec as VoiceSpec
from edge.errors import BundleError
from edge.version import RUNTIME_VERSION

FORMAT = 1
MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"
DECODER = "decoder.onnx"
DECODER_INT8_CACHE = "decoder-kv8.onnx"  # the same decoder over a cache of 8 bits
TABLE_BLOCK = 32  # weights of a row of the embedding table that share a scale

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHAT_FAMILIES = ("yasa", "yasa2", "siglip", "llama")
_SEEING = ("yasa2", "siglip")  # families with a vision tower
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")


@dataclass(frozen=True)
class Source:
    """What the bundle was made from: sha256 by file name, config keys that were ignored, notes for people.

    repository, revision: where a downloaded checkpoint came from, ORG/NAME and the commit; None for a local folder.
    """

    architecture: str
    files: Mapping[str, str]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    repository: str | None = None
    revision: str | None = None


Activations = Literal["fp32", "fp16"]
TableScheme = Literal["fp32", "int8", "int8-block32"]
# fp16: float16 (with those activations alone).
# int8: a scale a row, of activations too; int4: blocks of 128; -blockN: of N; -zp, -min: with zero points, minimums.
Scheme = Literal["fp32", "fp16", "int8", "int4", "int8-block32", "int4-block32", "int4-block32-zp", "int4-block32-min",
                 "int4-block64", "int4-block64-zp"]  # fmt: skip


@dataclass(frozen=True)
class TensorRecord:
    """How one tensor was stored; `error` is the relative Frobenius error |W - Wq| / |W|."""

    scheme: Scheme
    error: float


@dataclass(frozen=True)
class RecipeRecord:
    """The recipe's name, what it did to each tensor, and whether by calibration and in a rotated stream.

    activations: what the decoder's products and attention compute in, and what keys and values are. float16 is for
    GPUs, and its towers are of ONNX's own operators.
    """

    name: str
    tensors: Mapping[str, TensorRecord]
    calibrated: bool = False
    rotated: bool = False
    activations: Activations = "fp32"


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
    embedding: TableScheme


@dataclass(frozen=True)
class VisionSpec:
    """How an image becomes tiles and a tile embeddings; crop_share None: small tiles are warped like large ones."""

    tile_px: int
    patch_px: int
    max_tiles: int
    tokens_per_tile: int
    resample: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_share: float | None
    order: Literal["cells-first", "whole-first"]
    frames: int


@dataclass(frozen=True)
class AudioSpec:
    """How audio becomes embeddings: a window of log-mel frames (10 ms each) gives tokens_per_window of them."""

    n_mels: int
    window_frames: int
    tokens_per_window: int


@dataclass(frozen=True)
class MemorySpec:
    """Computed, not measured: bytes of all weights, bytes of cache per position."""

    weights_bytes: int
    cache_bytes_per_token: int


def cache_bytes_per_token(*, n_layers: int, n_kv_heads: int, head_dim: int, value_bytes: int = 4) -> int:
    """Return the bytes of one position of a decoder's cache: keys and values, all layers, float32 unless said."""
    return 2 * n_layers * n_kv_heads * head_dim * value_bytes


@dataclass(frozen=True)
class Int8Cache:
    """How the scales of a cache of 8 bits were found: positions of text that were read, and what was left above."""

    positions: int
    margin: float


@dataclass(frozen=True)
class FileEntry:
    """Size and sha256 (hex) of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The only truth about a bundle; int8_cache: None where it can only be run with a float32 cache."""

    format: int
    id: str
    aliases: tuple[str, ...]
    family: Literal["yasa", "yasa2", "siglip", "llama"]
    min_runtime: str
    source: Source
    recipe: RecipeRecord
    text: TextSpec
    vision: VisionSpec | None
    audio: AudioSpec | None
    prompt: PromptSpec
    memory: MemorySpec
    files: Mapping[str, FileEntry]
    int8_cache: Int8Cache | None = None


@dataclass(frozen=True)
class SpeechManifest:
    """The only truth about a speech bundle: one that turns audio into text and does not chat."""

    format: int
    id: str
    aliases: tuple[str, ...]
    family: Literal["whisper"]
    min_runtime: str
    source: Source
    recipe: RecipeRecord
    speech: SpeechSpec
    memory: MemorySpec
    files: Mapping[str, FileEntry]


@dataclass(frozen=True)
class VoiceManifest:
    """The only truth about a voice bundle: one that turns text into audio. Its graph is its maker's, as published."""

    format: int
    id: str
    aliases: tuple[str, ...]
    family: Family
    min_runtime: str
    source: Source
    license: LicenseSpec
    voice: VoiceSpec
    memory: MemorySpec
    files: Mapping[str, FileEntry]


AnyManifest = Manifest | SpeechManifest | VoiceManifest
_KINDS: Mapping[str, type[AnyManifest]] = {"whisper": SpeechManifest, "vits": VoiceManifest, "kokoro": VoiceManifest}


def parse_manifest(data: bytes, *, file: str) -> AnyManifest:
    """Parse a manifest strictly; format and min_runtime are looked at first, then the family tells the kind.

    Raises: BundleError naming file and key.
    """
    document = load(data, file=file)
    _check_format(document, file)
    family = document.get("family")
    if isinstance(family, str) and family not in (*_CHAT_FAMILIES, *_KINDS):
        known = " or ".join(map(repr, (*_CHAT_FAMILIES, *_KINDS)))
        raise BundleError(f"{file}: family: expected {known}, got {family!r:.200}")
    kind = _KINDS.get(str(family), Manifest)
    manifest = read(kind, document, file=file)
    if not isinstance(manifest, AnyManifest):
        raise BundleError(f"{file}: expected a JSON object")
    for key, wanted in _range_problems(manifest):
        raise BundleError(f"{file}: {key}: expected {wanted}")
    return manifest


def dump_manifest(manifest: AnyManifest) -> bytes:
    """Return the manifest's bytes: sorted keys, indent 1, a newline at the end.

    Raises: BundleError as parse_manifest does.
    """
    try:
        text = json.dumps(plain(manifest), sort_keys=True, indent=1, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    data = (text + "\n").encode()
    parse_manifest(data, file=MANIFEST)
    return data


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


def _range_problems(manifest: AnyManifest) -> Iterator[tuple[str, str]]:
    """Yield (key, what was expected) for every value outside its range."""
    if not _PLAIN_NAME.fullmatch(manifest.id):
        yield "id", f"letters, digits, dots and dashes, got {manifest.id!r:.200}"
    for size in (manifest.memory.weights_bytes, manifest.memory.cache_bytes_per_token):
        if size < 0:
            yield "memory", f"bytes >= 0, got {size}"
    if isinstance(manifest, VoiceManifest):
        yield from voice_problems(manifest.family, manifest.voice, manifest.license)
    elif isinstance(manifest, SpeechManifest):
        yield from speech_problems(manifest.speech)
    else:
        yield from _chat_problems(manifest)
    yield from _file_problems(manifest)


def _chat_problems(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield from _text_problems(manifest.text)
    if manifest.vision is not None:
        yield from _vision_problems(manifest.vision)
    if manifest.audio is not None:
        yield from _audio_problems(manifest.audio)
    if (manifest.family in _SEEING) != (manifest.vision is not None):
        yield "vision", f"{'an object' if manifest.family in _SEEING else 'null'} for family {manifest.family!r}"
    if manifest.int8_cache is not None and not (manifest.int8_cache.positions > 0 and manifest.int8_cache.margin > 0):
        yield "int8_cache", f"positions and a margin above 0, got {manifest.int8_cache}"
    kinds = ["image", "video"] if manifest.vision is not None else []
    kinds += ["audio"] if manifest.audio is not None else []
    yield from prompt_problems(manifest.prompt, vocab_size=manifest.text.vocab_size, kinds=kinds)


def _text_problems(text: TextSpec) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(text):
        value = getattr(text, field.name)
        if field.type is int and not 1 <= value <= MAX_DIMENSION:
            yield f"text.{field.name}", f"1 to {MAX_DIMENSION}, got {value}"
    if text.n_heads % text.n_kv_heads:
        yield "text.n_kv_heads", f"a divisor of n_heads {text.n_heads}, got {text.n_kv_heads}"
    if not 0 < text.rotary_share <= 1:
        yield "text.rotary_share", f"a share in (0, 1], got {text.rotary_share}"
    for name in ("rope_base", "norm_eps", "logit_scale"):
        if not getattr(text, name) > 0:
            yield f"text.{name}", f"a number above 0, got {getattr(text, name)}"


def _vision_problems(vision: VisionSpec) -> Iterator[tuple[str, str]]:
    largest_of = {"tile_px": 4096, "patch_px": 4096, "max_tiles": 256, "tokens_per_tile": 65536, "frames": 32}
    for name, largest in largest_of.items():
        if not 1 <= getattr(vision, name) <= largest:
            yield f"vision.{name}", f"1 to {largest}, got {getattr(vision, name)}"
    if vision.crop_share is not None and not 0 < vision.crop_share <= 1:
        yield "vision.crop_share", f"a share in (0, 1] or null, got {vision.crop_share}"
    if min(vision.std) <= 0:
        yield "vision.std", f"numbers above 0, got {vision.std}"


def _audio_problems(audio: AudioSpec) -> Iterator[tuple[str, str]]:
    largest_of = {"n_mels": 1024, "window_frames": 1 << 16, "tokens_per_window": 1 << 15}
    for name, largest in largest_of.items():
        if not 1 <= getattr(audio, name) <= largest:
            yield f"audio.{name}", f"1 to {largest}, got {getattr(audio, name)}"
    if audio.window_frames % (2 * audio.tokens_per_window):
        yield "audio.tokens_per_window", f"a divisor of half of {audio.window_frames} frames"


def _file_problems(manifest: AnyManifest) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the file list itself, without looking at the disk."""
    wanted = _wanted_files(manifest)
    for name in sorted(wanted ^ manifest.files.keys()):
        yield f"files.{name}"[:200], "this file" if name in wanted else "no such file"
    for name, entry in manifest.files.items():
        if entry.bytes < 0 or not _SHA256.fullmatch(entry.sha256):
            yield f"files.{name}"[:200], f"bytes >= 0 and 64 hex digits, got {entry}"
    if isinstance(manifest, Manifest):
        yield from _table_problems(manifest)
    if isinstance(manifest, VoiceManifest) and SPEAKERS in manifest.files:
        n_bytes = manifest.files[SPEAKERS].bytes
        if n_bytes != speakers_bytes(manifest.voice):
            yield f"files.{SPEAKERS}", f"{speakers_bytes(manifest.voice)} bytes for its speakers, got {n_bytes}"


def _wanted_files(manifest: AnyManifest) -> set[str]:
    """Return the names of the files that a bundle has."""
    if isinstance(manifest, VoiceManifest):
        return {VOICE, SPEAKERS} if manifest.family == "kokoro" else {VOICE}
    wanted = {DECODER, "decoder.bin", "tokenizer.json"}
    if isinstance(manifest, SpeechManifest):
        return wanted | {"encoder.onnx", "encoder.bin"}
    wanted.add("embedding.bin")
    if manifest.vision is not None:
        wanted |= {"vision.onnx", "vision.bin"}
    if manifest.audio is not None:
        wanted |= {"audio.onnx", "audio.bin"}
    if manifest.int8_cache is not None:
        wanted.add(DECODER_INT8_CACHE)
    return wanted


def _table_problems(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the embedding table's size."""
    text = manifest.text
    in_blocks = -(-text.hidden_size // TABLE_BLOCK) * (TABLE_BLOCK + 2)
    row_bytes = {"fp32": 4 * text.hidden_size, "int8": text.hidden_size + 4}.get(text.embedding, in_blocks)
    table = manifest.files.get("embedding.bin")
    if table is not None and table.bytes != text.vocab_size * row_bytes:
        yield "files.embedding.bin", f"{text.vocab_size * row_bytes} bytes from the text shape, got {table.bytes}"
