"""Checkpoints of random weights in every stored form, for tests and measurements; written piece by piece.

A seed fixes the weights by role: the same shape and seed give the same model in every form.
"""

import itertools
import json
import math
import string
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from export import config as configuration
from export.checkpoint import CONFIG, F32, INDEX, PREPROCESSOR
from export.config import ModelConfig, TextConfig
from export.errors import OutputError
from export.names import expected, qkv_rows
from export.tokenizer import N_CONTROL, TOKENIZER, TOKENIZER_CONFIG, build, byte_alphabet, control_tokens

_CHUNK_VALUES = 1 << 22
_WORDS = (
    " the is are in and not what where how many there this a an of to you I human assistant system : . , ? ! \n\n"
    " picture image color colour shape circle square triangle rectangle star hexagon red orange yellow green blue"
    " purple pink brown black white grey one two three four five six left right top bottom middle"
)
_SPLIT: Mapping[str, str] = {
    "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "qkv": "self_attn.qkv_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "gate_up": "mlp.gate_up_proj",
    "down": "mlp.down_proj",
}  # fmt: skip
_NEOX: Mapping[str, str] = {
    "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "qkv": "attention.query_key_value",
    "o": "attention.dense", "gate_up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h",
}  # fmt: skip
_VISION: Mapping[str, str] = {
    "patch": "embeddings.patch_embeddings", "patch_norm": "embeddings.layernorm",
    "down_norm": "downsampling_layer.0", "down": "downsampling_layer.1", "norm": "layernorm",
}  # fmt: skip


@dataclass(frozen=True)
class TowerShape:
    """The vision tower of a random checkpoint; the fields are those of VisionConfig."""

    tile_px: int
    patch_px: int
    hidden_sizes: tuple[int, ...]
    depths: tuple[int, ...]
    max_tiles: int
    tokens_per_tile: int
    pos_embed: bool = True


@dataclass(frozen=True)
class Shape:
    """A random checkpoint; change single fields with `dataclasses.replace`.

    n_mergeable: ids of text (96 control ids follow); form: split, fused or neox; prefix: of the text tower's names
    (neox: before `gpt_neox.`); head_prefix: before `lm_head`; extra: further keys of the text configuration.
    """

    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    n_mergeable: int
    context: int
    shard_bytes: int
    tower: TowerShape | None
    rotary_share: float | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    form: str = "split"
    prefix: str = "model.language_model."
    head_prefix: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        """All ids, control tokens and fillers included."""
        return self.n_mergeable + N_CONTROL


TINY: Final = Shape(
    hidden_size=64, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=16, intermediate_size=160, n_mergeable=416,
    context=1024, shard_bytes=200_000,
    tower=TowerShape(384, 12, (16, 24, 32, 48), depths=(1, 1, 2, 1), max_tiles=4, tokens_per_tile=4),
)  # fmt: skip
TINY_TEXT: Final = replace(TINY, tower=None, prefix="model.", rotary_share=0.5)
ONE_B: Final = Shape(
    hidden_size=2048, n_layers=16, n_heads=32, n_kv_heads=8, head_dim=64, intermediate_size=8192, n_mergeable=100_256,
    context=16_384, shard_bytes=1 << 30,
    tower=TowerShape(512, 4, (352, 704, 1408, 2816), depths=(3, 3, 27, 3), max_tiles=4, tokens_per_tile=64),
)  # fmt: skip
SHAPES: Final[Mapping[str, Shape]] = {"tiny": TINY, "1b": ONE_B}


def write_checkpoint(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Writes a checkpoint folder: bf16 shards with an index, configuration and tokenizer. Returns the folder.

    The largest piece in memory is a fused tensor or 4 Mi values. Raises: OutputError if the folder exists.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(f"{folder}: exists; expected a folder to create") from error
    config = _config(shape)
    _write_json(folder / CONFIG, config)
    if shape.tower is not None:
        mean, std = list(configuration.IMAGE_MEAN), list(configuration.IMAGE_STD)
        _write_json(folder / PREPROCESSOR, {"resample": 2, "image_mean": mean, "image_std": std})
    _write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "YasaTokenizer"})
    (folder / TOKENIZER).write_bytes(random_tokenizer(shape.n_mergeable))
    model = configuration.parse(_config(replace(shape, extra={})), preprocessor=None, shapes={})
    _write_shards(folder, _stored(model, shape), model.text, shape.shard_bytes, seed)
    return folder


def random_tokenizer(n_mergeable: int) -> bytes:
    """A byte-level tokenizer.json of n_mergeable ids of text and 96 control ids behind them."""
    alphabet = byte_alphabet()
    vocab = {char: index for index, char in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    words = ([alphabet[byte] for byte in f" {word}".encode()] for word in _WORDS.split(" "))
    letters = itertools.chain.from_iterable(itertools.product(string.ascii_lowercase, repeat=n) for n in (2, 3, 4))
    for spelled in itertools.chain(words, letters):
        left = spelled[0]
        for right in spelled[1:]:
            if left + right not in vocab:
                if len(vocab) == n_mergeable:
                    break
                merges.append((left, right))
                vocab[left + right] = len(vocab)
            left += right
        if len(vocab) == n_mergeable:
            break
    return build(vocab, merges, control_tokens(n_mergeable, vocab_size=n_mergeable + N_CONTROL))


@dataclass(frozen=True)
class _Stored:
    """One tensor to write: its name and shape, and the same of every role in it (three: a group-major qkv)."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def n_bytes(self) -> int:
        return 2 * math.prod(self.shape)


def _config(shape: Shape) -> dict[str, object]:
    text: dict[str, object] = {
        "model_type": "yasa_model", "hidden_size": shape.hidden_size, "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads, "num_query_groups": shape.n_kv_heads,
        "num_key_value_heads": shape.n_kv_heads, "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size, "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context, "rotary_emb_base": 10_000, "rms_norm_eps": 1e-5,
        "attention_bias": shape.attention_bias, "mlp_bias": shape.mlp_bias, "tie_word_embeddings": shape.tied,
        "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    if shape.rotary_share is not None:
        text["rotary_pct"] = shape.rotary_share
    text.update(shape.extra)
    if shape.tower is None:
        return {"architectures": ["YasaCausalLM"], **text}
    tower = shape.tower
    return {
        "architectures": ["Yasa2ForConditionalGeneration"], "model_type": "yasa2", "torch_dtype": "bfloat16",
        "text_config": text, "num_query_tokens": tower.tokens_per_tile, "vision_max_tiles_num": tower.max_tiles,
        "use_vision_pos_embed": tower.pos_embed, "vision_encoder_arch": "convnextv2", "audio_config": None,
        "vision_config": {
            "model_type": "convnextv2", "image_size": tower.tile_px, "patch_size": tower.patch_px,
            "hidden_sizes": list(tower.hidden_sizes), "depths": list(tower.depths), "num_channels": 3,
            "num_stages": len(tower.depths), "hidden_act": "gelu", "layer_norm_eps": 1e-12, "drop_path_rate": 0.0,
        },
    }  # fmt: skip


def _stored(model: ModelConfig, shape: Shape) -> list[_Stored]:
    """Every tensor in the order of the layers, fused where the form says so."""
    fused = shape.form != "split"
    groups: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for role, size in expected(model):
        if role == "text.head" and shape.tied:
            continue
        name = _text_name(role, shape, fused=fused) if role.startswith("text.") else _vision_name(role)
        stored_size = (1, 1, 1, *size) if ".grn." in role else size
        groups.setdefault(name, []).append((role, stored_size))
    stored = []
    for name, parts in groups.items():
        (_, (n_rows, *rest)), *others = parts
        n_rows += sum(size[0] for _, size in others)  # fused tensors grow along the first axis
        stored.append(_Stored(name, (n_rows, *rest), tuple(parts)))
    return stored


def _text_name(role: str, shape: Shape, *, fused: bool) -> str:
    neox = shape.form == "neox"
    inner = f"{shape.prefix}gpt_neox." if neox else shape.prefix
    top = {
        "text.embed": f"{inner}{'embed_in' if neox else 'embed_tokens'}.weight",
        "text.norm": f"{inner}{'final_layer_norm' if neox else 'norm'}.weight",
        "text.head": f"{shape.head_prefix}{'embed_out' if neox else 'lm_head'}.weight",
    }
    if role in top:
        return top[role]
    _, _, layer, part, kind = role.split(".")
    if fused:
        part = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}.get(part, part)
    return f"{inner}layers.{layer}.{(_NEOX if neox else _SPLIT)[part]}.{kind}"


def _vision_name(role: str) -> str:
    if role.startswith("projection."):
        return f"model.language_{role}"
    parts = role.split(".")
    layer, kind = _VISION.get(parts[-2], parts[-2]), parts[-1]
    place = ""
    if parts[1] == "stages":
        place = f"encoder.stages.{parts[2]}." + (f"layers.{parts[4]}." if parts[3] == "blocks" else "")
    return f"model.vision_model.backbone.{place}{layer}.{kind}"


def _write_shards(folder: Path, stored: list[_Stored], text: TextConfig, shard_bytes: int, seed: int) -> None:
    shards: list[list[_Stored]] = [[]]
    for tensor in stored:
        if shards[-1] and sum(other.n_bytes for other in shards[-1]) + tensor.n_bytes > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= {tensor.name: name for tensor in tensors}
        with (folder / name).open("wb") as file:
            file.write(_header(tensors))
            for tensor in tensors:
                for piece in _pieces(tensor, text, seed):
                    _write_bf16(file, piece)
    total = {"total_size": sum(tensor.n_bytes for tensor in stored)}
    _write_json(folder / INDEX, {"metadata": total, "weight_map": dict(sorted(weight_map.items()))})


def _header(tensors: list[_Stored]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [at, at + tensor.n_bytes]}
        at += tensor.n_bytes
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-len(data) % 8)
    return len(data).to_bytes(8, "little") + data


def _pieces(tensor: _Stored, text: TextConfig, seed: int) -> Iterator[F32]:
    """The rows of a tensor in the order that they are stored, some at a time."""
    if len(tensor.parts) < 3:
        for role, shape in tensor.parts:
            yield from _random(role, shape, seed)
        return
    whole = np.empty(tensor.shape, np.float32)
    for role, shape in tensor.parts:
        whole[qkv_rows(text, role.split(".")[3])] = np.concatenate(list(_random(role, shape, seed)))
    yield whole


def _random(role: str, shape: tuple[int, ...], seed: int) -> Iterator[F32]:
    """Random values for a role, some rows at a time; linear layers and convolutions keep the size of what they get."""
    random = np.random.default_rng([seed, zlib.crc32(role.encode())])
    centre, spread = _distribution(role, shape)
    n_rows = max(1, _CHUNK_VALUES // math.prod(shape[1:]))
    for start in range(0, shape[0], n_rows):
        values = random.standard_normal((min(n_rows, shape[0] - start), *shape[1:]), dtype=np.float32)
        yield values * np.float32(spread) + np.float32(centre)


def _distribution(role: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation of a role's values."""
    if role.endswith(".bias"):
        return 0.0, 0.1
    if ".grn." in role:
        return 0.0, 0.5
    if "norm" in role:
        return 1.0, 0.1
    if role == "text.embed":
        return 0.0, 1.0
    return 0.0, math.prod(shape[1:]) ** -0.5


def _write_bf16(file: BinaryIO, values: F32) -> None:
    """Appends values, rounded to the nearest bf16 (ties to even)."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: npt.NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    file.write(rounded.tobytes())


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
