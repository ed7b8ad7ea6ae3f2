"""Graphs that no exporter writes: refused by our own check, in no time, before onnxruntime sees them."""

import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import onnx_check
from edge.engine.session import open_session
from edge.errors import BundleError
from tests.edge.asking import HANGS_S

Change = Callable[[onnx.ModelProto], object]

N, K, BLOCK = 8, 64, 32
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, K])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)


def external(name: str, dims: list[int], kind: int, offset: int, length: int, place: str = "m.bin") -> TensorProto:
    tensor = TensorProto(name=name, dims=dims, data_type=kind, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model() -> onnx.ModelProto:
    """A product with weights of four bits, as the exporter writes it."""
    weights = external("b", [N, K // BLOCK, BLOCK // 2], TensorProto.UINT8, 0, N * K // 2)
    scales = numpy_helper.from_array(np.full(N * K // BLOCK, 0.01, np.float32), "s")
    sizes = {"N": N, "K": K, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
    product = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], name="product", domain="com.microsoft", **sizes)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_graph([product], "g", [X], [Y], [weights, scales])
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def written(folder: Path, made: onnx.ModelProto | bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    (folder / "m.bin").write_bytes(bytes(N * K // 2))
    return path


def attribute(name: str, value: object) -> Change:
    def change(made: onnx.ModelProto) -> None:
        node = made.graph.node[0]
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def weights(**fields: object) -> Change:
    """Change the place of the weights; None takes a key away."""

    def change(made: onnx.ModelProto) -> None:
        entries = {each.key: each.value for each in made.graph.initializer[0].external_data} | fields
        del made.graph.initializer[0].external_data[:]
        for key, value in entries.items():
            if value is not None:
                made.graph.initializer[0].external_data.add(key=key, value=str(value))

    return change


def subgraph(made: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [Y])
    made.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def functions(made: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 21)]
    for i in range(3000):
        call = helper.make_node(f"f{i + 1}" if i < 2999 else "Identity", ["a"], ["b"], domain="f" if i < 2999 else "")
        made.functions.append(helper.make_function("f", f"f{i}", ["a"], ["b"], [call], opset))


def constant(made: onnx.ModelProto) -> None:
    node = made.graph.node.add(op_type="Constant", output=["c"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=external("c", [4], 1, 0, 16))


def zero_points(made: onnx.ModelProto) -> None:
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(7, np.uint8), "z"))
    made.graph.node[0].input.append("z")


FAMILIES: dict[str, tuple[Change, str]] = {
    "functions": (functions, "functions: expected none"),
    "subgraph": (subgraph, "subgraphs: expected none"),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), "sparse tensors: expected none"),
    "training": (lambda m: m.training_info.add(), "training"),
    "custom opset": (lambda m: m.opset_import.append(helper.make_opsetid("evil", 1)), "evil"),
    "custom node": (lambda m: m.graph.node.add(op_type="Boom", domain="evil"), "evil"),
    "constant outside": (constant, "its data in the graph"),
    "too many nodes": (
        lambda m: m.graph.node.extend([helper.make_node("Identity", ["x"], ["z"])] * onnx_check.MAX_NODES), "50001",
    ),
    "short data": (lambda m: setattr(m.graph.initializer[1], "raw_data", b"1234"), "expected 64 bytes by its shape"),
    "long data": (lambda m: setattr(m.graph.initializer[1], "raw_data", bytes(65)), "expected 64 bytes by its shape"),
    "huge shape": (lambda m: m.graph.initializer[1].dims.__setitem__(0, 1 << 62), "expected a shape"),
    "huge product": (lambda m: m.graph.initializer[1].dims.extend([1 << 30] * 3), "expected numbers"),
    "negative shape": (lambda m: m.graph.initializer[1].dims.__setitem__(0, -1), "expected a shape"),
    "strings": (lambda m: setattr(m.graph.initializer[1], "data_type", TensorProto.STRING), "expected numbers"),
    "unknown type": (lambda m: setattr(m.graph.initializer[1], "data_type", 99), "expected numbers"),
    "no place": (weights(location=None), "its data in 'm.bin'"),
    "unknown key": (weights(basepath="/"), "basepath"),
    "past the end": (weights(offset=1), "256 bytes of m.bin's 256"),
    "negative offset": (weights(offset=-1), "-1"),
    "far offset": (weights(offset=1 << 50), "from 1125899906842624 on"),
    "longer than its shape": (weights(length=512), "got 512 from 0"),
    "length in words": (weights(length="0x100"), "0x100"),
    "N": (attribute("N", 2 * N), "expected a tensor of 512 elements"),
    "K": (attribute("K", K * 1000), "elements"),
    "negative K": (attribute("K", -K), "sizes of packed weights"),
    "bits": (attribute("bits", 8), "elements"),
    "odd bits": (attribute("bits", 5), "sizes of packed weights"),
    "block": (attribute("block_size", 16), "elements"),
    "no block": (attribute("block_size", 0), "sizes of packed weights"),
    "K as a float": (attribute("K", 64.0), "sizes of packed weights"),
    "scales": (lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(15, np.float32), "s")), "16"),
    "computed weights": (lambda m: m.graph.node[0].input.__setitem__(1, "x"), "got no tensor"),
    "no scales": (lambda m: m.graph.node[0].input.pop(), "expected packed weights and their scales"),
    "zero points": (zero_points, "expected a tensor of 8 elements, got 'z'"),
    "an order of rows": (lambda m: m.graph.node[0].input.extend(["", "s"]), "alone"),
}  # fmt: skip


def test_what_the_exporter_writes_is_taken(tmp_path: Path, int8_bundle: Path, int4_bundle: Path) -> None:
    assert open_session(written(tmp_path, model()), threads=1).get_inputs()[0].name == "x"
    for bundle in (int8_bundle, int4_bundle):
        for path in bundle.glob("*.onnx"):
            onnx_check.check(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_faults_is_refused_in_no_time(family: str, tmp_path: Path) -> None:
    change, words = FAMILIES[family]
    made = model()
    change(made)
    path = written(tmp_path, made)
    began_s = time.process_time()
    with pytest.raises(BundleError) as caught:
        open_session(path, threads=1)
    assert time.process_time() - began_s < HANGS_S
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert "onnxruntime" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "../m.bin", "/etc/passwd", "./m.bin", "x/../m.bin", "M.bin", "m.bin ", "m.bin\x00", "", ".", "..", "m.bin/",
        "//m.bin", "file:m.bin", "m.bin/../../secret", "..\\m.bin", "C:\\m.bin", "m\u200b.bin", "m.onnx",
        "manifest.json", "/proc/self/mem",
    ],
)  # fmt: skip
def test_weights_lie_in_the_one_file_beside_the_graph(place: str, tmp_path: Path) -> None:
    made = model()
    weights(location=place)(made)
    with pytest.raises(BundleError, match=r"its data in 'm\.bin'"):
        onnx_check.check(written(tmp_path, made))


@pytest.mark.parametrize("twice", [b"\x10\x01", b"\x70\x01", b"\x4a\x00", b"\x42\x01b"])
def test_a_field_that_stands_twice_is_refused(twice: bytes, tmp_path: Path) -> None:
    """Readers take the last of several type, place, data or name; a graph that stands twice is joined from both."""
    tensor = external("b", [N], TensorProto.UINT8, 0, N).SerializeToString() + twice * 2
    second = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(BundleError, match="times"):
        onnx_check.check(written(tmp_path, model().SerializeToString() + b"\x3a" + bytes([len(second)]) + second))


def test_a_graph_that_folds_to_gigabytes_stays_small(tmp_path: Path) -> None:
    import resource

    shape = numpy_helper.from_array(np.array([150_000_000], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["c"]), helper.make_node("Add", ["c", "x"], ["y"])]
    made = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [Y], [shape])
    path = written(tmp_path, helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    open_session(path, threads=1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_damaged_graphs_are_bundle_errors_or_graphs(tmp_path: Path) -> None:
    rng, data = random.Random(0), model().SerializeToString()
    path = written(tmp_path, data)
    for _ in range(3000):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice((len(damaged), rng.randrange(len(damaged))))])
        with contextlib.suppress(BundleError):
            onnx_check.check(path)


@pytest.mark.parametrize("data", [b"\x0a" * 100_000, b"\xff" * 100_000, b"\x80" * 100_000, b"\x08" * 1_000_000])
def test_rubbish_takes_no_time(data: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, data)
    began_s = time.process_time()
    with contextlib.suppress(BundleError):
        onnx_check.check(path)
    assert time.process_time() - began_s < HANGS_S


def test_a_graph_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(onnx_check.MAX_BYTES + 1)
    with pytest.raises(BundleError, match=str(onnx_check.MAX_BYTES)):
        onnx_check.check(path)


def test_a_graph_that_is_not_there_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        open_session(tmp_path / "m.onnx", threads=1)


def cast(n_scales: int) -> onnx.ModelProto:
    """The product with scales that are stored as float16 and cast."""
    made = model()
    half = numpy_helper.from_array(np.full(n_scales, 0.01, np.float16), "half")
    made.graph.initializer.append(half)
    del made.graph.initializer[1]
    made.graph.node.insert(0, helper.make_node("Cast", ["half"], ["s"], to=TensorProto.FLOAT))
    return made


def test_scales_behind_a_cast_are_counted(tmp_path: Path) -> None:
    onnx_check.check(written(tmp_path, cast(N * K // BLOCK)))
    with pytest.raises(BundleError, match=r"expected a tensor of 16 elements, got 's' of \(15,\)"):
        onnx_check.check(written(tmp_path, cast(N * K // BLOCK - 1)))


def test_weights_may_lie_in_the_embedding_table_and_not_beyond_it(tmp_path: Path) -> None:
    made = model()
    weights(location="embedding.bin")(made)
    path = written(tmp_path, made)
    with pytest.raises(BundleError, match=r"expected its data in 'm\.bin', got 'embedding\.bin'"):
        onnx_check.check(path)
    (tmp_path / "embedding.bin").write_bytes(bytes(N * K // 2))
    onnx_check.check(path)
    (tmp_path / "embedding.bin").write_bytes(bytes(N * K // 2 - 1))
    with pytest.raises(BundleError, match=r"expected 256 bytes of embedding\.bin's 255"):
        onnx_check.check(path)


def test_a_voice_may_have_its_weights_inside_up_to_its_own_limit(tmp_path: Path) -> None:
    path = tmp_path / "voice.onnx"
    with path.open("wb") as file:
        file.truncate(onnx_check.MAX_VOICE_BYTES + 1)
    with pytest.raises(BundleError, match=str(onnx_check.MAX_VOICE_BYTES)):
        onnx_check.check(path)


def test_a_domain_that_onnxruntimes_tools_declare_may_be_declared_and_not_used(tmp_path: Path) -> None:
    made = model()
    made.opset_import.add(domain="com.microsoft.experimental", version=1)
    onnx_check.check(written(tmp_path, made))
    made.graph.node.add(op_type="Boom", domain="com.microsoft.experimental")
    with pytest.raises(BundleError, match=r"operators of 'com\.microsoft\.experimental'"):
        onnx_check.check(written(tmp_path, made))
