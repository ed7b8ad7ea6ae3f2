"""Roles: every stored form gives the same weights, and nothing is left unexplained."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.checkpoint.checkpoint import INDEX, Checkpoint
from export.checkpoint.names import Weights, expected
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY, TINY_TEXT, Shape
from export.errors import CheckpointError, UnsupportedError

TEXT = replace(TINY_TEXT, n_layers=2, attention_bias=True, mlp_bias=True, shard_bytes=1 << 30)
FORMS: Mapping[str, Shape] = {
    "released": replace(TEXT, prefix="model.language_model."),
    "without model": replace(TEXT, prefix="language_model."),
    "inner model": replace(TEXT, prefix="language_model.model.", head_prefix="language_model."),
    "bare model": TEXT,
    "bare": replace(TEXT, prefix=""),
    "fused": replace(TEXT, form="fused"),
    "fused bare": replace(TEXT, form="fused", prefix=""),
    "neox": replace(TEXT, form="neox", prefix=""),
    "neox inner": replace(TEXT, form="neox", prefix="language_model.", head_prefix="language_model."),
}


def weights(folder: Path, shape: Shape, *, seed: int = 0) -> Weights:
    return Weights(Checkpoint.open(write_checkpoint(folder / "checkpoint", shape, seed=seed)))


def rewritten(
    folder: Path, change: Mapping[str, tuple[int, ...] | None], config: Mapping[str, object] | None = None
) -> Path:
    """A tiny text checkpoint in one shard with tensors of ones added, or dropped where the shape is None."""
    shape = replace(TINY_TEXT, n_layers=1, shard_bytes=1 << 30)
    path = write_checkpoint(folder / "checkpoint", shape)
    name = "model-00001-of-00001.safetensors"
    data = (path / name).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    kept, arrays, at = {}, b"", 0
    for key, entry in header.items():
        if key != "__metadata__" and key not in change:
            start, end = entry["data_offsets"]
            kept[key] = {**entry, "data_offsets": [at, at + end - start]}
            arrays, at = arrays + body[start:end], at + end - start
    for key, size in change.items():
        if size is not None:
            n_bytes = 2 * int(np.prod(size))
            kept[key] = {"dtype": "BF16", "shape": size, "data_offsets": [at, at + n_bytes]}
            arrays, at = arrays + b"\x80\x3f" * (n_bytes // 2), at + n_bytes
    text = json.dumps(kept).encode()
    (path / name).write_bytes(len(text).to_bytes(8, "little") + text + arrays)
    (path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(kept, name)}))
    if config is not None:
        known = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**known, **config}))
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, np.ndarray]:
    """Every role's weight, read from the split form."""
    split = weights(tmp_path_factory.mktemp("reference"), TEXT)
    return {role: split.tensor(role) for role, _ in expected(split.checkpoint.config)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_weights(tmp_path: Path, reference: Mapping[str, np.ndarray], form: str) -> None:
    found = weights(tmp_path, FORMS[form])
    roles = dict(expected(found.checkpoint.config))
    assert roles.keys() == reference.keys()
    for role, shape in roles.items():
        tensor = found.tensor(role)
        assert tensor.shape == shape == found.shape(role)
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, reference[role], err_msg=role)


@pytest.mark.parametrize("form", ["released", "fused", "neox"])
def test_a_range_of_rows_is_the_same_range_of_the_whole(tmp_path: Path, form: str) -> None:
    found = weights(tmp_path, FORMS[form])
    for role in ("text.embed", "text.head", "text.layers.1.q.weight", "text.layers.1.gate.weight",
                 "text.layers.1.up.weight", "text.layers.1.up.bias"):  # fmt: skip
        whole = found.tensor(role)
        for rows in (slice(5, 9), slice(None, 3), slice(-2, None), slice(8, 10_000), slice(3, 3)):
            np.testing.assert_array_equal(found.tensor(role, rows=rows), whole[rows], err_msg=role)


def test_fused_qkv_is_group_major(tmp_path: Path) -> None:
    found = weights(tmp_path, FORMS["fused"])
    fused = found.checkpoint.read("model.layers.0.self_attn.qkv_proj.weight").reshape(2, 4, 16, 64)  # group, head
    queries = found.tensor("text.layers.0.q.weight").reshape(2, 2, 16, 64)
    np.testing.assert_array_equal(queries, fused[:, :2])
    np.testing.assert_array_equal(found.tensor("text.layers.0.k.weight").reshape(2, 16, 64), fused[:, 2])
    np.testing.assert_array_equal(found.tensor("text.layers.0.v.weight").reshape(2, 16, 64), fused[:, 3])


def test_a_role_knows_the_tensor_it_comes_from(tmp_path: Path) -> None:
    found = weights(tmp_path, FORMS["neox"])
    assert found.source("text.layers.1.k.weight") == "gpt_neox.layers.1.attention.query_key_value.weight"
    assert found.source("text.layers.1.up.bias") == "gpt_neox.layers.1.mlp.dense_h_to_4h.bias"
    assert found.source("text.head") == "embed_out.weight"
    assert found.has("text.layers.1.k.weight")
    assert not found.has("text.layers.2.k.weight")
    with pytest.raises(CheckpointError, match=r"text\.layers\.2\.k\.weight"):
        found.tensor("text.layers.2.k.weight")


def test_vision_and_projection_have_roles(tmp_path: Path) -> None:
    found = weights(tmp_path, TINY)
    at = "model.vision_model.backbone."
    for role, name in {
        "vision.patch.weight": f"{at}embeddings.patch_embeddings.weight",
        "vision.patch_norm.bias": f"{at}embeddings.layernorm.bias",
        "vision.stages.1.down_norm.weight": f"{at}encoder.stages.1.downsampling_layer.0.weight",
        "vision.stages.1.down.weight": f"{at}encoder.stages.1.downsampling_layer.1.weight",
        "vision.stages.2.blocks.1.norm.weight": f"{at}encoder.stages.2.layers.1.layernorm.weight",
        "vision.stages.2.blocks.1.dwconv.bias": f"{at}encoder.stages.2.layers.1.dwconv.bias",
        "projection.2.bias": "model.language_projection.2.bias",
    }.items():
        assert found.source(role) == name
        np.testing.assert_array_equal(found.tensor(role), found.checkpoint.read(name))
    assert found.checkpoint.shape(f"{at}encoder.stages.0.layers.0.grn.weight") == (1, 1, 1, 64)
    assert found.tensor("vision.stages.0.blocks.0.grn.weight").shape == (64,)


def test_the_names_without_model_are_the_same_roles(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "checkpoint", replace(TINY, prefix="language_model."))
    expectation = {role: Weights(Checkpoint.open(path)).tensor(role) for role in ("projection.0.weight",)}
    for file in path.glob("model*"):
        data = file.read_bytes().replace(b'"model.vision_model.', b'      "vision_model.')
        file.write_bytes(data.replace(b'"model.language_projection', b'      "language_projection'))
    found = Weights(Checkpoint.open(path))
    assert found.source("projection.0.weight") == "language_projection.0.weight"
    assert found.source("vision.patch.bias") == "vision_model.backbone.embeddings.patch_embeddings.bias"
    np.testing.assert_array_equal(found.tensor("projection.0.weight"), expectation["projection.0.weight"])


DROPPED = [
    "model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.cos_cached", "model.rotary_emb.sin_cached",
    "model.layers.0.causal_mask", "casual_mask", "gpt_neox.bias", "gpt_neox.layers.0.attention.bias",
    "gpt_neox.layers.0.attention.masked_bias", "qformer.layer.0.weight", "model.qformer_x", "query_tokens",
    "model.query_tokens", "connector.0.weight", "audio_encoder.conv.weight", "audio_query_tokens",
    "audio2qformer_state", "audioQformer2lan.weight", "vision_ln.weight", "optimizer.state", "grad_acc.0",
]  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_known_tensors_that_nothing_needs_are_dropped(tmp_path: Path, name: str) -> None:
    found = Weights(Checkpoint.open(rewritten(tmp_path, {name: (2, 2)})))
    assert name in found.checkpoint.names
    assert name not in {found.source(role) for role, _ in expected(found.checkpoint.config)}


def test_the_final_norm_of_the_tower_is_dropped(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "checkpoint", replace(TINY, shard_bytes=1 << 30))
    name, shard = "model.vision_model.backbone.layernorm.weight", path / "model-00001-of-00001.safetensors"
    data = shard.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header[name] = {"dtype": "BF16", "shape": [0], "data_offsets": [len(data) - 8 - length] * 2}
    text = json.dumps(header).encode()
    shard.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    index = json.loads((path / INDEX).read_text())
    index["weight_map"][name] = shard.name
    (path / INDEX).write_text(json.dumps(index))
    assert name in Weights(Checkpoint.open(path)).checkpoint.names


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.router.weight", "model.embed_positions.weight",
        "score.weight", "lm_head.bias", "model.layers.00.input_layernorm.weight", "surprise", "model.layers.0.weight",
        "model.vision_model.backbone.embeddings.layernorm.weight", "model.language_projection.0.weight",
        "model.layers.0.attention.dense.weight", "gpt_neox.layers.0.self_attn.q_proj.weight",
    ],
)  # fmt: skip
def test_an_unknown_tensor_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^{name}: unknown tensor"):
        Weights(Checkpoint.open(rewritten(tmp_path, {name: (2, 2)})))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.down_proj.bias",
        "model.layers.1.input_layernorm.weight", "model.layers.0.self_attn.qkv_proj.weight",
    ],
)  # fmt: skip
def test_a_tensor_that_the_configuration_has_no_place_for_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^{name}: not expected"):
        Weights(Checkpoint.open(rewritten(tmp_path, {name: (64,)})))


@pytest.mark.parametrize("name", ["model.norm.bias", "model.layers.0.input_layernorm.bias"])
def test_a_norm_with_a_bias_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"^{name}: a norm with a bias"):
        Weights(Checkpoint.open(rewritten(tmp_path, {name: (64,)})))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.norm.weight", "text.norm"),
        ("lm_head.weight", "text.head"),
        ("model.layers.0.self_attn.k_proj.weight", "text.layers.0.k.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "text.layers.0.norm2.weight"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str, role: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^{role}: not in the checkpoint"):
        Weights(Checkpoint.open(rewritten(tmp_path, {name: None})))


def test_missing_biases_are_named(tmp_path: Path) -> None:
    path = rewritten(tmp_path, {}, {"attention_bias": True})
    with pytest.raises(CheckpointError, match=r"text\.layers\.0\.q\.bias: not in the checkpoint"):
        Weights(Checkpoint.open(path))


def test_two_tensors_for_one_role_are_named(tmp_path: Path) -> None:
    path = rewritten(tmp_path, {"layers.0.mlp.up_proj.weight": (160, 64)})
    with pytest.raises(CheckpointError, match=r"same tensor \(text\.layers\.0\.up\.weight\)"):
        Weights(Checkpoint.open(path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.norm.weight", (63,)),
        ("model.embed_tokens.weight", (511, 64)),
        ("model.layers.0.self_attn.k_proj.weight", (64, 64)),
        ("model.layers.0.self_attn.o_proj.weight", (4096,)),
    ],
)
def test_a_shape_unlike_the_configuration_is_named(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=rf"^{name}: shape .*{shape[0]}.*, expected"):
        Weights(Checkpoint.open(rewritten(tmp_path, {name: shape})))


def test_a_fused_tensor_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    parts = dict.fromkeys([f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"])
    path = rewritten(tmp_path, {**parts, "model.layers.0.self_attn.qkv_proj.weight": (96, 64)})
    with pytest.raises(CheckpointError, match=r"qkv_proj\.weight: shape \(96, 64\), expected \(128, 64\)"):
        Weights(Checkpoint.open(path))


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    found = weights(tmp_path, replace(TEXT, tied=True))
    assert "lm_head.weight" not in found.checkpoint.names
    assert found.has("text.head")
    assert found.source("text.head") == found.source("text.embed")
    np.testing.assert_array_equal(found.tensor("text.head", rows=slice(3, 7)), found.tensor("text.embed")[3:7])


def test_a_head_stored_beside_a_tied_embedding_is_dropped(tmp_path: Path) -> None:
    found = Weights(Checkpoint.open(rewritten(tmp_path, {}, {"tie_word_embeddings": True})))
    assert "lm_head.weight" in found.checkpoint.names
    assert found.source("text.head") == "model.embed_tokens.weight"


def test_key_value_heads_come_from_the_stored_keys_where_two_keys_differ(tmp_path: Path) -> None:
    for number, shape in enumerate((TEXT, FORMS["fused"], FORMS["neox"])):
        path = write_checkpoint(tmp_path / str(number), replace(shape, extra={"num_query_groups": 4}))
        assert Weights(Checkpoint.open(path)).checkpoint.config.text.n_kv_heads == 2
