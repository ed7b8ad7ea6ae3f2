"""Random weights for both sides: a Llama checkpoint, and the same as GGUF in float16; for speed alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import torch
from safetensors import safe_open

from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import EDGE_7B, ONE_B, Shape
from scripts.quality.gguf_names import checkpoint_name

SHAPES: Final = {
    name: replace(shape, tower=None, prefix="model.", is_llama=True)
    for name, shape in {"1b": ONE_B, "edge-7b": EDGE_7B}.items()
}
_LAYER_PARTS: Final = (
    "attn_q", "attn_k", "attn_v", "attn_output", "attn_norm", "ffn_gate", "ffn_up", "ffn_down", "ffn_norm",
)  # fmt: skip


def build(work: Path, name: str = "1b") -> tuple[Path, Path, int]:
    """Write both under work unless they are there. Returns the checkpoint, the GGUF file, the vocabulary's size."""
    checkpoint, file = work / name / "checkpoint", work / name / "gguf" / "F16.gguf"
    shape = SHAPES[name]
    if not checkpoint.exists():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, shape, seed=0)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_f16(checkpoint, shape, file)
    return checkpoint, file, shape.vocab_size


def write_f16(checkpoint: Path, shape: Shape, out: Path) -> None:
    """Write a random Llama checkpoint as GGUF: matrices in float16.

    The rows of q and k are not permuted: random rows take the same time in any order.
    """
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_tokenizer(writer, checkpoint, shape)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    where = _files(checkpoint)
    layers = [f"blk.{layer}.{part}" for layer in range(shape.n_layers) for part in _LAYER_PARTS]
    names = ["token_embd", "output_norm", "output", *layers]
    for name in names:
        size = _size(where, checkpoint_name(name))
        dtype = np.dtype(np.float16 if len(size) == 2 else np.float32)
        writer.add_tensor_info(f"{name}.weight", size, dtype, math.prod(size) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name in names:  # one at a time: seven billion weights are more than the memory
        weight = _read(where, checkpoint_name(name))
        writer.write_tensor_data(weight.to(torch.float16 if weight.ndim == 2 else torch.float32).numpy())
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, checkpoint: Path, shape: Shape) -> None:
    """Add the byte-level tokenizer of the checkpoint; ids of no text are control tokens."""
    model = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))["model"]
    tokens = [f"<|{number}|>" for number in range(shape.vocab_size)]
    types = [gguf.TokenType.CONTROL] * shape.vocab_size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(shape.vocab_size - 1)


def _files(checkpoint: Path) -> dict[str, Path]:
    """The file of each tensor."""
    found: dict[str, Path] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, "pt") as tensors:
            found.update(dict.fromkeys(tensors.keys(), path))
    return found


def _size(where: dict[str, Path], name: str) -> list[int]:
    with safe_open(where[name], "pt") as tensors:
        return list(tensors.get_slice(name).get_shape())


def _read(where: dict[str, Path], name: str) -> torch.Tensor:
    with safe_open(where[name], "pt") as tensors:
        weight: torch.Tensor = tensors.get_tensor(name)
    return weight
