"""The certificate as a JSON document, and the thresholds of a recipe that it misses, in words."""

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

import numpy as np

from edge.bundle.manifest import Manifest
from edge.engine.processor import kernels
from edge.engine.session import thread_count
from edge.version import RUNTIME_VERSION
from export.arrays import F64
from export.certificate.compare import Agreement, Scores
from export.certificate.evaluation import Evaluation
from export.certificate.extent import MAX_ANSWER, Level
from export.certificate.int8_cache import CacheCost
from export.certificate.measure import Cosines, Cost, Measured
from export.certificate.passages import Kind
from export.certificate.prompts import SEED
from export.memory import Peak
from export.recipe import Recipe, Thresholds

FORMAT: Final = 1
N_WORST: Final = 5
LEAST_HELD: Final = 100  # positions of a kind that is held to a threshold apart: of fewer, chance decides
MAX_WORDS: Final = 300  # characters of the reason why an entry is left out
KL_VALUES: Final = 4096  # of single positions, all kinds together

_COMPACT = ("golden", "kl_positions")  # long lists of numbers, a line each


def missed(measured: Measured, thresholds: Thresholds) -> list[str]:
    """One sentence for each threshold that is not reached, with both figures and what lies between them."""
    parts = {"all": measured.scores} | {kind: measured.scores.select(at) for kind, at in measured.kinds.items()}
    lines: list[str] = []
    for name, scores in parts.items():
        if name == "all" or (len(scores.kl) >= LEAST_HELD and len(measured.kinds) > 1):
            lines += missed_by(scores.agreement(), thresholds, "" if name == "all" else f" of {name}")
    cosine, limit = measured.image_cosine, thresholds.min_image_cosine
    if limit is not None and cosine is not None and cosine.mean < limit:
        lines.append(_cosine_missed(cosine, limit))
    return lines


def missed_by(agreement: Agreement, thresholds: Thresholds, what: str = "") -> Iterator[str]:
    """The thresholds of some positions that are not reached; what: which positions, " of text"."""
    limit = thresholds.max_mean_kl
    if limit is not None and agreement.kl_mean > limit:
        over = agreement.kl_mean - limit
        yield f"mean KL divergence{what} {agreement.kl_mean:.6g} is {over:.6g} over max_mean_kl {limit:g}"
    limit = thresholds.min_top1
    if limit is not None and agreement.top1 < limit:
        yield f"top-1 agreement{what} {agreement.top1:.6g} is {limit - agreement.top1:.6g} under min_top1 {limit:g}"


def _cosine_missed(cosine: Cosines, limit: float) -> str:
    under = limit - cosine.mean
    return f"mean cosine of picture embeddings {cosine.mean:.6g} is {under:.6g} under min_image_cosine {limit:g}"


def certificate(
    manifest: Manifest,
    recipe: Recipe | None,
    level: Level,
    evaluation: Evaluation,
    measured: Measured,
    cost: Cost,
    export_peak: Peak | None,
) -> bytes:
    """The certificate as JSON. export_peak: of the process that wrote the bundle, None if that is not known."""
    thresholds = recipe.thresholds if recipe else Thresholds()
    worst = sorted(manifest.recipe.tensors.items(), key=lambda item: (-item[1].error, item[0]))[:N_WORST]
    sets = {kind: measured.scores.select(at) for kind, at in measured.kinds.items()}
    document = {
        "format": FORMAT,
        "bundle": manifest.id,
        "recipe": manifest.recipe.name,
        "level": level,
        "prompts": {
            "seed": SEED,
            "prompts": measured.n_prompts,
            "pictures": measured.n_images,
            "answers": "greedy, by the bundle; both read the same answers",
            "max_answer_tokens": MAX_ANSWER,
        },
        "evaluation": {
            "file": evaluation.name,
            "sha256": evaluation.sha256,
            "windows": measured.n_windows,
            "conversations": measured.n_conversations,
            "skipped": len(measured.skipped),
            "why_skipped": measured.skipped[0][:MAX_WORDS] if measured.skipped else None,
        },
        **_figures(measured.scores),
        "sets": {kind: _figures(scores) for kind, scores in sets.items()},
        "prefill_decode": prefill_decode(measured.scores, measured.prefill_decode),
        "int8_cache": _int8_cache(measured.int8_cache),
        "kl_positions": _kl_positions(sets),
        "image_cosine": None if measured.image_cosine is None else asdict(measured.image_cosine),
        "worst_tensors": [{"tensor": name, "scheme": at.scheme, "error": at.error} for name, at in worst],
        "thresholds": asdict(thresholds),
        "missed": missed(measured, thresholds),
        "golden": None if measured.golden is None else asdict(measured.golden),
        "peak_bytes": {
            "export": None if export_peak is None else asdict(export_peak),
            "bundle": asdict(cost.bundle),
            "reference": asdict(cost.reference),
        },
        "wall_s": round(cost.wall_s, 1),
        "machine": machine(),
        "versions": versions("torch"),
    }
    return dumped(document)


def _figures(scores: Scores) -> dict[str, object]:
    agreement, perplexity = scores.agreement(), scores.perplexity()
    return {
        "positions": agreement.positions,
        "kl": {"mean": agreement.kl_mean, "p99": agreement.kl_p99, "max": agreement.kl_max},
        "top1_agreement": agreement.top1,
        "perplexity": None if perplexity is None else asdict(perplexity),
        "largest_logit_difference": agreement.largest_difference,
    }


def prefill_decode(quantization: Scores, stepped: Scores) -> dict[str, object] | None:
    """The same tokens by reading and by steps; share_of_kl: of the mean KL that quantization cost. None without any."""
    if not len(stepped.kl):
        return None
    figures, cost = _figures(stepped), float(quantization.kl.mean())
    del figures["perplexity"]
    return {**figures, "share_of_kl": float(stepped.kl.mean()) / cost if cost else None}


def _int8_cache(cost: CacheCost | None) -> dict[str, object] | None:
    """What 8 bits of keys and values cost, beside what the bundle costs with float32 at the same positions."""
    if cost is None:
        return None
    return {
        "to_float32": _figures(cost.to_float32),
        "to_reference": _figures(cost.to_reference),
        "float32_to_reference": _figures(cost.float32_to_reference),
    }


def _kl_positions(sets: Mapping[Kind, Scores]) -> list[dict[str, object]]:
    """KL of single positions, in the order they were read; of too many, evenly spread ones."""
    total = sum(len(scores.kl) for scores in sets.values())
    return [
        {"set": kind, "kl": [float(f"{value:.3g}") for value in _spread(scores.kl, total)]}
        for kind, scores in sets.items()
    ]


def _spread(values: F64, total: int) -> list[float]:
    n = len(values) if total <= KL_VALUES else len(values) * KL_VALUES // total
    return [float(values[at * len(values) // n]) for at in range(n)]


def dumped(document: Mapping[str, object]) -> bytes:
    """A certificate's bytes: sorted keys, a line for each value, and one line for a long list of numbers."""
    short = {key: f"<{key}>" if key in _COMPACT and value is not None else value for key, value in document.items()}
    text = json.dumps(short, indent=1, sort_keys=True, allow_nan=False)
    for key in _COMPACT:
        compact = json.dumps(document.get(key), sort_keys=True, allow_nan=False, separators=(",", ":"))
        text = text.replace(f'"<{key}>"', compact)
    return (text + "\n").encode()


def machine() -> dict[str, object]:
    """What certifies: the processor, and those of its features that decide by which kernels it computes."""
    here = kernels()
    return {
        "architecture": here.architecture, "processor": here.name, "system": platform.system(),
        "features": list(here.features), "cache": here.cache, "cores": thread_count(None),
    }  # fmt: skip


def versions(*libraries: str) -> dict[str, str]:
    """The versions of what computed; libraries: besides those that always do."""
    return {
        "edge": RUNTIME_VERSION, "python": platform.python_version(), "numpy": np.__version__,
        "onnxruntime": version("onnxruntime"), **{name: version(name) for name in libraries},
    }  # fmt: skip
