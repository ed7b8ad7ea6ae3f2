"""Writes an ONNX model node by node, its large tensors streamed into one external data file."""

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edge.bundle.manifest import TensorRecord
from export.arrays import F16, F32
from export.errors import GraphError
from export.journal import Entry, Journal, decoded, encoded

Array = npt.NDArray[np.generic]
Progress = Callable[[str, int], None]  # (recipe path of the tensor just written, its number of weights)
Shape = Sequence[int | str]  # a string names a dimension that is only known at run time
Attribute = int | float | str | Sequence[int]

IR_VERSION = 10
OPSET = 21
MICROSOFT = "com.microsoft"
FLOAT: Final = int(TensorProto.FLOAT)
HALF: Final = int(TensorProto.FLOAT16)
ALIGNMENT = 4096  # of tensors at least this large: external data is mapped page by page
BLOCK_BYTES = 32 << 20  # of float32: how much of a matrix is worked on at once

_TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
}


@dataclass(frozen=True)
class Span:
    """Where a tensor lies in its data file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Mark:
    """How far a data file, and the graph over it, had grown."""

    at: int
    n_nodes: int = 0
    n_tensors: int = 0
    shared: frozenset[str] = frozenset()


def halved(value: F32, *, name: str) -> F16:
    """A float32 tensor as float16. Raises: GraphError for values that it does not hold; name: of the tensor."""
    with np.errstate(over="ignore"):
        stored = value.astype(np.float16)
    if np.isinf(stored).any() and not np.isinf(value).any():
        raise GraphError(f"{name}: {np.abs(value).max():g} is too large for float16: expected fp32")
    return stored


class DataFile:
    """A file that tensors are appended to one after another; without a journal it must not exist yet.

    journal: of the export that it belongs to: what is finished there stays where it is.
    """

    def __init__(self, path: Path, journal: Journal | None = None) -> None:
        self.path = path
        self.journal = journal
        self._file: BinaryIO = path.open("r+b" if journal is not None and path.exists() else "xb")
        self._crc = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._file.truncate()  # of what an export that was killed left behind the last tensor
        self._file.close()

    def append(self, blocks: Iterable[Array], *, n_bytes: int) -> Span:
        """Write the blocks in order, little-endian; `n_bytes` is what they must add up to. Raises: GraphError."""
        if n_bytes >= ALIGNMENT:
            self._write(bytes(-self._file.tell() % ALIGNMENT))
        offset = self._file.tell()
        for block in blocks:
            self._write(np.ascontiguousarray(block).data.cast("B"))
        length = self._file.tell() - offset
        if length != n_bytes:
            raise GraphError(f"{self.path.name}: a tensor has {length} bytes, expected {n_bytes}")
        return Span(offset, length)

    def mark(self) -> Mark:
        """Begin a tensor of the recipe."""
        self._crc = 0
        return Mark(self._file.tell())

    def found(self, name: str) -> Entry | None:
        """The tensor that begins here, if it is finished: what follows is written behind it."""
        entry = None if self.journal is None else self.journal.find(self.path.name, name, self._file.tell())
        if entry is not None:
            self._file.seek(entry.stop)
        return entry

    def finished(
        self,
        name: str,
        mark: Mark,
        record: TensorRecord,
        *,
        output: str = "",
        graph: str = "",
        shared: Sequence[str] = (),
    ) -> None:
        """Note a tensor of the recipe whose last byte is written."""
        if self.journal is not None:
            self._file.flush()
            self.journal.note(
                Entry(
                    name, self.path.name, mark.at, self._file.tell(), self._crc, output, graph, list(shared),
                    record.scheme, record.error,
                )
            )  # fmt: skip

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        if self.journal is not None:
            self._crc = zlib.crc32(data, self._crc)


class Graph:
    """A growing ONNX graph; values are named by strings, every node in the order it was added."""

    def __init__(self, name: str, data: DataFile) -> None:
        self._graph = onnx.GraphProto(name=name)
        self._data = data
        self._shared: set[str] = set()

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """Declare an input of the model."""
        self._graph.input.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str, shape: Shape) -> None:
        """Declare an output of the model; a node must produce a value of that name."""
        self._graph.output.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def node(self, op: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Attribute) -> str:
        """Add a node with one output, named like it; returns that name."""
        return self.nodes(op, inputs, [output], domain=domain, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """Add a node with several outputs; an empty name leaves an optional input or output out."""
        name = next(output for output in outputs if output)
        node = onnx.NodeProto(op_type=op, input=inputs, output=outputs, name=name, domain=domain)
        # Sorted, so that the bytes do not depend on the order of the keywords.
        node.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._graph.node.append(node)
        return list(outputs)

    def copy(self, node: onnx.NodeProto, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Add a node of another graph under other names; what its maker noted in it is left behind."""
        kept = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=outputs[0], input=inputs, output=outputs)
        kept.attribute.extend(node.attribute)
        self._graph.node.append(kept)

    def constant(self, name: str, value: Array) -> str:
        """Add a small tensor to the model file itself."""
        tensor = onnx.TensorProto(name=name, data_type=_TYPES[value.dtype.name], dims=value.shape)
        tensor.raw_data = np.ascontiguousarray(value).tobytes()
        self._graph.initializer.append(tensor)
        return name

    def shared(self, name: str, value: Array) -> str:
        """A constant that many nodes use: added the first time its name is asked for."""
        if name in self._shared:
            return name
        self._shared.add(name)
        return self.constant(name, value)

    def tensor(self, name: str, dtype: str, shape: Sequence[int], blocks: Iterable[Array]) -> str:
        """Stream a tensor into the data file: `blocks` are its elements in C order."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        span = self._data.append(blocks, n_bytes=n_bytes)
        self._place(onnx.TensorProto(name=name, data_type=_TYPES[dtype], dims=shape), self._data.path.name, span)
        return name

    def elsewhere(self, name: str, dtype: str, shape: Sequence[int], *, file: str, offset: int) -> str:
        """Refer to a tensor that another file of the bundle holds from byte `offset` on."""
        tensor = onnx.TensorProto(name=name, data_type=_TYPES[dtype], dims=shape)
        length = math.prod(shape) * np.dtype(dtype).itemsize
        self._place(tensor, file, Span(offset, length))
        return name

    def weight(self, name: str, value: F32) -> str:
        """Store a float32 tensor: small ones in the model file, others in the data file."""
        if value.nbytes < ALIGNMENT:
            return self.constant(name, value)
        return self.tensor(name, "float32", value.shape, [value])

    def half(self, name: str, value: F32) -> str:
        """Store a float32 tensor as float16. Raises: GraphError for values that it does not hold."""
        stored = halved(value, name=name)
        if stored.nbytes < ALIGNMENT:
            return self.constant(name, stored)
        return self.tensor(name, "float16", stored.shape, [stored])

    def _place(self, tensor: onnx.TensorProto, file: str, span: Span) -> None:
        """Add a tensor whose data lies in a file beside the graph."""
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": file, "offset": str(span.offset), "length": str(span.length)}.items():
            tensor.external_data.add(key=key, value=value)
        self._graph.initializer.append(tensor)

    def mark(self) -> Mark:
        """Begin a tensor of the recipe, with the nodes that compute with it."""
        graph = self._graph
        return Mark(self._data.mark().at, len(graph.node), len(graph.initializer), frozenset(self._shared))

    def found(self, name: str) -> tuple[str, TensorRecord] | None:
        """Add a tensor that is finished, with its nodes; returns the name of its result, and its record."""
        entry = self._data.found(name)
        if entry is None:
            return None
        added = onnx.GraphProto.FromString(decoded(entry.graph))
        self._graph.node.extend(added.node)
        self._graph.initializer.extend(added.initializer)
        self._shared.update(entry.shared)
        return entry.output, entry.record

    def finished(self, name: str, mark: Mark, output: str, record: TensorRecord) -> None:
        """Note a tensor of the recipe and the nodes that were added with it."""
        node, initializer = self._graph.node[mark.n_nodes :], self._graph.initializer[mark.n_tensors :]
        added = onnx.GraphProto(node=node, initializer=initializer).SerializeToString()
        shared = sorted(self._shared - mark.shared)
        self._data.finished(name, mark, record, output=output, graph=encoded(added), shared=shared)

    def save(self, path: Path, *, opset: int = OPSET) -> None:
        """Write the model to a new file; the same graph gives the same bytes. opset: the one its nodes are of."""
        model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="edge-export", graph=self._graph)
        model.opset_import.add(domain="", version=opset)
        model.opset_import.add(domain=MICROSOFT, version=1)
        with path.open("xb") as file:
            file.write(model.SerializeToString(deterministic=True))
