"""The embedding table in blocks, as the runtime reads it, and a tied head that multiplies with its bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle.bundle import Bundle
from edge.chat import next_logits
from edge.engine.embedding import Embedding
from edge.engine.engine import Engine
from edge.engine.session import open_session
from export.arrays import F32
from export.build import build
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY_FLASH
from export.errors import GraphError, RecipeError
from export.graph import DataFile, Graph
from export.graphs.table import add_shared_head, write_embedding
from export.quantize import blocks
from tests.conftest import BundleOf, CheckpointOf
from tests.export.checkpoint.random_weights import TEXT, RandomWeights, model, recipe

TIED = replace(TINY_FLASH, tied=True)
FORM = blocks.Format(8, 32)


def rounded(table: F32) -> F32:
    return blocks.dequantize(blocks.quantize(table, FORM), columns=table.shape[1])


@pytest.mark.parametrize("scheme", ["fp32", "w8a8", "int8"])
def test_runtime_reads_the_rows_that_were_written(
    scheme: str, checkpoint_of: CheckpointOf, bundle_of: BundleOf
) -> None:
    checkpoint = checkpoint_of(TINY_FLASH)
    table = Weights(Checkpoint.open(checkpoint)).tensor("text.embed")
    bundle = Bundle.open(bundle_of(checkpoint, scheme))
    ids = [0, 5, len(table) - 1, 5]
    rows = Embedding(bundle).rows(ids)
    if scheme == "w8a8":  # in the rotated basis: as long as they were
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.linalg.norm(table[ids], axis=1), rtol=0.01)
        return
    expected = table if scheme == "fp32" else rounded(table)
    np.testing.assert_allclose(rows, expected[ids], atol=1e-7)


def test_rows_that_end_within_a_block_are_read_without_what_fills_them_up(tmp_path: Path) -> None:
    text = replace(TEXT, hidden_size=80)
    weights = RandomWeights(model(text))
    write_embedding(weights, text, recipe("int8-block32"), tmp_path, progress=None)
    data = (tmp_path / "embedding.bin").read_bytes()
    assert len(data) == text.vocab_size * 3 * (32 + 2)
    values = np.frombuffer(data, np.uint8, text.vocab_size * 96).reshape(text.vocab_size, 96)
    assert (values[:, 80:] == 128).all()


def test_tied_head_is_stored_once(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    bundle = Bundle.open(bundle_of(checkpoint_of(TIED), "int8"))
    graph = onnx.load(bundle.file("decoder.onnx"), load_external_data=False).graph
    places = {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in graph.initializer}
    assert {places[f"decoder.head.{part}"]["location"] for part in ("weight", "scales")} == {"embedding.bin"}
    assert bundle.manifest.recipe.tensors["decoder.head"] == bundle.manifest.recipe.tensors["decoder.embed"]
    separate = Bundle.open(bundle_of(checkpoint_of(TINY_FLASH), "int8"))
    saved = separate.manifest.files["decoder.bin"].bytes - bundle.manifest.files["decoder.bin"].bytes
    assert saved >= bundle.manifest.files["embedding.bin"].bytes


def test_tied_head_of_a_rotated_stream_has_the_gains_that_the_table_has_not(
    checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    checkpoint, rows = checkpoint_of(TIED), {}
    for rotate in ("false", "true"):
        recipe = tmp_path / f"rotate-{rotate}.toml"
        recipe.write_text(f'rotate = {rotate}\n[[rules]]\ntensors = "*"\nscheme = "int8-block32"\n')
        path = build(checkpoint, tmp_path / rotate, recipe=str(recipe), certificate="off")
        with Engine.open(path) as engine:
            rows[rotate] = next_logits(engine, [{"role": "user", "content": "Who are you?"}])
    missed = np.std(rows["true"] - rows["false"]) / np.std(rows["false"])
    assert missed < 0.05


def test_shared_head_gives_products_with_the_rows_of_the_table(tmp_path: Path) -> None:
    weights = RandomWeights(model(replace(TEXT, tied=True)))
    write_embedding(weights, TEXT, recipe("int8-block32"), tmp_path, progress=None)
    with DataFile(tmp_path / "decoder.bin") as data:
        graph = Graph("decoder", data)
        graph.input("x", "float32", ["rows", TEXT.hidden_size])
        graph.output("y", "float32", ["rows", TEXT.vocab_size])
        graph.node("Identity", [add_shared_head(graph, "x", TEXT, name="head")], "y")
        graph.save(tmp_path / "decoder.onnx")
    session = open_session(tmp_path / "decoder.onnx", threads=1)
    found = session.run(None, {"x": np.eye(TEXT.hidden_size, dtype=np.float32)})[0]
    np.testing.assert_allclose(found, rounded(weights.tensor("text.embed")).T, atol=1e-5)


def test_scheme_that_no_table_has_is_refused(tmp_path: Path) -> None:
    weights = RandomWeights(model(TEXT))
    with pytest.raises(RecipeError, match="decoder.embed is int4-block32, expected fp32, int8 or int8-block32"):
        write_embedding(weights, TEXT, recipe("int4-block32"), tmp_path, progress=None)


def test_weights_that_no_float16_scale_reaches_are_refused(tmp_path: Path) -> None:
    class Large(RandomWeights):
        def tensor(self, role: str, *, rows: slice | None = None) -> F32:
            return super().tensor(role, rows=rows) * np.float32(1e9)

    with pytest.raises(GraphError, match="is too large for int8-block32, expected int8"):
        write_embedding(Large(model(TEXT)), TEXT, recipe("int8-block32"), tmp_path, progress=None)
