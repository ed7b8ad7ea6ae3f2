"""Measures bundles on this machine: each in a fresh process, taking turns, medians over the rounds.

Memory bandwidth swings with what else the machine does, so only figures of one alternating run are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.bundle import Bundle, VisionSpec

CHUNK, CONTEXT, STEPS = 256, 512, 48
COLUMNS = (
    ("prefill tokens/s", "{:.0f}"),
    ("decode tokens/s", "{:.1f}"),
    ("decode GB/s", "{:.1f}"),
    ("s per tile", "{:.3f}"),
    ("load s", "{:.2f}"),
    ("anonymous MB", "{:.0f}"),
    ("mapped MB", "{:.0f}"),
    ("peak MB", "{:.0f}"),
)
Figures = dict[str, float | None]


def seconds(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def memory_mb() -> Figures:
    """What this process holds: anonymous (its own), mapped (files, which the system can drop), and the peak of both."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    kb = {name: int(lines[name].split()[0]) for name in ("RssAnon", "VmSwap", "RssFile", "VmHWM")}
    return {
        "anonymous MB": (kb["RssAnon"] + kb["VmSwap"]) / 1000,
        "mapped MB": kb["RssFile"] / 1000,
        "peak MB": kb["VmHWM"] / 1000,
    }


def measure(path: Path, threads: int | None) -> Figures:
    """One bundle, in this process: the decoder first, then the vision tower, where it has one."""
    from edge.bundle import Bundle
    from edge.session import thread_count

    bundle, n_threads = Bundle.open(path), thread_count(threads)
    figures = measure_text(bundle, n_threads)
    spec = bundle.manifest.vision
    figures["s per tile"] = measure_vision(bundle, spec, n_threads) if spec is not None else None
    return figures | memory_mb()


def measure_text(bundle: Bundle, n_threads: int) -> Figures:
    """Reading CONTEXT tokens in chunks, then STEPS tokens one by one; bytes per token are weights and cache read."""
    import numpy as np

    from edge.cache import Cache, bytes_per_token
    from edge.decoder import Decoder
    from edge.embedding import Embedding
    from edge.session import open_session, run_options

    text, start_s = bundle.manifest.text, time.perf_counter()
    cache = Cache(text, capacity=CONTEXT + STEPS, slots=1)
    decoder = Decoder(open_session(bundle.file("decoder.onnx"), threads=n_threads), text, cache)
    embedding, options, load_s = Embedding(bundle), run_options(), time.perf_counter() - start_s
    ids = np.random.default_rng(0).integers(0, text.vocab_size, CONTEXT).tolist()

    def read(start: int) -> None:
        decoder.read(0, embedding.rows(ids[start : start + CHUNK]), n_logits=1, options=options)
        cache.wrote(0, ids[start : start + CHUNK])

    def step() -> None:
        decoder.step([0], embedding.rows(ids[:1]), options=options)
        cache.grew(0)

    def read_all() -> None:
        for start in range(0, CONTEXT, CHUNK):
            read(start)

    read(0)
    cache.trim(0, 0)
    read_s = seconds(read_all)
    step_s = statistics.median(seconds(step) for _ in range(STEPS))
    n_bytes = bundle.manifest.files["decoder.bin"].bytes + bytes_per_token(text) * (CONTEXT + STEPS // 2)
    return {
        "prefill tokens/s": CONTEXT / read_s,
        "decode tokens/s": 1 / step_s,
        "decode GB/s": n_bytes / step_s / 1e9,
        "load s": load_s,
    }


def measure_vision(bundle: Bundle, spec: VisionSpec, n_threads: int) -> float:
    """The median seconds of a tile, of three after the first."""
    import numpy as np

    from edge.session import open_session, run_options
    from edge.vision import Vision

    vision = Vision(open_session(bundle.file("vision.onnx"), threads=n_threads), spec, limit_bytes=0)
    tile = np.random.default_rng(0).normal(size=(3, spec.tile_px, spec.tile_px)).astype(np.float32)
    vision.encode(tile, options=run_options())
    return statistics.median(seconds(lambda: vision.encode(tile, options=run_options())) for _ in range(3))


def apart(bundle: str, threads: int | None) -> Figures:
    """Measures a bundle in a process of its own, as nothing of another's memory or caches may count."""
    command = [sys.executable, __file__, "--alone", bundle, *(["--threads", str(threads)] if threads else [])]
    figures: Figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


def medians(rounds: list[Figures]) -> Figures:
    columns = {name: [row[name] for row in rounds] for name, _ in COLUMNS}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: statistics.median(values) if values else None for name, values in known.items()}


def table(results: dict[str, Figures]) -> str:
    """The results as a Markdown table."""
    rows = ["| bundle | " + " | ".join(name for name, _ in COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for bundle, figures in results.items():
        values = [(figures[name], form) for name, form in COLUMNS]
        cells = [form.format(value) if value is not None else "none" for value, form in values]
        rows.append(f"| {Path(bundle).name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("bundles", nargs="+", help="folders of bundles, measured in turns")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="every CPU where left out")
    parser.add_argument("--json", action="store_true", help="print every round's figures as JSON")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(Path(arguments.bundles[0]), arguments.threads)))
        return
    results: dict[str, list[Figures]] = {bundle: [] for bundle in arguments.bundles}
    for number in range(arguments.rounds):
        for bundle, rounds in results.items():
            print(f"round {number + 1} of {arguments.rounds}: {bundle}", file=sys.stderr)
            rounds.append(apart(bundle, arguments.threads))
    print(json.dumps(results, indent=1) if arguments.json else table({b: medians(r) for b, r in results.items()}))


if __name__ == "__main__":
    main()
