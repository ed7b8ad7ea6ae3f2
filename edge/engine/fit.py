"""Whether a bundle fits in the memory there is, asked before anything of it is mapped; else what would."""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Final

from edge.bundle.manifest import Manifest
from edge.bundle.shape import ModelShape, of_manifest
from edge.engine.available import Memory
from edge.engine.footprint import Footprint, Load, alternatives, footprint, largest_context
from edge.engine.kv import LEAST_CONTEXT, Kv, default_context, kvs_of, parse_kv
from edge.engine.kv import choose as choose_cache
from edge.errors import MemoryLimitError, ParameterError

VARIABLE: Final = "EDGE_MEMORY_CHECK"  # off: what does not fit is loaded all the same

_SWITCH: Final = {"on": True, "1": True, "off": False, "0": False}


def is_checked() -> bool:
    """Return whether a load that does not fit is refused: unless EDGE_MEMORY_CHECK is off. Raises: ParameterError."""
    value = os.environ.get(VARIABLE, "on").lower()
    if value not in _SWITCH:
        raise ParameterError(f"{VARIABLE} is {value!r:.60}: expected on or off", field=VARIABLE)
    return _SWITCH[value]


def choose(
    manifest: Manifest,
    *,
    kv: str | None,
    context: int | None,
    slots: int,
    here: Memory,
    is_packed: Callable[[Kv], bool],
) -> tuple[Load, str | None]:
    """Return how an engine is loaded, as asked for and as memory allows: `kv.choose` beside all that a model takes.

    is_packed: whether there are packed weights for engines of a kv. The second value is the reason for 8-bit keys and
    values where nobody asked for them. Raises: ParameterError naming the field.
    """
    shape, asked = of_manifest(manifest), parse_kv(kv)
    looked_at = (asked,) if asked else kvs_of(manifest)
    loads = {each: Load(0, slots, kv=each, packed=is_packed(each)) for each in looked_at}
    left = {each: _room(here) - footprint(shape, load).needed_bytes for each, load in loads.items()}
    found = choose_cache(manifest, kv=kv, context=context, slots=slots, available_bytes=here.available, left_bytes=left)
    load = replace(loads[found.kv], context=found.context)
    if context is None:
        load = replace(load, context=fitting_context(shape, load, here))
    return load, found.reason


def fitting_context(shape: ModelShape, load: Load, here: Memory) -> int:
    """Return the context of an engine that is asked for none: as much as the cache may take of what is available.

    That is a quarter of it, or less where the rest of the model needs more; at least 2048, or the model's.
    """
    wanted = default_context(shape.text, slots=load.slots, available_bytes=here.available, kv=load.kv)
    least = min(LEAST_CONTEXT, shape.text.context)
    return min(wanted, largest_context(shape, load, room_bytes=_room(here)) or least)


def check(shape: ModelShape, load: Load, here: Memory, *, packed: Collection[Kv] = ()) -> None:
    """Refuse a load whose memory is not there.

    packed: the kvs whose engines have packed weights. Raises: MemoryLimitError with the numbers, and with what would
    fit.
    """
    found = footprint(shape, load)
    if found.needed_bytes <= _room(here):
        return
    needed, available = found.needed_bytes, here.available
    where = f" in the control group {here.limited_by}" if here.limited_by else ""
    raise MemoryLimitError(
        f"{shape.id} does not fit in memory: it takes {gigabytes(needed)} ({largest_parts(found)}), and"
        f" {gigabytes(available)} of {gigabytes(here.total)} are available{where}; "
        f"{'; '.join(ways(shape, load, here, packed=packed))}",
        needed=needed,
        available=available,
    )


def ways(shape: ModelShape, load: Load, here: Memory, *, packed: Collection[Kv] = ()) -> Iterator[str]:
    """Yield what would fit, and how to load it all the same. packed: the kvs whose engines have packed weights."""
    others = alternatives(shape, load, room_bytes=_room(here), packed=packed)
    found = [options(each, load, packed=packed) for each in others]
    if found:
        yield f"this would fit: {', or '.join(dict.fromkeys(found))}"
    else:
        kv: Kv = "int8" if load.kv == "fp32" else load.kv
        least = replace(load, context=min(LEAST_CONTEXT, shape.text.context), slots=1, kv=kv)
        smallest = footprint(shape, least).needed_bytes
        yield f"it takes {gigabytes(smallest)} at least: close other programs, or export it with fewer bits"
    yield f"{VARIABLE}=off (--no-memory-check) loads it all the same"


def options(load: Load, instead: Load, *, packed: Collection[Kv] = ()) -> str:
    """Return the options that change one load to another. packed: the kvs whose engines have packed weights."""
    changed = [("--context", load.context, instead.context), ("--slots", load.slots, instead.slots)]
    told = [f"{name} {value}" for name, value, before in changed if value != before]
    told += [f"--kv {load.kv}"] if load.kv != instead.kv else []
    is_there = load.kv in packed or (load.kv == instead.kv and instead.packed)
    told += [f"packed weights (edge models pack --kv {load.kv})"] if load.packed and not is_there else []
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
