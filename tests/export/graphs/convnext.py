"""The vision tower in transformers' own modules, loaded with weights by role, and what follows it in plain torch."""

import math

import torch
from transformers import ConvNextV2Config, ConvNextV2Model

from export.arrays import F32
from export.checkpoint.config import VisionConfig
from tests.export.checkpoint.random_weights import RandomWeights

_BLOCK = {"dwconv": "dwconv", "layernorm": "norm", "pwconv1": "pwconv1", "grn": "grn", "pwconv2": "pwconv2"}


def tower(weights: RandomWeights, vision: VisionConfig) -> ConvNextV2Model:
    """ConvNeXt V2 with the norms' eps of the yasa models; its final norm is not loaded and not used."""
    config = ConvNextV2Config(
        hidden_sizes=list(vision.hidden_sizes),
        depths=list(vision.depths),
        patch_size=vision.patch_px,
        image_size=vision.tile_px,
        num_channels=3,
    )
    reference = ConvNextV2Model(config)
    state = {}
    for theirs, ours in _names(vision):
        for kind in ("weight", "bias"):
            name = f"{theirs}.{kind}"
            shape = reference.state_dict()[name].shape
            state[name] = torch.from_numpy(weights.tensor(f"{ours}.{kind}")).reshape(shape)
    missing = reference.load_state_dict(state, strict=False).missing_keys
    assert missing == ["layernorm.weight", "layernorm.bias"]
    for module in reference.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-6
    return reference.eval()


def embeds(weights: RandomWeights, vision: VisionConfig, tiles: F32) -> F32:
    """tiles: (N, 3, T, T) -> (N, tokens, H)."""
    with torch.no_grad():
        features = tower(weights, vision)(torch.from_numpy(tiles)).last_hidden_state  # (N, C, g, g)
    return after_tower(weights, vision, features)


def after_tower(weights: RandomWeights, vision: VisionConfig, features: torch.Tensor) -> F32:
    """Positions, pooling and projection. features: (N, C, g, g) -> (N, tokens, H)."""
    n, channels, side, _ = features.shape
    rows = features.flatten(2).transpose(1, 2)
    if vision.pos_embed:
        rows = rows + positions(channels)[: side * side]
    pooled = torch.nn.functional.adaptive_avg_pool2d(
        rows.transpose(1, 2).reshape(n, channels, side, side), math.isqrt(vision.tokens_per_tile)
    )
    rows = pooled.flatten(2).transpose(1, 2)
    first, second = (torch.nn.Linear(1, 1) for _ in range(2))
    for layer, role in ((first, "projection.0"), (second, "projection.2")):
        layer.weight = torch.nn.Parameter(torch.from_numpy(weights.tensor(f"{role}.weight")))
        layer.bias = torch.nn.Parameter(torch.from_numpy(weights.tensor(f"{role}.bias")))
    with torch.no_grad():
        found: F32 = second(torch.nn.functional.gelu(first(rows))).numpy()
    return found


def positions(channels: int) -> torch.Tensor:
    """The whole table of a 50 x 50 grid, cell by cell. (2500, channels)."""
    table = torch.zeros(50, 50, channels)
    quarter = channels // 4
    omega = 1.0 / 10000 ** (torch.arange(quarter) / quarter)
    for row in range(50):
        for column in range(50):
            waves = [
                torch.sin(column * omega),
                torch.cos(column * omega),
                torch.sin(row * omega),
                torch.cos(row * omega),
            ]
            table[row, column] = torch.cat(waves)
    return table.reshape(2500, channels)


def _names(vision: VisionConfig) -> list[tuple[str, str]]:
    """(module of transformers, role) of everything with a weight and a bias."""
    names = [("embeddings.patch_embeddings", "vision.patch"), ("embeddings.layernorm", "vision.patch_norm")]
    for stage, depth in enumerate(vision.depths):
        theirs, ours = f"encoder.stages.{stage}", f"vision.stages.{stage}"
        if stage:
            names += [(f"{theirs}.downsampling_layer.0", f"{ours}.down_norm")]
            names += [(f"{theirs}.downsampling_layer.1", f"{ours}.down")]
        for block in range(depth):
            names += [(f"{theirs}.layers.{block}.{a}", f"{ours}.blocks.{block}.{b}") for a, b in _BLOCK.items()]
    return names
