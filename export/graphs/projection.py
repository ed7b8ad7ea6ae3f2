"""From the rows of a tower to embeddings: average pooling over a grid, and the two linear layers of every tower."""

import numpy as np

from export.arrays import F32
from export.checkpoint.names import Weights
from export.graph import Graph
from export.graphs.standard import gelu
from export.quantize import Linears, runs


def pooling_matrix(cells: int, side: int) -> F32:
    """Adaptive average pooling of a cells x cells grid to side x side, as a matrix (side², cells²)."""
    axis = np.zeros((side, cells))
    for i in range(side):
        first, last = i * cells // side, -(-(i + 1) * cells // side)
        axis[i, first:last] = 1 / (last - first)
    return np.kron(axis, axis).astype(np.float32)


def add_projection(
    x: str, path: str, weights: Weights, graph: Graph, linears: Linears, *, width: int, hidden_size: int
) -> str:
    """Add Linear, exact GELU, Linear under `path`.0 and `path`.2. x: (..., width) -> (..., hidden_size)."""
    first, second = f"{path}.0", f"{path}.2"
    x = _linear(x, first, weights, linears, (hidden_size, width))
    bias = graph.weight(f"{first}.bias", weights.tensor(f"{first}.bias"))
    x = gelu(graph, x, bias, f"{first}.gelu", standard=linears.standard)
    x = _linear(x, second, weights, linears, (hidden_size, hidden_size))
    bias = graph.weight(f"{second}.bias", weights.tensor(f"{second}.bias"))
    return graph.node("Add", [x, bias], f"{path}.out")


def _linear(x: str, path: str, weights: Weights, linears: Linears, shape: tuple[int, int]) -> str:
    role = f"{path}.weight"
    return linears.add(x, path, runs(weights, role), shape=shape, bias=None, kept=linears.kept(path, weights, role))
