"""The configurations of SigLIP, Reka Flash and sound towers: defaults, and refusals that name field and value."""

from collections.abc import Mapping

import pytest

from export.checkpoint.config import ModelConfig, parse
from export.checkpoint.towers import SiglipConfig
from export.errors import ConfigError, UnsupportedError
from tests.export.checkpoint.test_config import GONE, TEXT, YASA2, changed

SIGLIP: Mapping[str, object] = {
    "architectures": ["YasaMMLMForConditionalGeneration"],
    "model_type": "yasa_mmlm_model",
    "text_config": {"model_type": "yasa_model", **TEXT},
    "vision_config": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 98,
        "patch_size": 14,
    },
    "num_query_tokens": 4,
}  # fmt: skip
FLASH: Mapping[str, object] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **TEXT}
AUDIO = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
DECODED = {"model.audio_model.conv1.weight": (1,)}


def siglip(changes: Mapping[str, object] | None = None, image: Mapping[str, object] | None = None) -> ModelConfig:
    return parse(changed(SIGLIP, changes or {}), preprocessor=image, shapes={})


def flash(changes: Mapping[str, object] | None = None) -> ModelConfig:
    return parse(changed(FLASH, changes or {}), preprocessor=None, shapes={})


def audio(changes: Mapping[str, object] | None = None) -> ModelConfig:
    config = {**YASA2, "audio_config": AUDIO, "audio_pool": 4}
    return parse(changed(config, changes or {}), preprocessor=None, shapes=DECODED)


def tower(config: ModelConfig) -> SiglipConfig:
    assert isinstance(config.vision, SiglipConfig)
    return config.vision


def test_siglip_is_recognised_by_either_name() -> None:
    assert siglip().family == siglip({"architectures": GONE}).family == siglip({"model_type": GONE}).family == "siglip"


def test_siglip_is_read_as_it_stands() -> None:
    found = tower(siglip())
    assert (found.tile_px, found.patch_px, found.grid, found.pooled, found.width) == (98, 14, 7, 2, 32)
    assert (found.encoder.n_layers, found.encoder.n_heads, found.encoder.intermediate_size) == (2, 2, 48)
    assert (found.encoder.norm_eps, found.encoder.activation, found.max_tiles) == (1e-6, "gelu_tanh", 4)
    assert (found.resample, found.mean, found.std) == ("bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (found.order, found.crop_share) == ("whole-first", None)


def test_siglip_keys_that_are_absent_are_those_of_transformers() -> None:
    found = tower(siglip({"vision_config": {}, "num_query_tokens": 49}))
    assert (found.tile_px, found.patch_px, found.pooled) == (224, 16, 7)
    assert (found.encoder.width, found.encoder.n_layers, found.encoder.n_heads) == (768, 12, 12)
    assert found.encoder.intermediate_size == 3072


def test_siglip_takes_what_the_preprocessor_says() -> None:
    found = tower(siglip(image={"resample": 2, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}))
    assert (found.resample, found.mean, found.std) == ("bilinear", (0.1, 0.2, 0.3), (1, 2, 3))


def test_the_plugins_own_rotation_is_the_default_beside_siglip() -> None:
    config = siglip()
    assert config.text.rotary_share == 0.25
    assert config.notes == ("config.json: text_config.rotary_pct absent: 0.25",)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"vision_config.hidden_act": "gelu"}, UnsupportedError, r"vision_config\.hidden_act is 'gelu': only gelu_pyt"),
        ({"vision_config.model_type": "clip"}, UnsupportedError, r"vision_config\.model_type is 'clip': only siglip"),
        ({"vision_config.num_channels": 4}, UnsupportedError, r"vision_config\.num_channels is 4: only 3"),
        ({"vision_config.num_attention_heads": 3}, ConfigError, "hidden_size is 32: expected a multiple of 3"),
        ({"vision_config.image_size": 13}, ConfigError, "image_size is 13: expected at least patch_size 14"),
        ({"vision_config.layer_norm_eps": 0}, ConfigError, "layer_norm_eps is 0.0: expected above 0"),
        ({"num_query_tokens": GONE}, ConfigError, "num_query_tokens is 32: expected a square number"),
        ({"num_query_tokens": 5}, ConfigError, "num_query_tokens is 5: expected a square number"),
        ({"text_config.model_type": "llama"}, UnsupportedError, r"text_config\.model_type is 'llama': only yasa_model"),
        ({"text_config.num_moe_experts": 8}, UnsupportedError, r"text_config\.num_moe_experts is 8.*expected 1"),
        ({"vision_config": GONE}, ConfigError, "vision_config is missing: expected an object"),
        ({"quantization_config": {"bits": 4}}, UnsupportedError, "quantization_config is .'bits': 4.*expected null"),
    ],
)
def test_what_siglip_cannot_be_is_named(change: dict[str, object], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        siglip(change)


def test_siglip_resampling_by_another_filter_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"preprocessor_config\.json: resample is 1: only 2"):
        siglip(image={"resample": 1})


def test_flash_is_a_llama_whose_whole_head_rotates() -> None:
    config = flash({"rope_theta": 500_000.0, "num_key_value_heads": 2, "pretraining_tp": 1})
    assert (config.family, config.vision, config.audio, config.notes) == ("llama", None, None, ())
    assert (config.text.rotary_share, config.text.rope_base, config.text.n_kv_heads) == (1.0, 500_000.0, 2)
    assert config.ignored == ("pretraining_tp",)


@pytest.mark.parametrize("tied", [True, False])
def test_flash_may_be_tied_or_not(tied: bool) -> None:
    assert flash({"tie_word_embeddings": tied}).text.tied == tied


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"hidden_act": "gelu"}, UnsupportedError, "config.json: hidden_act is gelu: .*expected silu"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, UnsupportedError, "rope_scaling: kind 'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, UnsupportedError, "rope_scaling: kind 'longrope'.*known: "),
        ({"rope_scaling": {"rope_type": "linear"}}, ConfigError, r"rope_scaling\.factor is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, ConfigError, r"rope_scaling\.factor is 0\.5"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2, "mscale": 1.5}}, UnsupportedError, r"mscale is 1\.5"),
        ({"rope_scaling": "linear"}, ConfigError, "rope_scaling is 'linear': expected an object"),
        ({"quantization_config": {"bits": 4}}, UnsupportedError, "quantization_config is .'bits': 4"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, ConfigError, "4 query heads are no multiple of 3"),
    ],
)
def test_what_flash_cannot_be_is_named(change: dict[str, object], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        flash(change)


def test_an_audio_tower_is_read_in_whispers_keys() -> None:
    config = audio()
    assert config.audio is not None
    assert (config.audio.n_mels, config.audio.n_frames, config.audio.tokens) == (80, 3000, 375)
    assert (config.audio.encoder.width, config.audio.encoder.norm_eps) == (32, 1e-5)
    assert not config.audio.encoder.key_bias
    assert not [key for key in config.ignored if key.startswith("audio")]


@pytest.mark.parametrize("change", [{"audio_config": None}, {"audio_config": GONE}])
def test_stored_audio_counts_only_with_its_configuration(change: dict[str, object]) -> None:
    assert audio(change).audio is None


def test_an_audio_configuration_without_weights_is_ignored_and_listed() -> None:
    config = parse({**YASA2, "audio_config": AUDIO, "audio_pool": 4}, preprocessor=None, shapes={})
    assert config.audio is None
    assert {"audio_config", "audio_pool"} <= set(config.ignored)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"audio_pool": GONE}, ConfigError, "config.json: audio_pool is missing: expected an integer"),
        ({"audio_pool": 7}, ConfigError, "audio_pool is 7: expected a divisor of 1500 positions"),
        ({"audio_config": {**AUDIO, "model_type": "clap"}}, UnsupportedError, "model_type is 'clap': only whisper"),
        ({"audio_config": {**AUDIO, "activation_function": "relu"}}, UnsupportedError, "activation_function is 'relu'"),
        ({"audio_config": {**AUDIO, "encoder_attention_heads": 5}}, ConfigError, "d_model is 32: expected a multiple"),
        ({"audio_config": {}}, ConfigError, r"audio_config\.d_model is missing"),
        ({"audio_config": 5}, ConfigError, "audio_config is '5': expected an object"),
    ],
)
def test_what_an_audio_tower_cannot_be_is_named(change: dict[str, object], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        audio(change)
