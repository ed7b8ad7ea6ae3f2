"""The short sounds that tell a change of state, made of sines."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from edge.arrays import F32

_LEVEL = 0.2  # of full scale
_TONE_S, _FADE_S = 0.06, 0.012
# Names -> frequencies in Hz, one after another; 0 is a pause.
NOTES: Mapping[str, Sequence[float]] = MappingProxyType(
    {
        "wake": (660.0, 880.0),
        "heard": (880.0,),
        "nothing": (520.0, 390.0),
        "stop": (390.0,),
        "error": (330.0, 0.0, 330.0),
        "ring": (880.0, 0.0, 880.0, 0.0, 880.0, 0.0, 0.0, 0.0, 880.0, 0.0, 880.0, 0.0, 880.0),
    }
)


@cache
def sound(name: str, rate_hz: int) -> F32:
    """Return a sound of NOTES: (n,) float32."""
    return np.concatenate([_tone(hz, rate_hz) for hz in NOTES[name]])


def _tone(hz: float, rate_hz: int) -> F32:
    t = np.arange(round(_TONE_S * rate_hz)) / rate_hz
    envelope = np.clip(np.minimum(t, _TONE_S - t) / _FADE_S, 0, 1)
    return np.asarray(_LEVEL * envelope * np.sin(2 * np.pi * hz * t), np.float32)
