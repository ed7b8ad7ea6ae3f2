"""A report in a file: checked before anything is measured for it, written beside its place, put there in one step."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge.bundle.manifest import MANIFEST
from export.errors import OutputError


def check(out: Path, bundles: Sequence[Path]) -> None:
    """Check that a report can be written, without writing it.

    bundles: folders that it must not be in, since a bundle holds nothing but its own files. Raises: OutputError.
    """
    if out.is_dir():
        raise OutputError(f"{out}: is a folder, expected the name of an HTML file")
    folder = out.absolute().parent
    if (folder / MANIFEST).exists() or folder.resolve() in {bundle.resolve() for bundle in bundles}:
        raise OutputError(f"{out}: is inside of a bundle, which may hold no other files: choose another folder")
    if not folder.is_dir():
        raise OutputError(f"{out}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{out}: no files can be created in {folder}")


def write(out: Path, page: bytes) -> None:
    """Write a report; one that is there is replaced, in one step. Raises: OutputError."""
    try:
        with tempfile.NamedTemporaryFile(dir=out.absolute().parent, prefix=f".{out.name[:40]}-", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(page)
                file.flush()
                part.chmod(0o666 & ~_umask())
                part.replace(out)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error


def _umask() -> int:
    """Return the mask that new files of this process get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
