"""A bundle's files on disk: read without following links, and compared with what the manifest says of them."""

import hashlib
import os
import stat
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.bundle import onnx_check
from edge.bundle.manifest import (
    CERTIFICATE,
    MANIFEST,
    AnyManifest,
    Manifest,
    SpeechManifest,
    VoiceManifest,
    parse_manifest,
)
from edge.errors import BundleError

MAX_MANIFEST_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A chat bundle whose manifest was read and whose files have the declared sizes."""

    path: Path
    manifest: Manifest

    def __repr__(self) -> str:
        spec = self.manifest.text
        return (
            f"Bundle({self.manifest.id!r}, recipe={self.manifest.recipe.name!r}, context={spec.context}, {self.path})"
        )

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read the manifest and check names, kinds and sizes of all files; small files by sha256 too.

        Raises: BundleError naming the file and what is wrong with it.
        """
        manifest = checked(path)
        if not isinstance(manifest, Manifest):
            kind = "speech" if isinstance(manifest, SpeechManifest) else "voice"
            raise BundleError(f"{path}: expected a chat bundle, got a {kind} bundle (family {manifest.family!r})")
        return cls(Path(path), manifest)

    def file(self, name: str) -> Path:
        """Return the path of one of the manifest's files. Raises: BundleError when it lists no such file."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path / MANIFEST}: files has no {name!r}")
        return self.path / name


@dataclass(frozen=True)
class SpeechBundle:
    """A speech bundle whose manifest was read and whose files have the declared sizes."""

    path: Path
    manifest: SpeechManifest

    @classmethod
    def open(cls, path: Path) -> "SpeechBundle":
        """Check a bundle as `Bundle.open` does. Raises: BundleError."""
        manifest = checked(path)
        if not isinstance(manifest, SpeechManifest):
            raise BundleError(f"{path}: expected a speech bundle (family 'whisper'), got family {manifest.family!r}")
        return cls(Path(path), manifest)


@dataclass(frozen=True)
class VoiceBundle:
    """A voice bundle whose manifest was read and whose files have the declared sizes."""

    path: Path
    manifest: VoiceManifest

    @classmethod
    def open(cls, path: Path) -> "VoiceBundle":
        """Check a bundle as `Bundle.open` does. Raises: BundleError."""
        manifest = checked(path)
        if not isinstance(manifest, VoiceManifest):
            wanted = "a voice bundle (family 'vits' or 'kokoro')"
            raise BundleError(f"{path}: expected {wanted}, got family {manifest.family!r}")
        return cls(Path(path), manifest)


def checked(path: Path) -> AnyManifest:
    """Return the manifest of a bundle of any kind whose files are there, of the right sizes, the small ones intact.

    Raises: BundleError naming the file and what is wrong with it.
    """
    path = Path(path)
    try:
        manifest = parse_manifest(read_small(path / MANIFEST), file=str(path / MANIFEST))
        problems = list(_entry_problems(path, manifest))
        # The graphs and the tokenizer are small and decide everything else, so every open reads them whole.
        problems = problems or list(_content_problems(path, manifest, only_small=True))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read as a bundle: {error.strerror}") from error
    if problems:
        raise BundleError("; ".join(problems))
    return manifest


def verify(path: Path) -> list[str]:
    """Read every byte of a bundle, and its graphs' structure; return every problem, none when it is sound.

    Writes nothing, and loads no onnxruntime.
    """
    path = Path(path)
    try:
        manifest = checked(path)
        return [*_content_problems(path, manifest, only_small=False), *_graph_problems(path, manifest)]
    except BundleError as error:
        return [str(error)]
    except OSError as error:
        return [f"{path}: {error.strerror}"]


def _entry_problems(path: Path, manifest: AnyManifest) -> Iterator[str]:
    """Yield what is wrong with the directory's entries: links, sizes, missing and unknown files."""
    found: dict[str, os.stat_result] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            found[entry.name] = entry.stat(follow_symlinks=False)
    for name in sorted(found.keys() - manifest.files.keys() - {MANIFEST, CERTIFICATE}):
        yield f"{path}: unknown file {name!r:.200}"
    for name, entry_stat in sorted(found.items()):
        if not stat.S_ISREG(entry_stat.st_mode):
            yield f"{path / name}: not a regular file (links and folders are refused)"
    for name, declared in sorted(manifest.files.items()):
        if name not in found:
            yield f"{path / name}: missing"
        elif found[name].st_size != declared.bytes:
            yield f"{path / name}: expected {declared.bytes} bytes, got {found[name].st_size}"


def _content_problems(path: Path, manifest: AnyManifest, *, only_small: bool) -> Iterator[str]:
    """Yield the files whose sha256 is not the manifest's."""
    for name, declared in sorted(manifest.files.items()):
        if only_small and name.endswith(".bin"):
            continue
        digest = hashlib.sha256()
        with _open_plain(path / name) as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
        if digest.hexdigest() != declared.sha256:
            yield f"{path / name}: its sha256 is not the manifest's: the file is damaged or was replaced"


def _graph_problems(path: Path, manifest: AnyManifest) -> Iterator[str]:
    """Yield what would keep a graph from being loaded: whoever wrote the manifest may have written a foreign graph."""
    for name in sorted(manifest.files):
        if name.endswith(".onnx"):
            try:
                onnx_check.check(path / name)
            except BundleError as error:
                yield str(error)


def read_small(path: Path) -> bytes:
    """Return a manifest or certificate, which must be a regular file. Raises: BundleError, OSError."""
    with _open_plain(path) as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_MANIFEST_BYTES} bytes")
    return data


def _open_plain(path: Path) -> typing.BinaryIO:
    """Open a regular file for reading without following a link or waiting on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")
