"""Whether a bundle fits in the memory there is, asked before anything of it is mapped; else what would."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from edge.bundle.shape import ModelShape
from edge.engine.available import Memory
from edge.engine.footprint import Footprint, Load, alternatives, footprint, largest_context
from edge.engine.kv import LEAST_CONTEXT, default_context
from edge.errors import MemoryLimitError, ParameterError

VARIABLE: Final = "EDGE_MEMORY_CHECK"  # off: what does not fit is loaded all the same

_SWITCH: Final = {"on": True, "1": True, "off": False, "0": False}


def is_checked() -> bool:
    """Return whether a load that does not fit is refused: unless EDGE_MEMORY_CHECK is off. Raises: ParameterError."""
    value = os.environ.get(VARIABLE, "on").lower()
    if value not in _SWITCH:
        raise ParameterError(f"{VARIABLE} is {value!r:.60}: expected on or off", field=VARIABLE)
    return _SWITCH[value]


def fitting_context(shape: ModelShape, load: Load, here: Memory) -> int:
    """Return the context of an engine that is asked for none: as much as the cache may take of what is available.

    That is a quarter of it, or less where the rest of the model needs more; at least 2048, or the model's.
    """
    wanted = default_context(shape.text, slots=load.slots, available_bytes=here.available, kv=load.kv)
    least = min(LEAST_CONTEXT, shape.text.context)
    return min(wanted, largest_context(shape, load, room_bytes=_room(here)) or least)


def check(shape: ModelShape, load: Load, here: Memory) -> None:
    """Refuse a load whose memory is not there. Raises: MemoryLimitError with the numbers, and with what would fit."""
    found = footprint(shape, load)
    if found.needed_bytes <= _room(here):
        return
    needed, available = found.needed_bytes, here.available
    where = f" in the control group {here.limited_by}" if here.limited_by else ""
    raise MemoryLimitError(
        f"{shape.id} does not fit in memory: it takes {gigabytes(needed)} ({largest_parts(found)}), and"
        f" {gigabytes(available)} of {gigabytes(here.total)} are available{where}; "
        f"{'; '.join(ways(shape, load, here))}",
        needed=needed,
        available=available,
    )


def ways(shape: ModelShape, load: Load, here: Memory) -> Iterator[str]:
    """Yield what would fit, and how to load it all the same."""
    found = [options(each, load) for each in alternatives(shape, load, room_bytes=_room(here))]
    if found:
        yield f"this would fit: {', or '.join(dict.fromkeys(found))}"
    else:
        least = replace(load, context=min(LEAST_CONTEXT, shape.text.context), slots=1, kv="int8")
        smallest = footprint(shape, least).needed_bytes
        yield f"it takes {gigabytes(smallest)} at least: close other programs, or export it with fewer bits"
    yield f"{VARIABLE}=off (--no-memory-check) loads it all the same"


def options(load: Load, instead: Load) -> str:
    """Return the options that change one load to another."""
    changed = [("--context", load.context, instead.context), ("--slots", load.slots, instead.slots)]
    told = [f"{name} {value}" for name, value, before in changed if value != before]
    told += [f"--kv {load.kv}"] if load.kv != instead.kv else []
    told += ["packed weights (edge models pack)"] if load.packed and not instead.packed else []
    return " ".join(told)


def largest_parts(found: Footprint) -> str:
    """Return the parts that make up most of a footprint, in words."""
    parts = sorted(found.parts, key=lambda part: part.n_bytes, reverse=True)[:3]
    return ", ".join(f"{part.name} {gigabytes(part.n_bytes)}" for part in parts)


def gigabytes(n_bytes: int) -> str:
    """Return a size for people: 10**9 or 10**6 bytes."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _room(here: Memory) -> int:
    """Return what there is room for. This process is there already, and counted as used."""
    return here.available
