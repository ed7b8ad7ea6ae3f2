"""A bundle from a repository of a model hub: looked at before it is downloaded, resumed, verified and installed."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from edge.bundle import hub, install
from edge.bundle.bundle import MAX_MANIFEST_BYTES
from edge.bundle.choices import models_folder
from edge.bundle.hub import Listing, RemoteFile, Repository
from edge.bundle.manifest import CERTIFICATE, MANIFEST, AnyManifest
from edge.bundle.store import Stored, read_manifest
from edge.errors import BundleError, HubError, ParameterError

STAGING: Final = ".pull-"  # with the repository's name behind it, in the models folder

Progress = Callable[[int, int], None]  # bytes that are here, bytes in all
Tell = Callable[[str], None]


def pull(
    name: str,
    *,
    id: str | None = None,  # noqa: A002 - a bundle's
    replaces: bool = False,
    tell: Tell | None = None,
    progress: Progress | None = None,
) -> Stored:
    """Download the bundle of a repository and install it; an interrupted one goes on where it ended.

    name: ORG/NAME or ORG/NAME@REVISION. id: of the installed bundle, its own unless given. replaces: whether an
    installed bundle of this id makes room. tell: a line about what is to come; progress: bytes that are here, and all.
    Nothing is downloaded but the files that the manifest lists, and the certificate; nothing is executed.
    Raises: ParameterError for what names no repository or is no id; HubError, BundleError, with what to do.
    """
    repository = read_name(name)
    if hub.is_offline():
        return _from_cache(repository, id, replaces=replaces, progress=progress)
    listing = hub.listing(repository)
    _check_is_bundle(repository, listing.files)
    with staging(repository) as staged:
        hub.download(listing, _manifest_file(listing), staged / MANIFEST)
        manifest = install.renamed(read_manifest(staged), id)
        install.check_id_is_free(manifest.id, models_folder(), replaces=replaces)
        files = _files(listing, manifest)
        _announce(listing, manifest, files, staged, tell or _silent)
        download(listing, files, staged, progress, kept=(MANIFEST,))
        return install.take(staged, source=str(repository), id=id, replaces=replaces)


def read_name(name: str) -> Repository:
    """Return the repository of a name. Raises: ParameterError for what names none, and for what is here."""
    if name and Path(name).exists():
        raise ParameterError(f"{name} is a folder here: edge models install {name}", field="model")
    repository = hub.named(name)
    if repository is None:
        wanted = "expected ORG/NAME or ORG/NAME@REVISION of a hub"
        raise ParameterError(f"model {name!r:.200}: {wanted}", field="model")
    return repository


def _check_is_bundle(repository: Repository, names: Iterable[str]) -> None:
    """Say of a repository without a manifest what it holds. Raises: HubError."""
    found = list(names)
    if MANIFEST in found:
        return
    voices = sorted(Path(name).stem for name in found if name.endswith(".onnx") and f"{name}.json" in found)
    if voices:
        some = f"{', '.join(voices[:4])}{' and others' if len(voices) > 4 else ''}"
        raise HubError(f"{repository} has voices of Piper ({some}): name one with --voice")
    if any(name.endswith((".safetensors", ".gguf")) for name in found):
        way = f"edge-export {repository} makes a bundle of it, then edge models install DIR"
        raise HubError(f"{repository} is a checkpoint, not a bundle: {way}")
    raise HubError(f"{repository} has no {MANIFEST}: not a bundle, as edge-export makes it")


def _manifest_file(listing: Listing) -> RemoteFile:
    file = hub.sized(listing, MANIFEST)
    if (file.n_bytes or 0) > MAX_MANIFEST_BYTES:
        raise HubError(f"{listing.repository}: {MANIFEST}: expected at most {MAX_MANIFEST_BYTES} bytes")
    return file


def _files(listing: Listing, manifest: AnyManifest) -> list[RemoteFile]:
    """Return the files to download, as the manifest declares them. Raises: HubError where the hub's are others."""
    wanted = []
    for name, entry in sorted(manifest.files.items()):
        found = hub.sized(listing, name)
        declared = RemoteFile(name, entry.bytes, entry.sha256, None)
        if found.n_bytes != entry.bytes or found.sha256 not in (None, entry.sha256):
            what = f"{found.n_bytes} bytes" if found.n_bytes != entry.bytes else f"the sha256 {found.sha256}"
            raise HubError(
                f"{listing.repository}: {name} has {what} and is not the file of the manifest"
                f" ({entry.bytes} bytes, sha256 {entry.sha256}): the repository is damaged"
            )
        wanted.append(declared)
    if CERTIFICATE in listing.files:
        certificate = hub.sized(listing, CERTIFICATE)
        if (certificate.n_bytes or 0) > MAX_MANIFEST_BYTES:
            raise HubError(f"{listing.repository}: {CERTIFICATE}: expected at most {MAX_MANIFEST_BYTES} bytes")
        wanted.append(certificate)
    return wanted


def _announce(listing: Listing, manifest: AnyManifest, files: list[RemoteFile], staged: Path, tell: Tell) -> None:
    """Tell the sizes and the free disk. Raises: HubError where it cannot fit."""
    n_bytes = sum(file.n_bytes or 0 for file in files)
    n_here = sum(_n_staged(staged / file.name) for file in files)
    way = "set EDGE_MODELS to a folder on a larger disk"
    free = hub.check_room(models_folder(), n_bytes - n_here, what=manifest.id, way=way)
    left = f", {hub.megabytes(n_here)} of it here already" if n_here else ""
    tell(
        f"{listing.repository} at {listing.commit[:12]}: {manifest.id}, {hub.megabytes(n_bytes)}{left};"
        f" {models_folder()} has {hub.megabytes(free)} left"
    )


def _n_staged(path: Path) -> int:
    """Return the bytes of a file that are here, whole or in part."""
    there = next((each for each in (path, path.with_name(path.name + hub.PARTIAL)) if each.is_file()), None)
    return 0 if there is None else there.stat().st_size


def download(
    listing: Listing, files: list[RemoteFile], staged: Path, progress: Progress | None, *, kept: tuple[str, ...] = ()
) -> None:
    """Download files of a repository into a folder, and remove others: of another revision, or an earlier choice.

    progress: told bytes done, and all. kept: names in the folder that stay. Raises: HubError.
    """
    done, total = 0, sum(file.n_bytes or 0 for file in files)

    def advance(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if progress is not None:
            progress(done, total)

    for file in files:
        target = staged / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        hub.download(listing, file, target, progress=advance)
    names = {*kept, *(file.name for file in files)}
    for path in staged.rglob("*"):
        if path.is_file() and path.relative_to(staged).as_posix() not in names:
            path.unlink()


@contextlib.contextmanager
def staging(repository: Repository) -> Iterator[Path]:
    """Hold the folder where a repository's files are collected: it outlasts failures, and goes once all is installed.

    Raises: BundleError when the models folder cannot be written, HubError when another process pulls the same.
    """
    staged = models_folder() / f"{STAGING}{repository.id.replace('/', '--')}"
    try:
        staged.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        way = "EDGE_MODELS names another folder: export EDGE_MODELS=DIR"
        raise BundleError(f"{staged}: cannot be written: {error.strerror}; {way}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HubError(f"{repository.id} is being pulled by another process: wait for it") from error
        try:
            yield staged
        finally:
            if {path.name for path in staged.iterdir()} <= {MANIFEST}:  # nothing that was long in coming
                shutil.rmtree(staged, ignore_errors=True)
    finally:
        os.close(descriptor)


def _from_cache(repository: Repository, bundle_id: str | None, *, replaces: bool, progress: Progress | None) -> Stored:
    """Install what huggingface_hub's cache has of a repository, without a network. Raises: HubError, BundleError."""
    folder = hub.cached_folder(repository)
    _check_is_bundle(repository, (path.name for path in folder.iterdir()))
    return install.install(folder, id=bundle_id, replaces=replaces, progress=progress)


def _silent(_line: str) -> None:
    """Tell nobody."""
