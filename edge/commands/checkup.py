"""What `edge doctor` and `edge bench` find out about this machine and a bundle on it."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import bundle, store
from edge.bundle.store import Stored
from edge.commands.machine import this_cpu
from edge.errors import EdgeError, UnknownModelError
from edge.models import find
from edge.version import RUNTIME_VERSION

if TYPE_CHECKING:
    from edge.engine.engine import Engine
    from edge.engine.grammar.format import Format

LIBRARIES = ("onnxruntime", "numpy", "tokenizers", "pillow", "pydantic")
Figures = dict[str, str | int | float | None]

_PROBE_S = 60
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


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, and whether it is as it should be."""

    name: str
    found: str
    good: bool = True


def examine(model: str | None) -> Iterator[Check]:
    """Yield the checks of this machine, then of a bundle: every byte, and one token."""
    from edge.engine.available import memory as memory_here
    from edge.engine.session import thread_count

    yield Check("edge", f"{RUNTIME_VERSION}, Python {platform.python_version()} on {platform.machine()}")
    for library in LIBRARIES:
        yield _library(library)
    yield _probe("onnxruntime")
    yield Check("threads", f"{thread_count(None)} of {os.cpu_count()} CPUs")
    here = memory_here()
    limited = f", by the control group {here.limited_by}" if here.limited_by else ""
    yield Check("memory", f"{here.available / 1e9:.1f} GB available of {here.total / 1e9:.1f} GB{limited}")
    yield Check("models", str(store.models_folder()))
    for path, reason in store.broken():
        yield Check("bundle", f"{path.name}: {reason}", good=False)
    try:
        stored = _chosen(model)
    except EdgeError as error:
        yield Check("bundle", str(error), good=False)
        return
    problems = bundle.verify(stored.path)
    yield Check("bundle", "; ".join(problems) or f"{stored.id}: {stored.n_bytes} bytes verified", good=not problems)
    if not problems:
        yield _packed(stored)
        yield from _answers(stored)


def measure(model: str | None, *, n_prompt: int, n_answer: int, threads: int | None, grammar: bool = False) -> Figures:
    """Return what a bundle does in this process: seconds to load it, speed, and memory in bytes at the end.

    Keys stay from version to version: docs/benchmarks/README.md.

    n_prompt, n_answer: tokens to read and to generate; both are cut to what the context holds. grammar: measure
    answers constrained by a schema too. Raises: EdgeError.
    """
    from edge.engine.engine import Engine

    stored = _chosen(model)
    started = time.monotonic()
    with Engine.open(stored.path, threads=threads) as engine:
        load_s = time.monotonic() - started
        n_answer = min(n_answer, engine.context // 2)
        n_prompt = min(n_prompt, engine.context - n_answer)
        read_per_s = _read(engine, n_prompt)
        step_per_s = _generate(engine, n_answer)
        figures: Figures = {
            "model": stored.id,
            "cpu": this_cpu(),
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "threads": engine.threads,
            "prompt_tokens": n_prompt,
            "answer_tokens": n_answer,
            "load_s": load_s,
            "prefill_tokens_per_s": read_per_s,
            "decode_tokens_per_s": step_per_s,
            "decode_GB_per_s": step_per_s * stored.manifest.files["decoder.bin"].bytes / 1e9,
            **({"grammar_share": _hold(engine, n_answer)} if grammar else {}),
            "seconds_per_tile": _look(engine),
        }
        return {**figures, **memory()}


def _read(engine: "Engine", n_prompt: int) -> float:
    """Return the tokens read per second, after a first prompt that has everything allocated."""
    _run(engine, n_prompt, 1, seed=0)
    before = engine.stats().work
    _run(engine, n_prompt, 1, seed=1)
    after = engine.stats().work
    return (after.n_read - before.n_read) / (after.read_s - before.read_s)


def _generate(engine: "Engine", n_answer: int, *, first_seed: int = 0) -> float:
    """Return the tokens generated per second; answers that end early are followed by others, up to a limit."""
    before = after = engine.stats().work
    for seed in range(first_seed, first_seed + n_answer):
        _run(engine, 2, n_answer, seed=seed)
        after = engine.stats().work
        if after.n_generated - before.n_generated >= n_answer:
            break
    spent_s = after.step_s - before.step_s
    return (after.n_generated - before.n_generated) / spent_s if spent_s else 0.0


def _hold(engine: "Engine", n_answer: int) -> float | None:
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
            free_per_s = _generate(engine, n_answer, first_seed=seed * n_answer)
            before = engine.stats().held
            _run(engine, 2, n_held, seed=seed, form=form)
            after = engine.stats().held
            shares.append((after.seconds - before.seconds) / (after.n_tokens - before.n_tokens) * free_per_s)
    except SchemaError:  # a context too small for an instance
        return None
    return statistics.median(shares) if all(shares) else None


def _look(engine: "Engine") -> float | None:
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


def _chosen(model: str | None) -> Stored:
    if model is not None:
        return find(model, {})
    stored = next(iter(store.bundles()), None)
    if stored is None:
        raise UnknownModelError("no bundle is installed: edge models install DIR")
    return stored


def _library(name: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", good=False)


def _probe(library: str) -> Check:
    """Import a library in a process of its own: on a CPU it was not built for, it ends with a signal."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {library}"], capture_output=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("import", f"{library} took more than {_PROBE_S} s", good=False)
    if done.returncode < 0:
        return Check("import", f"{library} ends with signal {-done.returncode}: not built for this CPU", good=False)
    loads = done.returncode == 0
    return Check("import", f"{library} {'loads' if loads else 'fails to load'}", good=loads)


def _packed(stored: Stored) -> Check:
    """Read every byte of a bundle's packed weights."""
    from edge.commands.packing import described, problems

    found = problems(stored)
    return Check("packed", "; ".join(found) or described(stored) or f"no: edge models pack {stored.id}", good=not found)


def _answers(stored: Stored) -> Iterator[Check]:
    """Yield what a bundle says: one token, then the golden tokens of its certificate; it is loaded once for both."""
    from edge.chat import next_logits
    from edge.commands.certified import replayed
    from edge.engine.engine import Engine

    try:
        with Engine.open(stored.path) as engine:
            logits = next_logits(engine, [{"role": "user", "content": "Hello"}])
            yield Check("answer", f"{len(logits)} finite logits; {engine.threads} threads, context {engine.context}")
            found = replayed(stored, engine)
            yield Check("golden", found.words, good=found.is_good)
    except EdgeError as error:
        yield Check("answer", str(error), good=False)
