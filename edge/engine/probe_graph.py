"""Small graphs to measure a machine's kernels with, written as the bytes of an ONNX file: no bundle is needed.

Each is a chain of products with weights of its own, in the form that the exporter writes for its scheme, so that what
is measured is what decoding and reading do.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["fp32", "int8", "int8-blocks", "int4-blocks"]
KINDS: Final[tuple[Kind, ...]] = ("int4-blocks", "int8-blocks", "int8", "fp32")

_BLOCK: Final = 32
_IR_VERSION, _OPSET = 10, 21
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # of TensorProto.DataType
_TYPES: Final = {"float32": _FLOAT, "uint8": _UINT8, "int8": _INT8, "int32": _INT32}
_MICROSOFT: Final = "com.microsoft"


def products(kind: Kind, *, wide: int, narrow: int, n: int) -> bytes:
    """Return a graph of n products, narrow to wide and back in turns. x: (rows, narrow) float32 -> y; n: even.

    All weights have the same small value: no kernel looks at them.
    """
    nodes, tensors, x = [], [_tensor("step", np.float32(0.01)), _tensor("zero", np.uint8(128))], "x"
    for at in range(n):
        columns, rows = (narrow, wide) if at % 2 == 0 else (wide, narrow)
        y = "y" if at == n - 1 else f"y{at}"
        added, weights = _product(kind, x, y, at, rows, columns)
        nodes += added
        tensors += weights
        x = y
    return _model(nodes, tensors, [_value("x", _FLOAT, ("rows", narrow))], [_value("y", _FLOAT, ("rows", narrow))])


def attention(*, n_heads: int, n_kv_heads: int, head_dim: int, capacity: int) -> bytes:
    """Return a graph of one attention over a cache that past and present share.

    qkv: (1, rows, all heads) float32, past.key and past.value: (1, n_kv_heads, capacity, head_dim) -> y.
    """
    cache, width = (1, n_kv_heads, capacity, head_dim), (n_heads + 2 * n_kv_heads) * head_dim
    inputs = [_value("qkv", _FLOAT, (1, "rows", width)), _value("key", _FLOAT, cache), _value("value", _FLOAT, cache)]
    inputs += [_value("seqlens_k", _INT32, (1,)), _value("total", _INT32, ())]
    outputs = [_value("y", _FLOAT, (1, "rows", n_heads * head_dim))]
    outputs += [_value("new_key", _FLOAT, cache), _value("new_value", _FLOAT, cache)]
    node = _node(
        "GroupQueryAttention", ["qkv", "", "", "key", "value", "seqlens_k", "total"], ["y", "new_key", "new_value"],
        num_heads=n_heads, kv_num_heads=n_kv_heads,
    )  # fmt: skip
    return _model([node], [], inputs, outputs)


def _product(kind: Kind, x: str, y: str, at: int, rows: int, columns: int) -> tuple[list[bytes], list[bytes]]:
    """Return the nodes and the weights of one product. x: (..., columns) -> y: (..., rows)."""
    if kind == "fp32":
        weight = np.full((columns, rows), 1 / columns, np.float32)
        return [_node("MatMul", [x, f"w{at}"], [y], domain="")], [_tensor(f"w{at}", weight)]
    if kind == "int8":
        weight, scales = np.ones((columns, rows), np.int8), np.full(rows, 1 / columns, np.float32)
        rounded = _node("QuantizeLinear", [x, "step", "zero"], [f"q{at}"], domain="")
        product = _node("MatMulIntegerToFloat", [f"q{at}", f"w{at}", "step", f"s{at}", "zero"], [y])
        return [rounded, product], [_tensor(f"w{at}", weight), _tensor(f"s{at}", scales)]
    bits = 4 if kind == "int4-blocks" else 8
    n_blocks = columns // _BLOCK
    packed = np.full((rows, n_blocks, _BLOCK * bits // 8), 0x99 if bits == 4 else 129, np.uint8)
    weights = [_tensor(f"w{at}", packed), _tensor(f"s{at}", np.full(rows * n_blocks, 1 / columns, np.float32))]
    node = _node(
        "MatMulNBits", [x, f"w{at}", f"s{at}"], [y],
        K=columns, N=rows, bits=bits, block_size=_BLOCK, accuracy_level=4,
    )  # fmt: skip
    return [node], weights


def _model(nodes: list[bytes], tensors: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    graph = [*((1, node) for node in nodes), (2, b"probe"), *((5, tensor) for tensor in tensors)]
    graph += [*((11, value) for value in inputs), *((12, value) for value in outputs)]
    opsets = [_message((1, domain), (2, version)) for domain, version in ((b"", _OPSET), (_MICROSOFT.encode(), 1))]
    return _message((1, _IR_VERSION), (7, _message(*graph)), *((8, opset) for opset in opsets))


def _node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = _MICROSOFT, **numbers: int
) -> bytes:
    attributes = [_message((1, name.encode()), (3, number), (20, 2)) for name, number in numbers.items()]
    names = [*((1, name.encode()) for name in inputs), *((2, name.encode()) for name in outputs)]
    return _message(*names, (4, kind.encode()), *((5, each) for each in attributes), (7, domain.encode()))


def _tensor(name: str, value: "npt.NDArray[np.generic] | np.generic") -> bytes:
    array = np.asarray(value)
    dims = [(1, size) for size in array.shape]
    return _message(*dims, (2, _TYPES[array.dtype.name]), (8, name.encode()), (9, array.tobytes()))


def _value(name: str, kind: int, shape: Iterable[int | str]) -> bytes:
    """Return the declaration of an input or output; a string names a size that varies."""
    sizes = [_message((1, size) if isinstance(size, int) else (2, size.encode())) for size in shape]
    tensor = _message((1, kind), (2, _message(*((1, size) for size in sizes))))
    return _message((1, name.encode()), (2, _message((1, tensor))))


def _message(*fields: tuple[int, int | bytes]) -> bytes:
    """Return a protobuf message. fields: number, and a whole number or bytes."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            parts += [_varint(number << 3 | 2), _varint(len(value)), value]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return struct.pack("B", value)
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
