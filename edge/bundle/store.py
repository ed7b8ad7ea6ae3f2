"""Where bundles live on a device: the embedded one, the installed ones, and which of them answers to a name.

Installed bundles are immutable: they appear by one rename after every byte was verified, and vanish by one rename.
"""

import contextlib
import functools
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edge.bundle import aliases as naming
from edge.bundle import bundle as bundle_files
from edge.bundle import choices, index
from edge.bundle.choices import aliases, change_aliases, companions, locked, set_companions, settle, sync_folder
from edge.bundle.choices import default_id as default_id
from edge.bundle.choices import models_folder as models_folder
from edge.bundle.manifest import CERTIFICATE, MANIFEST, AnyManifest, Manifest, parse_manifest
from edge.errors import BundleError, ParameterError, UnknownModelError

Progress = Callable[[int, int], None]  # bytes copied, bytes in all
Kind = Literal["chat", "speech"]

_PACKAGE = Path(__file__).resolve().parents[1]
_DATED = re.compile(r"-\d{8}$|(?<=^reka-edge)-\d{4}$|(?<=^reka-flash)-\d(\.\d)?$")  # and versions of Reka's
_PARTIAL = ".partial-"
_CHUNK_BYTES = 4 << 20
_MAX_MANIFEST_BYTES = 8 << 20
_WEIGHTS = (".safetensors", ".gguf", ".pth", ".pt")
_NOT_COPIED = re.compile(r"\..*|README(\.md)?|LICENSE(\..*)?")


@dataclass(frozen=True)
class Stored:
    """A bundle on this device, its manifest read and its files not yet looked at."""

    path: Path
    manifest: AnyManifest
    embedded: bool

    @property
    def kind(self) -> Kind:
        """Whether it chats, or turns speech into text for one that does."""
        return "chat" if isinstance(self.manifest, Manifest) else "speech"

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def names(self) -> tuple[str, ...]:
        """Its id, then its aliases."""
        return (self.manifest.id, *self.manifest.aliases)

    @property
    def n_bytes(self) -> int:
        return sum(entry.bytes for entry in self.manifest.files.values())


def bundles(kind: Kind | None = "chat") -> list[Stored]:
    """Return every readable bundle of a kind (None: of both), the one that wins shared names first.

    The order: the default, the installed, the embedded.
    """
    return [stored for stored in _scan()[0] if kind in (None, stored.kind)]


def broken() -> list[tuple[Path, str]]:
    """Return the folders that look like bundles and cannot be read, each with the reason."""
    return _scan()[1]


def at(path: Path) -> Stored:
    """Return the bundle in a folder, wherever it lies. Raises: BundleError."""
    path = Path(path).expanduser().absolute()
    try:
        return Stored(path, _manifest(path, (path / MANIFEST).stat().st_mtime_ns), embedded=False)
    except OSError as error:
        _refuse_checkpoint(path)
        raise BundleError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}") from error


def resolve(name: str, *, aliases: Mapping[str, str], first: Stored | None, kind: Kind | None = "chat") -> Stored:
    """Return the bundle that answers to a model name.

    name: an id, an alias, or either with a date or a version behind it (`reka-edge-20240208`, `reka-flash-3.1`).
    aliases: the caller's own names for models; they are looked at before everything else, then those of EDGE_ALIAS,
    then ids, then those of `set_aliases`, then the bundles' own. A name may stand for a name.
    first: a bundle that is loaded already and wins the names it shares with others. kind: None for either.
    Raises: UnknownModelError saying what is installed and the way out, BundleError for the id of a damaged bundle,
    ParameterError for an EDGE_ALIAS that is not one.
    Source: chat-interface.md, 5.
    """
    candidates = [*([first] if first else []), *bundles(kind)]
    wanted = _followed(name, aliases, ids={stored.id for stored in candidates})
    for spelling in dict.fromkeys((wanted, _DATED.sub("", wanted))):
        for names in (lambda stored: (stored.id,), lambda stored: stored.names):
            found = next((stored for stored in candidates if spelling in names(stored)), None)
            if found is not None:
                return found
        for path, reason in broken() if spelling == wanted else ():
            if path.name == spelling:
                raise BundleError(reason)
    raise _unknown_speech(name, candidates) if kind == "speech" else _unknown(name, wanted, candidates)


def _followed(name: str, given: Mapping[str, str], *, ids: set[str]) -> str:
    """Return what a name stands for in the end; a ring of names ends where it closes."""
    layers = [given, naming.of_environment()]
    wanted, seen = name, {name}
    while True:
        target = _stands_for(wanted, layers)
        if target is None and wanted not in ids:
            target = _stands_for(wanted, [aliases()])
        if target is None:
            return wanted
        wanted = target
        if target in seen:
            return wanted
        seen.add(target)


def _stands_for(name: str, layers: list[Mapping[str, str]]) -> str | None:
    """Return what the first layer that knows a name, with or without its date, has for it."""
    spellings = dict.fromkeys((name, _DATED.sub("", name)))
    return next((layer[spelling] for layer in layers for spelling in spellings if layer.get(spelling)), None)


def named(name: str, kind: Kind | None = "chat") -> Stored:
    """Return the bundle of an id or alias on this device. Raises: UnknownModelError."""
    return resolve(name, aliases={}, first=None, kind=kind)


def install(source: Path, *, progress: Progress | None = None) -> Stored:
    """Copy a bundle folder (its files may be links) into the models folder, verified byte by byte.

    Raises: BundleError; nothing that looks like a bundle is left behind then, unless the error says that it is
    installed and only the last sync failed: then the same install again verifies it and syncs.
    """
    source = Path(source).expanduser().absolute()
    folder = models_folder()
    try:
        manifest = _source_manifest(source)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _drop_partials(folder)
            if not _waits_for_sync(source, manifest.id, folder):
                _install(source, manifest, folder, progress)
            _settle(manifest.id, folder)
    except OSError as error:
        _refuse_checkpoint(source)
        raise BundleError(f"{source}: cannot be installed in {folder}: {error.strerror or error}") from error
    return at(folder / manifest.id)


def remove(name: str) -> None:
    """Remove an installed bundle by its id, damaged or not. Raises: UnknownModelError, BundleError for the embedded."""
    folder = models_folder()
    if name not in [path.name for path, _ in _installed_folders()]:
        stored = named(name, None)
        what = "is part of the installation" if stored.embedded else f"is an alias of {stored.id}: name the id"
        raise BundleError(f"{name} cannot be removed: it {what}")
    try:
        with locked(folder):
            doomed = folder / f"{_PARTIAL}{secrets.token_hex(4)}"
            (folder / name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)  # what is left of it goes with the next install
            with contextlib.suppress(OSError):  # it is gone all the same, and the next install of this id sets it right
                index.record(folder, name, None)
                if default_id() == name:
                    choices.forget_default()
            settle(folder, f"{name} is removed")
    except OSError as error:
        raise BundleError(f"{name} cannot be removed: {error.strerror}") from error
    known = companions()
    left = {chat: speech for chat, speech in known.items() if name not in (chat, speech)}
    if left != known:
        set_companions(left)


def verify(stored: Stored) -> tuple[list[str], bool]:
    """Read every byte of a bundle: return what is wrong with it, and whether its manifest and certificate are covered.

    They are where the bundle is installed: the index has a digest of them. For the embedded bundle and for any other
    folder, only what the manifest lists is. Writes nothing.
    """
    problems = bundle_files.verify(stored.path)
    folder = None if stored.embedded else stored.path.parent
    if folder is None or folder != models_folder():
        return problems, False
    try:
        known = index.entry(folder, stored.path.name)
        changed = known is not None and index.digest(stored.path) != known.sha256
    except (BundleError, OSError) as error:
        return [*problems, str(error)], False
    if changed:
        problems.append(f"{stored.path}: {MANIFEST} or {CERTIFICATE} is not as it was installed")
    return problems, known is not None


def check(path: Path) -> None:
    """Read every byte of the bundle in a folder. Raises: BundleError saying what is wrong."""
    problems, _ = verify(at(path))
    if problems:
        raise BundleError("; ".join(problems))


def set_default(name: str) -> Stored:
    """Make a bundle the one that wins the names it shares with others. Raises: UnknownModelError, BundleError."""
    stored = named(name)
    choices.set_default(stored.id)
    return stored


def companion(name: str) -> str | None:
    """Return the id of a chat bundle's speech-to-text model, by the chat bundle's id; None without one."""
    return companions().get(name)


def set_companion(name: str, speech: str | None) -> tuple[Stored, Stored | None]:
    """Set the speech-to-text model of a chat bundle, or none; returns both. Raises: UnknownModelError, BundleError."""
    stored, listening = named(name), None if speech is None else named(speech, "speech")
    known = {chat: used for chat, used in companions().items() if chat != stored.id}
    if listening is not None:
        known[stored.id] = listening.id
    set_companions(known)
    return stored, listening


def set_aliases(added: Mapping[str, str]) -> dict[str, Stored]:
    """Have further names stand for models; returns the bundle that answers to each.

    Raises: UnknownModelError, BundleError; ParameterError for the id of an installed bundle, which would still win.
    """
    answering = {}
    for name, target in added.items():
        if any(stored.id == name for stored in bundles(None)):
            msg = f"alias {name!r:.200}: a bundle of this id is installed, and wins; expected another name"
            raise ParameterError(msg, field="alias")
        answering[name] = resolve(target, aliases=added, first=None, kind=None)
    change_aliases(lambda known: {**known, **added})
    return answering


def remove_alias(name: str) -> None:
    """Let a name stand for nothing any more. Raises: ParameterError when it does not, BundleError."""
    known = aliases()
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        msg = f"alias {name!r:.200}: no such alias is stored; expected one of: {there} (edge models alias list)"
        raise ParameterError(msg, field="alias")
    change_aliases(lambda known: {other: target for other, target in known.items() if other != name})


def _scan() -> tuple[list[Stored], list[tuple[Path, str]]]:
    found: dict[str, Stored] = {}
    bad: list[tuple[Path, str]] = []
    for path, embedded in [*_installed_folders(), *_embedded_folders()]:
        try:
            stored = Stored(path, at(path).manifest, embedded)
            if not embedded and stored.id != path.name:
                raise BundleError(f"{path}: the manifest's id is {stored.id!r}, expected the folder's name")
            found.setdefault(stored.id, stored)
        except BundleError as error:
            bad.append((path, str(error)))
    chosen = default_id()
    return sorted(found.values(), key=lambda stored: stored.id != chosen), bad


def _installed_folders() -> Iterator[tuple[Path, bool]]:
    with contextlib.suppress(OSError, BundleError):
        for path in sorted(models_folder().iterdir()):
            if not path.name.startswith(".") and path.is_dir():
                yield path, False


def _embedded_folders() -> Iterator[tuple[Path, bool]]:
    """Yield the bundles that came with the package: in the wheel, or in the checkout the package is part of."""
    homes = [_PACKAGE / "_embedded"]
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        homes.append(_PACKAGE.parent / "models")
    for home in homes:
        for path in sorted([home, *(home.iterdir() if home.is_dir() else ())]):
            if (path / MANIFEST).is_file():
                yield path, True


@functools.lru_cache(maxsize=64)
def _manifest(path: Path, _mtime_ns: int) -> AnyManifest:
    """Read a manifest; the time of its last change is part of the cache's key."""
    return _source_manifest(path)


def _source_manifest(path: Path) -> AnyManifest:
    file = path / MANIFEST
    if not stat.S_ISREG(file.stat().st_mode):
        raise BundleError(f"{file}: not a regular file")
    with file.open("rb") as opened:
        data = opened.read(_MAX_MANIFEST_BYTES + 1)
    if len(data) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{file}: expected at most {_MAX_MANIFEST_BYTES} bytes")
    return parse_manifest(data, file=str(file))


def _unknown(name: str, wanted: str, candidates: list[Stored]) -> UnknownModelError:
    """Return the error for a name that no chat bundle answers to; wanted: what it stands for."""
    shown = repr(name[:200])
    if any(wanted in stored.names for stored in bundles("speech")):
        way = f"edge models speech CHAT {name[:100]}"
        return UnknownModelError(f"{shown} turns speech into text and does not chat: {way}", name=name)
    missing = f"model {shown} is not installed"
    if wanted != name:
        missing = f"model {shown} stands for {wanted[:200]!r}, which is not installed"
    if not candidates:
        return UnknownModelError(f"{missing}, and no other: edge models install DIR", name=name)
    described = [f"{s.id} ({', '.join(s.names[1:])})" if s.names[1:] else s.id for s in candidates]
    found = f"{missing}; installed: {', '.join(dict.fromkeys(described))}"
    target, short = candidates[0].names[-1], name[:60]
    pair = f"{short}={target}"
    ways = f'Reka(aliases={{"{short}": "{target}"}}), edge serve --alias {pair}, or edge models alias set {pair}'
    return UnknownModelError(f"{found}. To answer under that name: {ways}", found=found, name=name, target=target)


def _unknown_speech(name: str, candidates: list[Stored]) -> UnknownModelError:
    installed = ", ".join(stored.id for stored in candidates) or "none"
    found = f"speech bundle {name[:200]!r} is not installed; installed: {installed}"
    return UnknownModelError(f"{found}. To add one: edge models install DIR", name=name)


def _install(source: Path, manifest: AnyManifest, folder: Path, progress: Progress | None) -> None:
    """Copy into a fresh sibling, verify it, rename it into place; the sibling is gone on every other way out."""
    target = folder / manifest.id
    if target.exists():
        raise BundleError(f"{manifest.id} is installed already: edge models remove {manifest.id}, then install again")
    names = [MANIFEST, *sorted(manifest.files), *([CERTIFICATE] if (source / CERTIFICATE).exists() else [])]
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
            limit = manifest.files[name].bytes if name in manifest.files else _MAX_MANIFEST_BYTES
            for n_bytes in _copy(source / name, partial / name, limit):
                n_done += n_bytes
                if progress is not None:
                    progress(min(n_done, n_needed), n_needed)
        sync_folder(partial)
        problems = [problem.replace(str(partial), str(source)) for problem in bundle_files.verify(partial)]
        if problems:
            raise BundleError("; ".join(problems))
        index.record(folder, manifest.id, index.Entry(index.digest(partial), synced=True))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def _refuse_checkpoint(path: Path) -> None:
    """Say of a checkpoint that it is one, and what makes a bundle of it. Raises: BundleError."""
    files = [path] if path.is_file() else list(path.glob("*")) if path.is_dir() else []
    known = [file for file in files if file.suffix in _WEIGHTS or file.name == "config.json"]
    if not known or (path / MANIFEST).exists():
        return
    folder = path.parent if path.is_file() else path
    way = f"edge-export {folder} --out OUT makes one of it, then edge models install OUT"
    if not any(file.suffix == ".safetensors" or file.name == "config.json" for file in known):
        way = "edge-export makes one of a checkpoint's folder with config.json and safetensors"
    raise BundleError(f"{path} is a checkpoint, not a bundle: {way}")


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
        os.fchmod(writer.fileno(), 0o444)
        os.fsync(writer.fileno())
        # Verifying should read what the disk holds, not what was just in memory.
        os.posix_fadvise(writer.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _drop_partials(folder: Path) -> None:
    """Remove what a killed install left; the caller holds the lock, so nobody is writing it."""
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)
