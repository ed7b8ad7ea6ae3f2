"""What the machine is that a figure was measured on."""

import platform
from pathlib import Path


def cpu_name(cpuinfo: str, device_tree: str) -> str:
    """Return the CPU's name out of /proc/cpuinfo, else the board's out of the device tree, else the architecture."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return device_tree.strip("\0 \n") or platform.machine()


def this_cpu() -> str:
    """Return the name of this machine's CPU or board."""
    return cpu_name(_read("/proc/cpuinfo"), _read("/proc/device-tree/model"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
