"""Where one tensor of a checkpoint is stored."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One stored tensor; offset counts bytes from the start of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
