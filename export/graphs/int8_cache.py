"""decoder-kv8.onnx: the decoder over a cache of 8 bits, derived from decoder.onnx; both use the same decoder.bin."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.manifest import DECODER, DECODER_INT8_CACHE
from export.arrays import F32
from export.errors import GraphError

_OP: Final = "GroupQueryAttention"
_PAST: Final = 3  # the input with the keys so far, past.N.key
_SCALES: Final = 12  # the first input of the scales; those between are optional and not used here
_CACHE: Final = ("past.", "present.")


@dataclass(frozen=True, eq=False)
class Scales:
    """What one unit of 8 bits stands for, of a layer's keys after rotation and of its values: (n_kv_heads * head_dim,)
    each."""

    keys: F32
    values: F32


@dataclass(frozen=True, eq=False)
class LayerGraph:
    """A part of the decoder that runs alone: its bytes, its external tensors beside decoder.onnx.

    inputs: the normed rows and the residual stream, which is the same value before the first layer; outputs: the keys
    and values, and normed rows and stream of the next layer, where there is one.
    """

    data: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def write_int8_cache(folder: Path, scales: Sequence[Scales]) -> None:
    """Write decoder-kv8.onnx beside decoder.onnx. scales: of every layer. Raises: GraphError."""
    model = _read(folder)
    attention = [node for node in model.graph.node if node.op_type == _OP]
    if len(attention) != len(scales):
        raise GraphError(f"{DECODER}: {len(attention)} layers with attention, scales of {len(scales)}")
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(_CACHE):
            value.type.tensor_type.elem_type = TensorProto.INT8
    for n, (node, of) in enumerate(zip(attention, scales, strict=True)):
        names = [f"layers.{n}.key_scale", f"layers.{n}.value_scale"]
        node.input.extend([""] * (_SCALES - len(node.input)) + names)
        kinds = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(kinds.items()))
        for name, values in zip(names, (of.keys, of.values), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    with (folder / DECODER_INT8_CACHE).open("xb") as file:
        file.write(model.SerializeToString(deterministic=True))


def layer_graphs(folder: Path) -> Iterator[LayerGraph]:
    """Yield the decoder layer by layer, each as a graph of its own; the last one ends with its attention.

    So keys and values of a model of any size are computed with the weights of one layer in memory.
    """
    model = _read(folder)
    nodes = list(model.graph.node)
    ends = [at for at, node in enumerate(nodes) if _is_norm1(node)]
    spans = [(first + 1, last + 1) for first, last in itertools.pairwise(ends)]
    last = max(at for at, node in enumerate(nodes) if node.op_type == _OP)
    spans.append((ends[-1] + 1, last + 1))
    for n, (first, stop) in enumerate(spans):
        normed, stream = _normed(nodes[ends[n]])
        before = [] if n else nodes[: ends[0] + 1]  # the first norm belongs to the first layer
        inputs = ("embeds",) if n == 0 else (normed, stream)
        following = _normed(nodes[stop - 1]) if n < len(spans) - 1 else ()
        yield _part(
            model, [*before, *nodes[first:stop]], inputs, (f"present.{n}.key", f"present.{n}.value", *following)
        )


def _is_norm1(node: onnx.NodeProto) -> bool:
    return str(node.output[0]).endswith(".norm1.out")


def _normed(node: onnx.NodeProto) -> tuple[str, str]:
    """The normed rows that a norm gives, and the residual stream."""
    return node.output[0], node.output[3] if len(node.output) > 3 else node.input[0]


def _part(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]
) -> LayerGraph:
    """Some nodes of a model as a model."""
    used = {name for node in nodes for name in node.input}
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "rows", None]) for name in inputs]
    graph = onnx.GraphProto(name="layer", node=nodes)
    graph.input.extend([*rows, *(value for value in model.graph.input if value.name in used - set(inputs))])
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    return LayerGraph(part.SerializeToString(), tuple(inputs), tuple(outputs))


def _read(folder: Path) -> onnx.ModelProto:
    return onnx.load(str(folder / DECODER), load_external_data=False)
