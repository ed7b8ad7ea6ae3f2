"""Linear layers in a graph, each stored and computed as the recipe says."""

import math
from collections.abc import Callable, Iterable, Iterator

from edge.bundle.manifest import TensorRecord
from export.arrays import F32
from export.checkpoint.names import Weights
from export.graph import BLOCK_BYTES, MICROSOFT, Graph, Progress
from export.quantize import int4, int8
from export.recipe import Scheme


class Linears:
    """Adds the linear layers of one graph and keeps the record of what was done to each.

    scheme: a recipe path such as "decoder.layers.0.qkv" -> how that tensor is stored.
    """

    def __init__(self, graph: Graph, scheme: Callable[[str], Scheme], progress: Progress | None) -> None:
        self.records: dict[str, TensorRecord] = {}
        self._graph = graph
        self._scheme = scheme
        self._progress = progress

    def add(self, x: str, path: str, parts: Iterable[F32], *, shape: tuple[int, int], bias: F32 | None) -> str:
        """Add `x @ weight.T + bias`; the weight comes in runs of rows and only one of them is held.

        x: (..., n_in) -> (..., n_out); shape: (n_out, n_in); parts: (rows of the part, n_in) each; bias: (n_out,).
        """
        scheme = self._scheme(path)
        if scheme == "int8":
            out, error = int8.matmul(self._graph, x, parts, shape=shape, name=path)
        elif scheme == "int4":
            out, error = int4.matmul(self._graph, x, parts, shape=shape, name=path)
        else:
            out, error = _matmul(self._graph, x, parts, shape=shape, name=path), 0.0
        self.records[path] = TensorRecord(scheme, error)
        if self._progress:
            self._progress(path, shape[0] * shape[1])
        if bias is None:
            return out
        return self._graph.node("Add", [out, self._graph.weight(f"{path}.bias", bias)], f"{path}.biased")


def runs(weights: Weights, role: str, *, multiple: int = 1) -> Iterator[F32]:
    """A matrix as runs of rows, each a whole number of `multiple` rows, so that only one of them is in memory."""
    n_rows, *rest = weights.shape(role)
    step = max(1, BLOCK_BYTES // (4 * multiple * math.prod(rest))) * multiple
    return (weights.tensor(role, rows=slice(first, first + step)) for first in range(0, n_rows, step))


def _matmul(graph: Graph, x: str, parts: Iterable[F32], *, shape: tuple[int, int], name: str) -> str:
    """Add `x @ weight.T` in float32, the weight stored as it comes."""
    weight = graph.tensor(f"{name}.weight", "float32", shape, parts)
    return graph.node("FusedMatMul", [x, weight], f"{name}.out", domain=MICROSOFT, transB=1)
