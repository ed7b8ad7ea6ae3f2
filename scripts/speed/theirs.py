"""One measurement of llama.cpp or torch, in a process of its own:

python -m scripts.speed.theirs MEASURE FILE --threads N
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.speed import figures
from scripts.speed.figures import AT, CHUNK, PREFILL, STEPS, Figures

if TYPE_CHECKING:
    from scripts.quality.llamacpp import LlamaCpp


def load(file: Path, threads: int, context: int) -> Figures:
    """Seconds from nothing to the first token of a short prompt, and the memory then."""
    start = time.perf_counter()
    model = _opened(file, threads, context)
    model.read([100, 101, 102, 103])
    model.best()
    return {"load_s": time.perf_counter() - start, **figures.memory()}


def text(file: Path, threads: int, context: int) -> Figures:
    """Tokens a second of a prompt of 512, and of steps behind so many positions."""
    model = _opened(file, threads, context)
    vocab = model.vocab_size
    ids = figures.prompts(vocab, PREFILL)
    model.read(next(ids))
    found = {"prefill": PREFILL / figures.median_seconds(lambda: model.read(next(ids)))}
    for at in (at for at in AT if at + STEPS < context):
        prompt = next(figures.prompts(vocab, at + STEPS))
        model.read(prompt[:at])
        taken = []
        for token in prompt[at:]:
            start = time.perf_counter()
            model.step(token)
            model.best()
            taken.append(time.perf_counter() - start)
        found[f"decode_{at}"] = 1 / statistics.median(taken)
    return found | figures.memory()


def tile(path: Path, threads: int, _context: int) -> Figures:
    """Seconds of a tile of ConvNeXt V2 Huge with random weights: of llama.cpp's files in a folder, else in torch."""
    if path.is_dir():
        from scripts.speed.projector import tile_seconds

        return tile_seconds(path, threads)
    import torch

    transformers = importlib.import_module("transformers")
    torch.set_num_threads(threads)
    config = transformers.ConvNextV2Config(image_size=512, hidden_sizes=[352, 704, 1408, 2816], depths=[3, 3, 27, 3])
    model = transformers.ConvNextV2Model(config).eval()
    pixels = torch.randn(1, 3, 512, 512)
    with torch.inference_mode():
        model(pixels)
        return {"tile_s": figures.median_seconds(lambda: model(pixels)), **figures.memory()}


def _opened(file: Path, threads: int, context: int) -> LlamaCpp:
    from scripts.quality.llamacpp import LlamaCpp

    return LlamaCpp(file, threads=threads, context=context, scoring=False, batch=CHUNK)


MEASURES: dict[str, Callable[[Path, int, int], Figures]] = {"load": load, "text": text, "tile": tile}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.speed.theirs")
    parser.add_argument("measure", choices=tuple(MEASURES))
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=1024)
    arguments = parser.parse_args()
    figures.tell(MEASURES[arguments.measure](arguments.file, arguments.threads, arguments.context))


if __name__ == "__main__":
    main()
