"""The text that a certificate measures with: the file that is included, or a user's own."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from export.errors import TextsError
from export.texts.read import Entry, read, shipped_evaluation


@dataclass(frozen=True)
class Evaluation:
    """name: of the file, without its folder; sha256: of its bytes, hex; entries: conversations and running text."""

    name: str
    sha256: str
    entries: tuple[Entry, ...]


def load(path: Path | None) -> Evaluation:
    """Read a .txt or .jsonl file, the one that is included for None.

    Raises: TextsError naming file, line and key.
    """
    path = shipped_evaluation() if path is None else path
    entries = read(path)
    try:
        with path.open("rb") as file:
            return Evaluation(path.name, hashlib.file_digest(file, "sha256").hexdigest(), tuple(entries))
    except OSError as error:
        raise TextsError(f"{path}: cannot be read: {error.strerror}") from error
