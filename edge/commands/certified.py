"""What a bundle's certificate says, in words, and its golden tokens computed again on this device."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.bundle import certificate
from edge.bundle.certificate import Certificate
from edge.bundle.manifest import Manifest
from edge.bundle.store import Stored
from edge.commands.console import harmless
from edge.errors import BundleError, EdgeError, MemoryExhausted, MemoryLimitError

if TYPE_CHECKING:
    from edge.engine.engine import Engine
    from edge.engine.golden import Progress, Replay
    from edge.engine.processor import Kernels


@dataclass(frozen=True)
class Found:
    """What a replay found, in one sentence; is_good: nothing is wrong, or there is nothing to compare with."""

    words: str
    is_good: bool


def figures(stored: Stored) -> dict[str, object] | None:
    """Return what a bundle's certificate says, as JSON; None without one. One that cannot be read says why."""
    try:
        made = certificate.read(stored.path, stored.manifest)
    except BundleError as error:
        return {"error": harmless(str(error))}
    if made is None:
        return None
    return {
        "level": made.level,
        "positions": made.positions,
        "kl_mean": made.kl_mean,
        "kl_mean_of": dict(made.kinds),
        "top1_agreement": made.top1,
        "int8_cache": _int8_cache(made),
        "golden_tokens": 0 if made.golden is None else made.golden.n_steps,
        "missed": list(made.missed),
    }


def _int8_cache(made: Certificate) -> dict[str, float | None] | None:
    """Return what 8 bits of keys and values cost, against the same bundle with float32; None where nobody measured."""
    if made.int8_kl_mean is None:
        return None
    return {"kl_mean": made.int8_kl_mean, "kl_p99": made.int8_kl_p99, "top1_agreement": made.int8_top1}


def words(certified: object) -> str:
    """Return the figures of a certificate as a line."""
    if not isinstance(certified, Mapping):
        return "none"
    if "error" in certified:
        return f"cannot be read: {certified['error']}"
    parts = [harmless(str(certified["level"] or "of an unknown level"))]
    if certified["kl_mean"] is not None:
        parts.append(f"mean KL {certified['kl_mean']:.2g}")
    parts += [f"{harmless(name)} {mean:.2g}" for name, mean in certified["kl_mean_of"].items()]
    if certified["top1_agreement"] is not None:
        parts.append(f"top-1 {certified['top1_agreement']:.2%}")
    if certified["positions"] is not None:
        parts.append(f"{certified['positions']} positions")
    int8 = certified.get("int8_cache")
    if isinstance(int8, Mapping):
        parts.append(f"int8 cache: KL {int8['kl_mean']:.2g} to float32")
    return ", ".join([*parts, f"{certified['golden_tokens'] or 'no'} golden tokens"])


def warn(stored: Stored) -> None:
    """Say on stderr which thresholds of its recipe a bundle misses, by its certificate."""
    missed = (figures(stored) or {}).get("missed")
    for sentence in missed if isinstance(missed, list) else ():
        print(f"edge: {stored.id} misses a threshold of its recipe: {harmless(sentence)}", file=sys.stderr)


def replayed(stored: Stored, engine: "Engine | None" = None, progress: "Progress | None" = None) -> Found:
    """Compute the golden tokens of a bundle again; engine: the bundle's, opened here unless given."""
    try:
        made = certificate.read(stored.path, stored.manifest)
        if made is None:
            return Found("the bundle has no certificate, so no golden tokens to compute again", is_good=True)
        if made.golden is None:
            return Found("the certificate has no golden tokens: it is of an older edge-export", is_good=True)
        found = _replay(stored, made.golden, _tolerated(made, engine), engine, progress)
    except (MemoryLimitError, MemoryExhausted) as error:
        # A machine that has room for 8-bit keys and values alone finds nothing wrong with the bundle.
        told = (
            "the golden tokens are not computed: they take float32 keys and values, which have no room in memory here"
        )
        return Found(f"{told} ({harmless(str(error))})", is_good=True)
    except EdgeError as error:
        return Found(f"the golden tokens cannot be computed: {harmless(str(error))}", is_good=False)
    where = "" if found.is_identical else f" (certified on {_where(made)})"
    return Found(found.words + where, found.is_certified)


def _replay(
    stored: Stored,
    golden: certificate.Golden,
    tolerated: float | None,
    engine: "Engine | None",
    progress: "Progress | None",
) -> "Replay":
    from edge.engine.engine import Engine
    from edge.engine.golden import context, replay
    from edge.engine.kv import kvs_of

    if not isinstance(stored.manifest, Manifest):
        from edge.speech.golden import replay as replay_speech
        from edge.speech.transcriber import Speech

        return replay_speech(Speech.open(stored.path, providers="cpu"), golden, tolerated=tolerated)
    needed, has = context(golden), stored.manifest.text.context
    if needed > has:
        raise BundleError(f"certificate.json: golden: {needed} positions, the bundle has a context of {has}")
    if engine is not None and engine.context >= needed and engine.kv != "int8":
        return replay(engine, golden, tolerated=tolerated, progress=progress)
    kv = kvs_of(stored.manifest)[0]
    with Engine.open(stored.path, context=needed, kv=kv, providers="cpu") as own:  # as it was certified
        own.open_towers()
        return replay(own, golden, tolerated=tolerated, progress=progress)


def _tolerated(made: Certificate, engine: "Engine | None") -> float | None:
    """Return the mean KL that other kernels may come to, a tenth of what quantization cost; None for the same ones.

    They add in another order, and may round the inputs of layers in another way; the same ones give the same logits.
    """
    from edge.engine.processor import kernels

    on_cpu = engine is None or set(engine.where.values()) <= {"cpu"}
    return None if on_cpu and kernels() == _kernels(made) else (made.kl_mean or 0.0) / 10


def _kernels(made: Certificate) -> "Kernels":
    """Return what computed when a bundle was certified, by its certificate."""
    from edge.engine.processor import Kernels

    machine, features = made.machine, made.machine.get("features")
    return Kernels(
        name=harmless(str(machine.get("processor", "another processor"))[:100]),
        architecture=str(machine.get("architecture")),
        features=tuple(map(str, features)) if isinstance(features, list) else (),
        cache=str(machine.get("cache")),
        onnxruntime=harmless(str(made.versions.get("onnxruntime"))[:20]),
        edge=str(made.versions.get("edge")),
    )


def _where(made: Certificate) -> str:
    found = _kernels(made)
    return f"{found.name} with onnxruntime {found.onnxruntime}"
