"""What shows that a provider computes what the CPU does: a fixed input of each graph, and how far apart they may be."""

from typing import TYPE_CHECKING, Final

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import TextSpec
from edge.engine.cache import Cache
from edge.engine.decoder import Decoder
from edge.engine.embedding import Embedding
from edge.engine.kv import Kv
from edge.engine.session import run_options

if TYPE_CHECKING:
    import onnxruntime as ort

# |found - wanted| / |wanted|: float16 and TensorFloat-32 give 0.001 to 0.02, a kernel that is wrong 1 and more.
MOST: Final = 0.1

_N_READ: Final = 8  # positions read at once; one more is a step of its own
_PERIOD: Final = 1013


def tower_input(shape: tuple[int, ...]) -> F32:
    """Return an input of a tower, from -1 to 1, by whole numbers alone: the same everywhere."""
    at = np.arange(int(np.prod(shape)), dtype=np.int64)
    values: F32 = (at * 7919 % _PERIOD / np.float32(_PERIOD // 2) - 1).astype(np.float32).reshape(shape)
    return values


def tower_output(session: "ort.InferenceSession", name: str, shape: tuple[int, ...], output: str) -> F32:
    """Return what a tower makes of that input. name: of its input."""
    (found,) = session.run([output], {name: tower_input(shape)}, run_options())
    rows: F32 = found
    return rows


def logits(session: "ort.InferenceSession", spec: TextSpec, embedding: Embedding, *, kv: Kv, device: str | None) -> F32:
    """Return a decoder's logits (3, V) of a few fixed tokens: read at once, and one fed as a step.

    device: where keys and values are, as for `Cache`. Raises: MemoryExhausted.
    """
    n = _N_READ + 1
    ids = [at * spec.vocab_size // n for at in range(n)]
    rows = embedding.rows(ids)
    cache = Cache(spec, capacity=min(spec.context, 2 * _N_READ), slots=1, kv=kv, device=device)
    decoder = Decoder(session, spec, cache)
    read = decoder.read(0, rows[:_N_READ], n_logits=2, options=run_options())
    cache.wrote(0, ids[:_N_READ])
    step = decoder.step([0], rows[_N_READ:], options=run_options())
    found: F32 = np.concatenate([read, step])
    return found


def problem(found: F32, wanted: F32) -> str | None:
    """Return what is wrong with a provider's result, in words; None where it is the CPU's but for rounding."""
    if found.shape != wanted.shape:
        return f"its result has the shape {found.shape}, the CPU's {wanted.shape}"
    if not np.isfinite(found).all():
        return "its result has values that are not finite"
    distance = float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-30))
    if distance > MOST:
        return f"its result is {distance:.2g} away from the CPU's, of which {MOST} is rounding"
    return None
