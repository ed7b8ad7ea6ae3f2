"""What is kept on this device for a bundle on other providers than the CPU: TensorRT's engines, results of the CPU.

A folder for each bundle, device and onnxruntime, beside the installed bundles: of this user, and readable to nobody
else, as an engine is a program. Those used least lately make room.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
from pathlib import Path
from typing import Final

import numpy as np

from edge.arrays import F32
from edge.bundle.choices import models_folder
from edge.bundle.manifest import MANIFEST
from edge.engine import jetson
from edge.engine.processor import kernels
from edge.engine.session import build
from edge.errors import BundleError
from edge.version import RUNTIME_VERSION

MOST_FOLDERS: Final = 4
MOST_BYTES: Final = 8 << 30

_FOLDER: Final = ".engines"  # in the models folder
_PRIVATE: Final = 0o700

_LOG = logging.getLogger("edge.providers")


class Built:
    """The folder of one bundle on this device, made when it is asked for; where none can be kept, nothing is."""

    def __init__(self, bundle: Path) -> None:
        self.folder = _folder(bundle)

    def result(self, graph: str) -> F32 | None:
        """Return the CPU's result that was kept for a graph, None without one that can be read."""
        if self.folder is None:
            return None
        try:
            with (self.folder / f"{graph}.npy").open("rb") as file:
                found: F32 = np.load(file)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.dtype == np.float32 else None

    def keep(self, graph: str, result: F32) -> None:
        """Keep the CPU's result of a graph."""
        if self.folder is None:
            return
        path = self.folder / f"{graph}.npy"
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                np.save(file, result)
            partial.replace(path)
        except OSError:  # a disk that is full: it is computed again next time
            with contextlib.suppress(OSError):
                partial.unlink()


def key_of(bundle: Path) -> str:
    """Return what a folder is kept for: the bundle's manifest, this device, onnxruntime, this runtime.

    Raises: BundleError where the manifest cannot be read.
    """
    try:
        manifest = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{bundle / MANIFEST}: cannot be read: {error.strerror}") from error
    here = jetson.found()
    board = None if here is None else [here.model, here.release]
    told = [manifest, kernels().name, kernels().architecture, board, build(), RUNTIME_VERSION]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def make_room(folder: Path, keep: str, *, most: int = MOST_FOLDERS, most_bytes: int = MOST_BYTES) -> None:
    """Remove the folders used least lately, until there are at most so many, of so many bytes. keep: the one in use."""
    by_use = sorted((path for path in folder.iterdir() if path.is_dir()), key=_used, reverse=True)
    n_kept = n_bytes = 0
    for path in sorted(by_use, key=lambda path: path.name != keep):
        n_kept, n_bytes = n_kept + 1, n_bytes + _bytes(path)
        if path.name != keep and (n_kept > most or n_bytes > most_bytes):
            shutil.rmtree(path, ignore_errors=True)


def _folder(bundle: Path) -> Path | None:
    try:
        root = models_folder() / _FOLDER
        folder = root / key_of(bundle)
        for each in (root, folder):
            each.mkdir(_PRIVATE, parents=True, exist_ok=True)
            _check_own(each)
        os.utime(folder)
        make_room(root, folder.name)
    except (OSError, BundleError) as error:
        _LOG.warning("nothing is kept of what a GPU's start computes, and it is computed each time: %s", error)
        return None
    return folder


def _check_own(folder: Path) -> None:
    """Refuse a folder that others may write in. Raises: BundleError."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BundleError(f"{folder}: expected a folder of this user that nobody else may read: remove it")


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
