"""The towers that are stacks of transformer layers, parsed from config.json: SigLIP and Whisper's encoder.

Source: model-family.md, 3 (SigLIP) and 5 (native).
"""

import math
from dataclasses import dataclass
from typing import Literal

from export.checkpoint.fields import Fields
from export.errors import ConfigError, UnsupportedError

HALF = (0.5, 0.5, 0.5)  # mean and std of SigLIP's images
WHISPER_EPS = 1e-5  # of its layer norms; no key of its configuration says it

Activation = Literal["gelu", "gelu_tanh"]
Resample = Literal["bilinear", "bicubic"]
_RESAMPLING: dict[int, Resample] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True)
class EncoderConfig:
    """Transformer layers, a norm in front of each half; key_bias: whether the keys have a bias, as the queries have."""

    width: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    norm_eps: float
    activation: Activation
    key_bias: bool


@dataclass(frozen=True)
class SiglipConfig:
    """The SigLIP tower and the preprocessing in front of it; mean and std are of values from 0 to 1."""

    tile_px: int
    patch_px: int
    encoder: EncoderConfig
    max_tiles: int
    tokens_per_tile: int
    resample: Resample
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    order: Literal["whole-first"] = "whole-first"
    crop_share: None = None  # a small tile is warped as a large one is

    @property
    def grid(self) -> int:
        """The side of the feature map of one tile: a cell for each whole patch."""
        return self.tile_px // self.patch_px

    @property
    def pooled(self) -> int:
        """The side of the pooled feature map: the root of tokens_per_tile."""
        return math.isqrt(self.tokens_per_tile)

    @property
    def width(self) -> int:
        """The channels of the feature map."""
        return self.encoder.width


@dataclass(frozen=True)
class AudioConfig:
    """The audio tower: n_positions rows of a window of audio (20 ms each), each `pool` of them averaged to one."""

    n_mels: int
    n_positions: int
    pool: int
    encoder: EncoderConfig

    @property
    def n_frames(self) -> int:
        """Log-mel frames of a window, 10 ms each."""
        return 2 * self.n_positions

    @property
    def tokens(self) -> int:
        """Embeddings of a window."""
        return self.n_positions // self.pool


def parse_siglip(fields: Fields, top: Fields, image: Fields) -> SiglipConfig:
    """The tower under `vision_config`; what is absent there is as in transformers' SiglipVisionConfig.

    Raises: ConfigError, UnsupportedError.
    """
    only(fields, "model_type", "siglip_vision_model")
    only(fields, "hidden_act", "gelu_pytorch_tanh")
    if fields.integer("num_channels", default=3) != 3:
        raise UnsupportedError(f"{fields.path('num_channels')} is {fields.get('num_channels')}: only 3 is implemented")
    encoder = EncoderConfig(
        width=fields.integer("hidden_size", default=768),
        n_layers=fields.integer("num_hidden_layers", default=12),
        n_heads=fields.integer("num_attention_heads", default=12),
        intermediate_size=fields.integer("intermediate_size", default=3072),
        norm_eps=_eps(fields),
        activation="gelu_tanh",
        key_bias=True,
    )
    _check_heads(fields, encoder, "hidden_size")
    siglip = SiglipConfig(
        tile_px=fields.integer("image_size", default=224),
        patch_px=fields.integer("patch_size", default=16),
        encoder=encoder,
        max_tiles=max_tiles(top),
        tokens_per_tile=top.integer("num_query_tokens", default=32),
        resample=resample(image, default=3),
        mean=image.triple("image_mean", default=HALF),
        std=image.triple("image_std", default=HALF),
    )
    if siglip.grid < 1:
        raise ConfigError(
            f"{fields.path('image_size')} is {siglip.tile_px}: expected at least patch_size {siglip.patch_px}"
        )
    check_pooling(siglip.tokens_per_tile, top)
    check_std(siglip.std, image)
    return siglip


def parse_audio(fields: Fields, top: Fields) -> AudioConfig:
    """The tower under `audio_config`, in the keys of transformers' WhisperConfig; `audio_pool` stands beside it.

    Raises: ConfigError, UnsupportedError.
    """
    only(fields, "model_type", "whisper")
    only(fields, "activation_function", "gelu")
    encoder = EncoderConfig(
        width=fields.integer("d_model"),
        n_layers=fields.integer("encoder_layers"),
        n_heads=fields.integer("encoder_attention_heads"),
        intermediate_size=fields.integer("encoder_ffn_dim"),
        norm_eps=WHISPER_EPS,
        activation="gelu",
        key_bias=False,
    )
    _check_heads(fields, encoder, "d_model")
    n_positions = fields.integer("max_source_positions", default=1500)
    pool = top.integer("audio_pool")
    if n_positions % pool != 0:
        raise ConfigError(f"{top.path('audio_pool')} is {pool}: expected a divisor of {n_positions} positions")
    return AudioConfig(fields.integer("num_mel_bins", default=80), n_positions, pool, encoder)


def only(fields: Fields, key: str, value: str) -> None:
    """Refuse a key that is there with another value. Raises: UnsupportedError naming key and value."""
    found = fields.text(key, default=value)
    if found != value:
        raise UnsupportedError(f"{fields.path(key)} is {found!r}: only {value} is implemented by this version")


def max_tiles(top: Fields) -> int:
    """Most tiles an image is cut into, the whole one not counted."""
    n_tiles = top.integer("vision_max_tiles_num", default=0) or top.integer("max_tiles_num", default=4)
    top.skip("max_tiles_num")
    return n_tiles


def resample(image: Fields, *, default: int) -> Resample:
    """The filter of a tile's last resizing. Raises: UnsupportedError."""
    number = image.integer("resample", default=default, least=0)
    if number not in _RESAMPLING:
        raise UnsupportedError(
            f"{image.path('resample')} is {number}: only 2 (bilinear) and 3 (bicubic) are implemented"
        )
    return _RESAMPLING[number]


def check_pooling(tokens_per_tile: int, top: Fields) -> None:
    """Raises: ConfigError unless a tile's tokens make a square."""
    if math.isqrt(tokens_per_tile) ** 2 != tokens_per_tile:
        raise ConfigError(f"{top.path('num_query_tokens')} is {tokens_per_tile}: expected a square number")


def check_std(std: tuple[float, float, float], image: Fields) -> None:
    """Raises: ConfigError for what nothing can be divided by."""
    if min(std) <= 0:
        raise ConfigError(f"{image.path('image_std')} is {list(std)}: expected numbers above 0")


def _check_heads(fields: Fields, encoder: EncoderConfig, key: str) -> None:
    if encoder.width % encoder.n_heads != 0:
        raise ConfigError(
            f"{fields.path(key)} is {encoder.width}: expected a multiple of {encoder.n_heads} attention heads"
        )


def _eps(fields: Fields) -> float:
    eps = fields.number("layer_norm_eps", default=1e-6)
    if eps <= 0:
        raise ConfigError(f"{fields.path('layer_norm_eps')} is {eps}: expected above 0")
    return eps
