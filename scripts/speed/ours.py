"""One measurement of a bundle, in a process of its own:

python -m scripts.speed.ours MEASURE BUNDLE --threads N
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge.chat.prompt import pieces
from edge.chat.turns import Turn
from edge.engine.engine import Engine, Handle, Options
from edge.engine.pieces import Control
from edge.errors import EdgeError
from scripts.speed import figures, tasks
from scripts.speed.figures import ANSWER, AT, PREFILL, REPEATS, SLOTS, STEPS, Figures


def load(bundle: Path, threads: int, context: int) -> Figures:
    """Seconds from nothing to the first token of a short prompt, and the memory then."""
    start = time.perf_counter()
    engine = Engine.open(bundle, threads=threads, context=context)
    next(iter(engine.generate([100, 101, 102, 103], max_tokens=1, stop_ids=())))
    return {"load_s": time.perf_counter() - start, **figures.memory()}


def text(bundle: Path, threads: int, context: int) -> Figures:
    """Tokens a second of a prompt of 512, and of steps behind so many positions."""
    engine = Engine.open(bundle, threads=threads, context=context, draft=False)
    vocab = engine.manifest.text.vocab_size
    ids = figures.prompts(vocab, PREFILL)
    engine.logits([Control(tuple(next(ids)))])  # the first run allocates
    found = {"prefill": PREFILL / figures.median_seconds(lambda: engine.logits([Control(tuple(next(ids)))]))}
    for at in (at for at in AT if at + STEPS < context):
        found[f"decode_{at}"] = STEPS / _steps(engine, next(figures.prompts(vocab, at)))
    return found | figures.memory()


def slots(bundle: Path, threads: int, context: int) -> Figures:
    """Tokens a second of one conversation where one slot is open and where four are, and of four together."""
    found = {}
    for n_slots in (1, SLOTS):
        with Engine.open(bundle, threads=threads, context=context, slots=n_slots, draft=False) as engine:
            alone = [_together(engine, 1) for _ in range(REPEATS)]
            found[f"one_of_{n_slots}"] = statistics.median(alone)
            if n_slots > 1:
                found["all"] = statistics.median(_together(engine, n_slots) for _ in range(REPEATS))
    return found


def tile(bundle: Path, threads: int, context: int) -> Figures:
    """Seconds of a tile of the vision tower."""
    with Engine.open(bundle, threads=threads, context=context) as engine:
        spec = engine.manifest.vision
        if spec is None:
            raise SystemExit(f"{bundle}: has no vision tower")
        pixels = np.random.default_rng(0).standard_normal((3, spec.tile_px, spec.tile_px)).astype(np.float32)
        engine.encode_tile(pixels)
        return {"tile_s": figures.median_seconds(lambda: engine.encode_tile(pixels)), **figures.memory()}


def draft(bundle: Path, threads: int, context: int) -> Figures:
    """How many times as fast the steps of an answer are with guesses, for each task, in engines opened for it alone.

    Raises: SystemExit where the two answers are not the same.
    """
    found: Figures = {}
    for kind, question in tasks.read():
        taken: dict[bool, list[float]] = {False: [], True: []}
        texts = set()
        for guesses in (False, True) * REPEATS:
            with Engine.open(bundle, threads=threads, context=context, draft=guesses) as engine:
                prompt = pieces([Turn("user", (question,))], engine.manifest)
                texts.add(engine.stream(prompt, _greedy(tasks.MAX_TOKENS)).result().text)
                taken[guesses].append(engine.stats().work.step_s)
        if len(texts) > 1:
            raise SystemExit(f"{bundle}: with guesses the answer to {question[:60]!r} is another one")
        found[kind] = statistics.median(taken[False]) / statistics.median(taken[True])
    return found


def _steps(engine: Engine, ids: list[int]) -> float:
    """The seconds of STEPS steps behind a prompt: of the fastest of a few runs, the median step times their number."""
    answer = engine.generate(ids, max_tokens=STEPS + 1, stop_ids=())
    next(answer)
    taken: list[float] = []
    while True:
        start = time.perf_counter()
        if next(answer, None) is None:
            return STEPS * statistics.median(taken)
        taken.append(time.perf_counter() - start)


def _together(engine: Engine, n: int) -> float:
    """Tokens a second of n conversations at a time, once all of them decode."""
    ids = figures.prompts(engine.manifest.text.vocab_size, 32)
    before = engine.stats().work
    handles: list[Handle] = [engine.stream([Control(tuple(next(ids)))], _greedy(ANSWER)) for _ in range(n)]
    for handle in handles:
        handle.result()
    after = engine.stats().work
    n_tokens = after.n_generated - before.n_generated
    return float(n_tokens / (after.step_s - before.step_s))


def _greedy(max_tokens: int) -> Options:
    return Options(
        max_tokens=max_tokens, temperature=0.0, top_p=1.0, top_k=1, frequency_penalty=0.0, presence_penalty=0.0, seed=0,
        stop=(), fresh=True,
    )  # fmt: skip


MEASURES: dict[str, Callable[[Path, int, int], Figures]] = {
    "load": load, "text": text, "slots": slots, "tile": tile, "draft": draft,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.speed.ours")
    parser.add_argument("measure", choices=tuple(MEASURES))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=1024)
    arguments = parser.parse_args()
    try:
        figures.tell(MEASURES[arguments.measure](arguments.bundle, arguments.threads, arguments.context))
    except EdgeError as error:
        raise SystemExit(f"scripts/bench speed: {error}") from error


if __name__ == "__main__":
    main()
