"""Measures what our recipes and llama.cpp's formats lose on SmolLM2-135M-Instruct, and how fast they are.

The reference, the exports and llama.cpp's files are made in the same run, in a work folder. Quality and --speed are two
runs: quality does not depend on what else the machine does, speed does. Both end in docs/benchmarks/quality.json, which
the page and the plot beside it are made from.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from edge.errors import EdgeError
from export.arrays import F32
from export.errors import ExportError
from export.texts.read import shipped_evaluation
from scripts import results
from scripts.quality import bundles, levers, llamacpp, passages, record, reference, shape
from scripts.quality.divergence import Divergence, Expected, Figures, Ids, kl
from scripts.quality.timing import take_turns

POSITIONS: Final = 20_480
STEP_WINDOWS: Final = 4
STEPS_FROM: Final = 8  # positions of a window that are read before single steps begin
RECIPES: Final = ("int8", "w8a8", "int4-mixed", "int4")
FORMATS: Final = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0", "IQ4_XS")
OURS: Final = "edge"
THEIRS: Final = "llama.cpp"


class Model(Protocol):
    """Whatever scores a window."""

    def logits(self, ids: list[int]) -> F32:
        """The logits (n, V) behind each token of a window."""


@dataclass(frozen=True)
class Contestant:
    """A bundle's folder, or a GGUF file; side: edge or llama.cpp."""

    side: str
    name: str
    path: Path

    def described(self) -> dict[str, Any]:
        """What the record says about it besides figures."""
        ours = self.side == OURS
        found = (bundles if ours else llamacpp).tensor_bytes(self.path)
        types = bundles.tensor_schemes(self.path) if ours else llamacpp.tensor_types(self.path)
        return {"side": self.side, "name": self.name, "bytes": found, "types": types}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/bench quality", description=__doc__)
    made.add_argument("--work", type=Path, default=results.ROOT / ".bench", help="for what is made (.bench)")
    made.add_argument("--gguf", type=Path, help="the packaged GGUF file, where the package is not installed")
    made.add_argument("--text", type=Path, action="append", help="held-out text, .jsonl, .md or .txt; repeatable")
    made.add_argument("--positions", type=int, default=POSITIONS, help=f"at least so many ({POSITIONS})")
    made.add_argument("--recipes", default=",".join(RECIPES), help="to export and measure, by commas")
    made.add_argument("--formats", default=",".join(FORMATS), help="of llama.cpp, by commas")
    made.add_argument("--bundle", type=Path, action="append", default=[], help="a bundle of the reference made before")
    made.add_argument("--export-option", action="append", default=[], help="for edge-export; repeatable")
    made.add_argument("--keep", action="store_true", help="use the exports of an earlier run where they are there")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--merge", action="store_true", help="keep what the record has of others, of the same text")
    made.add_argument("--levers", action="store_true", help="one scheme for every layer in place of --recipes")
    made.add_argument("--speed", action="store_true", help="measure speed instead of quality, on an idle machine")
    made.add_argument("--shape", choices=("smollm2", "1b"), default="smollm2", help="of what --speed is measured")
    made.add_argument("--rounds", type=int, default=5, help="of --speed (5)")
    made.add_argument("--no-record", action="store_true", help="print the page; write nothing into docs/benchmarks")
    return made


def contestants(
    arguments: argparse.Namespace, checkpoint: Path, f32: Path, *, options: Sequence[str] = ()
) -> list[Contestant]:
    """Export and quantize what the arguments name. options: further ones for edge-export."""
    work: Path = arguments.work
    found = [Contestant(OURS, path.name, path) for path in arguments.bundle]
    recipes = map(str, levers.write(work / "levers")) if arguments.levers else arguments.recipes.split(",")
    for recipe in filter(None, recipes):
        out = work / arguments.shape / "bundles" / Path(recipe).stem
        if not (arguments.keep and out.exists()):
            say(f"exporting {recipe}")
            bundles.export(checkpoint, out, recipe, [*options, *arguments.export_option])
        found.append(Contestant(OURS, out.name, out))
    for name in filter(None, arguments.formats.split(",")):
        out = f32.with_name(f"{name}.gguf")
        if not (arguments.keep and out.exists()):
            say(f"llama.cpp quantizes to {name}")
            llamacpp.quantize(f32, out, name, threads=arguments.threads)
        found.append(Contestant(THEIRS, name, out))
    return found


def measure_quality(arguments: argparse.Namespace, before: record.Record | None) -> dict[str, Any]:
    """Make everything, then read the text window by window with all contestants.

    before: what to merge with; it has the perplexity without noise already.
    """
    made, f32 = reference_files(arguments)
    everyone = contestants(arguments, made.noised, f32)
    texts = tuple(arguments.text or (shipped_evaluation(),))
    windows = passages.read(texts, made.noised / "tokenizer.json", positions=arguments.positions)
    float32 = reference.Float32(made.noised, threads=arguments.threads)
    models = [_open(each, arguments.threads) for each in everyone]
    exact = [reference.Float32(made.exact, threads=arguments.threads)] if before is None else []
    noised, measured = read_windows(float32, [*models, *exact], windows.ids)
    about = about_reference(made, float32, noised, measured[len(models) :])
    step_windows = windows.ids[:STEP_WINDOWS]
    rows = []
    for each, model, figures in zip(everyone, models, measured, strict=False):
        row = each.described() | {"figures": asdict(figures), "commit": results.this_commit()}
        if isinstance(model, bundles.OurBundle):
            say(f"{each.name}: single steps")
            row["prefill_against_decode"] = steps_against_prefill(model, step_windows)
        rows.append(row)
    found = {
        **circumstances(arguments.threads),
        "reference": about,
        "text": {
            "files": [_shown(path) for path in texts],
            "sha256": [reference.sha256(path) for path in texts],
            "positions": windows.ids.size,
            "windows": {kind: windows.kinds.count(kind) for kind in ("text", "chat")},
        },
        "export_options": arguments.export_option,
        "step_positions": sum(len(ids) - STEPS_FROM for ids in step_windows),
        "contestants": rows,
    }
    return record.merged(before, found)


def about_reference(
    made: reference.Reference, float32: reference.Float32, noised: Figures, exact: Sequence[Figures]
) -> dict[str, Any]:
    """What the record says of the reference. exact: the figures of the model without noise, where it was measured."""
    about = {
        "model": reference.NAME,
        "sha256": reference.sha256(made.packaged),
        "seed": reference.SEED,
        "noise": "a third of (largest - least) / 15 of each block of 32",
        "weights": float32.n_weights,
        "perplexity": noised.perplexity,
    }
    for figures in exact:
        about |= {"exact_perplexity": figures.perplexity, "kl_of_the_noise": figures.kl_mean}
    return about


def reference_files(arguments: argparse.Namespace) -> tuple[reference.Reference, Path]:
    """The reference as checkpoints, and as GGUF in float32."""
    made = reference.build(arguments.gguf or reference.packaged_file(), arguments.work)
    f32: Path = arguments.work / "smollm2" / "gguf" / "F32.gguf"
    f32.parent.mkdir(parents=True, exist_ok=True)
    llamacpp.write_f32(made.packaged, made.noised, f32)
    return made, f32


def read_windows(float32: Model, models: Sequence[Model], windows: Ids) -> tuple[Figures, list[Figures]]:
    """Have the reference and every model read the same windows; returns the figures of the reference and of each.

    All are open at a time, so that of the reference one window is held and not gigabytes.
    """
    own, measured = Divergence(), [Divergence() for _ in models]
    for number, ids in enumerate(windows):
        say(f"window {number + 1} of {len(windows)}")
        logits = float32.logits(ids.tolist())
        expected = Expected.of(logits)
        own.add(ids, expected, logits)
        for model, divergence in zip(models, measured, strict=True):
            divergence.add(ids, expected, model.logits(ids.tolist()))
    return own.figures(), [divergence.figures() for divergence in measured]


def steps_against_prefill(model: bundles.OurBundle, windows: Ids) -> dict[str, Any]:
    """KL(prefill || steps) over the same tokens."""
    found = []
    for ids in windows:
        read = model.logits(ids.tolist())[STEPS_FROM:]
        found.append(kl(Expected.of(read), model.decoded(ids.tolist(), first=STEPS_FROM)))
    every = np.concatenate(found)
    return {"positions": len(every), "kl_mean": float(every.mean()), "kl_p99": float(np.percentile(every, 99))}


def measure_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what a quality run left in the work folder, or files of random weights of the 1b shape."""
    load = round(os.getloadavg()[0], 2)
    options: Sequence[str] = ()
    if arguments.shape == "1b":
        checkpoint, source, vocab = shape.build(arguments.work)
        options = ("--calibrate", "off")  # it changes values, not speed
    else:
        made, source = reference_files(arguments)
        checkpoint, vocab = made.noised, reference.VOCAB
    everyone = contestants(arguments, checkpoint, source, options=options)
    turns = take_turns(
        [(each.side, each.path) for each in everyone], rounds=arguments.rounds, threads=arguments.threads, vocab=vocab
    )
    rows = [
        {"side": each.side, "name": each.name, "figures": middle, "rounds": rounds}
        for each, (middle, rounds) in zip(everyone, turns, strict=True)
    ]
    return {**circumstances(arguments.threads), "load": load, "rounds": arguments.rounds, "contestants": rows}


def circumstances(threads: int) -> dict[str, Any]:
    """When, where and with what."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.this_commit(),
        "cpu": results.this_cpu(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "versions": {
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "torch": importlib.metadata.version("torch"),
            "llama_cpp": llamacpp.version(),
        },
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _shown(path: Path) -> str:
    """A path within the checkout; elsewhere the name alone."""
    whole = path.resolve()
    return str(whole.relative_to(results.ROOT)) if whole.is_relative_to(results.ROOT) else path.name


def _open(each: Contestant, threads: int) -> bundles.OurBundle | llamacpp.LlamaCpp:
    if each.side == OURS:
        return bundles.OurBundle(each.path, threads=threads)
    return llamacpp.LlamaCpp(each.path, threads=threads)


def main() -> None:
    arguments = parser().parse_args()
    if arguments.rounds < 1 or arguments.positions < 1:
        raise SystemExit("scripts/bench quality: --rounds and --positions: expected 1 or more")
    what, name = "recipes" if not arguments.levers else "levers", arguments.shape
    try:
        if arguments.speed:
            changed = {f"speed of {what}, {name}": measure_speed(arguments)}
        else:
            before = record.read().get(f"quality of {what}") if arguments.merge else None
            changed = {f"quality of {what}": measure_quality(arguments, before)}
    except (EdgeError, ExportError) as error:
        raise SystemExit(f"scripts/bench quality: {error}") from error
    print(record.page(changed))
    if not arguments.no_record:
        record.write({**record.read(), **changed})


if __name__ == "__main__":
    main()
