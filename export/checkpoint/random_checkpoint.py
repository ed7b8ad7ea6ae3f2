"""Checkpoints of random weights in every stored form, for tests and measurements; written piece by piece.

A seed fixes the weights by role: the same shape and seed give the same model in every form.
"""

import itertools
import json
import math
import string
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from export.arrays import F32
from export.checkpoint import config as configuration
from export.checkpoint.checkpoint import CONFIG, INDEX, PREPROCESSOR
from export.checkpoint.config import ModelConfig, TextConfig
from export.checkpoint.encoder_names import stored_audio, stored_siglip
from export.checkpoint.names import expected, qkv_rows
from export.checkpoint.random_shapes import Shape, SiglipShape, TowerShape, config_of
from export.checkpoint.tokenizer import N_CONTROL, TOKENIZER, TOKENIZER_CONFIG, build, byte_alphabet, control_tokens
from export.errors import OutputError

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


def write_checkpoint(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Writes a checkpoint folder: bf16 shards with an index, configuration and tokenizer. Returns the folder.

    The largest piece in memory is a fused tensor or 4 Mi values. Raises: OutputError if the folder exists.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(f"{folder}: exists; expected a folder to create") from error
    _write_json(folder / CONFIG, config_of(shape))
    if isinstance(shape.tower, TowerShape):
        mean, std = list(configuration.IMAGE_MEAN), list(configuration.IMAGE_STD)
        _write_json(folder / PREPROCESSOR, {"resample": 2, "image_mean": mean, "image_std": std})
    _write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "YasaTokenizer"})
    (folder / TOKENIZER).write_bytes(random_tokenizer(shape.n_mergeable, plain=shape.is_llama))
    audio = {} if shape.audio is None else {"audio_model.": ()}  # a stored tensor is what makes the tower count
    model = configuration.parse(config_of(replace(shape, extra={})), preprocessor=None, shapes=audio)
    _write_shards(folder, _stored(model, shape), model.text, shape.shard_bytes, seed)
    return folder


def random_tokenizer(n_mergeable: int, *, plain: bool = False) -> bytes:
    """A byte-level tokenizer.json of n_mergeable ids of text and 96 control ids behind them.

    plain: without Reka's own control tokens, as Reka Flash 3 has it.
    """
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
    reka: Mapping[str, int] | None = {} if plain else None
    return build(vocab, merges, control_tokens(n_mergeable, vocab_size=n_mergeable + N_CONTROL, reka=reka))


@dataclass(frozen=True)
class _Stored:
    """One tensor to write: its name and shape, and the same of every role in it (three: a group-major qkv)."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def n_bytes(self) -> int:
        return 2 * math.prod(self.shape)


def _stored(model: ModelConfig, shape: Shape) -> list[_Stored]:
    """Every tensor in the order of the layers, fused where the form says so."""
    fused = shape.form != "split"
    groups: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for role, size in expected(model):
        if role == "text.head" and shape.tied:
            continue
        name = _text_name(role, shape, fused=fused) if role.startswith("text.") else _tower_name(role, shape)
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


def _tower_name(role: str, shape: Shape) -> str:
    """The released form: SigLIP's names have no `model.` in front."""
    if role.startswith("audio."):
        return f"model.{stored_audio(role)}"
    is_siglip = isinstance(shape.tower, SiglipShape)
    if role.startswith("projection."):
        return f"language_{role}" if is_siglip else f"model.language_{role}"
    return stored_siglip(role) if is_siglip else _vision_name(role)


def _vision_name(role: str) -> str:
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
