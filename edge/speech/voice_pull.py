"""A voice as its makers publish it, from a repository of a model hub: its own files downloaded, and installed."""

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from edge.bundle import hub, install
from edge.bundle.choices import models_folder
from edge.bundle.hub import Listing, RemoteFile
from edge.bundle.onnx_check import MAX_VOICE_BYTES
from edge.bundle.pull import Progress, Tell, download, read_name, staging
from edge.bundle.store import Stored
from edge.bundle.voice_spec import SPEAKER_BYTES
from edge.errors import HubError
from edge.speech import kokoro_files, piper_files
from edge.speech.voice_files import stage

_ABOUT: Final = ("MODEL_CARD", "README.md", "LICENSE", "config.json", "tokenizer.json", "vocab.json")
_MAX_ABOUT_BYTES: Final = 8 << 20
_BUNDLE: Final = ".bundle"  # in the folder where files are collected


def pull(
    name: str,
    voice: str,
    *,
    id: str | None = None,  # noqa: A002 - a bundle's
    license: str | None = None,  # noqa: A002
    replaces: bool = False,
    tell: Tell,
    progress: Progress | None = None,
) -> Stored:
    """Download a voice of Piper or Kokoro and install it; an interrupted download goes on where it ended.

    name: ORG/NAME or ORG/NAME@REVISION. voice: the name of its graph, `en_US-joe-medium` or `onnx/model.onnx`.
    license, id, replaces: as for `stage` and `install`. Nothing is downloaded but what the voice needs, and what states
    its licence. Raises: ParameterError, HubError, BundleError, UnsupportedError, with what to do.
    """
    repository = read_name(name)
    if hub.is_offline():
        graph = hub.cached_folder(repository) / _graph(_names(hub.cached_folder(repository)), voice, str(repository))
        return _installed(graph, hub.cached_folder(repository).name, repository.id, license, id, replaces, progress)
    listing = hub.listing(repository)
    graph_name = _graph(listing.files, voice, str(repository))
    with staging(repository) as staged:
        files = [hub.sized(listing, each) for each in _wanted(listing.files, graph_name)]
        _check_files(listing, files, graph_name)
        _announce(listing, files, voice, tell)
        download(listing, files, staged, progress)
        stored = _installed(staged / graph_name, listing.commit, repository.id, license, id, replaces, None)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(exist_ok=True)  # which the end of staging looks at
        return stored


def _names(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _graph(files: Mapping[str, object], voice: str, repository: str) -> str:
    """Return the graph that a voice's name stands for. Raises: HubError saying which there are."""
    graphs = sorted(each for each in files if each.endswith(".onnx"))
    wanted = voice.removesuffix(".onnx")
    found = [each for each in graphs if each.removesuffix(".onnx") == wanted]
    found = found or [each for each in graphs if PurePosixPath(each).stem == wanted]
    if len(found) == 1 and (f"{found[0]}{piper_files.CONFIG}" in files or _styles(files, found[0])):
        return found[0]
    near = [each for each in graphs if wanted.lower() in each.lower()] or graphs
    some = ", ".join(PurePosixPath(each).stem if f"{each}.json" in files else each for each in near[:6])
    what = f"has no voice {voice!r:.100}" if not found else f"has no voice of Piper or Kokoro at {found[0]!r:.100}"
    raise HubError(f"{repository} {what}; it has {some or 'no graphs'}{' and others' if len(near) > 6 else ''}")


def _root(graph: str) -> str:
    """Return the folder of what belongs to a graph, with a slash behind it, "" for the repository's own."""
    parent = PurePosixPath(graph).parent
    parent = parent.parent if parent.name == "onnx" else parent
    return "" if str(parent) == "." else f"{parent}/"


def _styles(files: Mapping[str, object], graph: str) -> list[str]:
    """Return the files of the speakers beside a graph: those of languages that are supported, or archives."""
    root = _root(graph)
    single = [each for each in files if each.startswith(f"{root}voices/") and each.endswith(".bin")]
    able = [each for each in single if PurePosixPath(each).name[0] in kokoro_files.LANGUAGES]
    archives = [each for each in files if each.startswith(f"{root}voices") and "/" not in each[len(root) :]]
    return able or [each for each in archives if each.endswith((".npz", ".bin"))]


def _wanted(files: Mapping[str, object], graph: str) -> list[str]:
    """Return the files that a voice consists of, and those that tell of it."""
    config = f"{graph}{piper_files.CONFIG}"
    parts = [config] if config in files else _styles(files, graph)
    root = str(PurePosixPath(graph).parent) + "/" if config in files else _root(graph)
    about = [f"{'' if root == './' else root}{each}" for each in _ABOUT]
    return [graph, *sorted(parts), *(each for each in about if each in files)]


def _check_files(listing: Listing, files: list[RemoteFile], graph: str) -> None:
    """Refuse what no voice needs, and names that lead out of the folder, before any download. Raises: HubError."""
    for file in files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts or "\\" in file.name:
            raise HubError(f"{listing.repository}: {file.name!r:.200} is no file inside the repository")
        largest = _MAX_ABOUT_BYTES if not file.name.endswith((".bin", ".npz")) else 512 * (SPEAKER_BYTES + 4096)
        largest = MAX_VOICE_BYTES if file.name == graph else largest
        if (file.n_bytes or 0) > largest:
            raise HubError(f"{listing.repository}: {file.name}: expected at most {largest} bytes, got {file.n_bytes}")


def _announce(listing: Listing, files: list[RemoteFile], voice: str, tell: Tell) -> None:
    """Tell the size and the free disk, where the voice is twice for a moment. Raises: HubError where it has no room."""
    n_bytes = sum(file.n_bytes or 0 for file in files)
    way = "set EDGE_MODELS to a folder on a larger disk"
    free = hub.check_room(models_folder(), 2 * n_bytes, what=voice, way=way)
    tell(
        f"{listing.repository} at {listing.commit[:12]}: {voice}, {hub.megabytes(n_bytes)};"
        f" {models_folder()} has {hub.megabytes(free)} left"
    )


def _installed(
    graph: Path,
    revision: str,
    repository: str,
    license: str | None,  # noqa: A002
    bundle_id: str | None,
    replaces: bool,
    progress: Progress | None,
) -> Stored:
    """Lay a downloaded voice out as a bundle and install it."""
    out = models_folder() / f"{_BUNDLE}-{revision[:12]}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        stage(graph, out, license=license, repository=repository, revision=revision)
        return install.install(out, id=bundle_id, replaces=replaces, progress=progress)
    finally:
        shutil.rmtree(out, ignore_errors=True)
