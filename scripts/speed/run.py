"""Measures bundles beside llama.cpp and torch: scripts/bench speed [options].

Of random weights in the shape 1b or edge-7b: load, memory, prefill, decode, slots, one tile of the vision tower. Of
SmolLM2, whose bundles `scripts/bench quality` leaves in the work folder: tasks with guesses and without.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge.errors import EdgeError
from export.errors import ExportError
from scripts import results
from scripts.quality import bundles, llamacpp, shape
from scripts.speed import projector, record
from scripts.speed.turns import OURS, Contestant, medians, read_bandwidth, take_turns

RECIPES: Final = ("int8", "w8a8", "int4", "int4-mixed")
FORMATS: Final = ("Q8_0", "Q4_0", "Q4_K_M")
MEASURES: Final = ("load", "cold", "text", "slots", "tile", "draft")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/bench speed", description=__doc__)
    made.add_argument("--shape", choices=("1b", "edge-7b"), default="1b")
    made.add_argument("--work", type=Path, default=results.ROOT / ".bench", help="for what is made (.bench)")
    made.add_argument("--recipes", default="int8,int4,w8a8", help="by commas")
    made.add_argument("--formats", default="Q8_0,Q4_0", help="of llama.cpp, by commas")
    made.add_argument("--bundle", type=Path, action="append", default=[], help="a bundle made before; repeatable")
    made.add_argument("--measure", default="load,cold,text,slots", help=f"of {', '.join(MEASURES)}, by commas")
    made.add_argument("--context", type=int, default=8448, help="positions (8448): how far decode is measured")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--no-record", action="store_true", help="print the page; write nothing into docs/benchmarks")
    return made


def contestants(arguments: argparse.Namespace) -> list[Contestant]:
    """Export and quantize what the arguments name, unless the work folder has it."""
    folder: Path = arguments.work / arguments.shape
    found = [Contestant(OURS, path.name, path) for path in arguments.bundle]
    wanted = [out for out in _outs(folder, arguments) if not out.exists()]
    if wanted:
        checkpoint, source, _ = shape.build(arguments.work, arguments.shape)
        for out in wanted:
            print(f"making {out.name}", file=sys.stderr)
            if out.suffix == ".gguf":
                llamacpp.quantize(source, out, out.stem, threads=arguments.threads)
            else:
                bundles.export(checkpoint, out, out.name, ["--calibrate", "off"])
    sides = {True: "llama.cpp", False: OURS}
    return found + [Contestant(sides[out.suffix == ".gguf"], out.stem, out) for out in _outs(folder, arguments)]


def _outs(folder: Path, arguments: argparse.Namespace) -> list[Path]:
    ours = [folder / "bundles" / name for name in arguments.recipes.split(",") if name]
    return ours + [folder / "gguf" / f"{name}.gguf" for name in arguments.formats.split(",") if name]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that is asked for; returns what the record keeps."""
    everyone = contestants(arguments)
    found: dict[str, Any] = circumstances(arguments)
    for name in arguments.measure.split(","):
        if name not in MEASURES:
            raise SystemExit(f"scripts/bench speed: --measure: expected some of {', '.join(MEASURES)}, got {name!r}")
        found["measures"][name] = _measured(name, _who(name, everyone, arguments), arguments)
    return found


def _who(name: str, everyone: Sequence[Contestant], arguments: argparse.Namespace) -> list[Contestant]:
    """Who takes part: in slots and guesses bundles alone, in tiles torch too."""
    ours = [each for each in everyone if each.side == OURS]
    if name == "slots":
        return ours
    if name == "draft":
        folder: Path = arguments.work / "smollm2" / "bundles"
        return [Contestant(OURS, path.name, path) for path in sorted(folder.iterdir())]
    if name == "tile":
        return _towers(arguments)
    return list(everyone)


def _towers(arguments: argparse.Namespace) -> list[Contestant]:
    """The released vision tower: ours in 8 bits, llama.cpp's as its converter writes it, torch's in float32."""
    checkpoint, folder = projector.build(arguments.work)
    out = arguments.work / "tower" / "bundles" / "int8"
    if not out.exists():
        bundles.export(checkpoint, out, out.name, ["--calibrate", "off"])
    theirs = Contestant("llama.cpp", "F16", folder)
    return [Contestant(OURS, "int8", out), theirs, Contestant("torch", "float32", Path("none"))]


def _measured(name: str, who: Sequence[Contestant], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rounds = take_turns(
        who, "load" if name == "cold" else name, rounds=arguments.rounds, threads=arguments.threads,
        context=min(arguments.context, 1024) if name in ("load", "cold", "draft") else arguments.context,
        cold=name == "cold",
    )  # fmt: skip
    return [
        {"side": each.side, "name": each.name, "bytes": each.n_bytes, "median": medians(rows), "rounds": rows}
        for each, rows in zip(who, rounds, strict=True)
    ]


def circumstances(arguments: argparse.Namespace) -> dict[str, Any]:
    """When, where and with what."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.this_commit(),
        "cpu": results.this_cpu(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "load_average": round(os.getloadavg()[0], 2),
        "bandwidth_gb_s": round(read_bandwidth(arguments.threads), 1),
        "versions": {
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "torch": importlib.metadata.version("torch"),
            "llama_cpp": llamacpp.version(),
        },
        "measures": {},
    }


def main() -> None:
    arguments = parser().parse_args()
    if arguments.rounds < 1:
        raise SystemExit("scripts/bench speed: --rounds: expected 1 or more")
    try:
        found = measure(arguments)
    except (EdgeError, ExportError) as error:
        raise SystemExit(f"scripts/bench speed: {error}") from error
    kept = record.with_shape(record.read(), arguments.shape, found)
    if arguments.no_record:
        print(record.page(kept))
    else:
        record.write(kept)


if __name__ == "__main__":
    main()
