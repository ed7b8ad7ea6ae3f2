"""Recipes with one scheme for every layer: what each way to store a weight costs and gains, all else equal."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SCHEMES: Final = (
    "int8", "int8-block32", "int4", "int4-block32", "int4-block32-zp", "int4-block64", "int4-block64-zp",
)  # fmt: skip
TABLE: Final = "int8-block32"  # table and head, the same in all
_TOML: Final = """[[rules]]
tensors = "*"
scheme = "{table}"

[[rules]]
tensors = "decoder.layers.*"
scheme = "{scheme}"
"""


def write(folder: Path) -> list[Path]:
    """Write a recipe for each scheme; returns their files, named after the scheme of the layers."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for scheme in SCHEMES:
        files.append(folder / f"layers-{scheme}.toml")
        files[-1].write_text(_TOML.format(table=TABLE, scheme=scheme), "utf-8")
    return files
