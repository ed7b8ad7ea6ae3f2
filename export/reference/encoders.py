"""Transformer encoders in float32, layer by layer from the checkpoint: the slow plain reading of SigLIP and Whisper.

Every layer is read once for all tiles or windows and dropped before the next. Nothing here is shared with the code
that writes the graphs. Legend: S rows of one tile or window, C width. Source: model-family.md, 3 and 5.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from export.checkpoint.names import Weights
from export.checkpoint.towers import AudioConfig, EncoderConfig, SiglipConfig


def siglip(weights: Weights, config: SiglipConfig, tiles: list[Tensor]) -> list[Tensor]:
    """The feature map of each tile, after the last norm. tiles: (3, T, T) each -> (C, cells, cells) each."""
    kernel, bias = _read(weights, "vision.patch.weight"), _read(weights, "vision.patch.bias")
    places = _read(weights, "vision.positions.weight")  # (cells², C)
    maps = [functional.conv2d(tile[None], kernel, bias, stride=config.patch_px)[0] for tile in tiles]
    rows = [cells.flatten(1).T + places for cells in maps]
    side = config.grid
    return [each.T.reshape(-1, side, side) for each in _layers(weights, config.encoder, "vision", rows)]


def whisper(weights: Weights, config: AudioConfig, windows: list[Tensor]) -> list[Tensor]:
    """The pooled rows of each window. windows: log-mel frames (n_mels, n_frames) each -> (tokens, C) each."""
    places = _read(weights, "audio.positions.weight")  # (n_positions, C)
    rows = []
    for mel in windows:
        x = mel[None]
        for name, stride in (("conv1", 1), ("conv2", 2)):
            kernel, bias = _read(weights, f"audio.{name}.weight"), _read(weights, f"audio.{name}.bias")
            x = functional.gelu(functional.conv1d(x, kernel, bias, stride=stride, padding=1))
        rows.append(x[0].T + places)
    encoded = _layers(weights, config.encoder, "audio", rows)
    return [functional.avg_pool1d(each.T[None], config.pool)[0].T for each in encoded]


def _layers(weights: Weights, config: EncoderConfig, at: str, rows: list[Tensor]) -> list[Tensor]:
    """All layers and the norm after them. rows: (S, C) each."""
    for layer in range(config.n_layers):
        rows = _layer_step(weights, config, f"{at}.layers.{layer}", rows)
    return [_norm(weights, config, f"{at}.norm", x) for x in rows]


def _layer_step(weights: Weights, config: EncoderConfig, at: str, rows: list[Tensor]) -> list[Tensor]:
    state = {
        f"{part}.{kind}": _read(weights, f"{at}.{part}.{kind}")
        for part in ("norm1", "norm2", "q", "k", "v", "o", "fc1", "fc2")
        for kind in ("weight", "bias")
        if weights.has(f"{at}.{part}.{kind}")
    }
    approximation = "tanh" if config.activation == "gelu_tanh" else "none"

    def linear(part: str, x: Tensor) -> Tensor:
        return functional.linear(x, state[f"{part}.weight"], state.get(f"{part}.bias"))

    def norm(part: str, x: Tensor) -> Tensor:
        return _layer_norm(x, state[f"{part}.weight"], state[f"{part}.bias"], config.norm_eps)

    def run(x: Tensor) -> Tensor:
        normed = norm("norm1", x)
        q, k, v = (linear(part, normed).reshape(len(x), config.n_heads, -1).transpose(0, 1) for part in ("q", "k", "v"))
        shares = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), -1)  # (heads, S, S)
        x = x + linear("o", (shares @ v).transpose(0, 1).reshape(len(x), -1))
        return x + linear("fc2", functional.gelu(linear("fc1", norm("norm2", x)), approximate=approximation))

    return [run(x) for x in rows]


def _norm(weights: Weights, config: EncoderConfig, role: str, x: Tensor) -> Tensor:
    return _layer_norm(x, _read(weights, f"{role}.weight"), _read(weights, f"{role}.bias"), config.norm_eps)


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps) * weight + bias


def _read(weights: Weights, role: str) -> Tensor:
    return torch.from_numpy(weights.tensor(role))
