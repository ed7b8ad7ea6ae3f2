"""Names and order of rows of Llama weights in GGUF files and in checkpoints.

The exporter reads GGUF files with code of its own; this is apart from it, so that the reference does not depend on it.
"""

from __future__ import annotations

from typing import Final

import gguf

from export.arrays import F32

_TOP: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_PARTS: Final = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def checkpoint_name(name: str) -> str:
    """A tensor's name in the checkpoint, from the one that llama.cpp has for it."""
    stem = name.removesuffix(".weight")
    if stem in _TOP:
        return f"{_TOP[stem]}.weight"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}.weight"


def permuted(weight: F32, n_heads: int) -> F32:
    """The rows of q or k in llama.cpp's order: the two halves of a head's rotary pairs interleaved."""
    rows = weight.shape[0]
    return weight.reshape(n_heads, 2, rows // n_heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def unpermuted(weight: F32, n_heads: int) -> F32:
    """The reverse of `permuted`."""
    rows = weight.shape[0]
    return weight.reshape(n_heads, rows // n_heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def to_gguf(file: gguf.GGUFReader, name: str, weight: F32) -> F32:
    """A weight of a checkpoint, its rows as a file of llama.cpp has them. name: the file's for it."""
    n_heads = _n_heads(file, name)
    return weight if n_heads is None else permuted(weight, n_heads)


def to_checkpoint(file: gguf.GGUFReader, name: str, weight: F32) -> F32:
    """The reverse of `to_gguf`."""
    n_heads = _n_heads(file, name)
    return weight if n_heads is None else unpermuted(weight, n_heads)


def _n_heads(file: gguf.GGUFReader, name: str) -> int | None:
    """The heads of q or k; None for a weight whose rows are in the same order on both sides."""
    key = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(name.removesuffix(".weight").rpartition(".")[2])
    return None if key is None else _number(file, f"llama.attention.{key}")


def _number(source: gguf.GGUFReader, name: str) -> int:
    field = source.fields.get(name)
    if field is None:
        raise SystemExit(f"the packaged GGUF file has no {name}")
    return int(field.contents())
