"""Which distributions of onnxruntime are installed: one is right, as all of them share a folder."""

import importlib.metadata
from typing import Final

_NAMES: Final = ("onnxruntime", "ort-nightly")  # that all of them begin with, and some that are none
_FOLDER: Final = "onnxruntime"


def wheels() -> dict[str, str]:
    """Return the versions of the distributions of the onnxruntime that is imported, by name.

    Of two in one folder, one overwrote the other's files. Those further back on the path are not seen.
    """
    found: dict[str, str] = {}
    folder = None
    for each in importlib.metadata.distributions():
        name = (each.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(_NAMES) and any(file.parts[0] == _FOLDER for file in each.files or ()):
            here = str(each.locate_file(_FOLDER))
            folder = folder or here
            if here == folder:
                found[name] = each.version
    return dict(sorted(found.items()))


def version() -> str:
    """Return the version of onnxruntime; of several distributions, the first by name. Empty without any."""
    return next(iter(wheels().values()), "")


def conflict(found: dict[str, str]) -> str | None:
    """Return what is wrong where several distributions are installed, with the way out; None for one and for none."""
    if len(found) < 2:
        return None
    told = " and ".join(f"{name} {number}" for name, number in found.items())
    kept = next(name for name in found if name != "onnxruntime")
    return (
        f"{told} are in one folder, and the one installed last overwrote the other: pip uninstall --yes"
        f" {' '.join(found)}, then pip install --no-deps {kept}=={found[kept]}"
    )
