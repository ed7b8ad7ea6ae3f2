"""The GGUF files that scripts/bench quality has llama.cpp read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY_FLASH
from scripts.quality import gguf_names, llamacpp, reference, shape

SHAPE = replace(TINY_FLASH, shard_bytes=1 << 30)


def test_rows_of_q_and_k_interleave_the_halves_of_a_head() -> None:
    weight = np.arange(16, dtype=np.float32).reshape(16, 1)
    expected = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    np.testing.assert_array_equal(gguf_names.permuted(weight, 2)[:, 0], expected)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, SHAPE, seed=3)
    return folder


def test_a_random_checkpoint_is_written_whole(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "F16.gguf"
    shape.write_f16(checkpoint, SHAPE, out)
    read = gguf.GGUFReader(out)
    assert len(read.tensors) == 3 + 9 * SHAPE.n_layers
    assert read.fields["llama.attention.head_count_kv"].contents() == SHAPE.n_kv_heads
    assert llamacpp.tensor_types(out)["ffn_down"] == {"F16": SHAPE.n_layers}
    assert llamacpp.tensor_types(out)["ffn_norm"] == {"F32": SHAPE.n_layers}
    assert llamacpp.tensor_bytes(out) == sum(int(tensor.n_bytes) for tensor in read.tensors)


def test_a_checkpoint_replaces_the_weights_of_a_packaged_file(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    names = {"token_embd.weight": (8, 4), "blk.0.attn_q.weight": (8, 4), "blk.0.attn_k.weight": (4, 4)}
    packaged, out = tmp_path / "packaged.gguf", tmp_path / "F32.gguf"
    writer = gguf.GGUFWriter(packaged, "llama")
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_token_list(["a", "b"])
    for name, sizes in names.items():
        writer.add_tensor(name, np.zeros(sizes, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    weights = {
        gguf_names.checkpoint_name(name): random.normal(size=sizes).astype("f4") for name, sizes in names.items()
    }
    save_file(weights, tmp_path / "model.safetensors")

    llamacpp.write_f32(packaged, tmp_path, out)

    read = gguf.GGUFReader(out)
    found = {tensor.name: tensor.data for tensor in read.tensors}
    assert read.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    np.testing.assert_array_equal(found["token_embd.weight"], weights["model.embed_tokens.weight"])
    q, k = (weights[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "qk")
    np.testing.assert_array_equal(found["blk.0.attn_q.weight"], q[[0, 2, 1, 3, 4, 6, 5, 7]])
    np.testing.assert_array_equal(found["blk.0.attn_k.weight"], k[[0, 2, 1, 3]])
    again = reference.dequantized(out)
    assert again.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(again[name].numpy(), weight)
