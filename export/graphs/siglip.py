"""The vision graph of SigLIP: patches, positions, layers, pooling and projection, from tiles to embeddings."""

from functools import partial
from pathlib import Path

import numpy as np

from edge.bundle.manifest import TensorRecord
from export.checkpoint.config import ModelConfig
from export.checkpoint.names import Weights
from export.checkpoint.towers import SiglipConfig
from export.errors import GraphError
from export.graph import DataFile, Graph, Progress
from export.graphs.encoder import EncoderLayers
from export.graphs.projection import add_projection, pooling_matrix
from export.journal import Journal
from export.quantize import Linears
from export.recipe import Recipe

# Shapes: N tiles, T tile side in pixels, g cells a side of a tile, C width.


def write_siglip(
    weights: Weights,
    config: ModelConfig,
    recipe: Recipe,
    directory: Path,
    *,
    progress: Progress | None,
    journal: Journal | None = None,
) -> dict[str, TensorRecord]:
    """Write vision.onnx and vision.bin into `directory`; returns what was done to each tensor of the recipe.

    Raises: GraphError for a config without a SigLIP tower. Source: model-family.md, 3.
    """
    siglip = config.vision
    if not isinstance(siglip, SiglipConfig):
        raise GraphError(f"{config.architecture} has no SigLIP tower")
    with DataFile(directory / "vision.bin", journal) as data:
        graph = Graph("vision", data)
        half, schemes = recipe.activations == "fp16", partial(recipe.scheme, n_layers=config.text.n_layers)
        linears = Linears(graph, schemes, progress, half=half, standard=half)
        hidden = config.text.hidden_size
        graph.input("tiles", "float32", ["tiles", 3, siglip.tile_px, siglip.tile_px])
        graph.output("embeds", "float32", ["tiles", siglip.tokens_per_tile, hidden])
        x = EncoderLayers("vision", siglip.encoder, weights, graph, linears).add(_rows(weights, siglip, graph))
        matrix = graph.weight("pool.matrix", pooling_matrix(siglip.grid, siglip.pooled))
        x = graph.node("MatMul", [matrix, x], "pool.out")  # (N, tokens, C)
        x = add_projection(x, "projection", weights, graph, linears, width=siglip.width, hidden_size=hidden)
        graph.node("Identity", [x], "embeds")
        graph.save(directory / "vision.onnx")
    return linears.records


def _rows(weights: Weights, siglip: SiglipConfig, graph: Graph) -> str:
    """A row for each patch, with its place added. tiles: (N, 3, T, T) -> (N, g², C)."""
    roles = ("vision.patch.weight", "vision.patch.bias")
    patch = [graph.weight(role, weights.tensor(role)) for role in roles]
    x = graph.node("Conv", ["tiles", *patch], "vision.patch.out", strides=[siglip.patch_px] * 2)  # (N, C, g, g)
    shape = graph.constant("rows.shape", np.array([0, siglip.width, siglip.grid**2]))
    x = graph.node("Transpose", [graph.node("Reshape", [x, shape], "rows.flat")], "rows.last", perm=[0, 2, 1])
    places = graph.weight("vision.positions.weight", weights.tensor("vision.positions.weight"))
    return graph.node("Add", [x, places], "rows.placed")
