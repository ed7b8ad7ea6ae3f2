"""Questions to a small random model, and what is needed to watch it answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.engine.decoder import Decoder
from edge.engine.engine import Engine, Options, Progress
from edge.engine.pieces import Piece
from edge.media.image import digest

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

HANGS_S = 30.0  # of processor time, which only a fault takes where milliseconds are needed
LONG_ANSWER = 700  # tokens
LONG = "The quick brown fox jumps over the lazy dog; " * 12  # several chunks of prompt


def options(
    max_tokens: int = 24, temperature: float = 0.0, seed: int | None = 0, stop: tuple[str, ...] = (), fresh: bool = True
) -> Options:
    return Options(max_tokens, temperature, 0.95, 1024, 0.0, 0.0, seed, stop, fresh)


def image(seed: int, height: int = 500, width: int = 700) -> DecodedImage:
    """Noise of four cells and the whole: five tiles."""
    rgb: U8 = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return DecodedImage(rgb, digest(rgb))


def ask(engine: Engine, *parts: str | DecodedImage) -> list[Piece]:
    return pieces([Turn("user", parts)], engine.manifest)


def answer(engine: Engine, prompt: Sequence[Piece], how: Options) -> Progress:
    return engine.stream(prompt, how).result()


def fresh_answer(path: Path, prompt: Sequence[Piece], how: Options) -> Progress:
    with Engine.open(path) as engine:
        return answer(engine, prompt, how)


def same_everywhere(engine: Engine, check: Callable[[], object]) -> None:
    """Check that the engine still serves: the same question as ever gets the same answer."""
    before = answer(engine, ask(engine, LONG), options(8))
    check()
    assert answer(engine, ask(engine, LONG), options(8)) == before


@cache
def long_seed(path: Path) -> int:
    """A seed with which a random model answers "How many?" at length: which ones do depends on the CPU's kernels."""
    with Engine.open(path) as engine:
        for seed in range(100):
            how = replace(options(LONG_ANSWER, temperature=1.0), seed=seed)
            if answer(engine, ask(engine, "How many?"), how).finish_reason == "length":
                return seed
    raise LookupError(f"no seed gives an answer of {LONG_ANSWER} tokens")


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    step = Decoder.step

    def slowly(*arguments: object, **named: object) -> F32:
        time.sleep(seconds)
        return step(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "step", slowly)


def eventually(fact: Callable[[], bool]) -> None:
    """Wait until something is so, as long as a machine that does other work may need for it."""
    for _ in range(12_000):
        if fact():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen")
