"""A bundle against the float32 reference on held-out prompts: what its certificate is made of.

The bundle answers greedily; the reference then reads the same prompts and the same answers, so that both say at every
answer position what should come next. First the bundle, then, with its memory given back, the reference: layer by
layer, all prompts at once, each weight read once.
"""

import gc
import itertools
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Manifest, VisionSpec
from edge.media.tiles import tile_count, tiles
from export.arrays import F32, U8
from export.certificate.answers import Answer, Transcript, answer_all, file_rows
from export.certificate.compare import Agreement, Comparison, row_cosines
from export.certificate.prompts import POSITIONS, Level, questions
from export.checkpoint.names import Weights
from export.errors import CertificateError
from export.memory import Peak, PeakMemory
from export.reference import model as reference

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)


@dataclass(frozen=True)
class Cosines:
    """Between the two sets of picture embeddings, one per row."""

    mean: float
    min: float
    rows: int


@dataclass(frozen=True)
class Measured:
    """What the certificate says about quality."""

    agreement: Agreement
    image_cosine: Cosines | None
    n_prompts: int
    n_images: int


@dataclass(frozen=True)
class Cost:
    """What the measurement took: peak memory of either half, seconds in all."""

    bundle: Peak
    reference: Peak
    wall_s: float


def measure(bundle: Bundle, weights: Weights, *, level: Level, scratch: Path, report: Report) -> tuple[Measured, Cost]:
    """Measure a bundle against the checkpoint it was made from. scratch: an empty folder for the logits.

    Raises: CertificateError, CheckpointError, EdgeError.
    """
    start = time.monotonic()
    with PeakMemory() as memory:
        logits = scratch / "logits"
        transcript = _transcribe(bundle, level, logits, report)
        bundle_peak = memory.peak()
    gc.collect()  # the sessions: their weights are as large as the bundle
    with PeakMemory() as memory:
        measured = _measure(bundle.manifest, weights, transcript, logits, report)
        reference_peak = memory.peak()
    return measured, Cost(bundle_peak, reference_peak, time.monotonic() - start)


def _transcribe(bundle: Bundle, level: Level, logits: Path, report: Report) -> Transcript:
    """Let the bundle answer until there are enough positions; its sessions are gone when this returns."""
    wanted = POSITIONS[level]
    asked = questions(images=bundle.manifest.vision is not None, level=level)
    for transcript in answer_all(bundle, asked, logits=logits):
        report("answers", min(transcript.positions, wanted), wanted)
        if transcript.positions >= wanted:
            return transcript
    raise CertificateError(f"the prompts ended before {wanted} positions were answered")


def _measure(manifest: Manifest, weights: Weights, transcript: Transcript, logits: Path, report: Report) -> Measured:
    """Compute the reference and compare."""
    config = weights.checkpoint.config
    embeds: dict[str, F32] = {}
    if manifest.vision is not None:
        embeds = _image_embeds(weights, manifest.vision, transcript.images, report)
    prompts = _prompt_embeds(weights, transcript, embeds)

    def layers(done: int, total: int) -> None:
        report("reference", done, total)

    states = reference.hidden_states(weights, config.text, prompts, progress=layers)
    # The state before each answer token: the prompt's last one predicts the first.
    scored = [state[len(state) - len(answer.ids) :] for state, answer in zip(states, transcript.answers, strict=True)]
    rows = file_rows(logits, n_rows=transcript.positions, vocab_size=config.text.vocab_size)
    comparison = Comparison(transcript.positions)
    for run, expected in reference.logits(weights, config.text, np.concatenate(scored)):
        comparison.add(expected, np.asarray(rows[:, run]))
        report("comparison", run.stop, config.text.vocab_size)
    cosines = _cosines(embeds, transcript.embeds) if embeds else None
    return Measured(comparison.result(), cosines, len(transcript.answers), len(transcript.images))


def _image_embeds(weights: Weights, vision: VisionSpec, images: Mapping[str, U8], report: Report) -> dict[str, F32]:
    """The reference's embeddings of every picture, (tokens, H) by digest."""
    # Cut as they are asked for: the tiles of all pictures go through the tower in groups, whose they are is counted.
    counts = {key: tile_count(image.shape[1], image.shape[0], vision) for key, image in images.items()}
    cut = (tile for image in images.values() for tile in tiles(image, vision))
    rows = reference.tile_embeds(weights, weights.checkpoint.config, cut)  # (tokens, H) each
    embeds = {}
    for index, (key, count) in enumerate(counts.items()):
        embeds[key] = np.concatenate(list(itertools.islice(rows, count)))
        report("pictures", index + 1, len(images))
    return embeds


def _prompt_embeds(weights: Weights, transcript: Transcript, images: Mapping[str, F32]) -> list[F32]:
    """What the reference's decoder reads: each prompt and its answer but the last token. Returns (S, H) each."""
    order = sorted({key for answer in transcript.answers for key in _keys(answer) if isinstance(key, int)})
    table = dict(zip(order, reference.embeds(weights, order), strict=True))
    prompts = []
    for answer in transcript.answers:
        prompts.append(np.stack([_row(key, table, images) for key in _keys(answer)]))
    return prompts


def _keys(answer: Answer) -> list[Hashable]:
    """What stands at each position that the reference reads."""
    return [*answer.prompt.keys, *answer.ids[:-1]]


def _row(key: Hashable, table: Mapping[int, F32], images: Mapping[str, F32]) -> F32:
    """The row of a token's id, or of a picture's (digest, row)."""
    if isinstance(key, tuple):
        row: F32 = images[key[0]][key[1]]
        return row
    if isinstance(key, int):
        return table[key]
    raise TypeError(f"expected an id, or a picture's digest and row, got {key!r}")


def _cosines(expected: Mapping[str, F32], found: Mapping[str, F32]) -> Cosines:
    cosines = np.concatenate([row_cosines(rows, found[key]) for key, rows in expected.items()])
    return Cosines(float(cosines.mean()), float(cosines.min()), len(cosines))
