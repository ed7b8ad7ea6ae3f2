"""Parts of towers by operators that are ONNX's own: TensorRT has no others, and onnxruntime fuses them itself."""

from collections.abc import Sequence

import numpy as np

from export.graph import MICROSOFT, Graph

# Shapes: N tiles or windows, S rows of one, C width, A heads of D.


def gelu(graph: Graph, x: str, bias: str, name: str, *, tanh: bool = False, standard: bool = False) -> str:
    """Add a bias, then the exact GELU, or the one by tanh."""
    if not standard:
        return graph.node("FastGelu" if tanh else "BiasGelu", [x, bias], name, domain=MICROSOFT)
    x = graph.node("Add", [x, bias], f"{name}.biased")
    return graph.node("Gelu", [x], name, approximate="tanh" if tanh else "none")


def add_and_norm(
    graph: Graph,
    stream: str,
    x: str,
    *,
    bias: str,
    norm: Sequence[str],
    name: str,
    epsilon: float,
    standard: bool = False,
) -> tuple[str, str]:
    """Add x and a bias to the residual stream and norm the sum; returns normed rows and stream.

    norm: its weight and bias. stream, x: (N, S, C).
    """
    out, summed = f"{name}.out", f"{name}.stream"
    if not standard:
        graph.nodes(
            "SkipLayerNormalization", [x, stream, *norm, bias], [out, "", "", summed], domain=MICROSOFT, epsilon=epsilon
        )
        return out, summed
    graph.node("Add", [graph.node("Add", [x, bias], f"{name}.biased"), stream], summed)
    return graph.node("LayerNormalization", [summed, *norm], out, axis=-1, epsilon=epsilon), summed


def attention(
    graph: Graph, parts: Sequence[str], bias: str, name: str, *, n_heads: int, width: int, standard: bool = False
) -> str:
    """Attention of every row to every row. parts: queries, keys, values (N, S, C); bias: of all three, (3C,)."""
    if not standard:
        return graph.node("MultiHeadAttention", [*parts, bias], name, domain=MICROSOFT, num_heads=n_heads)
    biases = graph.nodes("Split", [bias], [f"{name}.{part}.bias" for part in "qkv"], axis=-1, num_outputs=3)
    added = [graph.node("Add", [x, one], f"{name}.{part}") for part, x, one in zip("qkv", parts, biases, strict=True)]
    queries, keys, values = (
        _heads(graph, x, n_heads, width, order)
        for x, order in zip(added, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    scale = graph.shared(f"attention.scale.{width}", np.array((width / n_heads) ** -0.5, np.float32))
    queries = graph.node("Mul", [queries, scale], f"{name}.scaled")
    scores = graph.node("MatMul", [queries, keys], f"{name}.scores")  # (N, A, S, S)
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], f"{name}.shares", axis=-1), values], f"{name}.mixed")
    rows = graph.node("Transpose", [mixed], f"{name}.rows", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [rows, graph.shared(f"rows.{width}", np.array([0, -1, width]))], name)


def _heads(graph: Graph, x: str, n_heads: int, width: int, order: Sequence[int]) -> str:
    """(N, S, C) -> (N, A, S, D) or (N, A, D, S)."""
    shape = graph.shared(f"heads.{width}.{n_heads}", np.array([0, -1, n_heads, width // n_heads]))
    parted = graph.node("Reshape", [x, shape], f"{x}.parted")
    return graph.node("Transpose", [parted], f"{x}.heads", perm=list(order))
