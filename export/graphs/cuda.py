"""Which operators onnxruntime's CUDA provider computes; others run on the CPU, and values go there and back.

Source: docs/OperatorKernels.md of onnxruntime, the section of CUDAExecutionProvider; group_query_attention.cc, which
has kernels of float16 and bfloat16 alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto

from export.errors import GraphError

_FLOATS: Final = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16))
_HALF: Final = frozenset((TensorProto.FLOAT16,))
_ANY: Final = _FLOATS | {TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8}
_SIGNED: Final = _FLOATS | {TensorProto.INT32, TensorProto.INT64, TensorProto.INT8}

# By domain and operator: the types of the first input. Operators that no exporter here writes are left out.
KERNELS: Final[Mapping[tuple[str, str], frozenset[int]]] = {
    ("", "Add"): _ANY,
    ("", "Cast"): _ANY,
    ("", "Conv"): _FLOATS,
    ("", "Div"): _ANY,
    ("", "Gelu"): _FLOATS,
    ("", "Identity"): _ANY,
    ("", "LayerNormalization"): _FLOATS,
    ("", "MatMul"): _FLOATS,
    ("", "Mul"): _ANY,
    ("", "Neg"): _SIGNED,
    ("", "ReduceMean"): _FLOATS | {TensorProto.INT32},
    ("", "Reshape"): _ANY,
    ("", "SimplifiedLayerNormalization"): _FLOATS,
    ("", "Slice"): _ANY,
    ("", "Softmax"): _FLOATS,
    ("", "Split"): _ANY,
    ("", "Sqrt"): _FLOATS,
    ("", "Sum"): _FLOATS,
    ("", "Transpose"): _ANY,
    ("", "Unsqueeze"): _ANY,
    ("com.microsoft", "BiasGelu"): _FLOATS,
    ("com.microsoft", "FastGelu"): _FLOATS,
    ("com.microsoft", "FusedMatMul"): _FLOATS,
    ("com.microsoft", "Gelu"): _FLOATS,
    ("com.microsoft", "GroupQueryAttention"): _HALF,
    ("com.microsoft", "MatMulNBits"): _FLOATS,
    ("com.microsoft", "MultiHeadAttention"): _FLOATS,
    ("com.microsoft", "QuickGelu"): _FLOATS,
    ("com.microsoft", "SkipLayerNormalization"): _FLOATS,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _FLOATS,
}


def without_kernel(path: Path) -> list[str]:
    """The nodes of a graph that CUDA has no kernel for, each as "operator (type)", in the order they first come."""
    graph = onnx.load(str(path), load_external_data=False).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return list(dict.fromkeys(_missing(graph.node, types)))


def check(folder: Path) -> None:
    """Refuse graphs that a GPU would leave to the CPU in parts. folder: of a bundle. Raises: GraphError naming them."""
    for path in sorted(folder.glob("*.onnx")):
        missing = without_kernel(path)
        if missing:
            raise GraphError(f"{path.name}: no CUDA kernel computes {', '.join(missing)}")


def _missing(nodes: "Iterator[onnx.NodeProto]", types: dict[str, int]) -> Iterator[str]:
    for node in nodes:
        kind = types[node.input[0]]
        if kind not in KERNELS.get((node.domain, node.op_type), ()):
            yield f"{node.op_type} ({TensorProto.DataType.Name(kind).lower()})"
        # Every other operator of the table gives what it is given first.
        given = next((each.i for each in node.attribute if each.name == "to"), kind)
        types.update(dict.fromkeys(node.output, given))
