"""config.json and preprocessor_config.json, parsed once into frozen dataclasses.

A checkpoint's config is not strict: keys that nothing here reads are listed in `ModelConfig.ignored`. Errors are a
missing key without a default, a value of the wrong kind, and a known key that asks for what is not implemented.
Source: model-family.md, 1 to 4.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from export.checkpoint.fields import Fields
from export.checkpoint.rope import RopeScaling, parse_scaling
from export.checkpoint.towers import (
    AudioConfig,
    Resample,
    SiglipConfig,
    check_pooling,
    check_std,
    max_tiles,
    only,
    parse_audio,
    parse_siglip,
    resample,
)
from export.errors import ConfigError, UnsupportedError

Shapes = Mapping[str, tuple[int, ...]]

POSITION_GRID = 50  # the side of the trained table of positions
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

Family = Literal["yasa2", "yasa", "siglip", "llama"]
_FAMILIES: Mapping[str, Family] = {
    "Yasa2ForConditionalGeneration": "yasa2",
    "YasaMMLMV2ForConditionalGeneration": "yasa2",
    "Yasa2Model": "yasa2",
    "YasaCausalLM": "yasa",
    "YasaMMLMForConditionalGeneration": "siglip",
    "LlamaForCausalLM": "llama",
}
_MODEL_TYPES: Mapping[str, Family] = {
    "yasa2": "yasa2",
    "yasa_edge_mmlm_model": "yasa2",
    "yasa_model": "yasa",
    "yasa_mmlm_model": "siglip",
    "llama": "llama",
}
_COMPOSED = ("yasa2", "siglip")  # families whose text tower is one part of several


@dataclass(frozen=True)
class TextConfig:
    """The decoder; rotary_share is the rotated share of each head, logit_scale multiplies the logits."""

    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context: int
    rotary_share: float
    rope_base: float
    rope_scaling: RopeScaling | None
    norm_eps: float
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    logit_scale: float

    @property
    def rotary_dim(self) -> int:
        """How many values of each head are rotated (even)."""
        return int(self.head_dim * self.rotary_share)


@dataclass(frozen=True)
class VisionConfig:
    """The ConvNeXt V2 tower and the preprocessing in front of it; mean and std are of values from 0 to 1."""

    tile_px: int
    patch_px: int
    hidden_sizes: tuple[int, ...]
    depths: tuple[int, ...]
    max_tiles: int
    tokens_per_tile: int
    pos_embed: bool
    resample: Resample
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_share: float

    order: Literal["cells-first"] = "cells-first"

    @property
    def grid(self) -> int:
        """The side of the feature map of one tile: the patches, halved (rounding down) by every stage but the first."""
        return self.tile_px // self.patch_px >> (len(self.depths) - 1)

    @property
    def pooled(self) -> int:
        """The side of the pooled feature map: the root of tokens_per_tile."""
        return math.isqrt(self.tokens_per_tile)

    @property
    def width(self) -> int:
        """The channels of the feature map."""
        return self.hidden_sizes[-1]


@dataclass(frozen=True)
class ModelConfig:
    """A checkpoint's configuration; families with vision are yasa2 and siglip, yasa and llama are text only."""

    family: Family
    architecture: str
    text: TextConfig
    vision: VisionConfig | SiglipConfig | None
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    audio: AudioConfig | None = None


def recognise(config: Mapping[str, object]) -> tuple[Family, str]:
    """The family and architecture of a config.json. Raises: ConfigError for one that is not of section 1."""
    named = config.get("architectures") or [None]
    architecture, model_type = named[0] if isinstance(named, list) else named, config.get("model_type")
    for key, value in (("architectures[0]", architecture), ("model_type", model_type)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"config.json: {key} is {str(value)[:60]!r}: expected a string")
    if architecture is not None and architecture not in _FAMILIES:
        raise ConfigError(f"config.json: architectures[0] is {architecture!r}: expected one of {', '.join(_FAMILIES)}")
    if architecture is None and model_type not in _MODEL_TYPES:
        raise ConfigError(f"config.json: model_type is {model_type!r}: expected one of {', '.join(_MODEL_TYPES)}")
    by_type = _MODEL_TYPES.get(str(model_type))
    family = _FAMILIES[architecture] if isinstance(architecture, str) else _MODEL_TYPES[str(model_type)]
    if by_type is not None and by_type != family:
        raise ConfigError(f"config.json: architectures[0] is {architecture!r}, but model_type is {model_type!r}")
    return family, str(architecture if architecture is not None else model_type)


def parse(config: Mapping[str, object], *, preprocessor: Mapping[str, object] | None, shapes: Shapes) -> ModelConfig:
    """The whole configuration of a checkpoint.

    config, preprocessor: the two files' objects; shapes: of every stored tensor, they settle what the keys leave open;
    none while the weights are not here.
    Raises: ConfigError, UnsupportedError.
    """
    family, architecture = recognise(config)
    notes: list[str] = []
    top = Fields(config, "config.json")
    top.skip("architectures", "model_type")
    _refuse(top)
    if family not in _COMPOSED:
        _refuse_audio(top, shapes)
        if family == "llama":
            top.skip("eos_token_id")  # `export.checkpoint.prompt_format` reads it; in yasa models it is no end
        text = _text(top, top, family, shapes, notes)
        return ModelConfig(family, architecture, text, None, top.unread(), tuple(notes))
    text_fields, vision_fields = top.child("text_config"), top.child("vision_config")
    only(text_fields, "model_type", "yasa_model")
    _refuse(text_fields)
    text = _text(text_fields, top, family, shapes, notes)
    image = Fields(preprocessor or {}, "preprocessor_config.json")
    vision: VisionConfig | SiglipConfig
    if family == "siglip":
        vision = parse_siglip(vision_fields, top, image)
    else:
        vision = _vision(vision_fields, top, image, notes)
    read = [text_fields, top, vision_fields, image]
    audio = None
    if _has_audio(shapes) and top.get("audio_config") is not None:
        read.append(top.child("audio_config"))
        audio = parse_audio(read[-1], top)
    ignored = tuple(sorted(key for fields in read for key in fields.unread()))
    return ModelConfig(family, architecture, text, vision, ignored, tuple(notes), audio)


def _refuse(fields: Fields) -> None:
    """Known keys with a value that would change the result and that nothing here computes."""
    if fields.integer("num_moe_experts", default=1) > 1:
        raise _unsupported(fields, "num_moe_experts", "1")
    for key in ("has_score_layer", "add_position_embedding"):
        if fields.flag(key, default=False):
            raise _unsupported(fields, key, "false")
    for key in ("interleaved_sliding_window", "quantization_config"):
        if fields.get(key) is not None:
            raise _unsupported(fields, key, "null")


def _refuse_audio(top: Fields, shapes: Shapes) -> None:
    if _has_audio(shapes) and top.get("audio_config") is not None:
        raise UnsupportedError(
            f"{top.path('audio_config')} is {str(top.get('audio_config'))[:60]}: an audio tower beside a model of text"
            " only is not implemented by this version"
        )


def _has_audio(shapes: Shapes) -> bool:
    """Whether an audio tower is stored: real configurations keep its keys without it."""
    return any(name.removeprefix("model.").startswith("audio_model.") for name in shapes)


def _unsupported(fields: Fields, key: str, expected: str) -> UnsupportedError:
    value = str(fields.get(key))[:60]
    return UnsupportedError(f"{fields.path(key)} is {value}: not implemented by this version, expected {expected}")


def _text(fields: Fields, top: Fields, family: Family, shapes: Shapes, notes: list[str]) -> TextConfig:
    hidden_size = fields.integer("hidden_size")
    n_heads = fields.integer("num_attention_heads")
    head_dim = fields.integer("head_dim", default=0) or _even_share(fields, hidden_size, n_heads)
    context = fields.integer("max_position_embeddings")
    share = _rotary_share(fields, family, notes)
    if int(head_dim * share) % 2 != 0 or int(head_dim * share) < 2:
        raise ConfigError(f"{fields.file}: {int(head_dim * share)} of {head_dim} rotated: expected an even number")
    activation = fields.text("hidden_act", default="silu")
    if activation not in ("silu", "swiglu"):
        if family == "llama":
            raise _unsupported(fields, "hidden_act", "silu")
        notes.append(f"{fields.path('hidden_act')} is {activation}: silu is computed, as yasa models do")
    return TextConfig(
        hidden_size=hidden_size,
        n_layers=fields.integer("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=_kv_heads(fields, n_heads, head_dim, shapes, notes),
        head_dim=head_dim,
        intermediate_size=fields.integer("intermediate_size"),
        vocab_size=fields.integer("vocab_size"),
        context=context,
        rotary_share=share,
        rope_base=_rope_base(fields),
        rope_scaling=_rope_scaling(fields, context),
        norm_eps=_norm_eps(fields),
        attention_bias=fields.flag("attention_bias", default=False),
        mlp_bias=fields.flag("mlp_bias", default=False),
        tied=_tied(fields, top),
        logit_scale=fields.number("logit_scale", default=1.0),
    )


def _even_share(fields: Fields, hidden_size: int, n_heads: int) -> int:
    if hidden_size % n_heads != 0:
        raise ConfigError(
            f"{fields.path('head_dim')} is missing and hidden_size {hidden_size} is no multiple of {n_heads} heads"
        )
    return hidden_size // n_heads


def _kv_heads(fields: Fields, n_heads: int, head_dim: int, shapes: Shapes, notes: list[str]) -> int:
    """Key/value heads: either key; where the two differ, the stored keys decide."""
    found = {
        key: fields.integer(key) for key in ("num_query_groups", "num_key_value_heads") if fields.get(key) is not None
    }
    counts = set(found.values()) or {n_heads}
    n_kv_heads = counts.pop()
    if counts:
        n_kv_heads = _stored_kv_heads(fields, n_heads, head_dim, shapes)
        notes.append(f"{found} differ: the stored keys have {n_kv_heads} heads")
    if n_heads % n_kv_heads != 0:
        raise ConfigError(f"{fields.file}: {n_heads} query heads are no multiple of {n_kv_heads} key/value heads")
    return n_kv_heads


def _stored_kv_heads(fields: Fields, n_heads: int, head_dim: int, shapes: Shapes) -> int:
    for name, shape in sorted(shapes.items()):
        if name.endswith("layers.0.self_attn.k_proj.weight"):
            return max(1, shape[0] // head_dim)
        if name.endswith(("layers.0.self_attn.qkv_proj.weight", "layers.0.attention.query_key_value.weight")):
            return max(1, (shape[0] // head_dim - n_heads) // 2)
    if not shapes:
        return n_heads
    raise ConfigError(f"{fields.path('num_query_groups')} and num_key_value_heads differ, and no k_proj decides")


def _rotary_share(fields: Fields, family: Family, notes: list[str]) -> float:
    share = fields.same_number("rotary_pct", "partial_rotary_factor", "rope_parameters.partial_rotary_factor")
    if share is None:
        share = 1.0 if family in ("yasa2", "llama") else 0.25
        if family != "llama":  # there it is never given, and always 1
            notes.append(f"{fields.path('rotary_pct')} absent: {share:g}")
    if not 0 < share <= 1:
        raise ConfigError(f"{fields.path('rotary_pct')} is {share}: expected above 0 and at most 1")
    return share


def _rope_base(fields: Fields) -> float:
    base = fields.same_number("rotary_emb_base", "rope_theta", "rope_parameters.rope_theta")
    if base is not None and base <= 1:
        raise ConfigError(f"{fields.path('rotary_emb_base')} is {base}: expected above 1")
    return 10_000.0 if base is None else base


def _rope_scaling(fields: Fields, context: int) -> RopeScaling | None:
    found = []
    for key in ("rope_scaling", "rope_parameters"):
        if fields.get(key) is not None:
            original = _original_context(fields, key, context)
            found.append(parse_scaling(fields.child(key).data, key=fields.path(key), original_context=original))
    scalings = {scaling for scaling in found if scaling is not None}
    if len(scalings) > 1:
        raise ConfigError(f"{fields.path('rope_scaling')} and rope_parameters differ: expected one of them")
    fields.skip("original_max_position_embeddings")
    return scalings.pop() if scalings else None


def _original_context(fields: Fields, key: str, context: int) -> int:
    """The context before stretching, in tokens: beside the scaling, inside it, or the model's."""
    name = "original_max_position_embeddings"
    original = fields.same_number(name, f"{key}.{name}")
    if original is None:
        return context
    if original < 1 or original != int(original):
        raise ConfigError(f"{fields.path(name)} is {original}: expected an integer of at least 1")
    return int(original)


def _norm_eps(fields: Fields) -> float:
    first, second = fields.number("rms_norm_eps", default=0.0), fields.number("layer_norm_eps", default=0.0)
    eps = first or second or 1e-5
    if eps < 0:
        raise ConfigError(f"{fields.path('rms_norm_eps')} is {eps}: expected above 0")
    return eps


def _tied(fields: Fields, top: Fields) -> bool:
    """The text tower's own key counts; the outer one only where it is absent."""
    outer = top.flag("tie_word_embeddings", default=False)
    return fields.flag("tie_word_embeddings", default=outer)


def _vision(fields: Fields, top: Fields, image: Fields, notes: list[str]) -> VisionConfig:
    _refuse_vision(fields, top)
    if not image.data:
        notes.append("preprocessor_config.json absent: bilinear, mean and std of ImageNet")
    vision = VisionConfig(
        tile_px=fields.integer("image_size", default=224),
        patch_px=fields.integer("patch_size", default=4),
        hidden_sizes=fields.integers("hidden_sizes"),
        depths=fields.integers("depths"),
        max_tiles=max_tiles(top),
        tokens_per_tile=top.integer("num_query_tokens", default=49),
        pos_embed=top.flag("use_vision_pos_embed", default=True),
        resample=resample(image, default=2),
        mean=image.triple("image_mean", default=IMAGE_MEAN),
        std=image.triple("image_std", default=IMAGE_STD),
        crop_share=image.number("crop_pct", default=0.875),
    )
    _check_vision(vision, fields, top, image)
    return vision


def _refuse_vision(fields: Fields, top: Fields) -> None:
    only(fields, "model_type", "convnextv2")
    only(fields, "hidden_act", "gelu")
    only(top, "vision_encoder_arch", "convnextv2")
    if fields.integer("num_channels", default=3) != 3:
        raise UnsupportedError(f"{fields.path('num_channels')} is {fields.get('num_channels')}: only 3 is implemented")


def _check_vision(vision: VisionConfig, fields: Fields, top: Fields, image: Fields) -> None:
    n_stages = fields.integer("num_stages", default=len(vision.depths))
    if not len(vision.hidden_sizes) == len(vision.depths) == n_stages:
        raise ConfigError(
            f"{fields.file}: {len(vision.hidden_sizes)} hidden_sizes, {len(vision.depths)} depths, {n_stages} stages:"
            " expected as many of each"
        )
    if vision.grid < 1:
        raise ConfigError(f"{fields.path('image_size')} is {vision.tile_px}: too small for {n_stages} stages")
    check_pooling(vision.tokens_per_tile, top)
    if vision.pos_embed and (vision.grid**2 > POSITION_GRID**2 or vision.hidden_sizes[-1] % 4 != 0):
        raise ConfigError(
            f"{fields.file}: feature map of {vision.grid} x {vision.grid} x {vision.hidden_sizes[-1]}: the table of"
            f" positions has {POSITION_GRID} x {POSITION_GRID} rows and needs channels in multiples of 4"
        )
    check_std(vision.std, image)
    if not 0 < vision.crop_share <= 1:
        raise ConfigError(f"{image.path('crop_pct')} is {vision.crop_share}: expected above 0 and at most 1")
