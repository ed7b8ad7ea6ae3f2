"""How much each linear layer of the decoder matters: the KL divergence that storing it in fewer bits would cost.

To second order, moving the outputs y of a layer by d costs half the expected square of g . d, with g the gradient of
the loss at tokens drawn from the model's own distribution (the Fisher information of its outputs). One pass forward
and one back over some text give the gradients at every layer. Layers are read one at a time, streams are kept on disk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge.bundle.manifest import Scheme
from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.names import Weights
from export.graph import BLOCK_BYTES
from export.quantize import blocks
from export.reference import model as reference

SEED: Final = 7  # of the tokens drawn
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",),
}  # fmt: skip

Progress = Callable[[int, int], None]  # (layers done, layers in all)


@dataclass(frozen=True)
class Sensitivity:
    """Of one layer: its weights, and what each scheme is expected to add to the mean KL divergence, in nats."""

    path: str
    shape: tuple[int, int]
    kl: Mapping[Scheme, float]


def sensitivities(
    weights: Weights,
    text: TextConfig,
    prompts: Sequence[F32],
    *,
    schemes: Sequence[Scheme],
    scratch: Path,
    progress: Progress,
) -> list[Sensitivity]:
    """Estimate what each scheme costs at each linear layer of the decoder, from the last layer to the first.

    prompts: embeddings (S, H) of each sequence; scratch: a folder for streams, as large as the prompts times layers.
    """
    angles = reference.rotary_angles(text, max(map(len, prompts)))
    streams = [torch.from_numpy(prompt) for prompt in prompts]
    for n in range(text.n_layers):
        np.savez(scratch / f"stream.{n}.npz", *[stream.numpy() for stream in streams])
        streams = _forward(_Layer(weights, text, n), streams, angles)
        progress(n + 1, 2 * text.n_layers)
    gradients = _head_gradients(weights, text, streams)
    found: list[Sensitivity] = []
    for n in reversed(range(text.n_layers)):
        with np.load(scratch / f"stream.{n}.npz") as kept:
            streams = [torch.from_numpy(kept[name]) for name in kept.files]
        estimates, gradients = _step_back(_Layer(weights, text, n), streams, gradients, angles, schemes)
        found += estimates
        progress(2 * text.n_layers - n, 2 * text.n_layers)
    return found


class _Layer:
    """The weights of one layer and its computation."""

    def __init__(self, weights: Weights, text: TextConfig, n: int) -> None:
        self.n = n
        self.matrices: dict[str, Tensor] = {}
        self._biases: dict[str, Tensor | None] = {}
        self._text = text
        at = f"text.layers.{n}"
        for part, roles in PARTS.items():
            self.matrices[part] = torch.from_numpy(
                np.concatenate([weights.tensor(f"{at}.{role}.weight") for role in roles])
            )
            biases = [weights.tensor(f"{at}.{role}.bias") for role in roles if weights.has(f"{at}.{role}.bias")]
            self._biases[part] = torch.from_numpy(np.concatenate(biases)) if biases else None
        self._norms = [torch.from_numpy(weights.tensor(f"{at}.norm{i}.weight")) for i in (1, 2)]

    def run(self, stream: Tensor, angles: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """One sequence (S, H) through the layer; returns the stream, and (inputs, outputs) of each linear layer."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def linear(part: str, x: Tensor) -> Tensor:
            y = functional.linear(x, self.matrices[part], self._biases[part])
            seen[part] = (x, y)
            return y

        normed = reference.rms_norm(stream, self._norms[0], self._text.norm_eps)
        stream = stream + linear("o", reference.attended(linear("qkv", normed), angles, self._text))
        gate, up = linear("gate_up", reference.rms_norm(stream, self._norms[1], self._text.norm_eps)).chunk(2, -1)
        return stream + linear("down", functional.silu(gate) * up), seen


def _head_gradients(weights: Weights, text: TextConfig, streams: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of -log p(token) at the last stream, for a token drawn at each position. (S, H) each"""
    scale = torch.from_numpy(weights.tensor("text.norm"))
    random = torch.Generator().manual_seed(SEED)
    gradients = []
    for stream in streams:
        with torch.inference_mode():
            states = reference.rms_norm(stream, scale, text.norm_eps).numpy()
            logits = np.concatenate([run for _, run in reference.logits(weights, text, states)], axis=1)
            shares = torch.softmax(torch.from_numpy(logits), -1)  # (S, V)
            drawn = torch.multinomial(shares, 1, generator=random)
            shares.scatter_add_(1, drawn, torch.full(drawn.shape, -1.0))
            toward = torch.zeros(stream.shape)
            for first in range(0, text.vocab_size, reference.HEAD_ROWS):
                rows = slice(first, min(first + reference.HEAD_ROWS, text.vocab_size))
                toward += shares[:, rows] @ torch.from_numpy(weights.tensor("text.head", rows=rows))
        leaf = stream.clone().requires_grad_(True)
        normed = reference.rms_norm(leaf, scale * text.logit_scale, text.norm_eps)
        gradients.append(torch.autograd.grad(normed, leaf, toward.clone())[0])
    return gradients


def _forward(layer: _Layer, streams: Sequence[Tensor], angles: Tensor) -> list[Tensor]:
    """The streams after a layer."""
    with torch.inference_mode():
        return [layer.run(stream, angles)[0] for stream in streams]


Seen = dict[str, list[tuple[Tensor, Tensor]]]  # by part: the inputs and the gradient at the outputs, for each sequence


def _step_back(
    layer: _Layer, streams: Sequence[Tensor], gradients: Sequence[Tensor], angles: Tensor, schemes: Sequence[Scheme]
) -> tuple[list[Sensitivity], list[Tensor]]:
    """What is found of a layer, and the gradients before it: what it saw is given up before the next one is read."""
    seen, before = _backward(layer, streams, gradients, angles)
    return list(_estimates(layer, seen, schemes)), before


def _backward(
    layer: _Layer, streams: Sequence[Tensor], gradients: Sequence[Tensor], angles: Tensor
) -> tuple[Seen, list[Tensor]]:
    """From the gradients after a layer to those before it, and to those at its linear layers."""
    seen: Seen = {part: [] for part in PARTS}
    before = []
    for stream, gradient in zip(streams, gradients, strict=True):
        leaf = stream.requires_grad_(True)
        out, values = layer.run(leaf, angles)
        wanted = [values[part][1] for part in PARTS]
        first, *rest = torch.autograd.grad(out, [leaf, *wanted], gradient)
        before.append(first)
        for part, at in zip(PARTS, rest, strict=True):
            seen[part].append((values[part][0].detach(), at))
    return seen, before


def _estimates(layer: _Layer, seen: Seen, schemes: Sequence[Scheme]) -> Iterator[Sensitivity]:
    with torch.inference_mode():
        for part, pairs in seen.items():
            matrix = layer.matrices[part].numpy()
            importance = sum(x.square().sum(0) for x, _ in pairs)
            costs = importance.numpy() if isinstance(importance, Tensor) else None
            kl = {scheme: _divergence(matrix, scheme, costs, pairs) for scheme in schemes}
            yield Sensitivity(f"decoder.layers.{layer.n}.{part}", (matrix.shape[0], matrix.shape[1]), kl)


def _divergence(matrix: F32, scheme: Scheme, importance: F32 | None, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Half the mean square of g . d over all positions, some rows of the matrix at a time. pairs: x and g."""
    step = max(1, BLOCK_BYTES // (4 * matrix.shape[1]))
    moved = [torch.zeros(len(x)) for x, _ in pairs]  # g . d of each position
    for first in range(0, len(matrix), step):
        rows = slice(first, first + step)
        miss = torch.from_numpy(matrix[rows] - _rounded(matrix[rows], scheme, importance))
        for total, (x, g) in zip(moved, pairs, strict=True):
            total += (functional.linear(x, miss) * g[:, rows]).sum(-1)
    return sum(float(total.square().sum()) for total in moved) / sum(map(len, moved)) / 2


def _rounded(matrix: F32, scheme: Scheme, importance: F32 | None) -> F32:
    """What the matrix stands for once it is rounded; fp32 stays as it is."""
    form = blocks.format_of(scheme)
    if form is None:
        return matrix
    return blocks.dequantize(blocks.quantize(matrix, form, importance=importance), columns=matrix.shape[1])
