"""Weights that are not quantized: float32 as they are, or rounded to float16."""

from collections.abc import Iterable, Iterator

import numpy as np

from edge.bundle.manifest import Scheme
from export.arrays import F16, F32
from export.graph import MICROSOFT, Graph, halved
from export.quantize.distance import Distance


def matmul(
    graph: Graph, x: str, parts: Iterable[F32], scheme: Scheme, *, shape: tuple[int, int], name: str, standard: bool
) -> tuple[str, float]:
    """Add `x @ weight.T`, the weight in runs of rows. x: (..., shape[1]) -> (..., shape[0]), of the scheme's type.

    standard: by operators that are ONNX's own. Returns the result's name, the weight's error. Raises: GraphError.
    """
    distance = Distance()
    if scheme == "fp16":
        weight = graph.tensor(f"{name}.weight", "float16", shape, _halved(parts, distance, name))
    else:
        weight = graph.tensor(f"{name}.weight", "float32", shape, parts)
    if not standard:
        out = graph.node("FusedMatMul", [x, weight], f"{name}.out", domain=MICROSOFT, transB=1)
    else:
        turned = graph.node("Transpose", [weight], f"{name}.weight.turned", perm=[1, 0])
        out = graph.node("MatMul", [x, turned], f"{name}.out")
    return out, distance.relative() if scheme == "fp16" else 0.0


def dequantize(weight: F32, scheme: Scheme) -> F32:
    """What a matrix in the scheme stands for."""
    return weight.astype(np.float16).astype(np.float32) if scheme == "fp16" else weight


def _halved(parts: Iterable[F32], distance: Distance, name: str) -> Iterator[F16]:
    for part in parts:
        stored = halved(part, name=name)
        distance.add(part, stored.astype(np.float32))
        yield stored
