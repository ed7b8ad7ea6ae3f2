"""A checkpoint as the command line names it: a folder, a GGUF file, or a hub's repository that is downloaded.

Of a repository only configuration, tokenizer and safetensors are downloaded, or one GGUF file: no code, no pickle. What
the configuration rules out is told before the weights are downloaded. The files are in huggingface_hub's cache.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.bundle import hub
from edge.bundle.hub import Listing, Repository
from edge.errors import HubError
from export.checkpoint import config as configuration
from export.checkpoint.checkpoint import CONFIG, INDEX, PICKLES, PREPROCESSOR, SINGLE
from export.checkpoint.config import ModelConfig
from export.checkpoint.files import has_file, parse_object, read_bytes, read_json
from export.checkpoint.gguf.header import SUFFIX as GGUF
from export.checkpoint.shards import MAX_HEADER_BYTES
from export.checkpoint.tokenizer import RANKS
from export.checkpoint.whisper import is_whisper
from export.errors import CheckpointError, ExportError

# What the readers of checkpoints open, beside the weights; and every .tiktoken file.
SMALL: Final = frozenset(
    (PREPROCESSOR, "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
     "merges.txt", "special_tokens_map.json", "tiktoken_special_tokens.json", "tokenizer.json", "tokenizer_config.json",
     "vocab.json", INDEX)
)  # fmt: skip
MAX_SMALL_BYTES: Final = 64 << 20  # of each of them
SAFETENSORS: Final = ".safetensors"

Progress = Callable[[int, int], None]  # bytes that are here, bytes in all
Tell = Callable[[str], None]

_CACHED = re.compile(r"models--(?P<organisation>[^/]+?)--(?P<name>[^/]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True)
class Named:
    """What was named: a local path, or a repository, of which `file` is the one GGUF file, None for a checkpoint."""

    path: Path | None
    repository: Repository | None
    file: str | None

    @property
    def name(self) -> str:
        """What a bundle of it is called, before the recipe."""
        if self.file is not None:
            return Path(self.file).name.removesuffix(GGUF)
        return name_of(self.path) if self.path is not None else getattr(self.repository, "name", "")


@dataclass(frozen=True)
class Room:
    """What is needed beside the download: the bundle's bytes, on the disk of `out`.

    n_bytes: told by the folder of the small files and its configuration; it may raise ExportError for what they
    rule out.
    """

    out: Path
    n_bytes: Callable[[Path, ModelConfig], int]


@dataclass(frozen=True)
class Origin:
    """Where a downloaded checkpoint came from: ORG/NAME, and the commit."""

    repository: str
    revision: str


def read_name(text: str, *, tell: Tell) -> Named:
    """Tell what a name means: what exists here under it wins; then ORG/NAME, ORG/NAME@REVISION, ORG/NAME:FILE.gguf.

    tell: a line about a repository that a local path hides. Raises: CheckpointError for what is neither.
    """
    path = Path(text).expanduser()
    before, colon, file = text.partition(":")
    repository = hub.named(before)
    is_gguf = file.endswith(GGUF) and not file.startswith("/") and ".." not in file
    if os.path.lexists(path):
        if repository is not None and not colon:
            tell(f"{text} exists here, and is read; the repository of that name is {repository.id}@main")
        return Named(path, None, None)
    if repository is None or (colon and not is_gguf):
        raise CheckpointError(
            f"{text}: not here; expected a checkpoint's folder, a .gguf file, or a hub's repository:"
            " ORG/NAME, ORG/NAME@REVISION or ORG/NAME:FILE.gguf"
        )
    return Named(None, repository, file or None)


def fetch(named: Named, *, room: Room | None = None, tell: Tell, progress: Progress) -> Path:
    """Return where a checkpoint is, its folder or its GGUF file, downloaded if a repository was named.

    room: for the bundle, beside the download. tell: a line about what is to come.
    Raises: CheckpointError for what the hub, the network or the disk fails with, and what to do; ConfigError and
    UnsupportedError for what its configuration rules out, before the weights are downloaded.
    """
    if named.repository is None or named.path is not None:
        return named.path or Path()
    try:
        if hub.is_offline():
            return _from_cache(named.repository, named.file)
        listing = _listing(named.repository)
        if named.file is not None:
            return _gguf(listing, named.file, room, tell, progress)
        return _checkpoint(listing, room, tell, progress)
    except HubError as error:
        raise CheckpointError(str(error)) from error


def origin(path: Path) -> Origin | None:
    """Return the repository of a folder or file in huggingface_hub's cache, None for any other."""
    path = path.absolute()
    folder = path if path.is_dir() else path.parent
    found = _CACHED.fullmatch(folder.parent.parent.name)
    if found is None or folder.parent.name != "snapshots" or not _COMMIT.fullmatch(folder.name):
        return None
    return Origin(f"{found['organisation']}/{found['name']}", folder.name)


def name_of(path: Path) -> str:
    """Return the name of a checkpoint: of its GGUF file, else of the repository that it came from, or of its folder."""
    found = origin(path)
    if not path.is_dir():
        return path.absolute().name.removesuffix(GGUF)
    return path.resolve().name if found is None else found.repository.partition("/")[2]


def _listing(repository: Repository) -> Listing:
    try:
        return hub.listing(repository)
    except HubError as error:
        hint = f"; nor is there a folder {repository.id} here"
        with contextlib.suppress(HubError):
            hub.cached_folder(repository)
            hint = "; it was downloaded before: HF_HUB_OFFLINE=1 uses what is here"
        raise HubError(f"{error}{hint}") from error


def _checkpoint(listing: Listing, room: Room | None, tell: Tell, progress: Progress) -> Path:
    """Download a checkpoint: its configuration, what is small, and then its weights."""
    if CONFIG not in listing.files:
        raise HubError(f"{listing.repository} has no {CONFIG}: {_instead(listing)}")
    config = _examined(listing, _small(listing, [CONFIG]))
    small = [name for name in sorted(listing.files) if name in SMALL or _is_ranks(name)]
    folder = _small(listing, [CONFIG, *small])
    weights = _weights(listing, folder)
    if config is not None and has_file(folder, PREPROCESSOR):
        config = _examined(listing, folder)
    _check_room(listing, weights, room, _bundle_bytes(listing, folder, room, config), tell)
    _download(listing, weights, progress)
    return folder


def _bundle_bytes(listing: Listing, folder: Path, room: Room | None, config: ModelConfig | None) -> int:
    """Return the bytes of the bundle, 0 where they are not known. Raises: ExportError with the repository."""
    if room is None or config is None:
        return 0
    with _before_the_weights(listing):
        return room.n_bytes(folder, config)


@contextlib.contextmanager
def _before_the_weights(listing: Listing) -> Iterator[None]:
    """Say of an error which repository it is about, and that its weights were not downloaded."""
    try:
        yield
    except ExportError as error:
        raise type(error)(f"{listing.repository}: {error}; its weights were not downloaded") from error


def _is_ranks(name: str) -> bool:
    return name.endswith(RANKS) and "/" not in name


def _small(listing: Listing, names: Sequence[str]) -> Path:
    """Download small files; returns their folder. Raises: HubError for one that is not small."""
    folder = Path()
    for name in names:
        n_bytes = hub.sized(listing, name).n_bytes or 0
        if n_bytes > MAX_SMALL_BYTES:
            raise HubError(f"{listing.repository}: {name}: {n_bytes} bytes, expected at most {MAX_SMALL_BYTES}")
        folder = hub.cached(listing, name).parent
    return folder


def _examined(listing: Listing, folder: Path) -> ModelConfig | None:
    """Return the configuration as far as it can be told without the weights, None for Whisper's.

    Raises: ExportError of the kind that names the cause, with the repository.
    """
    with _before_the_weights(listing):
        if is_whisper(folder):
            return None
        config = read_json(folder, CONFIG)
        configuration.recognise(config)
        preprocessor = read_json(folder, PREPROCESSOR) if has_file(folder, PREPROCESSOR) else None
        return configuration.parse(config, preprocessor=preprocessor, shapes={})


def _weights(listing: Listing, folder: Path) -> list[str]:
    """Return the files of the weights: the single one, or those that the index names. Raises: HubError."""
    if SINGLE in listing.files and INDEX in listing.files:
        raise HubError(f"{listing.repository}: {SINGLE} and {INDEX} are both there: expected one of them")
    if SINGLE in listing.files:
        return [SINGLE]
    if INDEX not in listing.files:
        raise HubError(f"{listing.repository} has neither {SINGLE} nor {INDEX}: {_instead(listing)}")
    shards = _shards(folder)
    missing = [name for name in shards if name not in listing.files or not name.endswith(SAFETENSORS)]
    if missing:
        raise HubError(
            f"{listing.repository}: {INDEX} names {missing[0][:200]!r}, and there is no such safetensors file"
        )
    return shards


def _shards(folder: Path) -> list[str]:
    found = parse_object(read_bytes(folder, INDEX, max_bytes=MAX_HEADER_BYTES), name=INDEX).get("weight_map")
    if not isinstance(found, Mapping) or not all(isinstance(name, str) and "/" not in name for name in found.values()):
        raise CheckpointError(f"{INDEX}: weight_map: expected an object of file names")
    return sorted(set(found.values()))


def _instead(listing: Listing) -> str:
    """Say what a repository has that is no checkpoint in safetensors."""
    names = sorted(listing.files)
    ggufs = [name for name in names if name.endswith(GGUF)]
    if ggufs:
        return f"it has GGUF files: edge-export {listing.repository}:{ggufs[0]}"
    if "manifest.json" in names:
        return f"it holds a bundle: edge models pull {listing.repository}"
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return f"{pickles[0]} is a pickle, which can run code and is refused; expected safetensors"
    return "expected a checkpoint: config.json and safetensors"


def _gguf(listing: Listing, file: str, room: Room | None, tell: Tell, progress: Progress) -> Path:
    """Download a GGUF file, every part of it; returns the first."""
    if file not in listing.files:
        there = ", ".join(name for name in sorted(listing.files) if name.endswith(GGUF)) or "none"
        raise HubError(f"{listing.repository} has no {file}; its GGUF files: {there[:500]}")
    part = _PART.fullmatch(file)
    count = int(part["count"]) if part else 1
    names = [f"{part['stem']}-{at:05}-of-{count:05}.gguf" for at in range(1, count + 1)] if part else [file]
    _check_room(listing, names, room, 0, tell)
    return _download(listing, names, progress)


def _check_room(listing: Listing, names: Sequence[str], room: Room | None, after: int, tell: Tell) -> None:
    """Tell what is downloaded, what its bundle takes, and the free disk; after: the bundle's bytes, 0 for unknown.

    Raises: HubError where it cannot fit.
    """
    n_bytes = sum(hub.sized(listing, name).n_bytes or 0 for name in names)
    left = max(n_bytes - hub.here(listing, names), 0)
    cache, what = hub.cache_folder(), f"{listing.repository} at {listing.commit[:12]}"
    one_disk = room is not None and _device(cache) == _device(room.out.parent)
    way = "set HF_HOME to a folder on a larger disk"
    needs = f"{listing.repository}, {left} bytes to download" + (f" and {after} for the bundle," if after else ",")
    free = hub.check_room(cache, left + after * one_disk, what=needs, way=way)
    if room is not None and not one_disk:
        hub.check_room(room.out.parent, after, what=str(room.out), way="name another disk by --out")
    bundle = f"; the bundle: up to {hub.megabytes(after)}" if after else ""
    here = f" ({hub.megabytes(n_bytes - left)} of it are here already)" if left < n_bytes else ""
    size = f"{hub.megabytes(n_bytes)} of weights in {len(names)} file{'s' * (len(names) > 1)}{here}"
    tell(f"{what}: {size}, kept in {cache}; free: {hub.megabytes(free)}{bundle}")


def _device(folder: Path) -> int:
    """Return which disk a folder is on, which need not exist yet."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.exists()).stat().st_dev


def _download(listing: Listing, names: Sequence[str], progress: Progress) -> Path:
    """Download files in turn; returns the first."""
    done, total = 0, sum(hub.sized(listing, name).n_bytes or 0 for name in names)

    def advance(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        progress(done, total)

    paths = [hub.cached(listing, name, progress=advance) for name in names]
    return paths[0]


def _from_cache(repository: Repository, file: str | None) -> Path:
    """Return what was downloaded before, verified by the names of its blobs. Raises: HubError for what is missing."""
    folder = hub.cached_folder(repository)
    for name in [file] if file is not None else _needed(folder):
        path = folder / name
        problem = hub.cached_file(name, path).wrong(path) if path.is_file() else "it is missing"
        if problem is not None:
            way = "unset HF_HUB_OFFLINE and run the same command again"
            raise HubError(f"{path}: {problem}, and HF_HUB_OFFLINE forbids to download it: {way}")
    return folder if file is None else folder / file


def _needed(folder: Path) -> Iterator[str]:
    yield CONFIG
    yield from (name for name in sorted(SMALL) if has_file(folder, name))
    if has_file(folder, INDEX):
        yield from _shards(folder)
    else:
        yield SINGLE
