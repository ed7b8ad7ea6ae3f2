"""How keys and values are kept, and how many positions there is room for: chosen by the memory of the machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from edge.bundle.manifest import DECODER, DECODER_INT8_CACHE, Manifest, TextSpec, cache_bytes_per_token
from edge.errors import ParameterError

Kv = Literal["fp32", "fp16", "int8"]
KVS: Final[tuple[Kv, ...]] = ("fp32", "int8")  # to choose from; a bundle of float16 has no others
VALUE_BYTES: Final[dict[Kv, int]] = {"fp32": 4, "fp16": 2, "int8": 1}
DTYPES: Final[dict[Kv, npt.DTypeLike]] = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
GRAPHS: Final[dict[Kv, str]] = {"fp32": DECODER, "fp16": DECODER, "int8": DECODER_INT8_CACHE}
LEAST_CONTEXT: Final = 2048


@dataclass(frozen=True)
class CacheChoice:
    """kv: how keys and values are kept; context: positions of a slot; reason: for 8 bits where nobody asked for them,
    in one sentence."""

    kv: Kv
    context: int
    reason: str | None = None


def parse_kv(value: str | None) -> Kv | None:
    """Return a choice as it is known here; None for none. Raises: ParameterError."""
    known = next((each for each in VALUE_BYTES if each == value), None)
    if value is not None and known is None:
        raise ParameterError(f"kv: expected {' or '.join(KVS)}, got {value!r:.60}", field="kv")
    return known


def kvs_of(manifest: Manifest) -> tuple[Kv, ...]:
    """Return how a bundle's decoders keep keys and values, that of decoder.onnx first."""
    first: Kv = manifest.recipe.activations
    return (first,) if manifest.int8_cache is None else (first, "int8")


def check_has(manifest: Manifest, kv: Kv) -> None:
    """Refuse keys and values that a bundle has no decoder for. Raises: ParameterError."""
    known = kvs_of(manifest)
    if kv in known:
        return
    if kv == "int8" and known == ("fp32",):
        raise no_int8_cache(manifest.id)
    told = f"{manifest.id} keeps keys and values as {' or '.join(known)}, not as {kv}"
    raise ParameterError(f"kv: {told}: its activations are {known[0]}", field="kv")


def no_int8_cache(bundle_id: str) -> ParameterError:
    """Return what is raised where 8 bits are asked of a bundle that has float32 alone."""
    found = f"kv: {bundle_id} has no int8 cache, it was exported without {DECODER_INT8_CACHE}"
    return ParameterError(f"{found}: export it again, or use fp32", field="kv")


def bytes_per_token(spec: TextSpec, kv: Kv = "fp32") -> int:
    """Return the bytes of one position: keys and values, all layers."""
    return cache_bytes_per_token(
        n_layers=spec.n_layers, n_kv_heads=spec.n_kv_heads, head_dim=spec.head_dim, value_bytes=VALUE_BYTES[kv]
    )


def default_context(spec: TextSpec, *, slots: int, available_bytes: int, kv: Kv = "fp32") -> int:
    """Return the model's context, cut to what a quarter of the memory holds, but at least 2048 (or the model's)."""
    affordable = available_bytes // 4 // (slots * bytes_per_token(spec, kv))
    return min(spec.context, max(LEAST_CONTEXT, affordable))


def choose(
    manifest: Manifest,
    *,
    kv: str | None,
    context: int | None,
    slots: int,
    available_bytes: int,
    left_bytes: Mapping[Kv, int] | None = None,
) -> CacheChoice:
    """Settle how keys and values are kept, and the positions of a slot.

    kv: as asked for; None: float32 (of a GPU's bundle: float16) where a quarter of the memory, and what is left of it
    beside the model, hold the context in it (the model's, unless given), else 8 bits, if the bundle has them and it
    does not fit in float32 alone.
    context: as asked for, else `default_context` of the kv that is chosen.
    left_bytes: what of the memory the rest of the model leaves to the cache, for each kv; all unless given.
    Raises: ParameterError naming the field.
    """
    spec, asked, base = manifest.text, parse_kv(kv), kvs_of(manifest)[0]
    if context is not None and not 1 <= context <= spec.context:
        raise ParameterError(f"context: expected 1 to {spec.context}, got {context!r:.200}", field="context")
    if asked is not None:
        check_has(manifest, asked)
    left = dict.fromkeys(VALUE_BYTES, available_bytes) | dict(left_bytes or {})
    wanted, quarter = context or spec.context, available_bytes // 4
    needed = wanted * slots * bytes_per_token(spec, base)
    chosen = asked or base
    if asked is None and manifest.int8_cache is not None and needed > min(quarter, left[base]):
        least = context or min(LEAST_CONTEXT, spec.context)
        fits = {each: least * slots * bytes_per_token(spec, each) <= left[each] for each in kvs_of(manifest)}
        chosen = base if fits[base] and not fits["int8"] else "int8"  # packed weights of one leave more than others
    if context is None:
        context = default_context(spec, slots=slots, available_bytes=available_bytes, kv=chosen)
    is_told = asked is None and chosen == "int8"
    return CacheChoice(chosen, context, _reason(wanted, slots, needed, quarter, left[base]) if is_told else None)


def _reason(n_positions: int, slots: int, needed: int, quarter: int, left: int) -> str:
    times = f" in {slots} slots" if slots > 1 else ""
    room = f"a quarter of the free memory is {quarter / 1e9:.1f} GB"
    if left < quarter:
        room = f"{max(0, left) / 1e9:.1f} GB of the free memory are left beside the rest of the model"
    return (
        f"keys and values are kept in 8 bits: {n_positions} positions{times} would take {needed / 1e9:.1f} GB in"
        f" float32, {room} (kv fp32: float32, kv int8: 8 bits)"
    )
