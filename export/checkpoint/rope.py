"""Rotary embedding: the frequencies of each supported scaling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.arrays import F64
from export.checkpoint.fields import finite
from export.errors import ConfigError, UnsupportedError

_ALLOWED: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor"}),
    "yarn": frozenset({"factor", "beta_fast", "beta_slow", "attention_factor"}),
    "factors": frozenset({"factors"}),
}
_COMMON = frozenset({"type", "rope_type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"})


@dataclass(frozen=True)
class RopeScaling:
    """How the frequencies are stretched: kind is linear, llama3, yarn or factors; other kinds' fields have defaults.

    factors: what each frequency is divided by, as GGUF files store it.
    """

    kind: str
    factor: float
    original_context: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    factors: tuple[float, ...] = ()


def parse_scaling(data: Mapping[str, object], *, key: str, original_context: int) -> RopeScaling | None:
    """The scaling that `rope_scaling` or `rope_parameters` describes; None for the plain rotary embedding.

    key: how messages call the object; original_context: tokens, used where the object does not say.
    Raises: UnsupportedError for an unknown kind or key, ConfigError for a bad value.
    """
    kind = data.get("rope_type") or data.get("type") or "default"
    if not isinstance(kind, str) or kind not in _ALLOWED:
        raise UnsupportedError(f"{key}: kind {kind!r} is not implemented by this version; known: {', '.join(_ALLOWED)}")
    unknown = sorted(set(data) - _COMMON - _ALLOWED[kind])
    if unknown:
        value = str(data[unknown[0]])[:60]
        raise UnsupportedError(f"{key}.{unknown[0]} is {value}: not implemented by this version for {kind}")
    if kind == "default":
        return None
    if kind == "factors":
        return RopeScaling(kind=kind, factor=1.0, original_context=original_context, factors=_factors(data, key))
    numbers: dict[str, Any] = {
        name: _number(data, name, key) for name in sorted(_ALLOWED[kind]) if data.get(name) is not None
    }
    if "factor" not in numbers:
        raise ConfigError(f"{key}.factor is missing: expected a number of at least 1")
    if numbers["factor"] < 1:
        raise ConfigError(f"{key}.factor is {numbers['factor']}: expected at least 1")
    scaling = RopeScaling(kind=kind, original_context=original_context, **numbers)
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise ConfigError(f"{key}.high_freq_factor is {scaling.high_freq_factor}: expected more than low_freq_factor")
    if scaling.beta_fast <= scaling.beta_slow:
        raise ConfigError(f"{key}.beta_fast is {scaling.beta_fast}: expected more than beta_slow")
    return scaling


def frequencies(*, rotary_dim: int, base: float, scaling: RopeScaling | None) -> tuple[F64, float]:
    """The rotation per position of each pair, and the factor that cos and sin are multiplied by.

    Returns: (rotary_dim / 2,) float64 radians per position; 1.0 for every kind but yarn.
    Raises: ConfigError for a list of factors of another length.
    """
    plain = base ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)  # (rotary_dim/2,)
    if scaling is None:
        return plain, 1.0
    if scaling.kind == "linear":
        return plain / scaling.factor, 1.0
    if scaling.kind == "factors":
        if len(scaling.factors) != plain.size:
            raise ConfigError(f"rope_scaling: {len(scaling.factors)} factors, expected {plain.size}: one a frequency")
        return plain / np.array(scaling.factors), 1.0
    if scaling.kind == "llama3":
        return _llama3(plain, scaling), 1.0
    return _yarn(plain, rotary_dim, base, scaling), _yarn_attention(scaling)


def _llama3(plain: F64, scaling: RopeScaling) -> F64:
    turns = scaling.original_context * plain / (2 * math.pi)  # full turns within the original context
    share = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    share = np.clip(share, 0.0, 1.0)  # 0: stretched wholly, 1: left alone
    return plain * share + plain / scaling.factor * (1 - share)


def _yarn(plain: F64, rotary_dim: int, base: float, scaling: RopeScaling) -> F64:
    def pair_of(turns: float) -> float:
        return rotary_dim * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_of(scaling.beta_fast)), 0)
    high = min(math.ceil(pair_of(scaling.beta_slow)), rotary_dim - 1)
    width = high - low if high != low else 0.001  # the public implementations avoid the division by zero this way
    ramp = np.clip((np.arange(rotary_dim // 2) - low) / width, 0.0, 1.0)
    return plain / scaling.factor * ramp + plain * (1 - ramp)


def _yarn_attention(scaling: RopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    return 0.1 * math.log(scaling.factor) + 1.0


def _factors(data: Mapping[str, object], key: str) -> tuple[float, ...]:
    values = data.get("factors")
    factors = [finite(value) for value in values] if isinstance(values, list) else []
    if not factors or any(factor is None or factor <= 0 for factor in factors):
        raise ConfigError(f"{key}.factors is {str(values)[:60]!r}: expected a list of numbers above 0")
    return tuple(factor for factor in factors if factor is not None)


def _number(data: Mapping[str, object], name: str, key: str) -> float:
    number = finite(data[name])
    if number is None or number <= 0:
        raise ConfigError(f"{key}.{name} is {str(data[name])[:60]!r}: expected a number above 0")
    return number
