"""How fast one contestant reads and decodes, measured in a process of its own:

    python -m scripts.quality.speed KIND PATH --threads N [--vocab N]

KIND is ours or llama.cpp. Prints one JSON object. Both sides do the same: a prompt of 512 tokens read three times, each
time another one; then 256 tokens read and 64 more fed one by one, three times. The best of three counts: what else
the machine does only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from edge.errors import EdgeError

PREFILL: Final = 512
AT: Final = 256
STEPS: Final = 64
REPEATS: Final = 3
CONTEXT: Final = 1024


def prompts(vocab_size: int) -> Iterator[list[int]]:
    """Prompts of random ids; no two begin alike, so nothing is answered from a cache."""
    random = np.random.default_rng(7)
    while True:
        yield random.integers(100, vocab_size - 100, PREFILL).tolist()


def ours(folder: Path, threads: int, ids: Iterator[list[int]]) -> tuple[list[float], list[float]]:
    """Seconds of each prefill, and of each run of steps, of a bundle."""
    from scripts.quality.bundles import OurBundle

    bundle = OurBundle(folder, threads=threads, context=CONTEXT)
    bundle.read(next(ids))  # the first run allocates
    prefill = [seconds(bundle.read, next(ids)) for _ in range(REPEATS)]
    return prefill, [bundle.step_seconds(next(ids)[:AT], STEPS) for _ in range(REPEATS)]


def llama_cpp(file: Path, threads: int, ids: Iterator[list[int]]) -> tuple[list[float], list[float]]:
    """Seconds of each prefill, and of each run of steps, of a GGUF file."""
    from scripts.quality.llamacpp import LlamaCpp

    model = LlamaCpp(file, threads=threads, context=CONTEXT, scoring=False)
    model.read(next(ids))
    prefill = [seconds(model.read, next(ids)) for _ in range(REPEATS)]
    steps = []
    for _ in range(REPEATS):
        prompt = next(ids)
        model.read(prompt[:AT])
        steps.append(seconds(lambda tail: list(map(model.step, tail)), prompt[AT : AT + STEPS]))
    return prefill, steps


def seconds(act: Callable[[list[int]], object], ids: list[int]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    act(ids)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.quality.speed")
    parser.add_argument("kind", choices=("ours", "llama.cpp"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--vocab", type=int, default=49_152, help="ids are drawn from as many")
    arguments = parser.parse_args()
    measure = ours if arguments.kind == "ours" else llama_cpp
    try:
        prefill, steps = measure(arguments.path, arguments.threads, prompts(arguments.vocab))
    except EdgeError as error:
        raise SystemExit(f"scripts/bench quality: {error}") from error
    found = {"prefill_tokens_per_s": PREFILL / min(prefill), "decode_tokens_per_s": STEPS / min(steps)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
