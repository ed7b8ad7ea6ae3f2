"""Which kernels compute here: the processor and what of it decides between them, the versions of the software."""

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.engine.wheels import version
from edge.version import RUNTIME_VERSION

_CPUS: Final = Path("/proc/cpuinfo")
_CACHE: Final = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")  # attention is computed in pieces that fit in it
# x86, then ARM: what onnxruntime's kernels for integers and floats are chosen by.
_FEATURES: Final = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
    "asimddp", "i8mm", "sve", "bf16",
)  # fmt: skip


@dataclass(frozen=True)
class Kernels:
    """Where all of it is the same, the same kernels compute, in pieces of the same size; name: of the processor."""

    name: str
    architecture: str
    features: tuple[str, ...]
    cache: str
    onnxruntime: str
    edge: str


def kernels() -> Kernels:
    """What computes on this machine."""
    name, flags = platform.processor(), list[str]()
    if _CPUS.exists():
        lines = [line.partition(":") for line in _CPUS.read_text(errors="replace").splitlines()]
        first = {key.strip(): value.strip() for key, _, value in reversed(lines)}
        # ARM has numbers in place of a name, "0x41 0xd0b" for a Cortex-A76; kernels are chosen by them, too.
        arm = " ".join(first[key] for key in ("CPU implementer", "CPU part") if key in first)
        name = first.get("model name") or arm or name
        flags = (first.get("flags") or first.get("Features") or "").split()
    found = tuple(feature for feature in _FEATURES if feature in flags)
    cache = ""
    with contextlib.suppress(OSError):
        cache = _CACHE.read_text("ascii", "replace").strip()
    library = version()
    return Kernels(name, platform.machine(), found, cache, library, RUNTIME_VERSION)
