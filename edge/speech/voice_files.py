"""A voice as its makers publish it, turned into a voice bundle: its graph stays as it is, bit for bit."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from edge.bundle.manifest import FORMAT, MANIFEST, FileEntry, MemorySpec, Source, VoiceManifest, dump_manifest
from edge.bundle.voice_spec import SPEAKERS, VOICE, Family, LicenseSpec, VoiceSpec
from edge.errors import BundleError, ParameterError
from edge.speech import kokoro_files, piper_files
from edge.speech.voice_licenses import read_license, use_of
from edge.version import RUNTIME_VERSION

_CHUNK_BYTES: Final = 1 << 20
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._-]+")
_KINDS: Final = "a Piper voice is NAME.onnx with NAME.onnx.json, a Kokoro voice a folder with a graph and styles"


def is_upstream(path: Path) -> bool:
    """Return whether a path is a voice as its makers publish it, and no bundle."""
    path = Path(path).expanduser()
    return not (path / MANIFEST).is_file() and bool(piper_files.graphs(path) or kokoro_files.graphs(path))


def stage(
    path: Path,
    out: Path,
    *,
    license: str | None = None,  # noqa: A002
    repository: str | None = None,
    revision: str | None = None,
) -> VoiceManifest:
    """Lay a voice out as a bundle in an empty folder: its graph as a link, the rest written.

    license: of its weights, where the files beside them do not say. repository, revision: where they were downloaded.
    Raises: BundleError, UnsupportedError, ParameterError where the path stands for several voices.
    """
    path = Path(path).expanduser().absolute()
    graph, family = _one(path)
    stated, notes, files = read_license(_home(graph, family))
    if license is not None:
        stated = LicenseSpec(license, use_of(license), credit=stated.credit)
    if family == "vits":
        spec = piper_files.voice_spec(graph)
        files = (*files, piper_files.config_of(graph))
    else:
        spec, more_notes, more_files = _write_kokoro(graph, out)
        notes, files = (*notes, *more_notes), (*files, *more_files)
    (out / VOICE).symlink_to(graph)
    manifest = _manifest(graph, family, spec, stated, out)
    hashes = {**manifest.source.files, **_digests(files)}
    source = Source(manifest.source.architecture, hashes, (), notes, repository, revision)
    manifest = replace(manifest, source=source)
    (out / MANIFEST).write_bytes(dump_manifest(manifest))
    return manifest


def _one(path: Path) -> tuple[Path, Family]:
    """Return the graph that a path stands for, and what it is. Raises: BundleError, ParameterError."""
    kinds: tuple[tuple[Family, list[Path]], ...] = (
        ("vits", piper_files.graphs(path)),
        ("kokoro", kokoro_files.graphs(path)),
    )
    for family, found in kinds:
        if len(found) > 1:
            names = ", ".join(each.name for each in found[:6])
            msg = f"{path} has {len(found)} voices ({names}): name one of the files"
            raise ParameterError(msg, field="path")
        if found:
            return found[0], family
    raise BundleError(f"{path}: no voice: {_KINDS}")


def _home(graph: Path, family: Family) -> Path:
    """Return the folder where the files about a voice are."""
    return graph.parent.parent if family == "kokoro" and graph.parent.name == "onnx" else graph.parent


def _write_kokoro(graph: Path, out: Path) -> tuple[VoiceSpec, tuple[str, ...], list[Path]]:
    """Write the speakers of Kokoro; return what it is, notes, and the files that they were read from."""
    found, left_out, places = kokoro_files.styles(graph)
    for name, style in found.items():
        if not np.isfinite(style).all():
            raise BundleError(f"{places[0]}: the style of {name!r:.60} is not finite")
    (out / SPEAKERS).write_bytes(b"".join(style.tobytes() for style in found.values()))
    notes = (f"speakers without a phonemizer, left out: {', '.join(left_out)}"[:500],) if left_out else ()
    return kokoro_files.voice_spec(graph, list(found)), notes, places if len(places) == 1 else []


def _manifest(graph: Path, family: Family, spec: VoiceSpec, stated: LicenseSpec, out: Path) -> VoiceManifest:
    entries = {VOICE: _entry(graph)}
    if (out / SPEAKERS).exists():
        entries[SPEAKERS] = _entry(out / SPEAKERS)
    return VoiceManifest(
        format=FORMAT,
        id=_id(graph, family),
        aliases=(),
        family=family,
        min_runtime=RUNTIME_VERSION,
        source=Source("Piper" if family == "vits" else "Kokoro-82M", {graph.name: entries[VOICE].sha256}, (), ()),
        license=stated,
        voice=spec,
        memory=MemorySpec(sum(entry.bytes for entry in entries.values()), 0),
        files=entries,
    )


def _id(graph: Path, family: Family) -> str:
    """Return the id of a voice: the name of its file; of a Kokoro that is called `model`, kokoro."""
    name = _NOT_IN_ID.sub("-", graph.stem).strip("-._")[:100]
    return "kokoro" if family == "kokoro" and not name.lower().startswith("kokoro") else name or "voice"


def _entry(path: Path) -> FileEntry:
    return FileEntry(path.stat().st_size, _digest(path))


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {path.name: _digest(path) for path in files}


def _digest(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            state.update(block)
    return state.hexdigest()
