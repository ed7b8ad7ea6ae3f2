"""Repositories of a model hub: what a revision holds, and its files downloaded, resumed and verified.

The HTTP is huggingface_hub's, imported on first use, so that nothing of it is loaded to chat. HF_ENDPOINT, HF_TOKEN,
HF_HOME and HF_HUB_OFFLINE mean what they mean there. Files come over plain HTTP: a partial file is continued where it
ended, in this process or a later one, which the library's own download does not do in every version.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Final, cast

from edge.bundle.hub_failures import failures, is_passing
from edge.errors import HubError

Progress = Callable[[int], None]  # bytes that have come since the last call; less than 0 for what was thrown away

TIMEOUT_S: Final = 30.0  # for the answer to one question
MAX_TRIES: Final = 5  # in a row without a byte
WAIT_S: Final = 1.0  # before the second try; twice as long before each further one
MAX_FILES: Final = 10_000
PARTIAL: Final = ".incomplete"

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAMED = re.compile(rf"(?P<id>{_WORD}/{_WORD})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?")
_ETAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Repository:
    """A repository as it is named: ORG/NAME, or ORG/NAME@REVISION with a branch, a tag or a commit."""

    id: str
    revision: str | None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"

    @property
    def name(self) -> str:
        """The part behind the slash."""
        return self.id.partition("/")[2]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub declares it; of its hashes a hub may give one, or none."""

    name: str
    n_bytes: int | None
    sha256: str | None
    git_sha1: str | None

    def wrong(self, path: Path) -> str | None:
        """Return what is wrong with a file that should be this one, None for nothing."""
        size = path.stat().st_size
        if self.n_bytes is not None and size != self.n_bytes:
            return f"it has {size} bytes, expected {self.n_bytes}"
        if self.sha256 is not None:
            found, wanted, kind = _digest(path, hashlib.sha256()), self.sha256, "sha256"
        elif self.git_sha1 is not None:  # of a header and the content: what git calls a blob
            start = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
            found, wanted, kind = _digest(path, start), self.git_sha1, "git hash"
        else:
            return None
        return None if found == wanted else f"its {kind} is {found}, expected {wanted}"


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit. url: of the hub that was asked."""

    repository: Repository
    commit: str
    files: Mapping[str, RemoteFile]
    url: str = field(repr=False)

    def file(self, name: str) -> RemoteFile:
        """Return a file by its name. Raises: HubError when there is none."""
        if name not in self.files:
            raise HubError(f"{self.repository} has no {name}")
        return self.files[name]


def named(text: str) -> Repository | None:
    """Return the repository that ORG/NAME or ORG/NAME@REVISION names, None for what names none."""
    match = _NAMED.fullmatch(text)
    if match is None or any(doubled in match["id"] for doubled in ("--", "..")):
        return None
    return Repository(match["id"], match["revision"])


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids every look at the network."""
    return bool(_library().constants.HF_HUB_OFFLINE)


def cache_folder() -> Path:
    """Return huggingface_hub's cache: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub."""
    return Path(_library().constants.HF_HUB_CACHE)


def listing(repository: Repository) -> Listing:
    """Ask the hub what a revision holds. Raises: HubError, with what to do."""
    url = os.environ.get("HF_ENDPOINT", "").rstrip("/") or _library().constants.ENDPOINT
    with failures(repository.id, url, revision=repository.revision):
        api = _library().HfApi(endpoint=url)
        info = api.model_info(repository.id, revision=repository.revision, files_metadata=True, timeout=TIMEOUT_S)
        siblings = info.siblings or ()
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha) or len(siblings) > MAX_FILES:
        raise HubError(f"{repository}: {url} names no commit of it, or more than {MAX_FILES} files")
    return Listing(repository, info.sha, {each.rfilename: _declared(each) for each in siblings}, url)


def sized(listing: Listing, name: str) -> RemoteFile:
    """Return a file with its size, asked for where the listing does not have it. Raises: HubError."""
    file = listing.file(name)
    if file.n_bytes is not None:
        return file
    return RemoteFile(name, _head(listing, name)[1], file.sha256, file.git_sha1)


def download(listing: Listing, file: RemoteFile, target: Path, *, progress: Progress | None = None) -> None:
    """Have a file of a repository at `target`, verified; one that is there and right is not downloaded again.

    What came before an interruption is beside it under `PARTIAL`, and the next call continues it. progress: see
    `Progress`; bytes that are there already are told at once.
    Raises: HubError, with what to do: for a file that is not as the hub declares it nothing is kept.
    """
    tell = progress or _silent
    partial = target.with_name(target.name + PARTIAL)
    with failures(listing.repository.id, listing.url, file=file.name, folder=target.parent):
        if target.is_file() and file.wrong(target) is None:
            tell(target.stat().st_size)
            return
        if file.n_bytes is None:
            file = RemoteFile(file.name, _head(listing, file.name)[1], file.sha256, file.git_sha1)
        with _held(partial) as out:
            _continue(listing, file, out, tell)
            os.fsync(out.fileno())
            problem = file.wrong(partial)
            if problem is not None:
                partial.unlink()
                raise HubError(
                    f"{listing.repository}: {file.name} is damaged: {problem}; nothing of it was kept: run the same"
                    " command again, and if it fails again, the copy at the hub is damaged"
                )
            partial.replace(target)


def cached(listing: Listing, name: str, *, progress: Progress | None = None) -> Path:
    """Return a file of a repository in huggingface_hub's cache, downloaded unless it is there, and verified.

    Raises: as `download`.
    """
    file, folder = listing.file(name), _repository_folder(listing.repository)
    with failures(listing.repository.id, listing.url, file=name, folder=folder):
        link = folder / "snapshots" / listing.commit / name
        problem = file.wrong(link) if link.is_file() else None
        if link.is_file() and problem is None:
            (progress or _silent)(link.stat().st_size)
        else:
            if problem is not None:
                link.resolve().unlink()
            etag, size = _head(listing, name)
            if file.sha256 is None and file.git_sha1 is None:
                file = _of_blob(name, etag, size)
            (folder / "blobs").mkdir(parents=True, exist_ok=True)
            download(listing, file, folder / "blobs" / etag, progress=progress)
            found = _library().hf_hub_download(
                listing.repository.id, name, revision=listing.commit, endpoint=listing.url, token=None
            )
            link = Path(found)
        _remember(folder, listing)
    return link


def here(listing: Listing, names: Iterable[str]) -> int:
    """Return how many bytes of some files the cache has already, partial ones included."""
    folder, n_bytes = _repository_folder(listing.repository), 0
    for name in names:
        file = listing.file(name)
        blob = folder / "blobs" / (file.sha256 or file.git_sha1 or "-")
        for path in (folder / "snapshots" / listing.commit / name, blob, blob.with_name(blob.name + PARTIAL)):
            if path.is_file():
                n_bytes += path.stat().st_size
                break
    return n_bytes


def cached_folder(repository: Repository) -> Path:
    """Return the folder of what the cache has of a repository's revision; nothing is asked of the hub.

    Raises: HubError when there is nothing.
    """
    folder, revision = _repository_folder(repository), repository.revision or "main"
    commit = revision
    with contextlib.suppress(OSError):
        commit = (folder / "refs" / revision).read_text("utf-8").strip()
    snapshot = folder / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not snapshot.is_dir():
        way = "unset HF_HUB_OFFLINE and run the same command again, or set HF_HOME to where it was downloaded"
        raise HubError(f"{repository} is not in {cache_folder()}, and HF_HUB_OFFLINE forbids to download it: {way}")
    return snapshot


def cached_file(name: str, path: Path) -> RemoteFile:
    """Return what the cache declares of a file: the blob of a large one is called by its sha256."""
    return _of_blob(name, path.resolve().name, None)


def _of_blob(name: str, etag: str, size: int | None) -> RemoteFile:
    return RemoteFile(name, size, etag if _SHA256.fullmatch(etag) else None, None)


def megabytes(n_bytes: int) -> str:
    """Return a size for people, such as 14.1 GB."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def check_room(folder: Path, needed_bytes: int, *, what: str, way: str) -> int:
    """Return the free bytes of the disk of a folder, which need not exist yet.

    what: needs the bytes; way: out. Raises: HubError with both numbers when they are too few.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise HubError(f"{what} needs {needed_bytes} bytes, {folder} has {free} left: free some, or {way}")
    return free


@functools.cache
def _library() -> ModuleType:
    """Import huggingface_hub: quiet, without what it reports and without protocols of its own."""
    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    import huggingface_hub

    utils = _utilities()
    utils.logging.set_verbosity_error()
    utils.disable_progress_bars()
    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = _BLOCK_BYTES  # a block that a broken connection cuts off is lost
    return huggingface_hub


def _utilities() -> ModuleType:
    return importlib.import_module("huggingface_hub.utils")


def _declared(sibling: object) -> RemoteFile:
    """Return what the hub says of one file; a value that is not of its form counts as not given."""
    lfs = getattr(sibling, "lfs", None)
    stored = dict(lfs) if isinstance(lfs, Mapping) else {}
    size = getattr(sibling, "size", None)
    size = size if type(size) is int else stored.get("size")
    sha256, blob = stored.get("sha256"), getattr(sibling, "blob_id", None)
    return RemoteFile(
        str(getattr(sibling, "rfilename", "")),
        size if type(size) is int and size >= 0 else None,
        sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        # Of a file in LFS this is the hash of its pointer.
        blob if not stored and isinstance(blob, str) and _COMMIT.fullmatch(blob) else None,
    )


def _address(listing: Listing, name: str) -> str:
    return str(_library().hf_hub_url(listing.repository.id, name, revision=listing.commit, endpoint=listing.url))


def _head(listing: Listing, name: str) -> tuple[str, int]:
    """Return a file's ETag and size. Raises: HubError."""
    with failures(listing.repository.id, listing.url, file=name):
        told = _library().get_hf_file_metadata(
            _address(listing, name), timeout=TIMEOUT_S, headers=_headers(), endpoint=listing.url
        )
    declared = listing.file(name).n_bytes
    if told.commit_hash not in (None, listing.commit):
        raise HubError(f"{listing.repository}: {name} is of another commit, {told.commit_hash}: run it again")
    if told.etag is None or not _ETAG.fullmatch(told.etag) or told.size is None:
        raise HubError(f"{listing.repository}: {name}: {listing.url} gives no ETag and size, as a hub does")
    if declared not in (None, told.size):
        raise HubError(f"{listing.repository}: {name}: the hub declares {declared} bytes, and has {told.size}")
    return told.etag, told.size


def _headers() -> dict[str, str]:
    """Return what every request carries: the token, and that compressed answers cannot be continued."""
    return {**_utilities().build_hf_headers(), "Accept-Encoding": "identity"}


def _continue(listing: Listing, file: RemoteFile, out: BinaryIO, tell: Progress) -> None:
    """Bring a partial file to its whole size, over as many connections as it takes. Raises: what the library does."""
    from huggingface_hub.file_download import http_get

    size, n_tries, reached = file.n_bytes or 0, 0, -1
    sink = _Sink(out, f"{listing.repository}: {file.name}", size, tell)
    tell(sink.seek(0, io.SEEK_END))
    if sink.tell() > size:
        sink.seek(0)
        sink.truncate()
    while sink.tell() < size:
        n_tries = 1 if sink.tell() > reached else n_tries + 1
        reached = sink.tell()
        try:
            # The address itself, and not what it led to before: signed ones expire.
            http_get(
                _address(listing, file.name), cast(BinaryIO, sink), resume_size=reached, headers=_headers(),
                expected_size=size, displayed_filename=file.name,
            )  # fmt: skip
        except Exception as error:
            if n_tries >= MAX_TRIES or not is_passing(error):
                raise
            time.sleep(WAIT_S * 2 ** (n_tries - 1))
        finally:
            out.flush()


class _Sink:
    """A file that takes no more than its size, and tells what comes: an answer without end fills no disk."""

    def __init__(self, out: BinaryIO, what: str, size: int, tell: Progress) -> None:
        self._out, self._what, self._size, self._tell = out, what, size, tell
        self.name = out.name

    def write(self, data: bytes) -> int:
        """Append. Raises: HubError past the size, and then nothing is kept."""
        if self._out.tell() + len(data) > self._size:
            self.seek(0)
            self.truncate()
            raise HubError(f"{self._what}: more than the {self._size} bytes that the hub declares came: run it again")
        n_written = self._out.write(data)
        self._tell(n_written)
        return n_written

    def tell(self) -> int:
        return self._out.tell()

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._out.seek(position, whence)

    def truncate(self) -> int:
        """Throw away what is behind the current position."""
        kept = self._out.tell()
        self._tell(kept - self._out.seek(0, io.SEEK_END))
        self._out.truncate(kept)
        return self._out.seek(kept)


@contextlib.contextmanager
def _held(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial file that no other process is writing. Raises: HubError when one is."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as out:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HubError(f"{partial} is being downloaded by another process: wait for it") from error
        yield out


def _digest(path: Path, state: "hashlib._Hash") -> str:
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            state.update(block)
    return state.hexdigest()


def _repository_folder(repository: Repository) -> Path:
    """Return the folder of a repository in the cache, as huggingface_hub calls it."""
    return cache_folder() / f"models--{repository.id.replace('/', '--')}"


def _remember(folder: Path, listing: Listing) -> None:
    """Have the revision's name stand for its commit in the cache, for the day without a network."""
    revision = listing.repository.revision or "main"
    if revision != listing.commit and ".." not in revision:
        ref = folder / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(listing.commit, "utf-8")


def _silent(_n_bytes: int) -> None:
    """Tell nobody."""
