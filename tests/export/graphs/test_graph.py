"""The ONNX writer: streamed tensors, deterministic bytes, refusals."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.errors import GraphError
from export.graph import ALIGNMENT, DataFile, Graph

LARGE = np.arange(3000, dtype=np.float32).reshape(30, 100)


def written(folder: Path) -> None:
    """x (rows, 30) @ a streamed matrix + a small bias."""
    with DataFile(folder / "model.bin") as data:
        graph = Graph("model", data)
        graph.input("x", "float32", ["rows", 30])
        graph.output("y", "float32", ["rows", 100])
        graph.weight("bias", np.ones(100, np.float32))
        graph.tensor("matrix", "float32", LARGE.shape, (LARGE[first : first + 7] for first in range(0, 30, 7)))
        product = graph.node("MatMul", ["x", "matrix"], "product")
        graph.node("Add", [product, "bias"], "y")
        graph.save(folder / "model.onnx")


def test_streamed_tensor_is_read_back_by_the_runtime(tmp_path: Path) -> None:
    written(tmp_path)
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.eye(30, dtype=np.float32)
    assert np.array_equal(session.run(None, {"x": x})[0], LARGE + 1)


def test_model_is_sound_and_names_only_its_own_data_file(tmp_path: Path) -> None:
    written(tmp_path)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    loaded = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert (loaded.ir_version, loaded.opset_import[0].version, loaded.producer_version) == (10, 21, "")
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in loaded.graph.initializer]
    assert places == [{}, {"location": "model.bin", "offset": "0", "length": str(LARGE.nbytes)}]


def test_two_writings_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        written(folder)
    for file in ("model.onnx", "model.bin"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_order_of_attributes_does_not_change_the_bytes(tmp_path: Path) -> None:
    sizes = []
    for name, attributes in (("a", {"axis": 1, "keepdims": 0}), ("b", {"keepdims": 0, "axis": 1})):
        with DataFile(tmp_path / f"{name}.bin") as data:
            graph = Graph("model", data)
            graph.node("ArgMax", ["x"], "y", **attributes)
            graph.save(tmp_path / f"{name}.onnx")
        sizes.append((tmp_path / f"{name}.onnx").read_bytes())
    assert sizes[0] == sizes[1]


def test_large_tensors_start_on_page_borders_and_small_ones_follow_directly(tmp_path: Path) -> None:
    with DataFile(tmp_path / "data.bin") as data:
        small = data.append([np.ones(10, np.int8)], n_bytes=10)
        large = data.append([np.ones(ALIGNMENT, np.int8)], n_bytes=ALIGNMENT)
        after = data.append([np.ones(3, np.int8)], n_bytes=3)
    assert (small.offset, large.offset, after.offset) == (0, ALIGNMENT, 2 * ALIGNMENT)


def test_tensor_of_another_size_than_declared_is_refused(tmp_path: Path) -> None:
    with DataFile(tmp_path / "data.bin") as data, pytest.raises(GraphError, match="120 bytes, expected 160"):
        Graph("model", data).tensor("matrix", "float32", (4, 10), [np.ones((3, 10), np.float32)])


def test_existing_file_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        DataFile(tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == b"kept"


def test_shared_constant_is_stored_once(tmp_path: Path) -> None:
    with DataFile(tmp_path / "data.bin") as data:
        graph = Graph("model", data)
        names = [graph.shared("one", np.array(1, np.float32)) for _ in range(3)]
        graph.save(tmp_path / "model.onnx")
    assert names == ["one"] * 3
    assert len(onnx.load(tmp_path / "model.onnx").graph.initializer) == 1
