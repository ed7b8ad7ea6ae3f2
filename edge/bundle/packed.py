"""Packed weights: a bundle's graphs as onnxruntime lays them out for this processor, kept on disk and mapped.

An entry is a folder of its own, named after the digest of the bundle's manifest and after what packed it; it appears by
one rename, its index written last. Graphs in it are onnxruntime's own output and no bundle's, so that they are trusted
by whose they are alone: in folders of this user that nobody else may read, as large, as old and in the same place as
the index says.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edge.bundle.bundle import read_small
from edge.bundle.choices import models_folder, sync_folder
from edge.bundle.manifest import MANIFEST
from edge.bundle.packed_room import INDEX, PARTIAL, drop_partials, entries, evict, limit, make_room, remove
from edge.bundle.strict_json import load, read
from edge.errors import BundleError

FORMAT: Final = 1

KV: Final = "kv"  # of an environment: which of a bundle's decoders is packed; an entry has one

_FOLDER = ".packed"  # in the models folder
_LOCK = ".lock"
_PRIVATE = 0o700
_CHUNK_BYTES = 4 << 20

_LOG = logging.getLogger("edge")


@dataclass(frozen=True)
class File:
    """What is known of a file of an entry; identity: its inode and the time of its last change."""

    bytes: int
    identity: str
    sha256: str


@dataclass(frozen=True)
class Index:
    """What an entry holds: for which bundle, packed by what, and its files by name."""

    format: int
    bundle: str
    manifest: str
    environment: Mapping[str, str]
    files: Mapping[str, File]


class Packed:
    """An entry in use: its index is locked against eviction, and its files are held open to tell when they change."""

    def __init__(self, folder: Path, index: Index, lock: int, descriptors: dict[str, int]) -> None:
        self.folder = folder
        self.index = index
        self.descriptors = descriptors  # by file name
        self._lock = lock

    def graph(self, name: str) -> Path | None:
        """Return the packed graph in the place of a bundle's, None where that one is loaded as it is."""
        return self.folder / name if name in self.index.files else None

    @property
    def n_bytes(self) -> int:
        """The bytes of its files."""
        return sum(file.bytes for file in self.index.files.values())

    def problems(self) -> list[str]:
        """Read every byte, and return the files whose sha256 is not the index's."""
        found = []
        for name, file in self.index.files.items():
            if _sha256(self.descriptors[name]) != file.sha256:
                found.append(f"{self.folder / name}: its sha256 is not the index's: the packed weights are damaged")
        return found

    def close(self) -> None:
        """Let go of the files; closing twice is fine."""
        lock, self._lock = self._lock, -1
        descriptors, self.descriptors = self.descriptors, {}
        for descriptor in (lock, *descriptors.values()):
            if descriptor >= 0:
                os.close(descriptor)


class _Unusable(Exception):
    """Why an entry is not used."""


class _Foreign(_Unusable):
    """An entry that is not this user's own, so not to be removed either."""


def is_on() -> bool:
    """Return whether packed weights are read and written at all. Raises: ParameterError for a wrong EDGE_PACKED."""
    return limit() != 0


def digest(bundle: Path) -> str:
    """Return the sha256 (hex) of a bundle's manifest, which has that of every file. Raises: BundleError, OSError."""
    return hashlib.sha256(read_small(bundle / MANIFEST)).hexdigest()


def home(bundle: Path) -> Path:
    """Return where the packed weights of the bundle in a folder are: beside it where it is installed, else in a cache.

    The cache: $XDG_CACHE_HOME/edge/packed, else ~/.cache/edge/packed. Raises: BundleError without a home folder.
    """
    models = models_folder()
    if bundle.resolve().parent == models.resolve() and _is_ours(models) and os.access(models, os.W_OK):
        return models / _FOLDER
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(chosen) if Path(chosen).is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise BundleError("no home folder for packed weights: set XDG_CACHE_HOME") from error
    return cache / "edge" / "packed"


def has(bundle: Path) -> bool:
    """Return whether there are packed weights of the bundle in a folder, whatever packed them and how they are."""
    try:
        return any(home(bundle).glob(f"{digest(bundle)[:32]}-*"))
    except (OSError, BundleError):
        return False


def find(bundle: Path, environment: Mapping[str, str], *, is_used: bool = True) -> Packed | None:
    """Return the packed weights of the bundle in a folder, None where there are none that can be trusted.

    is_used: the entry counts as used now. Those that are damaged are removed. The caller closes what it gets.
    """
    try:
        folder = home(bundle) / _name(digest(bundle), environment)
        return _opened(folder, environment, is_used=is_used)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, BundleError, _Foreign) as error:
        _LOG.warning("packed weights are not used: %s", error)
    except _Unusable as error:
        _LOG.warning("packed weights are removed: %s", error)
        remove(folder)
    return None


def write(
    bundle: Path,
    bundle_id: str,
    environment: Mapping[str, str],
    n_needed: int,
    make: Callable[[Path], list[str]],
    *,
    waiting: Callable[[], None] = lambda: None,
) -> bool:
    """Put packed weights of the bundle in a folder into place, unless they are there; return whether they are now.

    n_needed: bytes that they may take. make: writes files into an empty folder and returns the names of those to keep,
    none where packing gains nothing. One process at a time packs; the others wait, and find what it made. waiting: told
    before this one waits for another.
    Raises: BundleError saying why there are none.
    """
    folder = home(bundle)
    manifest = digest(bundle)
    target = folder / _name(manifest, environment)
    try:
        _make_private(folder)
        with _locked(folder, waiting=waiting):
            there = find(bundle, environment)
            if there is not None:
                there.close()
                return True
            drop_partials(folder)
            make_room(folder, n_needed)
            partial = folder / f"{PARTIAL}{secrets.token_hex(4)}"
            partial.mkdir(mode=_PRIVATE)
            try:
                names = make(partial)
                if not names:
                    return False
                _index(partial, names, Index(FORMAT, bundle_id, manifest, dict(environment), {}))
                _drop_stale(folder, manifest, environment)
                if target.exists():  # one that is not to be trusted, and could not be removed
                    remove(target)
                partial.rename(target)
                sync_folder(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return True


def link(packed: Packed, graphs: Iterable[str], folder: Path) -> list[str]:
    """Have files of an entry in another that is written into a folder, without copies; return their names.

    graphs: those wanted; the ones that the entry has are linked with their weights, once every byte was found as its
    index says. Raises: OSError where the file system has no links.
    """
    linked: list[str] = []
    for graph in graphs:
        names = (graph, f"{graph.removesuffix('.onnx')}.bin")
        files, descriptors = packed.index.files, packed.descriptors
        if all(name in files and _sha256(descriptors[name]) == files[name].sha256 for name in names):
            for name in names:
                os.link(packed.folder / name, folder / name, follow_symlinks=False)
            linked += names
    return linked


def forget(bundle: Path) -> None:
    """Remove all packed weights of the bundle in a folder, whatever packed them; what fails is left.

    What packing of any bundle left when it was killed is removed too, unless somebody is packing.
    """
    with contextlib.suppress(OSError, BundleError):
        folder, prefix = home(bundle), ""
        with contextlib.suppress(OSError, BundleError):  # it may be damaged, and its id in the models folder will do
            prefix = digest(bundle)[:32]
        for entry, _, _ in [*entries(folder)]:
            if (prefix and entry.name.startswith(f"{prefix}-")) or (folder.name == _FOLDER and _is_of(entry, bundle)):
                remove(entry)
        with _locked(folder, waits=False):
            drop_partials(folder)


def _is_of(entry: Path, bundle: Path) -> bool:
    try:
        return _read_index(entry).bundle == bundle.name
    except (_Unusable, OSError):
        return False


def _name(manifest: str, environment: Mapping[str, str]) -> str:
    key = json.dumps({"format": FORMAT, **environment}, sort_keys=True)
    return f"{manifest[:32]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _opened(folder: Path, environment: Mapping[str, str], *, is_used: bool) -> Packed:
    """Open an entry and compare its files with its index. Raises: _Unusable, OSError."""
    for place in (folder.parent, folder):
        _check_is_private(place)
    lock = os.open(folder / INDEX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    descriptors: dict[str, int] = {}
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        index = _read_index(folder)
        if index.format != FORMAT or dict(index.environment) != dict(environment):
            raise _Unusable(f"{folder}: was packed by something else")
        for name, file in index.files.items():
            if name != Path(name).name:
                raise _Unusable(f"{folder}: {name!r:.100} is not a name")
            descriptors[name] = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            _check(folder / name, file, descriptors[name])
        if is_used:
            with contextlib.suppress(OSError):
                os.utime(folder / INDEX)  # the entry that was used last is evicted last
    except BaseException as error:
        for descriptor in (lock, *descriptors.values()):
            os.close(descriptor)
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ELOOP):
            raise _Unusable(f"{folder}: {Path(error.filename).name} is missing, or a link") from error
        raise
    return Packed(folder, index, lock, descriptors)


def _read_index(folder: Path) -> Index:
    file = folder / INDEX
    try:
        index = read(Index, load(read_small(file), file=str(file)), file=str(file), key="")
    except BundleError as error:
        raise _Unusable(str(error)) from error
    if not isinstance(index, Index):
        raise _Unusable(f"{file}: expected an object")
    return index


def _check(path: Path, file: File, descriptor: int) -> None:
    """Compare an open file with what the index says; graphs byte by byte. Raises: _Unusable."""
    found = os.fstat(descriptor)
    if (found.st_size, _identity(found)) != (file.bytes, file.identity):
        raise _Unusable(f"{path}: is not as it was written")
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise _Foreign(f"{path}: is not a file of this user")
    if path.suffix == ".onnx" and _sha256(descriptor) != file.sha256:
        raise _Unusable(f"{path}: its sha256 is not the index's")


def _identity(found: os.stat_result) -> str:
    return f"{found.st_ino} {found.st_mtime_ns}"


def _check_is_private(folder: Path) -> None:
    """Check that a folder is this user's and nobody else may enter it. Raises: _Foreign, OSError."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise _Foreign(f"{folder}: expected a folder of this user that nobody else may enter (mode 0700)")


def _is_ours(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _make_private(folder: Path) -> None:
    """Make the folder of all entries. Raises: BundleError for one that others may enter, OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=_PRIVATE)
    try:
        _check_is_private(folder)
    except _Foreign as error:
        raise BundleError(str(error)) from error


@contextlib.contextmanager
def _locked(folder: Path, *, waits: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a folder's lock; waiting: told before it is waited for. Raises: BlockingIOError unless it waits."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waits:
                raise
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _index(folder: Path, names: list[str], index: Index) -> None:
    """Sync the files of a fresh entry, drop those that are not kept, and write its index. Raises: OSError."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name not in names:
            path.unlink()
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o400)
            os.fsync(descriptor)
            found = os.fstat(descriptor)
            files[path.name] = File(found.st_size, _identity(found), _sha256(descriptor))
        finally:
            os.close(descriptor)
    text = json.dumps(asdict(index) | {"files": {name: asdict(file) for name, file in files.items()}}, indent=1)
    with (folder / INDEX).open("x", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    sync_folder(folder)


def _drop_stale(folder: Path, manifest: str, environment: Mapping[str, str]) -> None:
    """Remove what other software packed of the same bundle for the same processor: it would not be used again."""
    for entry in folder.glob(f"{manifest[:32]}-*"):
        with contextlib.suppress(_Unusable, OSError, BundleError):
            found = _read_index(entry).environment
            is_other_graph = found.get(KV) != environment.get(KV) and _without_kv(found) == _without_kv(environment)
            if found.get("processor") == environment.get("processor") and not is_other_graph:
                evict(entry)


def _without_kv(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != KV}


def _sha256(descriptor: int) -> str:
    state = hashlib.sha256()
    at = 0
    while block := os.pread(descriptor, _CHUNK_BYTES, at):
        state.update(block)
        at += len(block)
    return state.hexdigest()
