"""What `edge doctor` and `edge bench` find out about this machine and a bundle on it."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge.bundle import bundle, store
from edge.bundle.manifest import Manifest
from edge.bundle.store import Stored
from edge.commands import acceleration, assistant_needs, measuring
from edge.commands.check import Check as Check
from edge.commands.machine import this_cpu
from edge.commands.measuring import Curves, Figures
from edge.engine.wheels import version
from edge.errors import EdgeError, UnknownModelError
from edge.models import find
from edge.version import RUNTIME_VERSION

if TYPE_CHECKING:
    from edge.engine.rates import Rates

LIBRARIES = ("numpy", "tokenizers", "pillow", "pydantic")

_PROBE_S = 60


def examine(model: str | None, *, quick: bool = False) -> Iterator[Check]:
    """Yield the checks of this machine, then of a bundle: every byte, and one token.

    quick: measure no speed, and so compare none with a forecast.
    """
    yield Check("edge", f"{RUNTIME_VERSION}, Python {platform.python_version()} on {platform.machine()}")
    if sys.maxsize < 1 << 32:  # before anything is imported that such a system may lack
        yield Check("machine", _bits(platform.machine()), good=False)
        return
    from edge.commands.forecasts import rates_in_words
    from edge.engine.available import memory as memory_here
    from edge.engine.probe import measure as measure_rates
    from edge.engine.session import thread_count

    yield from acceleration.hardware()
    for library in LIBRARIES:
        yield _library(library)
    loads = _probe("onnxruntime")
    yield loads
    if loads.good:
        yield acceleration.found_providers()
    yield Check("threads", f"{thread_count(None)} of {os.cpu_count()} CPUs")
    here = memory_here()
    limited = f", by the control group {here.limited_by}" if here.limited_by else ""
    yield Check("memory", f"{here.available / 1e9:.1f} GB available of {here.total / 1e9:.1f} GB{limited}")
    rates = None if quick else measure_rates()
    for name, words in rates_in_words(rates) if rates else ():
        yield Check(name, words)
    yield from assistant_needs.parts()
    yield Check("models", str(store.models_folder()))
    for path, reason in store.broken():
        yield Check("bundle", f"{path.name}: {reason}", good=False)
    try:
        stored = _chosen(model)
    except EdgeError as error:
        yield Check("bundle", str(error), good=False)
        return
    yield assistant_needs.audio_of(stored)
    problems = bundle.verify(stored.path)
    yield Check("bundle", "; ".join(problems) or f"{stored.id}: {stored.n_bytes} bytes verified", good=not problems)
    if not problems:
        yield _packed(stored)
        yield from _answers(stored, rates)


def measure(
    model: str | None,
    *,
    n_prompt: int,
    n_answer: int,
    threads: int | None,
    kv: str | None = None,
    grammar: bool = False,
    seconds: float = 0,
) -> tuple[Figures, Curves]:
    """Return what a bundle does in this process: seconds to load it, speed, and memory in bytes at the end.

    Keys stay from version to version: docs/benchmarks/README.md.

    n_prompt, n_answer: tokens to read and to generate; both are cut to what the context holds. kv: how keys and
    values are kept, as for `Engine.open`. grammar: measure answers constrained by a schema too. seconds: for speed at
    longer contexts, none of which is measured without. Raises: EdgeError.
    """
    from edge.engine.engine import Engine

    stored = _chosen(model)
    started = time.monotonic()
    with Engine.open(stored.path, threads=threads, kv=kv) as engine:
        load_s = time.monotonic() - started
        n_answer = min(n_answer, engine.context // 2)
        n_prompt = min(n_prompt, engine.context - n_answer)
        read_per_s = measuring.read_per_s(engine, n_prompt)
        step_per_s = measuring.generated_per_s(engine, n_answer)
        figures: Figures = {
            "model": stored.id,
            "cpu": this_cpu(),
            "onnxruntime": version(),
            "providers": ",".join(engine.providers),
            "threads": engine.threads,
            "kv": engine.kv,
            "prompt_tokens": n_prompt,
            "answer_tokens": n_answer,
            "load_s": load_s,
            "prefill_tokens_per_s": read_per_s,
            "decode_tokens_per_s": step_per_s,
            "decode_GB_per_s": step_per_s * stored.manifest.files["decoder.bin"].bytes / 1e9,
            **({"grammar_share": measuring.grammar_share(engine, n_answer)} if grammar else {}),
            "seconds_per_tile": measuring.seconds_per_tile(engine),
        }
        figures |= measuring.memory()
        return figures, measuring.curves(engine, seconds=seconds) if seconds else {}


def _chosen(model: str | None) -> Stored:
    if model is not None:
        return find(model, {})
    stored = next(iter(store.bundles()), None)
    if stored is None:
        raise UnknownModelError("no bundle is installed: edge models install DIR")
    return stored


def _bits(machine: str) -> str:
    """Say that a 32-bit system is not supported; on a Raspberry Pi one often runs on a 64-bit kernel."""
    kernel = ", on a 64-bit kernel" if machine in ("aarch64", "x86_64") else ""
    name = "armhf" if machine.startswith(("arm", "aarch64")) else machine
    return (
        f"{name}: a 32-bit Python{kernel}: not supported, onnxruntime has none; install a 64-bit system (arm64, amd64)"
    )


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

    if isinstance(stored.manifest, Manifest) and stored.manifest.recipe.activations == "fp16":
        return Check("packed", "no: its activations are float16, for GPUs, and packing is for the CPU's kernels")
    found = problems(stored)
    return Check("packed", "; ".join(found) or described(stored) or f"no: edge models pack {stored.id}", good=not found)


def _answers(stored: Stored, rates: "Rates | None") -> Iterator[Check]:
    """Yield what a bundle says: one token, the golden tokens of its certificate, and its speed beside the forecast."""
    from edge.chat import next_logits
    from edge.commands.certified import replayed
    from edge.commands.forecasts import compared
    from edge.engine.engine import Engine

    try:
        before_bytes = float(measuring.memory()["anonymous_bytes"] or 0)
        with Engine.open(stored.path) as engine:
            engine.open_towers()
            logits = next_logits(engine, [{"role": "user", "content": "Hello"}])
            with_what = f"{engine.threads} threads, context {engine.context}, {engine.kv} keys and values"
            with_what += acceleration.where(engine.where)
            yield Check("answer", f"{len(logits)} finite logits; {with_what}")
            found = replayed(stored, engine) if engine.kv != "int8" else None
            each_of = compared(engine, rates, before_bytes=before_bytes) if rates else ()
            forecasts = [Check("forecast", each.words) for each in each_of]
        found = found or replayed(stored)  # another engine, with floats, once the memory of this one is free
        yield Check("golden", found.words, good=found.is_good)
        yield from forecasts
    except EdgeError as error:
        yield Check("answer", str(error), good=False)
