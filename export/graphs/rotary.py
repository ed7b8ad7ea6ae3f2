"""The decoder's cos and sin tables, and heads reordered for a kernel that is picky about them."""

import numpy as np
import numpy.typing as npt

from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.rope import frequencies
from export.errors import UnsupportedError

KERNEL_MULTIPLE = 16  # GroupQueryAttention takes heads, and rotated parts, that are a multiple of this


def head_order(config: TextConfig) -> npt.NDArray[np.int64] | None:
    """The order in which a head's rows are stored, or None for that of the checkpoint. (head_dim,)

    A rotated part that the kernel does not take is spread over the whole head: [first half of the rotated | first half
    of the rest | second half of the rotated | second half of the rest]. Attention sums over the head, so any order
    serves as long as queries and keys share it. Raises: UnsupportedError. Source: onnxruntime.md, Attention.
    """
    head, rotated = config.head_dim, config.rotary_dim
    if head % KERNEL_MULTIPLE:
        raise UnsupportedError(f"text_config: head_dim is {head}, expected a multiple of {KERNEL_MULTIPLE}")
    if rotated % KERNEL_MULTIPLE == 0:
        return None
    turned, rest = np.arange(rotated).reshape(2, -1), np.arange(rotated, head).reshape(2, -1)
    order: npt.NDArray[np.int64] = np.concatenate([turned[0], rest[0], turned[1], rest[1]])
    return order


def tables(config: TextConfig) -> tuple[F32, F32]:
    """cos and sin, each (context, half of what the kernel rotates); what stays as it is gets cos 1 and sin 0."""
    rates, magnitude = frequencies(rotary_dim=config.rotary_dim, base=config.rope_base, scaling=config.rope_scaling)
    positions = np.arange(config.context, dtype=np.float32)
    # In float32 like the reference: at far positions the rounding of the angle is what matters.
    angles = (positions[:, None] * rates.astype(np.float32)).astype(np.float64)
    cos, sin = (np.cos(angles) * magnitude).astype(np.float32), (np.sin(angles) * magnitude).astype(np.float32)
    if head_order(config) is None:
        return cos, sin
    padding = ((0, 0), (0, config.head_dim // 2 - cos.shape[1]))
    return np.pad(cos, padding, constant_values=1), np.pad(sin, padding)
