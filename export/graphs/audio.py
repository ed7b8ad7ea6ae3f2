"""The audio graph: Whisper's encoder, pooling over time and projection, from log-mel frames to embeddings."""

from functools import partial
from pathlib import Path

import numpy as np

from edge.bundle.manifest import TensorRecord
from export.checkpoint.config import ModelConfig
from export.checkpoint.names import Weights
from export.checkpoint.towers import AudioConfig
from export.errors import GraphError
from export.graph import MICROSOFT, DataFile, Graph, Progress
from export.graphs.encoder import EncoderLayers
from export.graphs.projection import add_projection
from export.journal import Journal
from export.quantize import Linears
from export.recipe import Recipe

# Shapes: N windows, M mel bands, F frames of a window, P = F / 2 positions, C width.


def write_audio(
    weights: Weights,
    config: ModelConfig,
    recipe: Recipe,
    directory: Path,
    *,
    progress: Progress | None,
    journal: Journal | None = None,
) -> dict[str, TensorRecord]:
    """Write audio.onnx and audio.bin into `directory`; returns what was done to each tensor of the recipe.

    Raises: GraphError for a config without an audio tower. Source: model-family.md, 5.
    """
    audio = config.audio
    if audio is None:
        raise GraphError(f"{config.architecture} has no audio tower")
    with DataFile(directory / "audio.bin", journal) as data:
        graph = Graph("audio", data)
        half, schemes = recipe.activations == "fp16", partial(recipe.scheme, n_layers=config.text.n_layers)
        linears = Linears(graph, schemes, progress, half=half, standard=half)
        hidden, width = config.text.hidden_size, audio.encoder.width
        graph.input("mel", "float32", ["windows", audio.n_mels, audio.n_frames])
        graph.output("embeds", "float32", ["windows", audio.tokens, hidden])
        x = EncoderLayers("audio", audio.encoder, weights, graph, linears).add(_rows(weights, graph, standard=half))
        x = _pool(x, audio, graph, standard=half)
        x = add_projection(x, "audio.projection", weights, graph, linears, width=width, hidden_size=hidden)
        graph.node("Identity", [x], "embeds")
        graph.save(directory / "audio.onnx")
    return linears.records


def _rows(weights: Weights, graph: Graph, *, standard: bool) -> str:
    """Two convolutions over time, the second halving it, and the place of each row. mel: (N, M, F) -> (N, P, C)."""
    x = "mel"
    for name, stride in (("audio.conv1", 1), ("audio.conv2", 2)):
        kernel = [graph.weight(f"{name}.{kind}", weights.tensor(f"{name}.{kind}")) for kind in ("weight", "bias")]
        x = graph.node("Conv", [x, *kernel], f"{name}.out", strides=[stride], pads=[1, 1])  # (N, C, F / stride)
        x = graph.node("Gelu", [x], f"{name}.gelu", domain="" if standard else MICROSOFT)
    x = graph.node("Transpose", [x], "rows.last", perm=[0, 2, 1])
    places = graph.weight("audio.positions.weight", weights.tensor("audio.positions.weight"))
    return graph.node("Add", [x, places], "rows.placed")


def _pool(x: str, audio: AudioConfig, graph: Graph, *, standard: bool) -> str:
    """The mean of each `pool` rows. x: (N, P, C) -> (N, P / pool, C).

    Rows that belong together are laid side by side: the runtime is slow to reduce over any axis but the last.
    """
    if audio.pool == 1:
        return x
    shape = graph.constant("pool.shape", np.array([0, audio.tokens, audio.pool * audio.encoder.width]))
    x = graph.node("Reshape", [x, shape], "pool.wide")
    names = [f"pool.{index}" for index in range(audio.pool)]
    parts = graph.nodes("Split", [x], names, axis=-1, num_outputs=audio.pool)
    if not standard:
        return graph.node("Mean", parts, "pool.out")
    share = graph.constant("pool.share", np.array(1 / audio.pool, np.float32))  # no GPU kernel is there for Mean
    return graph.node("Mul", [graph.node("Sum", parts, "pool.sum"), share], "pool.out")
