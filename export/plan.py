"""How much there is to write, known from shapes alone before the first byte."""

import re
from dataclasses import dataclass
from typing import Final

from edge.bundle.sizes import stored_bytes
from export.certificate.extent import EXTENTS, INT8_POSITIONS, Level
from export.checkpoint.config import ModelConfig, TextConfig
from export.checkpoint.names import expected
from export.errors import RecipeError
from export.graphs.rotary import head_order
from export.graphs.table import is_shared
from export.quantize import minimums
from export.recipe import Recipe

ALIGNMENT: Final = 4096  # of every large tensor in a data file
GRAPH_BYTES: Final = 4 << 20  # the graphs and the manifest: names and small tensors

_PARTS: Final = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up", "o": "o", "down": "down"}
_LAYER = re.compile(r"text\.(layers\.\d+)\.(q|k|v|o|gate|up|down)\.weight")
_ENCODER = re.compile(r"((?:vision|audio)\.layers\.\d+)\.(q|k|v|o|fc1|fc2)\.weight")
_LINEAR = re.compile(r"(vision\.stages\.\d+\.blocks\.\d+\.pwconv[12]|(?:audio\.)?projection\.[02])\.weight")


@dataclass(frozen=True)
class Plan:
    """n_weights: of all tensors that a recipe speaks about; n_bytes: of the bundle's files, a little too much."""

    n_weights: int
    n_bytes: int


def plan(config: ModelConfig, recipe: Recipe, *, tokenizer_bytes: int) -> Plan:
    """Count what an export will write.

    Raises: RecipeError when the recipe leaves a tensor out or has a scheme for it that its rows do not fit,
    UnsupportedError for heads that the kernel does not take.
    """
    head_order(config.text)
    n_weights, n_bytes = 0, GRAPH_BYTES + tokenizer_bytes + _table_bytes(config.text)
    for role, shape in expected(config):
        if role == "text.head" and is_shared(config.text, recipe):
            continue  # the table's own bytes
        rows, columns = shape[0], 1
        for size in shape[1:]:
            columns *= size
        path = recipe_path(role)
        scheme = "fp32" if path is None else recipe.scheme(path, n_layers=config.text.n_layers)
        if scheme == minimums.SCHEME and columns % minimums.BLOCK:
            raise RecipeError(
                f"recipe {recipe.name}: {path} has rows of {columns} weights, {scheme} expects a multiple of"
                f" {minimums.BLOCK}: choose another scheme for it"
            )
        n_weights += 0 if path is None else rows * columns
        n_bytes += stored_bytes(rows, columns, scheme) + ALIGNMENT
    return Plan(n_weights, n_bytes)


def layer_bytes(config: ModelConfig, recipe: Recipe) -> int:
    """The bytes of the decoder's layers among those of a plan, in schemes that a search chooses from."""
    total = 0
    for role, shape in expected(config):
        path = recipe_path(role)
        if path is not None and path.startswith("decoder.layers."):
            total += stored_bytes(shape[0], shape[1], recipe.scheme(path, n_layers=config.text.n_layers))
    return total


def scratch_bytes(text: TextConfig, level: Level) -> int:
    """What a certificate keeps on disk while it is made: the bundle's logits at every scored position.

    Those of given text once more, of a cache of 8 bits.
    """
    extent = EXTENTS[level]
    again = min(extent.text + extent.chat + extent.images, INT8_POSITIONS)
    return (extent.positions + again) * text.vocab_size * 4


def recipe_path(role: str) -> str | None:
    """The path under which recipes speak of a weight; None for what always stays float32."""
    if role in ("text.embed", "text.head"):
        return role.replace("text.", "decoder.")
    layer, encoder, linear = _LAYER.fullmatch(role), _ENCODER.fullmatch(role), _LINEAR.fullmatch(role)
    if layer:
        return f"decoder.{layer[1]}.{_PARTS[layer[2]]}"
    if encoder:
        return f"{encoder[1]}.{_PARTS.get(encoder[2], encoder[2])}"
    return linear[1] if linear else None


def _table_bytes(text: TextConfig) -> int:
    """The cos and sin tables, each at most (context, head_dim / 2) float32."""
    return 4 * text.context * text.head_dim
