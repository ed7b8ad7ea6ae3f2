"""Stored names of SigLIP and of the sound tower: each has one role, and what is unknown or missing is named."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.encoder_names import (
    audio_role,
    audio_roles,
    siglip_role,
    siglip_roles,
    stored_audio,
    stored_siglip,
)
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY_AUDIO, TINY_SIGLIP
from export.checkpoint.towers import AudioConfig, EncoderConfig, SiglipConfig
from export.errors import CheckpointError
from tests.conftest import CheckpointOf

ENCODER = EncoderConfig(8, 2, 2, 12, 1e-6, "gelu_tanh", key_bias=True)
SIGLIP = SiglipConfig(28, 14, ENCODER, 4, 1, "bicubic", (0.5,) * 3, (0.5,) * 3)
AUDIO = AudioConfig(80, 1500, 4, replace(ENCODER, activation="gelu", key_bias=False))


def test_every_siglip_role_has_a_stored_name_and_back() -> None:
    roles = [role for role, _ in siglip_roles(SIGLIP)]
    assert [siglip_role(stored_siglip(role)) for role in roles] == roles
    assert stored_siglip("vision.layers.1.fc2.bias") == "vision_model.vision_model.encoder.layers.1.mlp.fc2.bias"


def test_every_audio_role_has_a_stored_name_and_back() -> None:
    roles = [role for role, _ in audio_roles(AUDIO, 16)]
    assert [audio_role(stored_audio(role)) for role in roles] == roles
    assert stored_audio("audio.layers.0.norm2.weight") == "audio_model.layers.0.final_layer_norm.weight"
    assert "audio.layers.0.k.bias" not in roles


@pytest.mark.parametrize("name", ["vision_model.vision_model.encoder.layers.00.mlp.fc1.weight", "x.y", "layers.0"])
def test_other_names_have_no_role(name: str) -> None:
    assert siglip_role(name) is None and audio_role(name) is None


def altered(source: Path, folder: Path, drop: str, add: dict[str, np.ndarray]) -> Weights:
    """The checkpoint in one file, without the tensor `drop` and with further ones."""
    folder.mkdir()
    tensors = {name: at for file in sorted(source.glob("*.safetensors")) for name, at in load_file(file).items()}
    kept = {name: at.astype(np.float32) for name, at in tensors.items() if name != drop}
    save_file(kept | add, folder / "model.safetensors")
    shutil.copy(source / "config.json", folder)
    return Weights(Checkpoint.open(folder))


def test_what_is_stored_and_not_used_is_dropped(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    inner = "vision_model.vision_model"
    extra = {
        f"{inner}.head.probe": np.zeros((1, 1, 32), np.float32),
        f"{inner}.embeddings.position_ids": np.zeros((1, 16), np.float32),
        "audio_model.conv1.weight": np.zeros((1, 1, 3), np.float32),
        "audio_ln.weight": np.zeros(3, np.float32),
    }
    assert altered(checkpoint_of(TINY_SIGLIP), tmp_path / "c", "", extra).has("vision.norm.weight")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("vision_model.vision_model.post_layernorm.bias", r"vision\.norm\.bias"),
        ("vision_model.vision_model.embeddings.position_embedding.weight", r"vision\.positions\.weight"),
        ("vision_model.vision_model.encoder.layers.1.self_attn.k_proj.bias", r"vision\.layers\.1\.k\.bias"),
        ("language_projection.2.weight", r"projection\.2\.weight"),
    ],
)
def test_a_missing_tensor_is_named(checkpoint_of: CheckpointOf, tmp_path: Path, name: str, role: str) -> None:
    with pytest.raises(CheckpointError, match=f"{role}: not in the checkpoint"):
        altered(checkpoint_of(TINY_SIGLIP), tmp_path / "c", name, {})


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (TINY_SIGLIP, "vision_model.vision_model.encoder.layers.2.mlp.fc1.bias"),
        (TINY_SIGLIP, "vision_model.vision_model.encoder.layers.0.mlp.fc3.bias"),
        (TINY_SIGLIP, "vision_model.backbone.embeddings.layernorm.weight"),
        (TINY_AUDIO, "model.audio_model.layers.2.fc1.bias"),
        (TINY_AUDIO, "model.audio_model.layers.0.self_attn.k_proj.bias"),
        (TINY_AUDIO, "model.vision_model.vision_model.post_layernorm.bias"),
    ],
)
def test_a_tensor_out_of_place_is_named(checkpoint_of: CheckpointOf, tmp_path: Path, shape: object, name: str) -> None:
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        altered(checkpoint_of(shape), tmp_path / "c", "", {name: np.zeros(1, np.float32)})


def test_a_misshapen_tensor_is_named(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    name = "model.audio_model.embed_positions.weight"
    with pytest.raises(CheckpointError, match=r"shape \(99, 32\), expected \(100, 32\) \(audio\.positions\.weight\)"):
        altered(checkpoint_of(TINY_AUDIO), tmp_path / "c", "", {name: np.zeros((99, 32), np.float32)})
