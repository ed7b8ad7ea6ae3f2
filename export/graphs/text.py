"""The decoder graph, written tensor by tensor."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edge.bundle.manifest import DECODER, TensorRecord
from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.names import Weights
from export.graph import MICROSOFT, DataFile, Graph, Progress
from export.graphs.rotary import head_order, tables
from export.graphs.table import add_shared_head, is_shared
from export.journal import Journal
from export.quantize import Correction, Linears, carry, kept_runs, runs
from export.quantize.carry import Kept
from export.recipe import Recipe

# Shapes: B conversations, S new rows of each, H hidden, K scored rows, V vocabulary.


def write_decoder(
    weights: Weights,
    config: TextConfig,
    recipe: Recipe,
    directory: Path,
    *,
    correction: Correction | None = None,
    progress: Progress | None,
    journal: Journal | None = None,
) -> dict[str, TensorRecord]:
    """Write decoder.onnx and decoder.bin into `directory`; returns what was done to each tensor of the recipe.

    Raises: UnsupportedError for a head that no kernel takes. Source: model-family.md, 2; onnxruntime.md.
    """
    with DataFile(directory / "decoder.bin", journal) as data:
        decoder = _Decoder(weights, config, recipe, Graph("decoder", data), correction, progress)
        decoder.write()
        decoder.graph.save(directory / DECODER)
    return decoder.linears.records


class _Decoder:
    """The graph while it grows; every step takes and returns names of values.

    With activations in float16 the residual stream, its norms and the logits stay float32: sums over layers would lose
    digits, or overflow.
    """

    def __init__(
        self,
        weights: Weights,
        config: TextConfig,
        recipe: Recipe,
        graph: Graph,
        correction: Correction | None,
        progress: Progress | None,
    ) -> None:
        self.graph = graph
        self._half = recipe.activations == "fp16"
        schemes = partial(recipe.scheme, n_layers=config.n_layers)
        self.linears = Linears(graph, schemes, progress, correction, half=self._half)
        self._shares_table = is_shared(config, recipe)
        self._recipe = recipe
        self._weights = weights
        self._config = config
        self._order = head_order(config)

    def write(self) -> None:
        """Add everything from embeddings to logits."""
        stream, cache = self._inputs(), self._tables()
        normed = self.graph.node(
            "SimplifiedLayerNormalization", [stream, self._norm("text.layers.0.norm1.weight")], "layers.0.norm1.out",
            axis=-1, epsilon=self._config.norm_eps,
        )  # fmt: skip
        last = self._config.n_layers - 1
        for n in range(self._config.n_layers):
            attended = self._attention(normed, n, cache)
            if n == last:  # what follows works row by row: only the scored rows go on
                attended, stream = self._scored(attended, "scored"), self._scored(stream, "scored_stream")
            attended = self._linear(attended, n, "o", ["o"], takes_half=self._half)
            normed, stream = self._add_and_norm(stream, attended, f"text.layers.{n}.norm2.weight")
            following = "text.norm" if n == last else f"text.layers.{n + 1}.norm1.weight"
            normed, stream = self._add_and_norm(stream, self._mlp(normed, n), following)
        self._head(normed)

    def _inputs(self) -> str:
        config = self._config
        cache: list[int | str] = ["batch", config.n_kv_heads, "capacity", config.head_dim]
        self.graph.input("embeds", "float32", ["batch", "rows", config.hidden_size])
        self.graph.input("seqlens_k", "int32", ["batch"])
        self.graph.input("total_sequence_length", "int32", [])
        self.graph.input("n_logits", "int64", [1])
        self.graph.output("logits", "float32", ["batch", "scored", config.vocab_size])
        kind = "float16" if self._half else "float32"
        for n in range(config.n_layers):
            for part in ("key", "value"):
                self.graph.input(f"past.{n}.{part}", kind, cache)
                self.graph.output(f"present.{n}.{part}", kind, cache)
        return "embeds"

    def _tables(self) -> list[str]:
        cos, sin = tables(self._config)
        add = self.graph.half if self._half else self.graph.weight
        return [add("rotary.cos", cos), add("rotary.sin", sin)]

    def _attention(self, x: str, n: int, tables: Sequence[str]) -> str:
        config, key, value = self._config, f"{n}.key", f"{n}.value"
        qkv = self._linear(
            x, n, "qkv", ["q", "k", "v"], gives_half=self._half
        )  # (B, S, (heads + 2 kv heads) * head_dim)
        inputs = [qkv, "", "", f"past.{key}", f"past.{value}", "seqlens_k", "total_sequence_length", *tables]
        outputs = [f"layers.{n}.attended", f"present.{key}", f"present.{value}"]
        return self.graph.nodes(
            "GroupQueryAttention", inputs, outputs, domain=MICROSOFT,
            num_heads=config.n_heads, kv_num_heads=config.n_kv_heads, do_rotary=1, rotary_interleaved=0,
        )[0]  # fmt: skip

    def _scored(self, x: str, name: str) -> str:
        """The last n_logits rows. x: (B, S, ...) -> (B, K, ...)."""
        start = self.graph.node("Neg", ["n_logits"], f"{name}.start")
        end = self.graph.shared("index.end", np.array([np.iinfo(np.int64).max]))
        return self.graph.node("Slice", [x, start, end, self.graph.shared("axis.rows", np.array([1]))], name)

    def _mlp(self, x: str, n: int) -> str:
        name = f"layers.{n}"
        both = self._linear(x, n, "gate_up", ["gate", "up"], gives_half=self._half)  # (B, S, 2 * intermediate)
        gate, up = self.graph.nodes("Split", [both], [f"{name}.gate", f"{name}.up"], axis=-1, num_outputs=2)
        # alpha = 1 makes it x * sigmoid(x): SiLU in one pass.
        gate = self.graph.node("QuickGelu", [gate], f"{name}.silu", domain=MICROSOFT, alpha=1.0)
        gated = self.graph.node("Mul", [gate, up], f"{name}.gated")
        return self._linear(gated, n, "down", ["down"], takes_half=self._half)

    def _head(self, x: str) -> None:
        path, config = "decoder.head", self._config
        if self._shares_table:
            logits = add_shared_head(self.graph, x, config, name=path, half=self._half)
        else:
            shape = (config.vocab_size, config.hidden_size)
            kept = self._kept(path, ["text.head"], 1)
            logits = self.linears.add(x, path, runs(self._weights, "text.head"), shape=shape, bias=None, kept=kept)
        self.graph.node("Identity", [logits], "logits")

    def _add_and_norm(self, stream: str, x: str, role: str) -> tuple[str, str]:
        """Add x to the residual stream and norm the sum; returns the normed rows and the stream."""
        name = role.removeprefix("text.").removesuffix(".weight")
        outputs = [f"{name}.out", "", "", f"{name}.stream"]
        self.graph.nodes(
            "SkipSimplifiedLayerNormalization", [x, stream, self._norm(role)], outputs, domain=MICROSOFT,
            epsilon=self._config.norm_eps,
        )  # fmt: skip
        return outputs[0], outputs[3]

    def _norm(self, role: str) -> str:
        """The gains of a norm; the last one carries the scale of the logits, too."""
        scale = self._config.logit_scale if role == "text.norm" else 1.0
        return self.graph.weight(role, self._weights.tensor(role) * np.float32(scale))

    def _linear(
        self, x: str, n: int, path: str, parts: Sequence[str], *, takes_half: bool = False, gives_half: bool = False
    ) -> str:
        """One matmul over the rows of several weight tensors of layer n. takes_half, gives_half: float16 in, out."""
        roles = [f"text.layers.{n}.{part}" for part in parts]
        sizes = self._sizes()
        shape = (sum(sizes[part][0] for part in parts), sizes[parts[0]][1])
        whole = self._config.head_dim if path == "qkv" else 1
        weight = (
            self._ordered(role, run) for role in roles for run in runs(self._weights, f"{role}.weight", multiple=whole)
        )
        bias = None
        if self._weights.has(f"{roles[0]}.bias"):
            bias = np.concatenate([self._ordered(role, self._weights.tensor(f"{role}.bias")) for role in roles])
        path = f"decoder.layers.{n}.{path}"
        kept = self._kept(path, [f"{role}.weight" for role in roles], whole)
        return self.linears.add(
            x, path, weight, shape=shape, bias=bias, kept=kept, takes_half=takes_half, gives_half=gives_half
        )

    def _kept(self, path: str, roles: Sequence[str], whole: int) -> Iterator[Kept] | None:
        """The rows of a layer that keeps the values of a GGUF file, None for another."""
        scheme = self._recipe.scheme(path, n_layers=self._config.n_layers)
        if not carry.keeps(self._recipe, self._weights, roles, scheme):
            return None
        return (
            carry.reordered(run, partial(self._ordered, role.removesuffix(".weight")))
            for role in roles
            for run in kept_runs(self._weights, role, scheme, multiple=whole)
        )

    def _ordered(self, role: str, value: F32) -> F32:
        """Whole heads, their rows in the order that the rotation wants if they are queries or keys."""
        if self._order is None or role.rpartition(".")[2] not in ("q", "k"):
            return value
        heads = value.reshape(-1, self._config.head_dim, *value.shape[1:])
        return np.ascontiguousarray(heads[:, self._order].reshape(value.shape))

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """(n_out, n_in) of each projection."""
        config = self._config
        hidden, inner = config.hidden_size, config.intermediate_size
        q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        return {
            "q": (q, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, q),
            "gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner),
        }  # fmt: skip
