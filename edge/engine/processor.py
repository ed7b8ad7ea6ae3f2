"""Which kernels compute here: the processor, those of its features that decide between them, onnxruntime's version."""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CPUS: Final = Path("/proc/cpuinfo")
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
    onnxruntime: str


def kernels() -> Kernels:
    """What computes on this machine."""
    name, flags = platform.processor(), list[str]()
    if _CPUS.exists():
        lines = [line.partition(":") for line in _CPUS.read_text(errors="replace").splitlines()]
        first = {key.strip(): value.strip() for key, _, value in reversed(lines)}
        name = first.get("model name", name)
        flags = (first.get("flags") or first.get("Features") or "").split()
    found = tuple(feature for feature in _FEATURES if feature in flags)
    return Kernels(name, platform.machine(), found, importlib.metadata.version("onnxruntime"))
