"""GGUF files as llama.cpp's converters write them, made of a random checkpoint with the `gguf` package."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

from export.checkpoint.checkpoint import Checkpoint

F32, F16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
TOP = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
VISION = {
    "backbone.embeddings.patch_embeddings": "v.patch_embd", "backbone.embeddings.layernorm": "v.patch_ln",
    "backbone.layernorm": "v.backbone_ln",
}  # fmt: skip
BLOCK = {"dwconv": "dw", "layernorm": "ln", "pwconv1": "pw1", "grn": "grn", "pwconv2": "pw2"}


def write_text(
    checkpoint: Path,
    out: Path,
    *,
    kind: GGMLQuantizationType = F32,
    kinds: Mapping[str, GGMLQuantizationType] | None = None,
    keys: Mapping[str, object] | None = None,
    drop: tuple[str, ...] = (),
    pre: str = "llama-bpe",
) -> Path:
    """The text half of a checkpoint. kind: of matrices, kinds: by the end of a name; keys: further or other metadata,
    drop: metadata or tensors to leave out."""
    source = Checkpoint.open(checkpoint)
    text = source.config.text
    writer = _Writer(out, "llama", drop)
    described: dict[str, object] = {
        "general.type": "model", "llama.block_count": text.n_layers, "llama.context_length": text.context,
        "llama.embedding_length": text.hidden_size, "llama.feed_forward_length": text.intermediate_size,
        "llama.attention.head_count": text.n_heads, "llama.attention.head_count_kv": text.n_kv_heads,
        "llama.attention.layer_norm_rms_epsilon": text.norm_eps, "llama.rope.freq_base": text.rope_base,
        "llama.vocab_size": text.vocab_size, "llama.rope.dimension_count": text.head_dim,
        **_tokenizer(checkpoint, text.vocab_size, pre), **(keys or {}),
    }  # fmt: skip
    for key, value in described.items():
        writer.add(key, value)
    for name in source.names:
        spelled = _text_name(name)
        if spelled is None:
            continue
        values = source.read(name)
        if ".attn_q." in spelled:
            values = permuted(values, text.n_heads)
        elif ".attn_k." in spelled:
            values = permuted(values, text.n_kv_heads)
        wanted = next((each for end, each in (kinds or {}).items() if spelled.endswith(end)), kind)
        writer.tensor(spelled, values, wanted if values.ndim > 1 else F32)
    return writer.close()


def write_mmproj(
    checkpoint: Path, out: Path, *, kind: GGMLQuantizationType = F32, keys: Mapping[str, object] | None = None,
    drop: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """The vision half of a yasa2 checkpoint."""
    source = Checkpoint.open(checkpoint)
    vision = source.config.vision
    assert vision is not None
    writer = _Writer(out, "clip", drop)
    described: dict[str, object] = {
        "general.type": "mmproj", "clip.has_vision_encoder": True, "clip.projector_type": "yasa2",
        "clip.vision.projection_dim": source.config.text.hidden_size, "clip.vision.image_size": vision.tile_px,
        "clip.vision.patch_size": vision.patch_px, "clip.vision.embedding_length": vision.width,
        "clip.vision.block_count": 0, "clip.vision.image_mean": list(vision.mean),
        "clip.vision.image_std": list(vision.std), "clip.use_gelu": True, **(keys or {}),
    }  # fmt: skip
    for key, value in described.items():
        writer.add(key, value)
    writer.tensor("v.vision_pos_embed", positions(vision.width), F32)
    for name in source.names:
        spelled = _vision_name(name.removeprefix("model."))
        if spelled is not None:
            values = source.read(name)
            fits = kind in (F32, F16) or (values.ndim == 2 and values.shape[1] % 32 == 0)
            writer.tensor(spelled, values, F32 if values.ndim == 1 else kind if fits else F16)
    return writer.close()


def permuted(values: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of each head in pairs, as llama.cpp's rotation wants them."""
    halves = values.reshape(n_heads, 2, values.shape[0] // n_heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def positions(channels: int, n_cells: int = 256) -> np.ndarray:
    """The table of positions that the converter stores: the first cells of a 50 x 50 grid."""
    table = np.zeros((n_cells, channels), np.float32)
    quarter = channels // 4
    for cell in range(n_cells):
        for at, place in ((0, cell % 50), (2, cell // 50)):
            angles = place / 10_000.0 ** (np.arange(quarter) / quarter)
            table[cell, at * quarter : (at + 2) * quarter] = np.concatenate([np.sin(angles), np.cos(angles)])
    return table


class _Writer:
    """Adds metadata and tensors but those to leave out."""

    def __init__(self, out: Path, architecture: str, drop: tuple[str, ...]) -> None:
        self._out = out
        self._drop = drop
        self._file = GGUFWriter(out, architecture)

    def add(self, key: str, value: object) -> None:
        if key in self._drop or value is None:
            return
        kinds = {bool: self._file.add_bool, int: self._file.add_uint32, float: self._file.add_float32,
                 str: self._file.add_string, list: self._file.add_array}  # fmt: skip
        kinds[type(value)](key, value)

    def tensor(self, name: str, values: np.ndarray, kind: GGMLQuantizationType) -> None:
        if name not in self._drop:
            self._file.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)

    def close(self) -> Path:
        self._file.write_header_to_file()
        self._file.write_kv_data_to_file()
        self._file.write_tensors_to_file()
        self._file.close()
        return self._out


def _tokenizer(checkpoint: Path, vocab_size: int, pre: str) -> dict[str, object]:
    source = json.loads((checkpoint / "tokenizer.json").read_text())
    tokens = [f"[PAD{at}]" for at in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    for token, at in source["model"]["vocab"].items():
        tokens[at], types[at] = token, int(TokenType.NORMAL)
    for token in source["added_tokens"]:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = int(TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED)
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in source["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": tokens.index("<|endoftext|>"), "tokenizer.ggml.add_bos_token": False,
    }  # fmt: skip


def _text_name(name: str) -> str | None:
    bare = re.sub(r"^(model\.language_model\.|model\.)", "", name)
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", bare)
    if layer is not None:
        return f"blk.{layer[1]}.{LAYER[layer[2]]}.{layer[3]}"
    base, _, kind = bare.rpartition(".")
    return f"{TOP[base]}.{kind}" if base in TOP else None


def _vision_name(bare: str) -> str | None:
    base, _, kind = bare.rpartition(".")
    if base.startswith("language_projection."):
        return f"mm.{base[-1]}.{kind}"
    base = base.removeprefix("vision_model.")
    if base in VISION:
        return f"{VISION[base]}.{kind}"
    down = re.fullmatch(r"backbone\.encoder\.stages\.(\d+)\.downsampling_layer\.([01])", base)
    if down is not None:
        return f"v.stage.{down[1]}.down.{('ln', 'conv')[int(down[2])]}.{kind}"
    block = re.fullmatch(r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.(\w+)", base)
    return None if block is None else f"v.stage.{block[1]}.blk.{block[2]}.{BLOCK[block[3]]}.{kind}"
