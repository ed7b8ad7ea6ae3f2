"""The certificate of a finished bundle, measured in a process of its own.

    python -m export.verify BUNDLE CHECKPOINT --level quick|full --out FILE [--recipe NAME] [--scratch FOLDER]

Progress, and the error if there is one, go to stdout, one JSON object a line.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Manifest
from edge.engine.session import thread_count
from edge.errors import EdgeError
from edge.version import RUNTIME_VERSION
from export.certificate.measure import Cost, Measured, measure
from export.certificate.prompts import MAX_ANSWER, POSITIONS, SEED, Level
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.errors import ExportError
from export.memory import Peak
from export.recipe import Recipe, Thresholds, load

N_WORST: Final = 5
FORMAT: Final = 1


def missed(measured: Measured, thresholds: Thresholds) -> list[str]:
    """One line for each threshold that is not reached, with both figures and what lies between them."""
    agreement, cosine = measured.agreement, measured.image_cosine
    lines = []
    limit = thresholds.max_mean_kl
    if limit is not None and agreement.kl_mean > limit:
        over = agreement.kl_mean - limit
        lines.append(f"mean KL divergence {agreement.kl_mean:.6g} is {over:.6g} over max_mean_kl {limit:g}")
    limit = thresholds.min_top1
    if limit is not None and agreement.top1 < limit:
        lines.append(f"top-1 agreement {agreement.top1:.6g} is {limit - agreement.top1:.6g} under min_top1 {limit:g}")
    limit = thresholds.min_image_cosine
    if limit is not None and cosine is not None and cosine.mean < limit:
        under = limit - cosine.mean
        lines.append(
            f"mean cosine of picture embeddings {cosine.mean:.6g} is {under:.6g} under min_image_cosine {limit:g}"
        )
    return lines


def certificate(
    manifest: Manifest, recipe: Recipe | None, level: Level, measured: Measured, cost: Cost, export_peak: Peak | None
) -> bytes:
    """The certificate as JSON. export_peak: of the process that wrote the bundle, None if that is not known."""
    agreement, thresholds = measured.agreement, recipe.thresholds if recipe else Thresholds()
    worst = sorted(manifest.recipe.tensors.items(), key=lambda item: (-item[1].error, item[0]))[:N_WORST]
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
        "positions": agreement.positions,
        "kl": {"mean": agreement.kl_mean, "p99": agreement.kl_p99, "max": agreement.kl_max},
        "top1_agreement": agreement.top1,
        "largest_logit_difference": agreement.largest_difference,
        "image_cosine": None if measured.image_cosine is None else asdict(measured.image_cosine),
        "worst_tensors": [{"tensor": name, "scheme": at.scheme, "error": at.error} for name, at in worst],
        "thresholds": asdict(thresholds),
        "missed": missed(measured, thresholds),
        "peak_bytes": {
            "export": None if export_peak is None else asdict(export_peak),
            "bundle": asdict(cost.bundle),
            "reference": asdict(cost.reference),
        },
        "wall_s": round(cost.wall_s, 1),
        "machine": _machine(),
        "versions": _versions(),
    }
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _machine() -> dict[str, str | int]:
    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "architecture": platform.machine(), "processor": processor, "system": platform.system(),
        "cores": thread_count(None),
    }  # fmt: skip


def _versions() -> dict[str, str]:
    return {
        "edge": RUNTIME_VERSION, "python": platform.python_version(), "numpy": np.__version__,
        "onnxruntime": version("onnxruntime"), "torch": str(torch.__version__),
    }  # fmt: skip


def _say(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _report(stage: str, done: int, total: int) -> None:
    _say({"stage": stage, "done": done, "total": total})


def _run(arguments: argparse.Namespace) -> None:
    recipe = load(arguments.recipe) if arguments.recipe else None
    bundle = Bundle.open(arguments.bundle)
    weights = Weights(Checkpoint.open(arguments.checkpoint, mmproj=arguments.mmproj))
    # In the folder given when there is one: it is deleted with the export, whatever happens to this process.
    with tempfile.TemporaryDirectory(prefix="edge-verify-", dir=arguments.scratch) as scratch:
        measured, cost = measure(bundle, weights, level=arguments.level, scratch=Path(scratch), report=_report)
    data = certificate(bundle.manifest, recipe, arguments.level, measured, cost, arguments.export_peak)
    arguments.out.write_bytes(data)


def _peak(text: str) -> Peak:
    anonymous, resident = map(int, text.split(","))
    return Peak(anonymous, resident)


def _end_with_parent() -> None:
    """Wait for the end of the input, which comes when the parent ends, even when it is killed; then end at once."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> int:
    """Measure as the arguments say; 1 and a JSON line with the error if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m export.certificate.verify", description="Write a bundle's certificate."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--mmproj", type=Path, help="the projector file that belongs to a GGUF file")
    parser.add_argument("--level", choices=tuple(POSITIONS), default="quick")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--recipe", help="whose thresholds to hold the bundle to")
    parser.add_argument("--scratch", type=Path, help="a folder for intermediate files")
    parser.add_argument("--export-peak", type=_peak, help="ANONYMOUS,RESIDENT bytes, to be noted beside our own")
    parser.add_argument("--owned", action="store_true", help="end when the standard input does")
    arguments = parser.parse_args()
    if arguments.owned:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _run(arguments)
    except (ExportError, EdgeError, OSError) as error:
        _say({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
