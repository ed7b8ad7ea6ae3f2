"""Bundles installed and removed: each appears by one rename after every byte was verified, and vanishes by one."""

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from edge.bundle import bundle as bundle_files
from edge.bundle import choices, index, packed
from edge.bundle.bundle import MAX_MANIFEST_BYTES
from edge.bundle.choices import locked, models_folder, set_speech_models, settle, speech_models, sync_folder
from edge.bundle.manifest import CERTIFICATE, MANIFEST, AnyManifest, dump_manifest
from edge.bundle.store import Stored, at, installed_folders, named, read_manifest, refuse_checkpoint
from edge.bundle.swap import exchange
from edge.errors import BundleError, ParameterError

Progress = Callable[[int, int], None]  # bytes copied, bytes in all

_PARTIAL = ".partial-"
_CHUNK_BYTES = 4 << 20
_NOT_COPIED = re.compile(r"\..*|README(\.md)?|LICENSE(\..*)?")


def install(
    source: Path,
    *,
    id: str | None = None,  # noqa: A002 - a bundle's
    replaces: bool = False,
    progress: Progress | None = None,
) -> Stored:
    """Copy a bundle folder (its files may be links) into the models folder, verified byte by byte.

    id: of the copy, in its manifest too; the bundle's own unless given. replaces: whether an installed bundle of this
    id makes room, in one step, once the copy is verified; otherwise it is an error. progress: told bytes done, and all.
    Raises: ParameterError for what is no id; BundleError. Nothing that looks like a bundle is left behind then, unless
    the error says that it is installed and only the last sync failed: then the same install again verifies it and
    syncs.
    """
    source = Path(source).expanduser().absolute()
    folder = models_folder()
    try:
        manifest = renamed(read_manifest(source), id)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _drop_partials(folder)
            if not _waits_for_sync(source, manifest.id, folder):
                _install(source, manifest, folder, progress, replaces=replaces)
            _settle(manifest.id, folder)
    except OSError as error:
        refuse_checkpoint(source)
        if not (source / MANIFEST).is_file():
            found = "" if source.exists() else "; there is no such file or folder"
            raise BundleError(
                f"{source}: not a bundle: expected a folder with {MANIFEST}, as edge-export makes it{found}"
            ) from error
        raise BundleError(f"{source}: cannot be installed in {folder}: {error.strerror or error}") from error
    return at(folder / manifest.id)


def take(
    staged: Path,
    *,
    source: str,
    id: str | None = None,  # noqa: A002 - a bundle's
    replaces: bool = False,
) -> Stored:
    """Install a bundle by moving its files out of a folder beside the installed ones, verified byte by byte.

    staged: in the models folder, so that nothing is copied; what of it is no part of the bundle stays there. source:
    what errors call it. id, replaces, Raises: as for `install`; the files are gone then too.
    """
    folder = models_folder()
    try:
        manifest = renamed(read_manifest(staged), id)
        with locked(folder):
            _drop_partials(folder)
            check_id_is_free(manifest.id, folder, replaces=replaces)
            _move(staged, source, manifest, folder)
            _settle(manifest.id, folder)
    except OSError as error:
        raise BundleError(f"{source}: cannot be installed in {folder}: {error.strerror or error}") from error
    return at(folder / manifest.id)


def _move(staged: Path, source: str, manifest: AnyManifest, folder: Path) -> None:
    """Move the files of a bundle into a fresh sibling, verify it, rename it into place."""
    partial = folder / f"{_PARTIAL}{secrets.token_hex(4)}"
    partial.mkdir(mode=0o755)
    try:
        for name in _names(staged, manifest):
            (staged / name).rename(partial / name)
            with (partial / name).open("rb") as file:
                _finish(file.fileno())
        _put(partial, Path(source), manifest, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_id_is_free(bundle_id: str, folder: Path, *, replaces: bool) -> None:
    """Refuse the id of an installed bundle that is not to be replaced. Raises: BundleError."""
    if (folder / bundle_id).exists() and not replaces:
        way = f"edge models remove {bundle_id}, then install again; or --replace; or --id NAME for a second one"
        raise BundleError(f"{bundle_id} is installed already: {way}")


def remove(name: str) -> None:
    """Remove an installed bundle by its id, damaged or not. Raises: UnknownModelError, BundleError for the embedded."""
    folder = models_folder()
    if name not in [path.name for path, _ in installed_folders()]:
        stored = named(name, None)
        what = "is part of the installation" if stored.embedded else f"is an alias of {stored.id}: name the id"
        raise BundleError(f"{name} cannot be removed: it {what}")
    try:
        with locked(folder):
            packed.forget(folder / name)
            doomed = folder / f"{_PARTIAL}{secrets.token_hex(4)}"
            (folder / name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)  # what is left of it goes with the next install
            with contextlib.suppress(OSError):  # it is gone all the same, and the next install of this id sets it right
                index.record(folder, name, None)
                choices.forget_default(name)
            settle(folder, f"{name} is removed")
    except OSError as error:
        raise BundleError(f"{name} cannot be removed: {error.strerror}") from error
    known = speech_models()
    left = {chat: speech for chat, speech in known.items() if name not in (chat, speech)}
    if left != known:
        set_speech_models(left)


def renamed(manifest: AnyManifest, bundle_id: str | None) -> AnyManifest:
    """Return a manifest with another id, None for its own. Raises: ParameterError for one that is no id."""
    if bundle_id is None or bundle_id == manifest.id:
        return manifest
    renamed = replace(manifest, id=bundle_id, aliases=tuple(name for name in manifest.aliases if name != bundle_id))
    try:
        dump_manifest(renamed)
    except BundleError as error:
        wanted = "letters, digits, dots and dashes, at most 100, a letter or digit first"
        raise ParameterError(f"id: expected {wanted}, got {bundle_id!r:.200}", field="id") from error
    return renamed


def _install(source: Path, manifest: AnyManifest, folder: Path, progress: Progress | None, *, replaces: bool) -> None:
    """Copy into a fresh sibling, verify it, rename it into place; the sibling is gone on every other way out."""
    check_id_is_free(manifest.id, folder, replaces=replaces)
    names = _names(source, manifest)
    unknown = sorted(p.name for p in source.iterdir() if p.name not in names and not _NOT_COPIED.fullmatch(p.name))
    if unknown:
        raise BundleError(f"{source}: unknown file {unknown[0]!r:.200}")
    n_needed, n_free = sum(e.bytes for e in manifest.files.values()), shutil.disk_usage(folder).free
    if n_needed > n_free:
        raise BundleError(f"{manifest.id} needs {n_needed} bytes, {folder} has {n_free} left")
    partial = folder / f"{_PARTIAL}{secrets.token_hex(4)}"
    partial.mkdir(mode=0o755)
    try:
        n_done = 0
        for name in names:
            limit = manifest.files[name].bytes if name in manifest.files else MAX_MANIFEST_BYTES
            for n_bytes in _copy(source / name, partial / name, limit):
                n_done += n_bytes
                if progress is not None:
                    progress(min(n_done, n_needed), n_needed)
        _put(partial, source, manifest, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _names(source: Path, manifest: AnyManifest) -> list[str]:
    """Return the files of a bundle's folder that are installed."""
    return [MANIFEST, *sorted(manifest.files), *([CERTIFICATE] if (source / CERTIFICATE).exists() else [])]


def _put(partial: Path, source: Path, manifest: AnyManifest, folder: Path) -> None:
    """Verify a folder of synced files and rename it into place. Raises: BundleError, which calls it `source`."""
    target = folder / manifest.id
    if manifest != read_manifest(partial):
        _rewrite(partial / MANIFEST, dump_manifest(manifest))
    sync_folder(partial)
    problems = [problem.replace(str(partial), str(source)) for problem in bundle_files.verify(partial)]
    if problems:
        raise BundleError("; ".join(problems))
    index.record(folder, manifest.id, index.Entry(index.digest(partial), synced=True))
    if target.exists():
        packed.forget(target)
        exchange(partial, target)  # the old one is where the new one was, and goes with it
    else:
        partial.rename(target)


def _settle(bundle_id: str, folder: Path) -> None:
    """Have a bundle that is in place outlast a power cut. Raises: BundleError saying that it is installed."""
    known = index.entry(folder, bundle_id)
    try:
        settle(folder, f"{bundle_id} is installed in {folder / bundle_id}")
    except BundleError:
        if known is not None:
            with contextlib.suppress(OSError):
                index.record(folder, bundle_id, replace(known, synced=False))
        raise
    if known is not None and not known.synced:
        index.record(folder, bundle_id, replace(known, synced=True))


def _waits_for_sync(source: Path, bundle_id: str, folder: Path) -> bool:
    """Return whether the same bundle is in place, every byte of it, and only the sync of its folder had failed."""
    target, known = folder / bundle_id, None
    with contextlib.suppress(BundleError):
        known = index.entry(folder, bundle_id)
    if known is None or known.synced or not target.exists():
        return False
    return known.sha256 == index.digest(target) == index.digest(source) and not bundle_files.verify(target)


def _copy(source: Path, target: Path, limit: int) -> Iterator[int]:
    """Copy one file, through links, and sync it; yield each block's size. Raises: BundleError past `limit` bytes."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reader, target.open("xb") as writer:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleError(f"{source}: not a regular file")
        while block := reader.read(_CHUNK_BYTES):
            if writer.tell() + len(block) > limit:
                raise BundleError(f"{source}: expected at most {limit} bytes")
            writer.write(block)
            yield len(block)
        writer.flush()
        _finish(writer.fileno())


def _finish(descriptor: int) -> None:
    """Make a written file read-only, and have verifying read what the disk holds, not what was just in memory."""
    os.fchmod(descriptor, 0o444)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _rewrite(file: Path, data: bytes) -> None:
    """Write a file anew, read-only and synced."""
    file.unlink()
    with file.open("xb") as writer:
        writer.write(data)
        writer.flush()
        os.fchmod(writer.fileno(), 0o444)
        os.fsync(writer.fileno())


def _drop_partials(folder: Path) -> None:
    """Remove what a killed install left; the caller holds the lock, so nobody is writing it."""
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)
