"""The certificate of a finished bundle, measured in a process of its own.

    python -m export.certificate.verify BUNDLE CHECKPOINT --out FILE [--level quick|full] [--evaluate FILE]
        [--recipe NAME] [--scratch FOLDER] [--strict]

Progress goes to stderr, what was found to stdout. With --owned, progress and the error if there is one are JSON
objects on stdout, one a line.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.bundle.bundle import Bundle
from edge.errors import EdgeError
from export.certificate import words
from export.certificate.document import certificate
from export.certificate.evaluation import load as load_evaluation
from export.certificate.extent import EXTENTS
from export.certificate.measure import measure
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.errors import ExportError
from export.memory import Peak
from export.recipe import load

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)


def _say(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _report(stage: str, done: int, total: int) -> None:
    _say({"stage": stage, "done": done, "total": total})


class _Progress:
    """Progress for people: a line on stderr for each tenth of a stage."""

    def __init__(self) -> None:
        self._shown: tuple[str, int] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = (stage, done * 10 // max(1, total))
        if now != self._shown:
            self._shown = now
            sys.stderr.write(f"{stage}: {done} of {total}\n")


def _run(arguments: argparse.Namespace, report: Report) -> bytes:
    recipe = load(arguments.recipe) if arguments.recipe else None
    evaluation = load_evaluation(arguments.evaluate)
    bundle = Bundle.open(arguments.bundle)
    weights = Weights(Checkpoint.open(arguments.checkpoint, mmproj=arguments.mmproj))
    # In the folder given when there is one: it is deleted with the export, whatever happens to this process.
    with tempfile.TemporaryDirectory(prefix="edge-verify-", dir=arguments.scratch) as scratch:
        measured, cost = measure(
            bundle, weights, evaluation=evaluation, level=arguments.level, scratch=Path(scratch), report=report
        )
    peak = arguments.export_peak
    data = certificate(bundle.manifest, recipe, arguments.level, evaluation, measured, cost, peak)
    arguments.out.write_bytes(data)
    return data


def _peak(text: str) -> Peak:
    anonymous, resident = map(int, text.split(","))
    return Peak(anonymous, resident)


def _end_with_parent() -> None:
    """Wait for the end of the input, which comes when the parent ends, even when it is killed; then end at once."""
    sys.stdin.buffer.read()
    os._exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.certificate.verify", description="Write a bundle's certificate."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--mmproj", type=Path, help="the projector file that belongs to a GGUF file")
    parser.add_argument("--level", choices=tuple(EXTENTS), default="quick")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--evaluate", type=Path, help="a .txt or .jsonl file, in place of the text that is included")
    parser.add_argument("--recipe", help="whose thresholds to compare the bundle with")
    parser.add_argument("--strict", action="store_true", help="end with status 1 when a threshold is missed")
    parser.add_argument("--scratch", type=Path, help="a folder for intermediate files")
    parser.add_argument("--export-peak", type=_peak, help="ANONYMOUS,RESIDENT bytes, to be noted beside our own")
    parser.add_argument("--owned", action="store_true", help="end when the standard input does; JSON on stdout")
    return parser


def main() -> int:
    """Measure as the arguments say; 1, and the error in words, if that fails."""
    arguments = _parser().parse_args()
    if arguments.owned:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        data = _run(arguments, _report if arguments.owned else _Progress())
    except (ExportError, EdgeError, OSError) as error:
        if arguments.owned:
            _say({"error": str(error)})
        else:
            sys.stderr.write(f"verify: {error}\n")
        return 1
    return 0 if arguments.owned else _shown(data, strict=arguments.strict)


def _shown(data: bytes, *, strict: bool) -> int:
    """Print what was found; returns the status."""
    sys.stdout.write("\n".join(words.lines(data)) + "\n")
    warnings = words.warnings(data)
    for warning in warnings:
        sys.stderr.write(f"verify: {warning}\n")
    return 1 if strict and warnings else 0


if __name__ == "__main__":
    sys.exit(main())
