"""The shapes of random checkpoints and their config.json: small ones for tests, large ones for measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from export.checkpoint.tokenizer import N_CONTROL


@dataclass(frozen=True)
class TowerShape:
    """The vision tower of a random checkpoint; the fields are those of VisionConfig."""

    tile_px: int
    patch_px: int
    hidden_sizes: tuple[int, ...]
    depths: tuple[int, ...]
    max_tiles: int
    tokens_per_tile: int
    pos_embed: bool = True


@dataclass(frozen=True)
class SiglipShape:
    """A SigLIP tower; width to intermediate_size are those of its layers."""

    tile_px: int
    patch_px: int
    width: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    max_tiles: int
    tokens_per_tile: int


@dataclass(frozen=True)
class AudioShape:
    """An audio tower: n_positions rows of a window, `pool` of them to one; the rest as in SiglipShape."""

    n_mels: int
    n_positions: int
    pool: int
    width: int
    n_layers: int
    n_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Shape:
    """A random checkpoint; change single fields with `dataclasses.replace`. is_llama: Reka Flash 3, without towers.

    n_mergeable: ids of text (96 control ids follow); form: split, fused or neox; prefix: of the text tower's names
    (neox: before `gpt_neox.`); head_prefix: before `lm_head`; extra: further keys of the text configuration.
    """

    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate_size: int
    n_mergeable: int
    context: int
    shard_bytes: int
    tower: TowerShape | SiglipShape | None
    audio: AudioShape | None = None
    is_llama: bool = False
    rotary_share: float | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    form: str = "split"
    prefix: str = "model.language_model."
    head_prefix: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        """All ids, control tokens and fillers included."""
        return self.n_mergeable + N_CONTROL


TINY: Final = Shape(
    hidden_size=64, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=16, intermediate_size=160, n_mergeable=416,
    context=1024, shard_bytes=200_000,
    tower=TowerShape(384, 12, (16, 24, 32, 48), depths=(1, 1, 2, 1), max_tiles=4, tokens_per_tile=4),
)  # fmt: skip
TINY_TEXT: Final = replace(TINY, tower=None, prefix="model.", rotary_share=0.5)
ONE_B: Final = Shape(
    hidden_size=2048, n_layers=16, n_heads=32, n_kv_heads=8, head_dim=64, intermediate_size=8192, n_mergeable=100_256,
    context=16_384, shard_bytes=1 << 30,
    tower=TowerShape(512, 4, (352, 704, 1408, 2816), depths=(3, 3, 27, 3), max_tiles=4, tokens_per_tile=64),
)  # fmt: skip
EDGE_7B: Final = replace(ONE_B, hidden_size=4096, n_layers=32, head_dim=128, intermediate_size=11_008)
TINY_SIGLIP: Final = replace(
    TINY, prefix="language_model.model.", head_prefix="language_model.", rotary_share=1.0,
    tower=SiglipShape(56, 14, width=32, n_layers=2, n_heads=2, intermediate_size=48, max_tiles=4, tokens_per_tile=4),
)  # fmt: skip
TINY_AUDIO: Final = replace(
    TINY, audio=AudioShape(80, 100, pool=4, width=32, n_layers=2, n_heads=2, intermediate_size=48)
)  # fmt: skip
TINY_FLASH: Final = replace(TINY, tower=None, prefix="model.", is_llama=True)
SHAPES: Final[Mapping[str, Shape]] = {
    "tiny": TINY, "tiny-text": TINY_TEXT, "tiny-siglip": TINY_SIGLIP, "tiny-sound": TINY_AUDIO,
    "tiny-flash": TINY_FLASH, "1b": ONE_B,
    "edge-7b": EDGE_7B,
}  # fmt: skip


def config_of(shape: Shape) -> dict[str, object]:
    """The config.json of a random checkpoint."""
    if shape.is_llama:
        llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10_000, **_text(shape)}
        return {**llama, "num_key_value_heads": shape.n_kv_heads, "rope_scaling": None, **shape.extra}
    text: dict[str, object] = {
        "model_type": "yasa_model", "num_query_groups": shape.n_kv_heads, "num_key_value_heads": shape.n_kv_heads,
        "rotary_emb_base": 10_000, **_text(shape),
    }  # fmt: skip
    if shape.rotary_share is not None:
        text["rotary_pct"] = shape.rotary_share
    text.update(shape.extra)
    tower = shape.tower
    if tower is None:
        return {"architectures": ["YasaCausalLM"], **text}
    whole: dict[str, object] = {
        "torch_dtype": "bfloat16", "text_config": text, "num_query_tokens": tower.tokens_per_tile,
        "vision_max_tiles_num": tower.max_tiles, "audio_config": None,
    }  # fmt: skip
    whole |= _siglip(tower) if isinstance(tower, SiglipShape) else _convnext(tower)
    return whole if shape.audio is None else whole | _audio(shape.audio)


def _text(shape: Shape) -> dict[str, object]:
    """The keys that every text tower has."""
    return {
        "hidden_size": shape.hidden_size, "num_hidden_layers": shape.n_layers, "num_attention_heads": shape.n_heads,
        "head_dim": shape.head_dim, "intermediate_size": shape.intermediate_size, "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context, "rms_norm_eps": 1e-5, "attention_bias": shape.attention_bias,
        "mlp_bias": shape.mlp_bias, "tie_word_embeddings": shape.tied, "hidden_act": "silu",
        "initializer_range": 0.02, "use_cache": True, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip


def _convnext(tower: TowerShape) -> dict[str, object]:
    return {
        "architectures": ["Yasa2ForConditionalGeneration"], "model_type": "yasa2", "vision_encoder_arch": "convnextv2",
        "use_vision_pos_embed": tower.pos_embed,
        "vision_config": {
            "model_type": "convnextv2", "image_size": tower.tile_px, "patch_size": tower.patch_px,
            "hidden_sizes": list(tower.hidden_sizes), "depths": list(tower.depths), "num_channels": 3,
            "num_stages": len(tower.depths), "hidden_act": "gelu", "layer_norm_eps": 1e-12, "drop_path_rate": 0.0,
        },
    }  # fmt: skip


def _siglip(tower: SiglipShape) -> dict[str, object]:
    return {
        "architectures": ["YasaMMLMForConditionalGeneration"], "model_type": "yasa_mmlm_model",
        "vision_config": {
            "model_type": "siglip_vision_model", "image_size": tower.tile_px, "patch_size": tower.patch_px,
            "hidden_size": tower.width, "num_hidden_layers": tower.n_layers, "num_attention_heads": tower.n_heads,
            "intermediate_size": tower.intermediate_size, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6, "attention_dropout": 0.0,
        },
    }  # fmt: skip


def _audio(tower: AudioShape) -> dict[str, object]:
    return {
        "audio_pool": tower.pool,
        "audio_config": {
            "model_type": "whisper", "num_mel_bins": tower.n_mels, "max_source_positions": tower.n_positions,
            "d_model": tower.width, "encoder_layers": tower.n_layers, "encoder_attention_heads": tower.n_heads,
            "encoder_ffn_dim": tower.intermediate_size, "activation_function": "gelu",
        },
    }  # fmt: skip
