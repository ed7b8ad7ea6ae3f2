"""Calibration data: texts as the embeddings that the decoder reads, and what is found with them."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from edge.bundle.manifest import Manifest, VisionSpec
from edge.engine.layout import Positions
from edge.engine.pieces import Media
from edge.engine.tokenizer import Tokenizer
from edge.media.tiles import tiles
from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.names import Weights
from export.errors import CalibrationError
from export.quantize import search
from export.quantize.sensitivity import Sensitivity, sensitivities
from export.recipe import Recipe, with_schemes
from export.reference import model as reference
from export.texts.read import Entry
from export.texts.sequences import sequences, spread

WINDOW: Final = 512  # positions of a sequence at most
STREAM_BYTES: Final = 128 << 20  # of the residual streams of all sequences: 8 192 positions of 4 096 channels
MAX_POSITIONS: Final = 1 << 15  # of all sequences, for small models
SEARCH_POSITIONS: Final = 2048  # that sensitivity is measured on
SEARCHED: Final = ("int4-block64", "int4-block32", "int8-block32")  # where a recipe names no schemes

_TRIAL = 1024  # the side of the matrices that speed is measured with

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)


def prompts(
    weights: Weights, manifest: Manifest, tokenizer: Tokenizer, entries: Iterable[Entry], report: Report
) -> list[F32]:
    """The embeddings (S, H) of each sequence, spread over the texts: about MAX_POSITIONS, or what fits STREAM_BYTES.

    manifest: its specs of prompt, text and vision are read. Raises: CalibrationError, TextsError, CheckpointError.
    """
    laid_out = [each.positions for each in sequences(entries, manifest=manifest, tokenizer=tokenizer, window=WINDOW)]
    room = n_positions(manifest.text.hidden_size)
    chosen = [laid_out[at] for at in spread([len(each) for each in laid_out], room)]
    if not chosen:
        raise CalibrationError("calibration: no text that this model can read, expected at least one")
    images = _images(weights, manifest.vision, chosen, report)
    order = sorted({key for positions in chosen for key in positions.keys if isinstance(key, int)})
    table = dict(zip(order, reference.embeds(weights, order), strict=True))
    return [np.stack([_row(key, table, images) for key in positions.keys]) for positions in chosen]


def n_positions(hidden_size: int) -> int:
    """How many positions of texts a model is calibrated with at most."""
    return min(MAX_POSITIONS, STREAM_BYTES // (4 * hidden_size))


def scratch_bytes(text: TextConfig) -> int:
    """What a search keeps on disk: the residual stream before each layer."""
    return 4 * text.n_layers * text.hidden_size * (SEARCH_POSITIONS + WINDOW)


def operations(text: TextConfig, *, positions: int, searched: bool) -> float:
    """About how many additions and multiplications calibration takes, those of images apart."""
    inner, groups = text.n_heads * text.head_dim, text.n_kv_heads * text.head_dim
    layers = (
        (text.hidden_size, inner + 2 * groups), (inner, text.hidden_size),
        (text.hidden_size, 2 * text.intermediate_size), (text.intermediate_size, text.hidden_size),
    )  # fmt: skip
    total = 0.0
    for n_in, n_out in layers:
        # The data passes, its moments are summed and inverted, and each column's error is spread over those behind it.
        total += 2 * positions * n_in * (n_in + n_out) + 2 * n_in**3 + n_in**2 * n_out
        if searched:  # forward, back, and what each scheme's rounding does to the outputs
            total += 2 * SEARCH_POSITIONS * n_in * n_out * (3 + len(SEARCHED))
    return text.n_layers * total


def operations_per_s() -> float:
    """How many of them this machine does in a second, by a product that takes a moment."""
    matrix = torch.ones(_TRIAL, _TRIAL)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * _TRIAL**3 / min(seconds)


def found_recipe(
    recipe: Recipe,
    weights: Weights,
    text: TextConfig,
    data: Sequence[F32],
    *,
    limit_bytes: float | None,
    limit_kl: float | None,
    scratch: Path,
    report: Report,
) -> Recipe:
    """The recipe with a scheme for each layer, found by what rounding costs on some of the data.

    limit_bytes: of the decoder's layers; limit_kl: of the expected divergence, in nats; the recipe's own bits where
    neither is given. Raises: RecipeError when no choice keeps within a limit.
    """
    schemes = recipe.search.schemes if recipe.search else SEARCHED
    some = [data[at] for at in spread([len(each) for each in data], SEARCH_POSITIONS)]
    layers = sensitivities(
        weights, text, some, schemes=schemes, scratch=scratch,
        progress=lambda done, total: report("sensitivity", done, total),
    )  # fmt: skip
    if limit_kl is not None:
        return with_schemes(recipe, search.within_kl(layers, limit_kl))
    limit = limit_bytes if limit_bytes is not None else _recipe_bytes(recipe, layers)
    return with_schemes(recipe, search.within_bytes(layers, limit))


def _recipe_bytes(recipe: Recipe, layers: Sequence[Sensitivity]) -> float:
    if recipe.search is None:
        raise CalibrationError(f"recipe {recipe.name}: expected a [search], a size or a divergence to search by")
    return recipe.search.bits_per_weight / 8 * sum(rows * columns for rows, columns in (each.shape for each in layers))


def _images(
    weights: Weights, vision: VisionSpec | None, chosen: Iterable[Positions], report: Report
) -> Mapping[str, F32]:
    """The float32 embeddings of every image, (tokens, H) by digest."""
    if vision is None:
        return {}
    found: dict[str, Media] = {}
    for positions in chosen:
        found |= {media.digest: media for media in positions.media(0, len(positions)) if isinstance(media, Media)}
    embeddings = {}
    for index, (digest, media) in enumerate(found.items()):
        if media.kind != "image":
            raise CalibrationError("calibration: expected images, got a video")
        rows = reference.tile_embeds(weights, weights.checkpoint.config, tiles(media.rgb, vision))
        embeddings[digest] = np.concatenate(list(rows))
        report("calibration images", index + 1, len(found))
    return embeddings


def _row(key: Hashable, table: Mapping[int, F32], images: Mapping[str, F32]) -> F32:
    """The row of a token's id, or of an image's (digest, row)."""
    if isinstance(key, int):
        return table[key]
    if isinstance(key, tuple):
        row: F32 = images[key[0]][key[1]]
        return row
    raise TypeError(f"expected an id, or an image's digest and row, got {key!r}")
