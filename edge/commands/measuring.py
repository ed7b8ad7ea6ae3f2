"""How fast an open bundle reads, generates and encodes images, and what its process holds."""

import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.engine.engine import Engine
    from edge.engine.grammar.format import Format

Figures = dict[str, str | int | float | None]
Curves = dict[str, dict[str, float]]  # by figure, then by the positions before

_CONTEXTS = (256, 1024, 4096, 8192, 16384, 32768)
_STEPS = 16  # generated at each of them
_CURVE_SEED = 7
_HELD_ROUNDS = 5
_HELD_TOKENS = 128  # enough for an instance of the schema in any vocabulary
_HELD_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer", "minimum": 0, "maximum": 100},
        "colour": {"enum": ["red", "green", "blue"]},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "count", "colour", "notes"],
    "additionalProperties": False,
}


def curves(engine: "Engine", *, seconds: float) -> Curves:
    """Return the tokens read and generated per second at longer and longer contexts, until the time is up.

    Each prompt begins as the one before did, so that only what is new is read.
    """
    decode: dict[str, float] = {}
    prefill: dict[str, float] = {}
    started, n_before = time.monotonic(), 0
    for n_prompt in _CONTEXTS:
        left_s = seconds - (time.monotonic() - started)
        slowest = min(prefill.values(), default=math.inf)
        if n_prompt + _STEPS > engine.context or left_s <= (n_prompt - n_before) / slowest:
            break
        before = engine.stats().work
        _run(engine, n_prompt, _STEPS, seed=_CURVE_SEED)
        after = engine.stats().work
        n_steps, step_s = after.n_generated - before.n_generated, after.step_s - before.step_s
        read_s = after.read_s - before.read_s
        prefill[str(n_prompt)] = (after.n_read - before.n_read) / read_s if read_s else 0.0
        decode[str(n_prompt)] = n_steps / step_s if step_s else 0.0
        n_before = n_prompt
    return {"decode_tokens_per_s_at": decode, "prefill_tokens_per_s_at": prefill}


def read_and_generate(engine: "Engine", n_prompt: int, n_answer: int) -> tuple[float, float]:
    """Return the tokens read, and those generated behind them, per second."""
    speed = read_per_s(engine, n_prompt)
    before = engine.stats().work
    _run(engine, n_prompt, n_answer, seed=1)
    after = engine.stats().work
    step_s = after.step_s - before.step_s
    return speed, (after.n_generated - before.n_generated) / step_s if step_s else 0.0


def read_per_s(engine: "Engine", n_prompt: int) -> float:
    """Return the tokens read per second, after a first prompt that has everything allocated."""
    _run(engine, n_prompt, 1, seed=0)
    before = engine.stats().work
    _run(engine, n_prompt, 1, seed=1)
    after = engine.stats().work
    return (after.n_read - before.n_read) / (after.read_s - before.read_s)


def generated_per_s(engine: "Engine", n_answer: int, *, first_seed: int = 0) -> float:
    """Return the tokens generated per second; answers that end early are followed by others, up to a limit."""
    before = after = engine.stats().work
    for seed in range(first_seed, first_seed + n_answer):
        _run(engine, 2, n_answer, seed=seed)
        after = engine.stats().work
        if after.n_generated - before.n_generated >= n_answer:
            break
    spent_s = after.step_s - before.step_s
    return (after.n_generated - before.n_generated) / spent_s if spent_s else 0.0


def grammar_share(engine: "Engine", n_answer: int) -> float | None:
    """Return what holding a token to a schema takes, as a share of what a free one takes; None where none fits.

    Free and held answers take turns, and the median of their rounds counts: how fast a machine decodes changes.
    """
    from edge.engine.grammar.format import schema_format
    from edge.errors import SchemaError

    form = schema_format(_HELD_SCHEMA, field="schema")
    n_held = min(_HELD_TOKENS, engine.context // 2)
    shares = []
    try:
        for seed in range(_HELD_ROUNDS):
            free_per_s = generated_per_s(engine, n_answer, first_seed=seed * n_answer)
            before = engine.stats().held
            _run(engine, 2, n_held, seed=seed, form=form)
            after = engine.stats().held
            shares.append((after.seconds - before.seconds) / (after.n_tokens - before.n_tokens) * free_per_s)
    except SchemaError:  # a context too small for an instance
        return None
    return statistics.median(shares) if all(shares) else None


def seconds_per_tile(engine: "Engine") -> float | None:
    """Return the seconds a tile takes, None for a bundle that accepts text only."""
    import numpy as np

    vision = engine.manifest.vision
    if vision is None:
        return None
    before = engine.stats().work
    for level in (0, 255):
        engine.encode_image(np.full((vision.tile_px, vision.tile_px, 3), level, np.uint8))
    after = engine.stats().work
    return (after.tile_s - before.tile_s) / (after.n_tiles - before.n_tiles)


def _run(engine: "Engine", n_prompt: int, n_answer: int, *, seed: int, form: "Format | None" = None) -> None:
    """Read random tokens and sample an answer to them, held to a form if there is one."""
    import numpy as np

    from edge.engine.answer import Options
    from edge.engine.pieces import Control

    vocab_size = engine.manifest.text.vocab_size
    ids = tuple(np.random.default_rng(seed).integers(0, vocab_size, n_prompt).tolist())
    options = Options(n_answer, 1.0, 1.0, vocab_size, 0.0, 0.0, seed, (), fresh=True, form=form)
    engine.stream([Control(ids)], options).result()


def memory() -> Figures:
    """Return what this process holds, in bytes: its own memory, with what was swapped out, and mapped files apart."""
    lines = [line.split() for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines()]
    held = {words[0]: int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}
    return {
        # The cache of keys and values is shared memory, which no file is behind.
        "anonymous_bytes": held["RssAnon:"] + held["RssShmem:"] + held["VmSwap:"],
        "mapped_bytes": held["RssFile:"],
    }
