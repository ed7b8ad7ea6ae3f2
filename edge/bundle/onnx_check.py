"""A graph file's structure, read from its bytes before onnxruntime sees it: only what the exporter writes is let in.

onnxruntime trusts a file in places: a deep chain of functions ends the process, a tensor's declared size may be none of
its data's. Functions, subgraphs, sparse tensors and foreign operators are in no bundle: they fail; each tensor must be
as large as its shape says, and be in the graph, in the file of weights beside it, or in the embedding table.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.manifest import DECODER_INT8_CACHE
from edge.bundle.voice_spec import VOICE
from edge.errors import BundleError

MAX_BYTES = 64 << 20
MAX_VOICE_BYTES = 512 << 20  # a voice's graph is as its maker published it, its weights inside
MAX_NODES = 50_000
TABLE = "embedding.bin"  # a tied head multiplies with the table itself
# Graphs over the weights of another.
_WEIGHTS_OF = {DECODER_INT8_CACHE: "decoder.bin"}

_DOMAINS = ("", "ai.onnx", "com.microsoft")
# Declared in graphs that onnxruntime's own tools wrote; a node of theirs is refused all the same.
_DECLARED = (
    *_DOMAINS, "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft.experimental",
    "com.microsoft.nchwc", "org.pytorch.aten",
)  # fmt: skip
_MAX_ELEMENTS = 1 << 40
_EXTERNAL = 1
# Bits of an element, by TensorProto.DataType; strings and complex numbers are in no bundle.
_BITS: Mapping[int, int] = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4,
}  # fmt: skip
_Value = int | memoryview
_Message = dict[int, list[_Value]]  # by the number of the field, as onnx.proto gives them


@dataclass(frozen=True)
class _Tensor:
    """A tensor's name, shape and type."""

    name: str
    dims: tuple[int, ...]
    data_type: int

    @property
    def n_elements(self) -> int:
        return math.prod(self.dims)


def check(path: Path) -> None:
    """Check the structure of a graph file. Raises: BundleError naming the file and what is wrong."""
    try:
        size, largest = path.stat().st_size, MAX_VOICE_BYTES if path.name == VOICE else MAX_BYTES
        if size > largest:
            raise BundleError(f"{path}: expected a graph of at most {largest} bytes, got {size}")
        data = path.read_bytes()
        own = path.with_suffix(".bin").name
        places = [path.with_name(_WEIGHTS_OF.get(path.name, own)), path.with_name(TABLE)]
        sizes = {place.name: place.stat().st_size for place in places if place.is_file()}
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        _check_model(memoryview(data), sizes)
    except _Fault as fault:
        raise BundleError(f"{path}: {fault}") from fault


class _Fault(Exception):
    """What is wrong with a graph."""


def _check_model(data: memoryview, sizes: Mapping[str, int]) -> None:
    model = _message(data)
    _refuse(model, {20: "training information", 25: "functions"})
    for opset in model.get(8, ()):
        _check_domain(_text(_message(opset), 1), _DECLARED)
    for graph in model.get(7, ()):
        _check_graph(_message(graph), sizes)


def _check_graph(graph: _Message, sizes: Mapping[str, int]) -> None:
    _refuse(graph, {15: "sparse tensors"})
    nodes = graph.get(1, [])
    if len(nodes) > MAX_NODES:
        raise _Fault(f"expected at most {MAX_NODES} nodes, got {len(nodes)}")
    tensors = {}
    for value in graph.get(5, ()):
        tensor = _tensor(_message(value), sizes)
        tensors[tensor.name] = tensor
    for value in nodes:
        node = _message(value)
        _check_node(node, tensors)
        tensors |= _cast(node, tensors)


def _check_node(node: _Message, tensors: Mapping[str, _Tensor]) -> None:
    kind, domain = _text(node, 4), _text(node, 7)
    _check_domain(domain)
    numbers: dict[str, int] = {}
    for value in node.get(5, ()):
        attribute = _message(value)
        _refuse(attribute, {6: "subgraphs", 11: "subgraphs", 22: "sparse tensors", 23: "sparse tensors"})
        for tensor in (*attribute.get(5, ()), *attribute.get(10, ())):
            _tensor(_message(tensor), {})
        number = _one(attribute, 3)
        if isinstance(number, int):
            numbers[_text(attribute, 1)] = number
    if (domain, kind) == ("com.microsoft", "MatMulNBits"):
        inputs = [_decoded(value) for value in node.get(1, ())]
        _check_packed(_text(node, 3), numbers, inputs, tensors)


def _cast(node: _Message, tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """Return what a cast makes of a stored tensor: one of the same shape; nothing for other nodes."""
    names = [_decoded(value) for number in (1, 2) for value in node.get(number, ())]
    if (_text(node, 7), _text(node, 4)) != ("", "Cast") or len(names) != 2 or names[0] not in tensors:
        return {}
    return {names[1]: _Tensor(names[1], tensors[names[0]].dims, 0)}


def _check_packed(name: str, numbers: Mapping[str, int], inputs: list[str], tensors: Mapping[str, _Tensor]) -> None:
    """Compare the sizes that a product of packed weights declares with those of its tensors."""
    rows, columns = numbers.get("N", 0), numbers.get("K", 0)
    bits, block = numbers.get("bits", 4), numbers.get("block_size", 0)
    if not (0 < rows < 1 << 32 and 0 < columns < 1 << 32 and bits in (2, 4, 8) and block in (16, 32, 64, 128, 256)):
        raise _Fault(f"{name!r:.100}: expected sizes of packed weights, got {dict(numbers)!r:.200}")
    blocks = -(-columns // block)
    given = [tensors.get(spelling) for spelling in inputs[1:]]
    wanted = [rows * blocks * block * bits // 8, rows * blocks]
    if len(given) > 2 and inputs[3]:
        is_packed = given[2] is not None and given[2].data_type == 2
        wanted.append(rows * -(-blocks * bits // 8) if is_packed else rows * blocks)
    if any(inputs[4:]):
        raise _Fault(f"{name!r:.100}: expected packed weights, their scales and zero points alone")
    for tensor, n_elements in zip(given, wanted, strict=False):
        if tensor is None or tensor.n_elements != n_elements:
            found = "no tensor" if tensor is None else f"{tensor.name!r:.100} of {tensor.dims}"
            raise _Fault(f"{name!r:.100}: expected a tensor of {n_elements} elements, got {found}")
    if len(given) < 2:
        raise _Fault(f"{name!r:.100}: expected packed weights and their scales")


def _tensor(tensor: _Message, sizes: Mapping[str, int]) -> _Tensor:
    """Return a tensor, its data as large as its shape says and where it belongs."""
    name, data_type = _text(tensor, 8), _one(tensor, 2)
    dims = tuple(_dims(tensor.get(1, ())))
    found = _Tensor(name, dims, data_type if isinstance(data_type, int) else 0)
    if found.data_type not in _BITS or found.n_elements > _MAX_ELEMENTS:
        raise _Fault(f"tensor {name!r:.100}: expected numbers, got type {found.data_type} and shape {dims!r:.100}")
    n_bytes = -(-found.n_elements * _BITS[found.data_type] // 8)
    raw = _one(tensor, 9)
    if _one(tensor, 14) == _EXTERNAL:
        _check_place(name, tensor, n_bytes, sizes)
    elif 13 in tensor or (isinstance(raw, memoryview) and len(raw) != n_bytes):
        size = f"{len(raw)} bytes" if isinstance(raw, memoryview) else "a place"
        raise _Fault(f"tensor {name!r:.100}: expected {n_bytes} bytes by its shape {dims!r:.100}, got {size}")
    return found


def _check_place(name: str, tensor: _Message, n_bytes: int, sizes: Mapping[str, int]) -> None:
    """Check that a tensor's data is within a file of weights. sizes: of those files, in bytes."""
    place: dict[str, str] = {}
    for value in tensor.get(13, ()):
        entry = _message(value)
        key = _text(entry, 1)
        if key in place or key not in ("location", "offset", "length", "checksum"):
            raise _Fault(f"tensor {name!r:.100}: expected location, offset and length once, got {key!r:.100}")
        place[key] = _text(entry, 2)
    location = place.get("location", "")
    if location not in sizes:
        wanted = "its data in " + (" or ".join(map(repr, sizes)) or "the graph")
        raise _Fault(f"tensor {name!r:.100}: expected {wanted}, got {location!r:.100}")
    offset, length = _number(place.get("offset", "0")), _number(place.get("length", str(n_bytes)))
    if length != n_bytes or offset + length > sizes[location]:
        wanted = f"{n_bytes} bytes of {location}'s {sizes[location]}"
        raise _Fault(f"tensor {name!r:.100}: expected {wanted}, got {length} from {offset} on")


def _refuse(message: _Message, names: Mapping[int, str]) -> None:
    for number, name in names.items():
        if number in message:
            raise _Fault(f"{name}: expected none")


def _check_domain(domain: str, known: tuple[str, ...] = _DOMAINS) -> None:
    if domain not in known:
        raise _Fault(f"operators of {domain!r:.100}: expected none but onnx's and com.microsoft's")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _Fault(f"expected a number of bytes, got {text!r:.100}")
    return int(text)


def _dims(values: "list[_Value] | tuple[()]") -> Iterator[int]:
    """Yield a shape's sizes, one by one or packed."""
    for value in values:
        sizes = [value] if isinstance(value, int) else _varints(value)
        for size in sizes:
            if size > _MAX_ELEMENTS:  # negative ones are the largest
                raise _Fault(f"expected a shape, got {size}")
            yield size


def _text(message: _Message, number: int) -> str:
    value = _one(message, number)
    return "" if value is None else _decoded(value)


def _decoded(value: _Value) -> str:
    if isinstance(value, int):
        raise _Fault("expected a text, got a number")
    return bytes(value).decode("utf-8", "replace")


def _one(message: _Message, number: int) -> _Value | None:
    """Return a field that may stand once: of several, readers take the last, or join them."""
    values = message.get(number, [])
    if len(values) > 1:
        raise _Fault(f"field {number} is given {len(values)} times")
    return values[0] if values else None


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _message(data: _Value) -> _Message:
    """Read one level of a protobuf message."""
    if isinstance(data, int):
        raise _Fault("expected a message, got a number")
    fields: _Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: _Value
        if kind == 0:
            value, at = _varint(data, at)
        else:
            if kind == 2:
                n_bytes, at = _varint(data, at)
            elif kind in (1, 5):
                n_bytes = 8 if kind == 1 else 4
            else:
                raise _Fault(f"not a graph: kind {kind} of field {number}")
            if n_bytes > len(data) - at:
                raise _Fault("not a graph: it ends in the middle of a field")
            value, at = data[at : at + n_bytes], at + n_bytes
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Fault("not a graph: a number does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
