"""The vision graph against transformers' ConvNeXt V2, and its constant tables against plain readings."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edge.bundle.manifest import TensorRecord
from edge.engine.session import open_session
from export.arrays import F32
from export.checkpoint.config import VisionConfig
from export.errors import GraphError
from export.graph import Progress
from export.graphs.projection import pooling_matrix
from export.graphs.vision import position_table, write_vision
from export.recipe import Scheme
from tests.export.checkpoint.random_weights import VISION, RandomWeights, model, recipe
from tests.export.graphs import convnext


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tiles_of(vision: VisionConfig, n: int) -> F32:
    return np.random.default_rng(3).standard_normal((n, 3, vision.tile_px, vision.tile_px)).astype(np.float32)


def written(
    folder: Path, vision: VisionConfig, scheme: Scheme, *, progress: Progress | None = None
) -> tuple[RandomWeights, dict[str, TensorRecord]]:
    config = model(vision=vision)
    weights = RandomWeights(config)
    return weights, write_vision(weights, config, recipe(scheme), folder, progress=progress)


def run(folder: Path, tiles: F32) -> F32:
    session = open_session(folder / "vision.onnx", threads=1)
    found: F32 = session.run(["embeds"], {"tiles": tiles})[0]
    return found


def cosine(a: F32, b: F32) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tile_px": 128, "tokens_per_tile": 4},  # 4 x 4 cells, pooled by two
        {"tile_px": 96, "tokens_per_tile": 4},  # 3 x 3 cells to 2 x 2: windows overlap
        {"tile_px": 64, "tokens_per_tile": 9},  # more tokens than cells
        {"tile_px": 140, "patch_px": 7, "tokens_per_tile": 1, "pos_embed": False},  # 20 patches, 2 cells
        {"tile_px": 88, "tokens_per_tile": 4},  # 22 patches: 11, 5, 2 with the odd ones cut off
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()) or "plain",
)
def test_embeddings_equal_those_of_transformers(tmp_path: Path, changes: dict[str, object]) -> None:
    vision = dataclasses.replace(VISION, **changes)
    weights, _ = written(tmp_path, vision, "fp32")
    tiles = tiles_of(vision, 2)
    assert np.abs(run(tmp_path, tiles) - convnext.embeds(weights, vision, tiles)).max() < 1e-4


def test_many_tiles_equal_one_at_a_time(tmp_path: Path) -> None:
    written(tmp_path, VISION, "fp32")
    tiles = tiles_of(VISION, 5)
    single = np.concatenate([run(tmp_path, tiles[i : i + 1]) for i in range(5)])
    assert np.abs(run(tmp_path, tiles) - single).max() < 1e-5


def test_fewer_bits_are_further_off(tmp_path: Path) -> None:
    tiles, errors, likeness = tiles_of(VISION, 2), [], []
    for scheme in ("int8", "int4"):
        folder = tmp_path / scheme
        folder.mkdir()
        weights, records = written(folder, VISION, scheme)
        errors.append([record.error for record in records.values()])
        likeness.append(cosine(run(folder, tiles), convnext.embeds(weights, VISION, tiles)))
    assert all(0 < e8 < 0.01 < e4 < 0.13 for e8, e4 in zip(*errors, strict=True))
    assert likeness[0] > 0.999
    assert likeness[0] > likeness[1] > 0.9


def test_records_name_every_linear_layer_and_progress_counts_its_weights(tmp_path: Path) -> None:
    told: dict[str, int] = {}
    _, records = written(tmp_path, VISION, "int8", progress=told.__setitem__)
    blocks = [f"vision.stages.{stage}.blocks.{n}" for stage, depth in enumerate(VISION.depths) for n in range(depth)]
    layers = [f"{block}.{part}" for block in blocks for part in ("pwconv1", "pwconv2")]
    assert list(records) == list(told) == [*layers, "projection.0", "projection.2"]
    assert told["vision.stages.1.blocks.0.pwconv2"] == 4 * VISION.hidden_sizes[1] ** 2


def test_two_exports_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        written(folder, VISION, "int8")
    for file in ("vision.onnx", "vision.bin"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_slow_reductions_stay_out_of_the_graph(tmp_path: Path) -> None:
    written(tmp_path, VISION, "int8")
    nodes = onnx.load(tmp_path / "vision.onnx", load_external_data=False).graph.node
    assert not {node.op_type for node in nodes} & {"ReduceL2", "ReduceSum", "ReduceSumSquare"}


def test_checkpoint_without_a_tower_is_refused(tmp_path: Path) -> None:
    config = model()
    with pytest.raises(GraphError, match="Test has no ConvNeXt V2 tower"):
        write_vision(RandomWeights(config), config, recipe("fp32"), tmp_path, progress=None)


@pytest.mark.parametrize(("n_rows", "channels"), [(1, 8), (64, 48), (256, 64), (2500, 16)])
def test_position_table_is_the_start_of_the_fifty_by_fifty_grid(n_rows: int, channels: int) -> None:
    assert np.abs(position_table(n_rows, channels) - convnext.positions(channels)[:n_rows].numpy()).max() < 1e-5


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("cells", [1, 2, 5, 7, 12, 16])
def test_pooling_matrix_is_adaptive_average_pooling(cells: int, side: int) -> None:
    grid = torch.randn(1, 3, cells, cells, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.adaptive_avg_pool2d(grid, side).flatten(2)[0].T.numpy()
    assert np.abs(pooling_matrix(cells, side) @ grid.flatten(2)[0].T.numpy() - expected).max() < 1e-5


@pytest.mark.slow
def test_embeddings_equal_those_of_optimum(tmp_path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    weights, _ = written(tmp_path, VISION, "fp32")
    reference = convnext.tower(weights, VISION)
    onnx_config = TasksManager.get_exporter_config_constructor(
        "onnx", reference, task="feature-extraction", library_name="transformers"
    )(reference.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own
        export(reference, onnx_config, tmp_path / "optimum.onnx", opset=18)
    session = ort.InferenceSession(tmp_path / "optimum.onnx", providers=["CPUExecutionProvider"])
    tiles = tiles_of(VISION, 1)
    features = session.run(["last_hidden_state"], {session.get_inputs()[0].name: tiles})[0]
    expected = convnext.after_tower(weights, VISION, torch.from_numpy(features))
    assert np.abs(run(tmp_path, tiles) - expected).max() < 1e-4
