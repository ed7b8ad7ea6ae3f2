"""Where bundles live on a device: the embedded one, the installed ones, and which of them answers to a name."""

import contextlib
import functools
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.bundle import aliases as naming
from edge.bundle import bundle as bundle_files
from edge.bundle import choices, hub, index
from edge.bundle.bundle import MAX_MANIFEST_BYTES
from edge.bundle.choices import aliases, change_aliases, set_speech_models, speech_models
from edge.bundle.choices import default_id as default_id
from edge.bundle.choices import default_voice_id as default_voice_id
from edge.bundle.choices import models_folder as models_folder
from edge.bundle.manifest import CERTIFICATE, MANIFEST, AnyManifest, Manifest, VoiceManifest, parse_manifest
from edge.errors import BundleError, ParameterError, UnknownModelError

Kind = Literal["chat", "speech", "voice"]

_PACKAGE = Path(__file__).resolve().parents[1]
_DATED = re.compile(r"-\d{8}$|(?<=^reka-edge)-\d{4}$|(?<=^reka-flash)-\d(\.\d)?$")  # and versions of Reka's
_WEIGHTS = (".safetensors", ".gguf", ".pth", ".pt")


@dataclass(frozen=True)
class Stored:
    """A bundle on this device, its manifest read and its files not yet looked at."""

    path: Path
    manifest: AnyManifest
    embedded: bool

    @property
    def kind(self) -> Kind:
        """Whether it chats, turns speech into text for one that does, or text into speech."""
        if isinstance(self.manifest, VoiceManifest):
            return "voice"
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


@dataclass(frozen=True)
class Running:
    """A bundle that is loaded: its context in positions, and the bytes of its weights and caches."""

    stored: Stored
    context: int
    n_bytes: int


def bundles(kind: Kind | None = "chat") -> list[Stored]:
    """Return every readable bundle of a kind (None: of all), the one that wins shared names first.

    The order: the default, the installed, the embedded.
    """
    return [stored for stored in _scan()[0] if kind in (None, stored.kind)]


def broken() -> list[tuple[Path, str]]:
    """Return the folders that look like bundles and cannot be read, each with the reason."""
    return _scan()[1]


def misnamed() -> list[Path]:
    """Return the folders whose bundle would be usable under another name: that of its id."""
    return [path for path, _ in broken() if _id_in(path) not in (None, path.name)]


def at(path: Path) -> Stored:
    """Return the bundle in a folder, wherever that is. Raises: BundleError."""
    path = Path(path).expanduser().absolute()
    try:
        return Stored(path, _manifest(path, (path / MANIFEST).stat().st_mtime_ns), embedded=False)
    except OSError as error:
        refuse_checkpoint(path)
        raise BundleError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}") from error


def resolve(name: str, *, aliases: Mapping[str, str], first: Stored | None, kind: Kind | None = "chat") -> Stored:
    """Return the bundle that answers to a model name.

    name: an id, an alias, or either with a date or a version behind it (`reka-edge-20240208`, `reka-flash-3.1`), or the
    repository that a bundle was exported from, `ORG/NAME` or `ORG/NAME@COMMIT`.
    aliases: the caller's own names for models; they are looked at before everything else, then those of EDGE_ALIAS,
    then ids, then those of `set_aliases`, then the bundles' own. A name may stand for a name.
    first: a bundle that is loaded already and wins the names it shares with others. kind: None for any.
    Raises: UnknownModelError saying what is installed and the way out, BundleError for the id of a damaged bundle,
    ParameterError for an EDGE_ALIAS that is not one.
    Source: chat-interface.md, 5.
    """
    candidates = [*([first] if first else []), *bundles(kind)]
    wanted = _followed(name, aliases, ids={stored.id for stored in candidates})
    for spelling in dict.fromkeys((wanted, _DATED.sub("", wanted))):
        for names in (lambda stored: (stored.id,), lambda stored: stored.names, _repositories):
            found = next((stored for stored in candidates if spelling in names(stored)), None)
            if found is not None:
                return found
        for path, reason in broken() if spelling == wanted else ():
            if spelling in (path.name, _id_in(path)):
                raise BundleError(reason)
    if kind == "voice":
        raise _unknown_voice(name, candidates)
    raise _unknown_speech(name, candidates) if kind == "speech" else _unknown(name, wanted, candidates)


def _id_in(path: Path) -> str | None:
    """Return the id of the bundle in a folder of another name, None where there is none that can be read."""
    try:
        return at(path).id
    except BundleError:
        return None


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
    """Make a bundle the one that wins the names it shares with others, or a voice the one that speaks unless named.

    Raises: UnknownModelError, BundleError.
    """
    with contextlib.suppress(UnknownModelError):
        voice = resolve(name, aliases={}, first=None, kind="voice")
        choices.set_default_voice(voice.id)
        return voice
    stored = named(name)
    choices.set_default(stored.id)
    return stored


def speech_model(name: str) -> str | None:
    """Return the id of a chat bundle's speech-to-text model, by the chat bundle's id; None without one."""
    return speech_models().get(name)


def set_speech_model(name: str, speech: str | None) -> tuple[Stored, Stored | None]:
    """Set the speech-to-text model of a chat bundle, or none; returns both. Raises: UnknownModelError, BundleError."""
    stored, listening = named(name), None if speech is None else named(speech, "speech")
    known = {chat: used for chat, used in speech_models().items() if chat != stored.id}
    if listening is not None:
        known[stored.id] = listening.id
    set_speech_models(known)
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
    for path, embedded in [*installed_folders(), *_embedded_folders()]:
        try:
            stored = Stored(path, at(path).manifest, embedded)
            if not embedded and stored.id != path.name:
                way = f"rename the folder to {stored.id}"
                raise BundleError(f"{path}: the manifest's id is {stored.id!r}, expected the folder's name: {way}")
            found.setdefault(stored.id, stored)
        except BundleError as error:
            bad.append((path, str(error)))
    chosen = {default_id(), default_voice_id()}
    return sorted(found.values(), key=lambda stored: stored.id not in chosen), bad


def installed_folders() -> Iterator[tuple[Path, bool]]:
    """Yield the folders of the models folder that may be bundles, each with False: it is not embedded."""
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
    return read_manifest(path)


def read_manifest(path: Path) -> AnyManifest:
    """Return the manifest in a folder, which may be a link to a regular file. Raises: BundleError, OSError."""
    file = path / MANIFEST
    if not stat.S_ISREG(file.stat().st_mode):
        raise BundleError(f"{file}: not a regular file")
    with file.open("rb") as opened:
        data = opened.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{file}: expected at most {MAX_MANIFEST_BYTES} bytes")
    return parse_manifest(data, file=str(file))


def _repositories(stored: Stored) -> tuple[str, ...]:
    """Return the names of the repository that a bundle was exported from."""
    source = stored.manifest.source
    return () if source.repository is None else (source.repository, f"{source.repository}@{source.revision}")


def _unknown(name: str, wanted: str, candidates: list[Stored]) -> UnknownModelError:
    """Return the error for a name that no chat bundle answers to; wanted: what it stands for."""
    shown = repr(name[:200])
    if any(wanted in stored.names for stored in bundles("speech")):
        way = f"edge models speech CHAT {name[:100]}"
        return UnknownModelError(f"{shown} turns speech into text and does not chat: {way}", name=name)
    if any(wanted in stored.names for stored in bundles("voice")):
        way = f'edge say --voice {name[:100]} "text"'
        return UnknownModelError(f"{shown} is a voice, which speaks and does not chat: {way}", name=name)
    if hub.named(wanted) is not None:
        return _unknown_repository(name, wanted, candidates)
    missing = f"model {shown} is not installed"
    if wanted != name:
        missing = f"model {shown} is an alias of {wanted[:200]!r}, which is not installed"
    if not candidates:
        return UnknownModelError(f"{missing}, and no other: edge models install DIR", name=name)
    described = [f"{s.id} ({', '.join(s.names[1:])})" if s.names[1:] else s.id for s in candidates]
    found = f"{missing}; installed: {', '.join(dict.fromkeys(described))}"
    target, short = candidates[0].names[-1], name[:60]
    pair = f"{short}={target}"
    ways = f'Reka(aliases={{"{short}": "{target}"}}), edge serve --alias {pair}, or edge models alias set {pair}'
    return UnknownModelError(f"{found}. To answer under that name: {ways}", found=found, name=name, target=target)


def _unknown_repository(name: str, wanted: str, candidates: list[Stored]) -> UnknownModelError:
    """Return the error for a hub's repository that no installed bundle was exported from: what makes one of it."""
    short, folder = wanted[:200], wanted.partition("/")[2].partition("@")[0]
    ways = (
        f"edge-export {short} --out {folder}, then edge models install {folder}"
        f" (where the repository holds a bundle: edge models pull {short})"
    )
    installed = ", ".join(dict.fromkeys(stored.id for stored in candidates)) or "none"
    missing = f"model {name[:200]!r} is not installed, nor is there a folder of that name; installed: {installed}"
    return UnknownModelError(f"{missing}. To have it: {ways}", name=name)


def _unknown_speech(name: str, candidates: list[Stored]) -> UnknownModelError:
    installed = ", ".join(stored.id for stored in candidates) or "none"
    found = f"speech bundle {name[:200]!r} is not installed; installed: {installed}"
    ways = "To add one: edge models install DIR"
    if candidates:
        ways += f". To answer under that name: edge serve --alias {name[:60]}={candidates[0].id}"
    return UnknownModelError(f"{found}. {ways}", name=name)


def _unknown_voice(name: str, candidates: list[Stored]) -> UnknownModelError:
    installed = ", ".join(stored.id for stored in candidates) or "none"
    found = f"voice {name[:200]!r} is not installed; installed: {installed}"
    return UnknownModelError(f"{found}. To add one: edge models install NAME.onnx, or DIR", name=name)


def refuse_checkpoint(path: Path) -> None:
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
