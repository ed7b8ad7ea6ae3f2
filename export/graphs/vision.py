"""The vision graph: ConvNeXt V2, position table, pooling and projection, from tiles to embeddings."""

from functools import partial
from pathlib import Path

import numpy as np

from edge.bundle.manifest import TensorRecord
from export.arrays import F32
from export.checkpoint.config import POSITION_GRID, ModelConfig, VisionConfig
from export.checkpoint.names import Weights
from export.errors import GraphError
from export.graph import DataFile, Graph, Progress
from export.graphs.projection import add_projection, pooling_matrix
from export.graphs.standard import gelu
from export.journal import Journal
from export.quantize import Linears, runs
from export.recipe import Recipe

# Shapes: N tiles, T tile side in pixels, g cells a side of a feature map, C channels; channels come last
# except around the convolutions, where the runtime wants them second.

NORM_EPS = 1e-6  # whatever the config says
GRN_EPS = 1e-6
POSITION_BASE = 10000.0


def write_vision(
    weights: Weights,
    config: ModelConfig,
    recipe: Recipe,
    directory: Path,
    *,
    progress: Progress | None,
    journal: Journal | None = None,
) -> dict[str, TensorRecord]:
    """Write vision.onnx and vision.bin into `directory`; returns what was done to each tensor of the recipe.

    Raises: GraphError for a config without a vision tower. Source: model-family.md, 3.
    """
    if not isinstance(config.vision, VisionConfig):
        raise GraphError(f"{config.architecture} has no ConvNeXt V2 tower")
    with DataFile(directory / "vision.bin", journal) as data:
        graph = Graph("vision", data)
        schemes = partial(recipe.scheme, n_layers=config.text.n_layers)
        half = recipe.activations == "fp16"
        linears = Linears(
            graph, schemes, progress, carries=recipe.carry, many_rows=True, half=half, standard=half
        )  # fmt: skip
        _Tower(weights, config.vision, config.text.hidden_size, graph, linears).write()
        graph.save(directory / "vision.onnx")
    return linears.records


class _Tower:
    """The graph while it grows; every step takes and returns names of values."""

    def __init__(
        self, weights: Weights, config: VisionConfig, hidden_size: int, graph: Graph, linears: Linears
    ) -> None:
        self._weights = weights
        self._config = config
        self._hidden_size = hidden_size
        self._graph = graph
        self._linears = linears

    def write(self) -> None:
        """Add everything from tiles to embeddings."""
        config, graph = self._config, self._graph
        graph.input("tiles", "float32", ["tiles", 3, config.tile_px, config.tile_px])
        graph.output("embeds", "float32", ["tiles", config.tokens_per_tile, self._hidden_size])
        x = self._conv("tiles", "vision.patch", stride=config.patch_px)
        x = self._norm(self._channels_last(x), "vision.patch_norm")
        side = config.tile_px // config.patch_px
        for stage, depth in enumerate(config.depths):
            if stage:
                side //= 2
                x = self._norm(x, f"vision.stages.{stage}.down_norm")
                x = self._conv(self._channels_second(x), f"vision.stages.{stage}.down", stride=2)
                x = self._channels_last(x)
            for block in range(depth):
                x = self._block(x, f"vision.stages.{stage}.blocks.{block}", side * side, config.hidden_sizes[stage])
        graph.node("Identity", [self._project(self._pool(x))], "embeds")

    def _block(self, x: str, name: str, cells: int, channels: int) -> str:
        """x: (N, g, g, C) -> (N, g, g, C)."""
        y = self._conv(self._channels_second(x), f"{name}.dwconv", padding=3, groups=channels)
        y = self._norm(self._channels_last(y), f"{name}.norm")
        y = self._linear(y, f"{name}.pwconv1", shape=(4 * channels, channels))  # (N, g, g, 4C)
        y = self._grn(self._gelu(y, f"{name}.pwconv1"), f"{name}.grn", cells, 4 * channels)
        y = self._linear(y, f"{name}.pwconv2", shape=(channels, 4 * channels))
        bias = self._graph.weight(f"{name}.pwconv2.bias", self._bias_after_grn(name))
        return self._graph.node("Add", [x, self._graph.node("Add", [y, bias], f"{name}.branch")], f"{name}.out")

    def _grn(self, x: str, name: str, cells: int, channels: int) -> str:
        """Global response norm but for its bias, as one factor for each channel. x: (N, g, g, 4C).

        weight * (x * n) + x = x * (1 + weight * n). The sum over the cells is a matrix product with a row of ones:
        the runtime's ReduceL2 and ReduceSum are ten times slower over any axis but the last.
        """
        graph = self._graph
        square = graph.node("Mul", [x, x], f"{name}.square")
        shape = graph.shared(f"grn.shape.{channels}", np.array([0, cells, channels]))
        square = graph.node("Reshape", [square, shape], f"{name}.square.flat")
        ones = graph.shared(f"grn.ones.{cells}", np.ones((1, cells), np.float32))
        energy = graph.node("MatMul", [ones, square], f"{name}.energy")
        norm = graph.node("Sqrt", [energy], f"{name}.norm")  # (N, 1, 4C)
        mean = graph.node("ReduceMean", [norm, graph.shared("axis.last", np.array([-1]))], f"{name}.mean")
        mean = graph.node("Add", [mean, graph.shared("grn.eps", np.array(GRN_EPS, np.float32))], f"{name}.divisor")
        share = graph.node("Div", [norm, mean], f"{name}.share")
        weight = graph.weight(f"{name}.weight", self._weights.tensor(f"{name}.weight"))
        share = graph.node("Mul", [share, weight], f"{name}.weighted")
        factor = graph.node("Add", [share, graph.shared("one", np.array(1, np.float32))], f"{name}.factor")
        factor = graph.node("Unsqueeze", [factor, graph.shared("axis.row", np.array([1]))], f"{name}.factor.wide")
        return graph.node("Mul", [x, factor], f"{name}.out")

    def _bias_after_grn(self, name: str) -> F32:
        """pwconv2's bias plus what it makes of GRN's bias: that is constant, and so costs no pass at run time."""
        shift = self._weights.tensor(f"{name}.grn.bias").astype(np.float64)
        # Not a matrix product: its last bits would depend on the machine's BLAS.
        sums = [(block * shift).sum(axis=1) for block in runs(self._weights, f"{name}.pwconv2.weight")]
        bias: F32 = (np.concatenate(sums) + self._weights.tensor(f"{name}.pwconv2.bias")).astype(np.float32)
        return bias

    def _pool(self, x: str) -> str:
        """Add the position table and average down to the tokens of a tile. x: (N, g, g, C) -> (N, tokens, C)."""
        graph, channels, cells = self._graph, self._config.hidden_sizes[-1], self._config.grid
        shape = np.array([0, cells * cells, channels])
        x = graph.node("Reshape", [x, graph.constant("pool.shape", shape)], "pool.cells")
        if self._config.pos_embed:
            table = graph.weight("positions", position_table(cells * cells, channels))
            x = graph.node("Add", [x, table], "pool.placed")
        matrix = graph.weight("pool.matrix", pooling_matrix(cells, self._config.pooled))
        return graph.node("MatMul", [matrix, x], "pool.out")

    def _project(self, x: str) -> str:
        width, hidden = self._config.width, self._hidden_size
        return add_projection(
            x, "projection", self._weights, self._graph, self._linears, width=width, hidden_size=hidden
        )  # fmt: skip

    def _linear(self, x: str, path: str, *, shape: tuple[int, int]) -> str:
        role = f"{path}.weight"
        kept = self._linears.kept(path, self._weights, role)
        return self._linears.add(x, path, runs(self._weights, role), shape=shape, bias=None, kept=kept)

    def _gelu(self, x: str, path: str) -> str:
        """Add the bias of `path`, then the exact (erf) GELU, in one pass."""
        bias = self._weight(f"{path}.bias")
        return gelu(self._graph, x, bias, f"{path}.gelu", standard=self._linears.standard)

    def _norm(self, x: str, name: str) -> str:
        inputs = [x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return self._graph.node("LayerNormalization", inputs, f"{name}.out", axis=-1, epsilon=NORM_EPS)

    def _conv(self, x: str, name: str, *, stride: int = 1, padding: int = 0, groups: int = 1) -> str:
        inputs = [x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return self._graph.node("Conv", inputs, f"{name}.out", strides=[stride] * 2, pads=[padding] * 4, group=groups)

    def _weight(self, role: str) -> str:
        return self._graph.weight(role, self._weights.tensor(role))

    def _channels_last(self, x: str) -> str:
        return self._graph.node("Transpose", [x], f"{x}.last", perm=[0, 2, 3, 1])

    def _channels_second(self, x: str) -> str:
        return self._graph.node("Transpose", [x], f"{x}.second", perm=[0, 3, 1, 2])


def position_table(n_rows: int, channels: int) -> F32:
    """The first rows of the sin/cos table of a 50 x 50 grid: row i is cell (i // 50, i % 50). (n_rows, channels).

    Half of the channels for the column, half for the row, each [sin | cos]. Source: model-family.md, 3.2.
    """
    quarter = channels // 4
    omega = POSITION_BASE ** (-np.arange(quarter) / quarter)
    row, column = np.divmod(np.arange(n_rows), POSITION_GRID)
    parts = [wave(place[:, None] * omega) for place in (column, row) for wave in (np.sin, np.cos)]
    table: F32 = np.concatenate(parts, axis=1).astype(np.float32)
    return table
