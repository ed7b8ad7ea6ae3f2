"""What huggingface_hub fails with, in our words: what is wrong with a repository, the network or a disk; what to do.

Its errors come from the HTTP library that its version uses, so they are told by the modules of their classes.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.errors import HubError

_HTTP: Final = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_HUB: Final = {"JSONDecodeError", "InvalidURL", "MissingSchema", "InvalidSchema", "UnsupportedProtocol"}
_NUMBERED: Final = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
_REASON_CHARS: Final = 200
_TOKEN: Final = "HF_TOKEN=... (a token of an account that may read it)"


@contextlib.contextmanager
def failures(
    repository: str, url: str, *, revision: str | None = None, file: str | None = None, folder: Path | None = None
) -> Iterator[None]:
    """Turn what the library raises into a HubError that says what to do.

    repository: ORG/NAME; url: of the hub; revision, file: what was asked for; folder: where it is written.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        reason = _reason(error, url, revision=revision, file=file, folder=folder)
        raise HubError(f"{repository}: {reason}") from error


def is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed a moment later: the connection broke, or the hub is overloaded."""
    status = _status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return _is_network(error) or _is_short(error)


def _reason(error: Exception, url: str, *, revision: str | None, file: str | None, folder: Path | None) -> str:
    names, status = {kind.__name__ for kind in type(error).__mro__}, _status(error)
    cause = error.__cause__
    if "LocalEntryNotFoundError" in names and isinstance(cause, Exception):
        return _reason(cause, url, revision=revision, file=file, folder=folder)
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE forbids to ask the hub: unset it and run the same command again"
    if "GatedRepoError" in names:
        return f"is gated: accept its terms on its page at the hub, then set {_TOKEN}"
    if "RevisionNotFoundError" in names:
        return f"has no revision {revision or 'main'!r:.200}: expected a branch, a tag or a commit"
    if "EntryNotFoundError" in names:
        return f"has no {file or 'such file'}"
    if "RepositoryNotFoundError" in names or (status == 404 and file is None):
        return f"{url} has no such repository, or it is private: expected ORG/NAME; for a private one set {_TOKEN}"
    if status is not None:
        return _answered(status, url, file)
    return _broken(error, url, folder)


def _answered(status: int, url: str, file: str | None) -> str:
    """Say what a status means that the library has no name for."""
    what = "" if file is None else f"{file}: "
    if status in (401, 403):
        return f"{what}{url} refuses access ({status}): set {_TOKEN}, or accept the terms on its page"
    if status == 404:
        return f"{what}not at {url} (404)"
    if status == 429:
        return f"{what}{url} has had too many requests (429): wait some minutes, and run the same command again"
    if status >= 500:
        return f"{what}{url} fails ({status}): run the same command again later; what was downloaded is kept"
    return f"{what}{url} answers with status {status}, which no hub does: is HF_ENDPOINT right?"


def _broken(error: Exception, url: str, folder: Path | None) -> str:
    """Say what is wrong where nobody answered."""
    numbered = _NUMBERED.findall(str(error))  # the system's own words, amid what libraries put around them
    said = numbered[-1] if numbered else " ".join(str(error).split())[:_REASON_CHARS]
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return f"the disk of {folder} is full: free some, and run the same command again; what was downloaded is kept"
    if "certificate" in said.lower():
        return f"the certificate of {url} is not accepted ({said}): is this machine's clock right?"
    if _is_network(error) and not _NO_HUB & {kind.__name__ for kind in type(error).__mro__}:
        way = "is there a network? What was downloaded is kept: run the same command again"
        return f"{url} cannot be reached ({said}): {way}"
    if _is_short(error):
        return f"the download ended early ({said}): what came is kept, run the same command again"
    if number is not None:
        at = getattr(error, "filename", None) or folder
        return f"{at}: {os.strerror(number)}"
    return f"{url} does not answer as a hub does ({type(error).__name__}: {said}): is HF_ENDPOINT right?"


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error, None for one without."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _is_network(error: BaseException) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or bool(modules & _HTTP)


def _is_short(error: BaseException) -> bool:
    """Whether it is the library's word for fewer bytes than were declared."""
    return isinstance(error, OSError) and error.errno is None and "Consistency check" in str(error)
