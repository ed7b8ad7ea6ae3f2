"""The model in float32, layer by layer from the checkpoint: the slow plain reading that the graphs are held to.

Every weight is read once for all prompts and dropped before the next, so memory does not grow with the model's depth.
Legend: S positions of one prompt, H hidden size, V vocabulary, N tiles, T tile side, C channels, h x w feature map.
Source: model-family.md, 2 and 3. Nothing here is shared with the code that writes the graphs.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from export.arrays import F32
from export.checkpoint.config import POSITION_GRID, ModelConfig, TextConfig, VisionConfig
from export.checkpoint.names import Weights
from export.checkpoint.rope import frequencies
from export.checkpoint.towers import SiglipConfig
from export.reference import encoders

Progress = Callable[[int, int], None]  # (steps done, steps in all)

VISION_EPS: Final = 1e-6  # of the tower's layer norms and of GRN, whatever the config says
HEAD_ROWS: Final = 2048  # rows of the head that are multiplied at once: their logits are held for all positions
# Feature maps held at once, 23 MB each at 512 px and 352 channels; the tower is read anew for each such group.
TILES_AT_ONCE: Final = 16


def embeds(weights: Weights, ids: Sequence[int]) -> F32:
    """The embedding rows of some ids, read one by one. Returns (S, H)."""
    rows = {token: weights.tensor("text.embed", rows=slice(token, token + 1))[0] for token in sorted(set(ids))}
    return np.stack([rows[token] for token in ids])


def hidden_states(weights: Weights, text: TextConfig, prompts: Sequence[F32], *, progress: Progress) -> list[F32]:
    """The decoder's normed output for each prompt, (S, H) each. prompts: (S, H) embeddings each, any lengths."""
    with torch.inference_mode():
        streams = [torch.from_numpy(prompt) for prompt in prompts]
        angles = rotary_angles(text, max(len(prompt) for prompt in prompts))
        for layer in range(text.n_layers):
            at = f"text.layers.{layer}"
            _attention_step(weights, text, at, streams, angles)
            _mlp_step(weights, text, at, streams)
            progress(layer + 1, text.n_layers)
        scale = _read(weights, "text.norm")
        return [rms_norm(stream, scale, text.norm_eps).numpy() for stream in streams]


def logits(weights: Weights, text: TextConfig, states: F32) -> Iterator[tuple[slice, F32]]:
    """The logits of some positions, a run of the vocabulary at a time. states: (S, H) -> (S, run) each."""
    for start in range(0, text.vocab_size, HEAD_ROWS):
        rows = slice(start, min(start + HEAD_ROWS, text.vocab_size))
        head = weights.tensor("text.head", rows=rows)
        with torch.inference_mode():
            product = torch.from_numpy(states) @ torch.from_numpy(head).T
            yield rows, (product * text.logit_scale).numpy()


def tile_embeds(weights: Weights, config: ModelConfig, tiles: Iterable[F32]) -> Iterator[F32]:
    """The embeddings of normalised tiles, a group at a time. tiles: (3, T, T) each -> (tokens per tile, H) each.

    Give it the tiles of all images together: the tower's weights are read once for each group.
    Raises: ValueError when the model has no vision tower.
    """
    vision = config.vision
    if vision is None:
        raise ValueError("tile_embeds: expected a model with a vision tower")
    waiting = iter(tiles)
    while group := [torch.from_numpy(tile) for tile in itertools.islice(waiting, TILES_AT_ONCE)]:
        with torch.inference_mode():
            if isinstance(vision, SiglipConfig):
                maps = encoders.siglip(weights, vision, group)
            else:
                maps = [_placed(vision, cells[0]) for cells in _tower(weights, vision, [tile[None] for tile in group])]
            pooled = [functional.adaptive_avg_pool2d(each, vision.pooled).flatten(1).T for each in maps]
            done = [each.numpy() for each in _project(weights, "projection", pooled)]
        yield from done


def window_embeddings(weights: Weights, config: ModelConfig, windows: Sequence[F32]) -> list[F32]:
    """The embeddings of windows of audio. windows: log-mel frames (n_mels, n_frames) each -> (tokens, H) each.

    Raises: ValueError when the model has no audio tower.
    """
    if config.audio is None:
        raise ValueError("window_embeddings: expected a model with an audio tower")
    with torch.inference_mode():
        encoded = encoders.whisper(weights, config.audio, [torch.from_numpy(mel) for mel in windows])
        return [each.numpy() for each in _project(weights, "audio.projection", encoded)]


def _attention_step(weights: Weights, text: TextConfig, at: str, streams: list[Tensor], angles: Tensor) -> None:
    """Add attention's output to every stream in place of the stream."""
    scale = _read(weights, f"{at}.norm1.weight")
    project = {part: _linear(weights, f"{at}.{part}") for part in ("q", "k", "v", "o")}
    for index, stream in enumerate(streams):
        x = rms_norm(stream, scale, text.norm_eps)
        rows = torch.cat([project[part](x) for part in ("q", "k", "v")], -1)
        streams[index] = stream + project["o"](attended(rows, angles, text))


def _mlp_step(weights: Weights, text: TextConfig, at: str, streams: list[Tensor]) -> None:
    """Add the gated MLP's output to every stream in place of the stream."""
    scale = _read(weights, f"{at}.norm2.weight")
    gate, up, down = (_linear(weights, f"{at}.{part}") for part in ("gate", "up", "down"))
    for index, stream in enumerate(streams):
        x = rms_norm(stream, scale, text.norm_eps)
        streams[index] = stream + down(functional.silu(gate(x)) * up(x))


def attended(rows: Tensor, angles: Tensor, text: TextConfig) -> Tensor:
    """Attention over one sequence. rows: queries, keys, values (S, (heads + 2 kv heads) * head_dim).

    Returns (S, heads * head_dim).
    """
    sizes = [count * text.head_dim for count in (text.n_heads, text.n_kv_heads, text.n_kv_heads)]
    q, k, v = (heads(part, text.head_dim) for part in torch.split(rows, sizes, -1))  # (heads, S, head_dim)
    q, k = rotate(q, angles[: len(rows)], text), rotate(k, angles[: len(rows)], text)
    return causal_attention(q, k, v).transpose(0, 1).reshape(len(rows), -1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, each query head with the key/value head of its group. (heads, S, head_dim)"""
    n_positions, group = q.shape[1], q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    later = torch.ones(n_positions, n_positions, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(later, -math.inf), -1) @ v


def heads(rows: Tensor, head_dim: int) -> Tensor:
    """(S, heads * head_dim) -> (heads, S, head_dim)"""
    return rows.reshape(len(rows), -1, head_dim).transpose(0, 1)


def rotary_angles(text: TextConfig, n_positions: int) -> Tensor:
    """The rotation of each pair at each position, (S, rotary_dim / 2) radians, in float32 as transformers has it."""
    rates, _ = frequencies(rotary_dim=text.rotary_dim, base=text.rope_base, scaling=text.rope_scaling)
    return torch.arange(n_positions, dtype=torch.float32)[:, None] * torch.from_numpy(rates.astype(np.float32))


def rotate(x: Tensor, angles: Tensor, text: TextConfig) -> Tensor:
    """Rotate the first rotary_dim values of each head, value i with value i + rotary_dim / 2; leave the rest."""
    _, factor = frequencies(rotary_dim=text.rotary_dim, base=text.rope_base, scaling=text.rope_scaling)
    cos, sin = angles.cos() * factor, angles.sin() * factor
    half = text.rotary_dim // 2
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * scale


def _tower(weights: Weights, vision: VisionConfig, maps: list[Tensor]) -> list[Tensor]:
    """Run each stage over all tiles before the next is read. maps: (1, 3, T, T) each -> (1, C, h, w) each."""
    maps = _conv_step(weights, "vision.patch", maps, stride=vision.patch_px)
    maps = _norm_step(weights, "vision.patch_norm", maps)
    for stage, depth in enumerate(vision.depths):
        at = f"vision.stages.{stage}"
        if stage > 0:
            maps = _norm_step(weights, f"{at}.down_norm", maps)
            maps = _conv_step(weights, f"{at}.down", maps, stride=2)
        for block in range(depth):
            maps = _block_step(weights, f"{at}.blocks.{block}", maps)
    return maps


def _conv_step(weights: Weights, role: str, maps: list[Tensor], *, stride: int) -> list[Tensor]:
    weight, bias = _read(weights, f"{role}.weight"), _read(weights, f"{role}.bias")
    return [functional.conv2d(x, weight, bias, stride=stride) for x in maps]


def _norm_step(weights: Weights, role: str, maps: list[Tensor]) -> list[Tensor]:
    """Layer norm over the channels of each place."""
    weight, bias = _read(weights, f"{role}.weight"), _read(weights, f"{role}.bias")
    return [_layer_norm(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2) for x in maps]


def _block_step(weights: Weights, at: str, maps: list[Tensor]) -> list[Tensor]:
    conv = _read(weights, f"{at}.dwconv.weight"), _read(weights, f"{at}.dwconv.bias")
    norm = _read(weights, f"{at}.norm.weight"), _read(weights, f"{at}.norm.bias")
    grn = _read(weights, f"{at}.grn.weight"), _read(weights, f"{at}.grn.bias")
    widen, narrow = _linear(weights, f"{at}.pwconv1"), _linear(weights, f"{at}.pwconv2")

    def run(x: Tensor) -> Tensor:
        y = functional.conv2d(x, *conv, padding=3, groups=x.shape[1])
        y = _layer_norm(y.permute(0, 2, 3, 1), *norm)  # (1, h, w, C)
        y = functional.gelu(widen(y))  # (1, h, w, 4C)
        y = narrow(_response_norm(y, *grn))
        return x + y.permute(0, 3, 1, 2)

    return [run(x) for x in maps]


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + VISION_EPS) * weight + bias


def _response_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GRN: each channel by its norm over the map, relative to the mean over channels. x: (1, h, w, C)"""
    norm = x.square().sum((1, 2), keepdim=True).sqrt()
    share = norm / (norm.mean(-1, keepdim=True) + VISION_EPS)
    return weight * (x * share) + bias + x


def _placed(vision: VisionConfig, x: Tensor) -> Tensor:
    """Add the table of positions, if the model has it. (C, h, w) -> (C, h, w)"""
    channels, height, width = x.shape
    if not vision.pos_embed:
        return x
    cells = x.flatten(1).T + _positions(height * width, channels)  # (h * w, C)
    return cells.T.reshape(channels, height, width)


def _positions(n_cells: int, channels: int) -> Tensor:
    """The first rows of a table made for a 50 x 50 grid: cell i gets the place (i // 50, i % 50), not its own.

    That is how the model was trained. Returns (n_cells, C): column [sin | cos], then row [sin | cos].
    """
    omega = 10_000.0 ** -(np.arange(channels // 4) / (channels / 4))
    table = np.empty((n_cells, channels))
    for cell in range(n_cells):
        row, column = divmod(cell, POSITION_GRID)
        table[cell] = np.concatenate([wave(place * omega) for place in (column, row) for wave in (np.sin, np.cos)])
    return torch.from_numpy(table.astype(np.float32))


def _project(weights: Weights, at: str, rows: Sequence[Tensor]) -> list[Tensor]:
    """(tokens, C) each -> (tokens, H) each"""
    first, second = _linear(weights, f"{at}.0"), _linear(weights, f"{at}.2")
    return [second(functional.gelu(first(each))) for each in rows]


def _linear(weights: Weights, role: str) -> Callable[[Tensor], Tensor]:
    """Read a linear layer; returns what applies it."""
    weight = _read(weights, f"{role}.weight")
    bias = _read(weights, f"{role}.bias") if weights.has(f"{role}.bias") else None
    return lambda x: functional.linear(x, weight, bias)


def _read(weights: Weights, role: str) -> Tensor:
    return torch.from_numpy(weights.tensor(role))
