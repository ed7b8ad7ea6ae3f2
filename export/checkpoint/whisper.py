"""A Whisper checkpoint: its configuration, the rules of its decoding, its tokenizer, and the model itself."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from edge.bundle.manifest import SpeechSpec
from export.checkpoint.entry import Entry
from export.checkpoint.files import has_file, parse_object, plain_file, read_bytes, read_json
from export.checkpoint.shards import read_header
from export.errors import CheckpointError, ConfigError, TokenizerError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

ARCHITECTURE: Final = "WhisperForConditionalGeneration"
CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_VOCAB, _MERGES = "vocab.json", "merges.txt"  # what older checkpoints have in its place
_TOKENIZER_BYTES = 64 << 20
_TASKS = ("transcribe", "translate")
_READ = frozenset(
    ("decoder_start_token_id", "eos_token_id", "no_timestamps_token_id", "lang_to_id", "task_to_id", "is_multilingual",
     "suppress_tokens", "begin_suppress_tokens", "max_initial_timestamp_index", "max_length", "transformers_version")
)  # fmt: skip


@dataclass(frozen=True)
class WhisperCheckpoint:
    """An open checkpoint: what its bundle's manifest says of it. files: read so far and to be read."""

    path: Path
    spec: SpeechSpec
    tokenizer_json: bytes
    files: tuple[str, ...]
    ignored: tuple[str, ...]
    n_weights: int

    @classmethod
    def open(cls, path: Path) -> "WhisperCheckpoint":
        """Read configuration, tokenizer and headers. Raises: CheckpointError, ConfigError, TokenizerError."""
        config = _Keys(read_json(path, CONFIG), CONFIG)
        rules = _Keys(read_json(path, GENERATION), GENERATION)
        spec = _spec(config, rules)
        shards, entries = _entries(path)
        tokenizer, read = _tokenizer(path, spec)
        weights = (_INDEX, *shards) if has_file(path, _INDEX) else shards
        ignored = tuple(sorted(f"{GENERATION}: {key}" for key in rules.values if key not in _READ))
        n_weights = sum(math.prod(entry.shape) for entry in entries)
        return cls(path, spec, tokenizer, (CONFIG, GENERATION, *read, *weights), ignored, n_weights)

    def model(self) -> "WhisperForConditionalGeneration":
        """Load the weights, float32. Raises: CheckpointError."""
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the library is imported: nothing is looked up anywhere
        import torch
        from transformers import WhisperForConditionalGeneration

        try:
            model, report = WhisperForConditionalGeneration.from_pretrained(
                self.path.absolute(), dtype=torch.float32, use_safetensors=True, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{self.path}: transformers cannot load it: {reason}") from error
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if report[kind]:
                raise CheckpointError(f"{self.path}: {kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[0]}")
        for name, tensor in model.named_parameters():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"{name}: holds values that are not finite")
        model.eval()
        return cast("WhisperForConditionalGeneration", model)


def is_whisper(path: Path) -> bool:
    """Whether a checkpoint folder's configuration says Whisper. Raises: CheckpointError."""
    architectures = read_json(path, CONFIG).get("architectures") if has_file(path, CONFIG) else None
    return isinstance(architectures, list) and architectures[:1] == [ARCHITECTURE]


class _Keys:
    """The keys of one file, each with the type that is asked for."""

    def __init__(self, values: Mapping[str, object], file: str) -> None:
        self.values = values
        self._file = file

    def integer(self, key: str, *, low: int = 0) -> int:
        value = self.values.get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if type(value) is not int or value < low:
            raise ConfigError(f"{self._file}: {key}: expected an integer of at least {low}, got {value!r:.100}")
        return value

    def optional(self, key: str) -> int | None:
        return None if self.values.get(key) is None else self.integer(key)

    def ids(self, key: str) -> tuple[int, ...]:
        """The ids of a list, sorted; negative ones mean nothing."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise ConfigError(f"{self._file}: {key}: expected a list of token ids, got {value!r:.100}")
        return tuple(sorted({item for item in value if item >= 0}))

    def named(self, key: str) -> dict[str, int]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict) or not all(type(item) is int for item in value.values()):
            raise ConfigError(f"{self._file}: {key}: expected an object of token ids, got {value!r:.100}")
        return {str(name): token for name, token in value.items()}


def _spec(config: _Keys, rules: _Keys) -> SpeechSpec:
    hidden, heads = config.integer("d_model", low=1), config.integer("decoder_attention_heads", low=1)
    n_positions, context = config.integer("max_source_positions", low=1), config.integer("max_target_positions", low=1)
    is_multilingual = rules.values.get("is_multilingual") is not False
    languages = {name.strip("<|>"): token for name, token in rules.named("lang_to_id").items()}
    tasks = {name: token for name, token in rules.named("task_to_id").items() if name in _TASKS}
    if is_multilingual and languages and "transcribe" not in tasks:
        raise ConfigError(f"{GENERATION}: task_to_id: expected 'transcribe' for a model of several languages")
    if hidden % heads:
        raise ConfigError(f"{CONFIG}: d_model: expected a multiple of {heads} heads, got {hidden}")
    max_length = rules.optional("max_length")
    return SpeechSpec(
        n_mels=config.integer("num_mel_bins", low=1),
        n_frames=2 * n_positions,
        n_positions=n_positions,
        hidden_size=hidden,
        n_layers=config.integer("decoder_layers", low=1),
        n_heads=heads,
        head_dim=hidden // heads,
        vocab_size=config.integer("vocab_size", low=1),
        context=context if max_length is None else min(context, max_length),
        start=rules.integer("decoder_start_token_id"),
        end=rules.integer("eos_token_id"),
        no_timestamps=rules.integer("no_timestamps_token_id"),
        languages=dict(sorted(languages.items())) if is_multilingual else {},
        tasks=dict(sorted(tasks.items())) if is_multilingual and languages else {},
        suppress=rules.ids("suppress_tokens"),
        begin_suppress=rules.ids("begin_suppress_tokens"),
        max_first_timestamp=rules.optional("max_initial_timestamp_index"),
    )


def _entries(path: Path) -> tuple[tuple[str, ...], list[Entry]]:
    """The files of weights and every tensor in them. Raises: CheckpointError."""
    if has_file(path, _INDEX):
        mapping = read_json(path, _INDEX, max_bytes=_TOKENIZER_BYTES).get("weight_map")
        if not isinstance(mapping, dict):
            raise CheckpointError(f"{_INDEX}: weight_map: expected an object")
        shards = tuple(sorted({str(name) for name in mapping.values()}))
    elif has_file(path, _WEIGHTS):
        shards = (_WEIGHTS,)
    else:
        raise CheckpointError(f"{path}: expected {_WEIGHTS} or {_INDEX}; other forms of weights are not read")
    return shards, [entry for shard in shards for entry in read_header(plain_file(path, shard), name=shard).values()]


def _tokenizer(path: Path, spec: SpeechSpec) -> tuple[bytes, tuple[str, ...]]:
    """The tokenizer.json of a bundle and the files it was made from. Raises: TokenizerError."""
    if has_file(path, TOKENIZER):
        files: tuple[str, ...] = (TOKENIZER,)
        data = read_bytes(path, TOKENIZER, max_bytes=_TOKENIZER_BYTES)
    else:
        if not (has_file(path, _VOCAB) and has_file(path, _MERGES)):
            raise TokenizerError(f"{path}: expected {TOKENIZER}, or {_VOCAB} and {_MERGES}")
        files = (_VOCAB, _MERGES)
        data = _joined(path)
    model = parse_object(data, name=TOKENIZER).get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocab, dict) or len(vocab) < min(256, spec.end):
        raise TokenizerError(f"{TOKENIZER}: model.vocab: expected the tokens below {spec.end}")
    return data, files


def _joined(path: Path) -> bytes:
    """A tokenizer.json of vocabulary and merges; tokens of control are the manifest's, by id."""
    vocab = read_json(path, _VOCAB, max_bytes=_TOKENIZER_BYTES)
    lines = read_bytes(path, _MERGES, max_bytes=_TOKENIZER_BYTES).decode("utf-8", "replace").splitlines()
    merges = [line for line in lines if line.count(" ") == 1 and not line.startswith("#version")]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "fuse_unk": False, "vocab": vocab, "merges": merges}
    document: dict[str, object] = {"version": "1.0", "added_tokens": [], "normalizer": None, "model": model}
    return json.dumps({**document, "pre_tokenizer": level, "decoder": level}, sort_keys=True).encode()
