"""Whether this is an NVIDIA Jetson, and which: read from files that its system has, nothing is run.

Source: NVIDIA's documentation of Jetson Linux: the device tree's model, /etc/nv_tegra_release, JetPack by release.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MODEL: Final = Path("/proc/device-tree/model")
_RELEASE: Final = Path("/etc/nv_tegra_release")
_TEXT = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
# The major number of Jetson Linux: JetPack, and the CUDA that it comes with.
_JETPACKS: Final[Mapping[int, tuple[str, str]]] = {
    35: ("5", "11.4"), 36: ("6", "12.6 (12.2 in 6.0)"), 38: ("7", "13.0"), 39: ("7", "13.2"),
}  # fmt: skip


@dataclass(frozen=True)
class Jetson:
    """A board. release: of Jetson Linux, such as 36.4.3, None where nothing tells it."""

    model: str
    release: str | None

    @property
    def jetpack(self) -> str | None:
        """JetPack's major version, None for a release that is not known."""
        return None if self._known is None else self._known[0]

    @property
    def cuda(self) -> str | None:
        """The version of CUDA that JetPack comes with."""
        return None if self._known is None else self._known[1]

    @property
    def _known(self) -> tuple[str, str] | None:
        major = None if self.release is None else int(self.release.partition(".")[0])
        return None if major is None else _JETPACKS.get(major)


def found(*, model: Path = _MODEL, release: Path = _RELEASE) -> Jetson | None:
    """Return the Jetson that this is, None on other machines. model, release: the files that tell it."""
    told = _read(release)
    match = None if told is None else _TEXT.search(told)
    name = (_read(model) or "").rstrip("\0\n ")
    if match is None and not any(word in name.lower() for word in ("jetson", "tegra")):
        return None
    return Jetson(name or "a Jetson", None if match is None else f"{match[1]}.{match[2]}")


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return None
