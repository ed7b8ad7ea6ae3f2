"""config.json and preprocessor_config.json: families, defaults, conflicts and refusals of model-family.md, 1 to 3."""

import contextlib
import copy
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.checkpoint.config import IMAGE_MEAN, IMAGE_STD, ModelConfig, parse
from export.checkpoint.rope import RopeScaling, frequencies, parse_scaling
from export.errors import ConfigError, ExportError, UnsupportedError

# A busy machine is no fault of the code.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT: Mapping[str, object] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160, "vocab_size": 512,
    "max_position_embeddings": 1024,
}  # fmt: skip
YASA: Mapping[str, object] = {"architectures": ["YasaCausalLM"], "model_type": "yasa_model", **TEXT}
YASA2: Mapping[str, object] = {
    "architectures": ["Yasa2ForConditionalGeneration"],
    "model_type": "yasa2",
    "text_config": {"model_type": "yasa_model", **TEXT},
    "vision_config": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": 384, "patch_size": 12},
    "num_query_tokens": 4,
}
GONE = object()


def changed(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """The base with dotted keys set, or dropped where the value is GONE."""
    config = copy.deepcopy(dict(base))
    for path, value in changes.items():
        *outer, key = path.split(".")
        target = config
        for name in outer:
            target = target[name]  # type: ignore[assignment]
        if value is GONE:
            target.pop(key)
        else:
            target[key] = value
    return config


def yasa(changes: Mapping[str, object] | None = None, **shapes: tuple[int, ...]) -> ModelConfig:
    named = {name.replace("__", "."): shape for name, shape in shapes.items()}
    return parse(changed(YASA, changes or {}), preprocessor=None, shapes=named)


def yasa2(changes: Mapping[str, object] | None = None, image: Mapping[str, object] | None = None) -> ModelConfig:
    return parse(changed(YASA2, changes or {}), preprocessor=image, shapes={})


@pytest.mark.parametrize(
    ("architecture", "model_type", "family"),
    [
        ("Yasa2ForConditionalGeneration", "yasa2", "yasa2"),
        ("YasaMMLMV2ForConditionalGeneration", "yasa_edge_mmlm_model", "yasa2"),
        ("Yasa2Model", "yasa2", "yasa2"),
        ("Yasa2ForConditionalGeneration", GONE, "yasa2"),
        (GONE, "yasa2", "yasa2"),
        (GONE, "yasa_edge_mmlm_model", "yasa2"),
        ("YasaCausalLM", "yasa_model", "yasa"),
        ("YasaCausalLM", "some_new_type", "yasa"),
        (GONE, "yasa_model", "yasa"),
    ],
)
def test_families_are_recognised(architecture: object, model_type: object, family: str) -> None:
    named = GONE if architecture is GONE else [architecture]
    config = changed(YASA2 if family == "yasa2" else YASA, {"architectures": named, "model_type": model_type})
    found = parse(config, preprocessor=None, shapes={})
    assert found.family == family
    assert found.architecture == (model_type if architecture is GONE else architecture)
    assert (found.vision is None) == (family == "yasa")


@pytest.mark.parametrize(
    ("architecture", "model_type", "reason"),
    [
        ("GPT2LMHeadModel", "gpt2", "'GPT2LMHeadModel': expected one of Yasa2For"),
        (GONE, "gpt2", "model_type is 'gpt2'"),
        (GONE, GONE, "model_type is None"),
        ("YasaCausalLM", "yasa2", "architectures.*YasaCausalLM.*yasa2"),
    ],
)
def test_other_families_are_refused_by_name(architecture: object, model_type: object, reason: str) -> None:
    named = GONE if architecture is GONE else [architecture]
    with pytest.raises(ConfigError, match=reason):
        yasa({"architectures": named, "model_type": model_type})


def test_the_defaults_of_the_text_tower() -> None:
    text = yasa().text
    assert (text.n_kv_heads, text.head_dim, text.rotary_share, text.rope_base) == (4, 16, 0.25, 10_000.0)
    assert (text.norm_eps, text.logit_scale, text.rope_scaling) == (1e-5, 1.0, None)
    assert (text.attention_bias, text.mlp_bias, text.tied) == (False, False, False)
    assert (text.context, text.rotary_dim) == (1024, 4)


def test_an_absent_rotary_share_is_1_in_yasa2_and_a_quarter_in_yasa_and_noted() -> None:
    assert (yasa2().text.rotary_share, yasa().text.rotary_share) == (1.0, 0.25)
    assert "config.json: text_config.rotary_pct absent: 1" in yasa2().notes
    assert "config.json: rotary_pct absent: 0.25" in yasa().notes
    assert not any("rotary" in note for note in yasa({"rotary_pct": 0.5}).notes)


@pytest.mark.parametrize("key", ["rotary_pct", "partial_rotary_factor"])
def test_the_rotary_share_has_two_names(key: str) -> None:
    assert yasa({key: 0.5}).text.rotary_dim == 8
    assert yasa({key: 1}).text.rotary_dim == 16


@pytest.mark.parametrize("share", [0, -0.5, 1.5, 0.06, 0.2])
def test_a_rotary_share_without_an_even_number_of_values_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"rotary_pct|rotated"):
        yasa({"rotary_pct": share})


@pytest.mark.parametrize(
    "keys",
    [
        {"rotary_emb_base": 500_000},
        {"rope_theta": 500_000.0},
        {"rope_parameters": {"rope_theta": 500_000, "rope_type": "default"}},
        {"rope_theta": 500_000.0, "rotary_emb_base": 500_000},
        {"rope_theta": None, "rotary_emb_base": 500_000},
    ],
)
def test_the_rotary_base_has_three_names(keys: Mapping[str, object]) -> None:
    assert yasa(keys).text.rope_base == 500_000


@pytest.mark.parametrize(
    "keys",
    [
        {"rotary_emb_base": 10_000, "rope_theta": 500_000},
        {"rope_parameters": {"rope_theta": 1e6}, "rope_theta": 500_000},
        {"rotary_pct": 0.5, "partial_rotary_factor": 0.25},
        {"rotary_pct": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}},
    ],
)
def test_two_names_with_different_values_are_a_conflict(keys: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="differ"):
        yasa(keys)


@pytest.mark.parametrize(
    ("keys", "eps"),
    [
        ({}, 1e-5),
        ({"layer_norm_eps": 1e-6}, 1e-6),
        ({"rms_norm_eps": 1e-7, "layer_norm_eps": 1e-6}, 1e-7),
        ({"rms_norm_eps": None, "layer_norm_eps": 1e-6}, 1e-6),
    ],
)
def test_the_norm_eps_is_the_rms_one_first(keys: Mapping[str, object], eps: float) -> None:
    assert yasa(keys).text.norm_eps == eps


@pytest.mark.parametrize("key", ["num_query_groups", "num_key_value_heads"])
def test_key_value_heads_have_two_names(key: str) -> None:
    assert yasa({key: 2}).text.n_kv_heads == 2


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("model__layers__0__self_attn__k_proj__weight", 32),
        ("model__layers__0__self_attn__qkv_proj__weight", 128),
        ("gpt_neox__layers__0__attention__query_key_value__weight", 128),
    ],
)
def test_the_stored_keys_decide_where_the_two_names_differ(name: str, rows: int) -> None:
    config = yasa({"num_query_groups": 4, "num_key_value_heads": 1}, **{name: (rows, 64)})
    assert config.text.n_kv_heads == 2
    assert any("the stored keys have 2 heads" in note for note in config.notes)


def test_differing_head_counts_without_stored_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="differ, and no k_proj decides"):
        yasa({"num_query_groups": 4, "num_key_value_heads": 1}, model__norm__weight=(64,))


def test_differing_head_counts_wait_for_the_weights() -> None:
    assert yasa({"num_query_groups": 4, "num_key_value_heads": 1}).text.n_kv_heads == 4


def test_query_heads_must_be_a_multiple_of_the_key_heads() -> None:
    with pytest.raises(ConfigError, match="4 query heads are no multiple of 3"):
        yasa({"num_query_groups": 3})


def test_the_head_size_may_be_given_or_follow_from_the_hidden_size() -> None:
    assert yasa({"head_dim": 32}).text.head_dim == 32
    assert yasa({"head_dim": None}).text.head_dim == 16
    with pytest.raises(ConfigError, match=r"head_dim is missing and hidden_size 66"):
        yasa({"hidden_size": 66})


@pytest.mark.parametrize("activation", ["gelu", "swiglu", "silu", None])
def test_every_activation_name_means_silu(activation: str | None) -> None:
    notes = yasa({"hidden_act": activation}).notes
    assert any("silu is computed" in note for note in notes) == (activation == "gelu")


def test_scale_biases_and_tying_are_honoured() -> None:
    text = yasa({"logit_scale": 0.5, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}).text
    assert (text.logit_scale, text.attention_bias, text.mlp_bias, text.tied) == (0.5, True, True, True)


@pytest.mark.parametrize(
    ("inner", "outer", "tied"),
    [(GONE, True, True), (True, False, True), (False, True, False), (GONE, False, False)],
)
def test_the_text_towers_own_tying_counts_before_the_outer_one(inner: object, outer: bool, tied: bool) -> None:
    changes = {"tie_word_embeddings": outer}
    if inner is not GONE:
        changes["text_config.tie_word_embeddings"] = inner
    assert yasa2(changes).text.tied == tied


@pytest.mark.parametrize("key", [*TEXT])
def test_a_missing_key_without_default_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.json: {key} is missing: expected an integer"):
        yasa({key: GONE})
    with pytest.raises(ConfigError, match=rf"config\.json: text_config\.{key} is missing"):
        yasa2({f"text_config.{key}": None})


@pytest.mark.parametrize("value", ["64", 0, -1, 64.0, True, [64], 1 << 40])
def test_a_value_of_another_kind_is_named(value: object) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: hidden_size is .*: expected an integer of at least 1"):
        yasa({"hidden_size": value})


@pytest.mark.parametrize("value", ["x", math.nan, math.inf, True, [1], 10**400])
def test_a_number_that_is_none_is_named(value: object) -> None:
    for key in ("logit_scale", "rope_theta", "rms_norm_eps"):
        with pytest.raises(ConfigError, match=rf"{key} is .*: expected a finite number"):
            yasa({key: value})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("num_moe_experts", 2, "num_moe_experts is 2"),
        ("interleaved_sliding_window", [128, None], r"interleaved_sliding_window is \[128, None\]"),
        ("has_score_layer", True, "has_score_layer is True"),
        ("add_position_embedding", True, "add_position_embedding is True"),
        ("quantization_config", {"bits": 4}, "quantization_config is {'bits': 4}"),
        ("rope_scaling", {"rope_type": "longrope", "factor": 4}, "'longrope'"),
        ("rope_scaling", {"type": "dynamic", "factor": 4}, "'dynamic'"),
        ("rope_scaling", {"type": "default", "mrope_section": [1]}, "mrope_section"),
        ("rope_scaling", {"type": "yarn", "factor": 4, "mscale": 1}, "mscale is 1"),
    ],
)
def test_known_keys_that_ask_for_what_is_not_there_are_refused(key: str, value: object, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{reason}.*not implemented"):
        yasa({key: value})
    with pytest.raises(UnsupportedError, match=r"text_config.*not implemented"):
        yasa2({f"text_config.{key}": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_moe_experts", 1), ("interleaved_sliding_window", None), ("has_score_layer", False), ("rope_scaling", None)],
)
def test_the_same_keys_with_inert_values_pass(key: str, value: object) -> None:
    assert yasa({key: value}).text == yasa().text


def test_an_audio_tower_beside_text_alone_is_refused_only_with_its_weights() -> None:
    config = changed(YASA, {"audio_config": {"d_model": 8}})
    assert "audio_config" in parse(config, preprocessor=None, shapes={}).ignored
    with pytest.raises(UnsupportedError, match="audio_config is {'d_model': 8}: an audio tower"):
        parse(config, preprocessor=None, shapes={"model.audio_model.conv1.weight": (1,)})


def test_keys_that_nothing_reads_are_listed() -> None:
    inert = {"auto_map": {}, "mp_size": 1, "flash": True, "audio_config": None, "tts_config": None, "bos_token_id": 0}
    config = yasa2(
        {**inert, "text_config.window_size": 256, "text_config.eos_token_id": 2, "vision_config.layer_norm_eps": 1e-12},
        {"do_resize": True, "crop_pct": 0.5},
    )
    assert config.ignored == (
        "audio_config", "auto_map", "bos_token_id", "flash", "mp_size", "preprocessor_config.json: do_resize",
        "text_config.eos_token_id", "text_config.window_size", "tts_config", "vision_config.layer_norm_eps",
    )  # fmt: skip


def test_the_text_tower_must_be_yasas() -> None:
    with pytest.raises(UnsupportedError, match=r"text_config\.model_type is 'llama'"):
        yasa2({"text_config.model_type": "llama"})


def test_the_defaults_of_the_vision_tower() -> None:
    gone = dict.fromkeys(["vision_config.image_size", "vision_config.patch_size", "num_query_tokens"], GONE)
    vision = yasa2(gone).vision
    assert vision is not None
    assert (vision.tile_px, vision.patch_px, vision.max_tiles, vision.tokens_per_tile) == (224, 4, 4, 49)
    assert (vision.pos_embed, vision.resample, vision.crop_share) == (True, "bilinear", 0.875)
    assert (vision.mean, vision.std) == (IMAGE_MEAN, IMAGE_STD)
    assert (vision.grid, vision.pooled) == (7, 7)
    assert "preprocessor_config.json absent: bilinear, mean and std of ImageNet" in yasa2().notes


def test_the_released_tower_has_a_grid_of_16() -> None:
    huge = {"vision_config.image_size": 512, "vision_config.patch_size": 4, "num_query_tokens": 64}
    vision = yasa2(huge).vision
    assert vision is not None
    assert (vision.grid, vision.pooled) == (16, 8)


@pytest.mark.parametrize(
    ("keys", "tiles"),
    [
        ({}, 4),
        ({"vision_max_tiles_num": 6}, 6),
        ({"max_tiles_num": 2}, 2),
        ({"vision_max_tiles_num": 6, "max_tiles_num": 2}, 6),
        ({"vision_max_tiles_num": None, "max_tiles_num": 2}, 2),
        ({"vision_max_tiles_num": None, "max_tiles_num": None}, 4),
    ],
)
def test_the_number_of_tiles_comes_from_the_first_key_that_is_there(keys: Mapping[str, object], tiles: int) -> None:
    vision = yasa2(keys).vision
    assert vision is not None
    assert vision.max_tiles == tiles


def test_preprocessing_is_taken_from_its_file_where_given() -> None:
    image = {"resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1], "crop_pct": 0.9}
    vision = yasa2(None, image).vision
    assert vision is not None
    assert (vision.resample, vision.mean, vision.std) == ("bicubic", (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    assert vision.crop_share == 0.9
    assert not any("preprocessor" in note for note in yasa2(None, image).notes)


@pytest.mark.parametrize(
    ("image", "error", "reason"),
    [
        ({"resample": 0}, UnsupportedError, "resample is 0"),
        ({"resample": "bicubic"}, ConfigError, "resample is 'bicubic'"),
        ({"image_mean": [0.5]}, ConfigError, "image_mean .* three numbers"),
        ({"image_mean": [0.5, 0.5, "x"]}, ConfigError, "image_mean is 'x'"),
        ({"image_std": [0.5, 0, 0.5]}, ConfigError, "image_std .* above 0"),
        ({"crop_pct": 0}, ConfigError, "crop_pct is 0.0"),
        ({"crop_pct": 1.5}, ConfigError, "crop_pct is 1.5"),
    ],
)
def test_bad_preprocessing_is_named(image: Mapping[str, object], error: type[ExportError], reason: str) -> None:
    with pytest.raises(error, match=rf"preprocessor_config\.json: {reason}"):
        yasa2(None, image)


@pytest.mark.parametrize(
    ("key", "value", "error", "reason"),
    [
        ("vision_config", GONE, ConfigError, "vision_config is missing: expected an object"),
        ("text_config", [], ConfigError, "text_config is '\\[\\]': expected an object"),
        ("vision_config.hidden_sizes", GONE, ConfigError, "hidden_sizes is missing"),
        ("vision_config.hidden_sizes", [8, 16], ConfigError, "2 hidden_sizes, 4 depths, 4 stages"),
        ("vision_config.num_stages", 3, ConfigError, "4 depths, 3 stages"),
        ("vision_config.depths", [], ConfigError, "depths"),
        ("vision_config.depths", [1, 1, 0, 1], ConfigError, "depths"),
        ("vision_config.num_channels", 1, UnsupportedError, "num_channels is 1"),
        ("vision_config.hidden_act", "relu", UnsupportedError, "hidden_act is 'relu'"),
        ("vision_config.model_type", "siglip", UnsupportedError, "model_type is 'siglip'"),
        ("vision_encoder_arch", "siglip", UnsupportedError, "vision_encoder_arch is 'siglip'"),
        ("vision_config.image_size", 64, ConfigError, "image_size is 64: too small"),
        ("vision_config.image_size", 5000, ConfigError, "feature map of 52 x 52"),
        ("vision_config.hidden_sizes", [8, 16, 24, 30], ConfigError, "multiples of 4"),
        ("num_query_tokens", 5, ConfigError, "num_query_tokens is 5: expected a square"),
    ],
)
def test_a_bad_vision_configuration_is_named(key: str, value: object, error: type[ExportError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        yasa2({key: value})


def test_a_tower_without_positions_may_have_any_grid() -> None:
    vision = yasa2({"use_vision_pos_embed": False, "vision_config.image_size": 5000}).vision
    assert vision is not None
    assert not vision.pos_embed


SCALINGS: Mapping[str, Mapping[str, object]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 512},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    "yarn tuned": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 24, "beta_slow": 2, "attention_factor": 1.25,
                   "original_max_position_embeddings": 256},
}  # fmt: skip


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_scaled_frequencies_are_those_of_transformers(name: str, share: float) -> None:
    from transformers import LlamaConfig  # here: the other tests need not wait for torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = dict(SCALINGS[name])
    reference = LlamaConfig(
        hidden_size=256, num_attention_heads=4, head_dim=64, rope_theta=500_000.0, partial_rotary_factor=share,
        rope_scaling=scaling, max_position_embeddings=2048,
    )  # fmt: skip
    expected, factor = ROPE_INIT_FUNCTIONS[str(scaling["rope_type"])](reference, device="cpu")
    text = yasa({"head_dim": 64, "rotary_pct": share, "rope_theta": 500_000, "rope_scaling": scaling}).text
    found, found_factor = frequencies(rotary_dim=text.rotary_dim, base=text.rope_base, scaling=text.rope_scaling)
    np.testing.assert_allclose(found, expected.double().numpy(), rtol=2e-6)
    assert found_factor == pytest.approx(factor)


def test_plain_frequencies_follow_the_definition() -> None:
    found, factor = frequencies(rotary_dim=8, base=10_000.0, scaling=None)
    np.testing.assert_allclose(found, [1, 0.1, 0.01, 0.001])
    assert factor == 1


def test_the_original_context_may_stand_beside_the_scaling() -> None:
    beside = yasa({"rope_scaling": {"type": "yarn", "factor": 2}, "original_max_position_embeddings": 256}).text
    assert beside.rope_scaling == RopeScaling(kind="yarn", factor=2.0, original_context=256)
    absent = yasa({"rope_scaling": {"type": "yarn", "factor": 2}}).text
    assert absent.rope_scaling == RopeScaling(kind="yarn", factor=2.0, original_context=1024)
    with pytest.raises(ConfigError, match="differ"):
        yasa(
            {
                "rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 512},
                "original_max_position_embeddings": 256,
            }
        )


def test_scaling_and_parameters_may_not_contradict() -> None:
    with pytest.raises(ConfigError, match="rope_scaling and rope_parameters differ"):
        yasa({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"type": "linear", "factor": 4}})


@pytest.mark.parametrize(
    "scaling", [{"type": "linear"}, {"type": "linear", "factor": 0.5}, {"type": "linear", "factor": "2"}]
)
def test_a_bad_scaling_is_named(scaling: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"rope_scaling\.factor"):
        parse_scaling(scaling, key="config.json: rope_scaling", original_context=8)


@pytest.mark.parametrize(
    ("scaling", "reason"),
    [
        ({"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}, "high_freq_factor is 4.0"),
        ({"type": "yarn", "factor": 8, "beta_fast": 1, "beta_slow": 32}, "beta_fast is 1.0"),
        ({"type": "yarn", "factor": 8, "original_max_position_embeddings": 0}, "original_max_.* is 0.0"),
        ({"type": "yarn", "factor": 8, "original_max_position_embeddings": 0.5}, "original_max_.* is 0.5"),
    ],
)
def test_a_scaling_without_sense_is_refused(scaling: Mapping[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        yasa({"rope_scaling": scaling})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    "architectures", "model_type", "num_query_tokens", "vision_max_tiles_num", "max_tiles_num", "use_vision_pos_embed",
    "tie_word_embeddings", "audio_config", "vision_encoder_arch", "num_moe_experts", "quantization_config",
    "text_config", *(f"text_config.{key}" for key in TEXT), "text_config.model_type", "text_config.rope_scaling",
    "text_config.rope_parameters", "text_config.rotary_pct", "text_config.rope_theta", "text_config.num_query_groups",
    "text_config.num_key_value_heads", "text_config.head_dim", "text_config.hidden_act", "text_config.logit_scale",
    "text_config.original_max_position_embeddings", "text_config.rms_norm_eps", "text_config.attention_bias",
    "vision_config", "vision_config.hidden_sizes", "vision_config.depths", "vision_config.image_size",
    "vision_config.patch_size", "vision_config.num_stages", "vision_config.num_channels", "vision_config.hidden_act",
]  # fmt: skip
SCALING = st.fixed_dictionaries(
    {},
    optional={
        key: JSON | st.sampled_from(["linear", "llama3", "yarn", "default", 2.0, 8])
        for key in ("type", "rope_type", "factor", "low_freq_factor", "original_max_position_embeddings", "rope_theta")
    },
)


@PATIENT
@given(
    st.sampled_from(KEYS), JSON | SCALING, st.dictionaries(st.sampled_from(["resample", "image_std", "crop_pct"]), JSON)
)
def test_any_value_of_any_key_is_read_or_refused(key: str, value: object, image: Mapping[str, object]) -> None:
    with contextlib.suppress(ExportError):
        yasa2({key: value}, image)
