"""The store's index: a digest of every installed bundle's manifest and certificate, out of reach of what damages them.

The manifest has a sha256 of every other file, so that with this digest no byte of an installed bundle changes unseen.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.bundle.bundle import read_small
from edge.bundle.choices import replace_file
from edge.bundle.manifest import CERTIFICATE, MANIFEST
from edge.bundle.strict_json import load, read
from edge.errors import BundleError

_INDEX = ".index"
_MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class Entry:
    """What is known of an installed bundle: `digest` of it, and whether its folder was synced when it was installed."""

    sha256: str
    synced: bool


def digest(path: Path) -> str:
    """Return a sha256 (hex) over the manifest and the certificate of a bundle's folder, the latter if there is one.

    Raises: BundleError, OSError.
    """
    state = hashlib.sha256()
    for name in (MANIFEST, CERTIFICATE):
        try:
            data = read_small(path / name)
        except FileNotFoundError:
            if name == MANIFEST:
                raise
            continue
        state.update(f"{name} {len(data)}\n".encode() + data)
    return state.hexdigest()


def entry(folder: Path, bundle_id: str) -> Entry | None:
    """Return what the index has of a bundle, None for nothing. Raises: BundleError for an index that is damaged."""
    return _entries(folder).get(bundle_id)


def record(folder: Path, bundle_id: str, entry: Entry | None) -> None:
    """Put a bundle into the index, or (None) out of it; the caller holds the folder's lock.

    An index that is damaged is begun anew. Raises: OSError.
    """
    try:
        entries = dict(_entries(folder))
    except BundleError:
        entries = {}
    if entry is None and entries.pop(bundle_id, None) is None:
        return
    if entry is not None:
        entries[bundle_id] = entry
    text = json.dumps({name: asdict(each) for name, each in entries.items()}, sort_keys=True, indent=1)
    replace_file(folder / _INDEX, text)


def _entries(folder: Path) -> dict[str, Entry]:
    path = folder / _INDEX
    try:
        with path.open("rb") as file:
            document = load(file.read(_MAX_BYTES), file=str(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    found: dict[str, Entry] = {}
    for name, value in document.items():
        each = read(Entry, value, file=str(path), key=name)
        if isinstance(each, Entry):
            found[name] = each
    return found
