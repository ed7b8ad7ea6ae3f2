"""The decode loop of one conversation: a prompt is read, then token after token is chosen and fed; knows no text."""

from collections.abc import Collection, Generator

import numpy as np

from edge.engine.handle import FinishReason
from edge.engine.layout import Positions
from edge.engine.model import Model, exhaust
from edge.engine.sampling import Sampler
from edge.errors import NonFiniteError

Tokens = Generator[int, None, FinishReason]  # yields ids; returns why they end


def generate(
    model: Model, positions: Positions, *, sample: Sampler, stop_ids: Collection[int], max_tokens: int
) -> Tokens:
    """Yield the ids of an answer; the one that ends it is not among them.

    Returns "stop" after one of stop_ids, "length" after max_tokens, "context" when no position is left. Takes a slot
    of the cache at the first id, and releases it when it ends or is closed. One thread at a time, as the model.
    Raises: NonFiniteError naming the step, MediaError, and as onnxruntime does.
    """
    slot = model.cache.take(positions.keys, n_read=2)
    try:
        logits = exhaust(model.read(positions, slot, n_logits=1, owner=None))[-1]  # (V,)
        n_most = min(max_tokens, model.cache.free(slot) + 1)  # the last one needs no position
        for n in range(1, n_most + 1):
            if not np.isfinite(logits).all():
                raise NonFiniteError(f"token {n} of the answer")
            token = sample(logits)
            if token in stop_ids:
                return "stop"
            yield token
            if n < n_most:
                logits = model.step([slot], [token])[0]
        return "length" if n_most == max_tokens else "context"
    except Exception:
        model.cache.trim(slot, 0)  # what it wrote may be what failed: it is not used again
        raise
    finally:
        model.cache.release(slot)
