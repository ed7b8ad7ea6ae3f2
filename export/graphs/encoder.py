"""Transformer layers of a tower in a graph: SigLIP's and Whisper's are the same but for their GELU and key bias."""

from itertools import chain

import numpy as np

from export.arrays import F32
from export.checkpoint.names import Weights
from export.checkpoint.towers import EncoderConfig
from export.graph import Graph
from export.graphs.standard import add_and_norm, attention, gelu
from export.quantize import Linears, runs

# Shapes: N tiles or windows, S rows of one, C width, F width of an MLP's middle.


class EncoderLayers:
    """Adds the layers under roles and recipe paths `at`.layers.N; steps take and return names of values.

    The biases go into the nodes that follow a product anyway (attention, GELU, norm), so none costs a pass of its own.
    """

    def __init__(self, at: str, config: EncoderConfig, weights: Weights, graph: Graph, linears: Linears) -> None:
        self._at = at
        self._config = config
        self._weights = weights
        self._graph = graph
        self._linears = linears

    def add(self, stream: str) -> str:
        """Add all layers and the norm after them. stream: (N, S, C) -> (N, S, C)."""
        first = f"{self._at}.layers.0.norm1"
        inputs = [stream, self._weight(f"{first}.weight"), self._weight(f"{first}.bias")]
        normed = self._graph.node(
            "LayerNormalization", inputs, f"{first}.out", axis=-1, epsilon=self._config.norm_eps
        )  # fmt: skip
        last = self._config.n_layers - 1
        for layer in range(self._config.n_layers):
            here = f"{self._at}.layers.{layer}"
            following = f"{self._at}.norm" if layer == last else f"{self._at}.layers.{layer + 1}.norm1"
            normed, stream = self._add_and_norm(stream, self._attention(normed, here), f"{here}.o", f"{here}.norm2")
            normed, stream = self._add_and_norm(stream, self._mlp(normed, here), f"{here}.fc2", following)
        return normed

    def _attention(self, x: str, here: str) -> str:
        """Attention of every row to every row, without the bias of its last product. x: (N, S, C)."""
        width = self._config.width
        roles = [f"{here}.{part}" for part in ("q", "k", "v")]
        rows = chain.from_iterable(runs(self._weights, f"{role}.weight") for role in roles)
        qkv = self._linears.add(x, f"{here}.qkv", rows, shape=(3 * width, width), bias=None)  # (N, S, 3C)
        parts = self._graph.nodes("Split", [qkv], roles, axis=-1, num_outputs=3)
        bias = self._graph.weight(f"{here}.qkv.bias", np.concatenate([self._bias(role) for role in roles]))
        mixed = attention(
            self._graph, parts, bias, f"{here}.mixed", n_heads=self._config.n_heads, width=width,
            standard=self._linears.standard,
        )  # fmt: skip
        return self._linear(mixed, f"{here}.o", (width, width))

    def _mlp(self, x: str, here: str) -> str:
        """Two products with a GELU between, without the bias of the second. x: (N, S, C)."""
        width, inner = self._config.width, self._config.intermediate_size
        x = self._linear(x, f"{here}.fc1", (inner, width))
        bias, tanh = self._weight(f"{here}.fc1.bias"), self._config.activation == "gelu_tanh"
        x = gelu(self._graph, x, bias, f"{here}.gelu", tanh=tanh, standard=self._linears.standard)
        return self._linear(x, f"{here}.fc2", (width, inner))

    def _add_and_norm(self, stream: str, x: str, biased: str, norm: str) -> tuple[str, str]:
        """Add x and the bias of `biased` to the residual stream and norm the sum; returns normed rows and stream."""
        gains = [self._weight(f"{norm}.{kind}") for kind in ("weight", "bias")]
        return add_and_norm(
            self._graph, stream, x, bias=self._weight(f"{biased}.bias"), norm=gains, name=norm,
            epsilon=self._config.norm_eps, standard=self._linears.standard,
        )  # fmt: skip

    def _linear(self, x: str, path: str, shape: tuple[int, int]) -> str:
        return self._linears.add(x, path, runs(self._weights, f"{path}.weight"), shape=shape, bias=None)

    def _bias(self, role: str) -> F32:
        """The bias of a product; Whisper's keys have none."""
        if role.endswith(".k") and not self._config.key_bias:
            return np.zeros(self._config.width, np.float32)
        return self._weights.tensor(f"{role}.bias")

    def _weight(self, role: str) -> str:
        return self._graph.weight(role, self._weights.tensor(role))
