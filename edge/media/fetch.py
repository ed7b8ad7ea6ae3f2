"""The one place that opens media a message names: data: URLs and, where allowed, local files and other hosts."""

import io
import os
import re
import stat
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import MediaError, shown
from edge.media.data_url import is_data_url, read_data_url

if TYPE_CHECKING:
    from edge.media.remote import Remote

MAX_BYTES = 40 << 20

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_url(url: str, *, files: bool | Path, remote: "Remote | None" = None, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes a media URL stands for.

    files: whether file:// URLs and plain paths are read: all (True), none (False), or those inside a folder, to which
    relative paths then belong. remote: what may be fetched, None for nothing. The declared type of a data: URL is
    ignored. Raises: MediaError, which shows the URL cut at 200 characters and no other path or address.
    """
    if is_data_url(url):
        return read_data_url(url, max_bytes=max_bytes)
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    if scheme in ("http", "https"):
        return _remote(url, scheme, remote)
    if scheme not in ("", "file"):
        raise MediaError(f"{shown(url)}: expected a data: URL or a local file, got scheme {shown(scheme)}")
    if files is False:
        raise MediaError(f"{shown(url)}: local files are not allowed here; expected a data: URL")
    return _file(_path(url) if scheme else url, url, None if files is True else Path(files), max_bytes)


def _remote(url: str, scheme: str, remote: "Remote | None") -> bytes:
    if remote is None:
        way_out = "allow_media=[HOST] or --allow-media HOST allows a host; else expected a data: URL or a local file"
        raise MediaError(f"{shown(url)}: remote media is off here: {way_out}")
    if scheme != "https":
        raise MediaError(f"{shown(url)}: expected https, got plain {scheme}")
    from edge.media.remote import read_remote  # httpcore is loaded where something is fetched

    return read_remote(url, remote)


def _path(url: str) -> str:
    """Return the path of a file: URL."""
    rest = url[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise MediaError(f"{shown(url)}: expected file:///path, got host {shown(host)}")
        rest = slash + path
    try:
        # Names are bytes: those that are no UTF-8 are files as well.
        return os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(rest)))
    except UnicodeError as error:
        raise MediaError(f"{shown(url)}: cannot be read: not a path") from error


def _file(path: str, url: str, folder: Path | None, max_bytes: int) -> bytes:
    """Read a regular file, at most max_bytes of it."""
    try:
        descriptor = _open(path) if folder is None else _open_inside(path, folder)
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise MediaError(f"{shown(url)}: cannot be read: {reason}") from error
    if descriptor is None:
        raise MediaError(f"{shown(url)}: expected a file inside the folder that is allowed here")
    try:
        with os.fdopen(descriptor, "rb") as file:
            return _read(file, url, max_bytes)
    except OSError as error:
        raise MediaError(f"{shown(url)}: cannot be read: {error.strerror}") from error


def _open(path: str) -> int:
    # A device or pipe can block or act when opened: looked at first, and again once it is open.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(None, "expected a regular file")
    return os.open(path, _OPEN_FLAGS)


def _open_inside(path: str, folder: Path) -> int | None:
    """Open a file below a folder; None when it is outside, whether it exists there or not.

    Links are resolved first and may not lead out; then every step is taken without following any, so that a link
    put there in between leads nowhere.
    """
    root = Path(os.path.realpath(folder))
    target = Path(os.path.realpath(root / path))
    if not target.is_relative_to(root):
        return None
    *folders, name = target.relative_to(root).parts or (".",)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in folders:
            below = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
            raise OSError(None, "expected a regular file")
        return os.open(name, _OPEN_FLAGS | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _read(file: io.BufferedReader, url: str, max_bytes: int) -> bytes:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{shown(url)}: expected a regular file")
    if status.st_size > max_bytes:
        raise MediaError(f"{shown(url)}: expected at most {max_bytes} bytes, got {status.st_size}")
    data = file.read(max_bytes + 1)  # some files have more than they say
    if len(data) > max_bytes:
        raise MediaError(f"{shown(url)}: expected at most {max_bytes} bytes, got {len(data)} or more")
    return data
