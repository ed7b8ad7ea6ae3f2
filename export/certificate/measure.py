"""A bundle against the float32 reference: what its certificate is made of.

The bundle reads held-out text and conversations, and answers prompts greedily; the reference then reads the same
tokens, so that both say at every scored position what should come next. First the bundle, then, with its memory given
back, the reference: layer by layer, all prompts at once, each weight read once.
"""

import gc
import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge.bundle.bundle import Bundle
from edge.bundle.certificate import Golden
from edge.bundle.manifest import VisionSpec
from edge.engine.embedding import Embedding
from edge.media.resized import Resized, size_of
from edge.media.tiles import tile_count, tiles
from export.arrays import F32, U8
from export.certificate import golden
from export.certificate.answers import file_rows
from export.certificate.compare import Bools, Comparison, Scores, row_cosines
from export.certificate.evaluation import Evaluation
from export.certificate.extent import Level
from export.certificate.int8_cache import CacheComparison, CacheCost, Reread, reread
from export.certificate.passages import KINDS, Kind
from export.certificate.said import Said, transcribe
from export.checkpoint.names import Weights
from export.memory import Peak, PeakMemory
from export.quantize import rotation
from export.reference import model as reference

TABLE_ROWS: Final = 64  # of the embedding table, by which a rotated stream is told

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)


@dataclass(frozen=True)
class Cosines:
    """Between the two sets of picture embeddings, one per row."""

    mean: float
    min: float
    rows: int


@dataclass(frozen=True, eq=False)
class Measured:
    """What the certificate says about quality. kinds: which scored positions are of a kind, of those there are any.

    skipped: why entries of the evaluation file are left out; int8_cache: None for a bundle without one.
    """

    scores: Scores
    kinds: Mapping[Kind, Bools]
    prefill_decode: Scores
    image_cosine: Cosines | None
    golden: Golden | None
    n_prompts: int
    n_images: int
    n_windows: int
    n_conversations: int
    skipped: tuple[str, ...]
    int8_cache: CacheCost | None = None


@dataclass(frozen=True)
class Cost:
    """What the measurement took: peak memory of either half, seconds in all."""

    bundle: Peak
    reference: Peak
    wall_s: float


def measure(
    bundle: Bundle, weights: Weights, *, evaluation: Evaluation, level: Level, scratch: Path, report: Report
) -> tuple[Measured, Cost]:
    """Measure a bundle against the checkpoint it was made from. scratch: an empty folder for the logits.

    Raises: CertificateError, CheckpointError, EdgeError.
    """
    start = time.monotonic()
    with PeakMemory() as memory:
        logits = scratch / "logits"
        made = golden.record(bundle, report)
        gc.collect()  # the sessions: their weights are as large as the bundle
        said = transcribe(bundle, evaluation, level, logits, report)
        gc.collect()
        again = reread(bundle, said, scratch / "int8-cache", report)
        bundle_peak = memory.peak()
    gc.collect()
    with PeakMemory() as memory:
        measured = _measure(bundle, weights, said, made, again, logits, report)
        reference_peak = memory.peak()
    return measured, Cost(bundle_peak, reference_peak, time.monotonic() - start)


def _measure(
    bundle: Bundle,
    weights: Weights,
    said: Said,
    made: golden.Recorded,
    again: Reread | None,
    logits: Path,
    report: Report,
) -> Measured:
    """Compute the reference and compare."""
    manifest, embeds = bundle.manifest, dict[str, F32]()
    if manifest.vision is not None and said.images:
        embeds = _image_embeds(weights, manifest.vision, said.images, report)
    scores, int8_cache = _scores(weights, said, _prompt_embeds(weights, said, embeds), again, logits, report)
    return Measured(
        scores,
        kinds={kind: chosen for kind in KINDS if (chosen := said.of_kind(kind)).any()},
        prefill_decode=said.prefill_decode,
        image_cosine=_cosines(_in_basis_of(bundle, weights, embeds), said.embeds) if embeds else None,
        golden=golden.golden(made, said.prefill_decode),
        n_prompts=said.n_answers,
        n_images=len(said.images),
        n_windows=said.n_windows,
        n_conversations=said.n_conversations,
        skipped=said.skipped,
        int8_cache=int8_cache,
    )


def _scores(
    weights: Weights, said: Said, prompts: list[F32], again: Reread | None, logits: Path, report: Report
) -> tuple[Scores, CacheCost | None]:
    """What the reference says to the same tokens, compared. prompts: (S, H) each, given up here."""
    text = weights.checkpoint.config.text

    def layers(done: int, total: int) -> None:
        report("reference", done, total)

    states = reference.hidden_states(weights, text, prompts, progress=layers)
    prompts.clear()  # of 7 billion weights, hundreds of MiB
    scored = np.concatenate([state[list(part.scored)] for state, part in zip(states, said.parts, strict=True)])
    del states
    rows = file_rows(logits, n_rows=said.positions, vocab_size=text.vocab_size)
    comparison = Comparison(said.positions, said.targets)
    int8 = None if again is None else CacheComparison(again, rows)
    for run, expected in reference.logits(weights, text, scored):
        comparison.add(expected, rows[:, run])
        if int8 is not None:
            int8.add(run, expected)
        report("comparison", run.stop, text.vocab_size)
    return comparison.scores(), None if int8 is None else int8.cost()


def _image_embeds(
    weights: Weights, vision: VisionSpec, images: Mapping[str, U8 | Resized], report: Report
) -> dict[str, F32]:
    """The reference's embeddings of every picture, (tokens, H) by digest."""
    # Cut as they are asked for: the tiles of all pictures go through the tower in groups, whose they are is counted.
    counts = {key: tile_count(*size_of(image), vision) for key, image in images.items()}
    cut = (tile for image in images.values() for tile in tiles(image, vision))
    rows = reference.tile_embeds(weights, weights.checkpoint.config, cut)  # (tokens, H) each
    embeds = {}
    for index, (key, count) in enumerate(counts.items()):
        embeds[key] = np.concatenate(list(itertools.islice(rows, count)))
        report("pictures", index + 1, len(images))
    return embeds


def _prompt_embeds(weights: Weights, said: Said, images: Mapping[str, F32]) -> list[F32]:
    """What the reference's decoder reads: (S, H) for each part."""
    order = sorted({key for part in said.parts for key in part.keys if isinstance(key, int)})
    table = dict(zip(order, reference.embeds(weights, order), strict=True))
    return [_rows(part.keys, table, images) for part in said.parts]


def _rows(keys: Sequence[Hashable], table: Mapping[int, F32], images: Mapping[str, F32]) -> F32:
    return np.stack([_row(key, table, images) for key in keys])


def _row(key: Hashable, table: Mapping[int, F32], images: Mapping[str, F32]) -> F32:
    """The row of a token's id, or of a picture's (digest, row)."""
    if isinstance(key, tuple):
        row: F32 = images[key[0]][key[1]]
        return row
    if isinstance(key, int):
        return table[key]
    raise TypeError(f"expected an id, or a picture's digest and row, got {key!r}")


def _in_basis_of(bundle: Bundle, weights: Weights, embeds: Mapping[str, F32]) -> Mapping[str, F32]:
    """Embeddings of the reference in the basis of a bundle's residual stream: its table tells whether it is rotated."""
    ids = np.linspace(0, bundle.manifest.text.vocab_size - 1, TABLE_ROWS).astype(int).tolist()
    stream = rotation.basis(bundle.manifest.text.hidden_size)
    if not rotation.is_rotated(Embedding(bundle).rows(ids), reference.embeds(weights, ids), stream):
        return embeds
    return {key: rotation.turned(rows, stream) for key, rows in embeds.items()}


def _cosines(expected: Mapping[str, F32], found: Mapping[str, F32]) -> Cosines:
    cosines = np.concatenate([row_cosines(rows, found[key]) for key, rows in expected.items()])
    return Cosines(float(cosines.mean()), float(cosines.min()), len(cosines))
