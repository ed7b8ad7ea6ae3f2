"""The files of a service: its unit and its secrets, written in one step, and none overwritten that is not ours."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge.errors import ServiceError
from edge.service import quoting
from edge.service.unit import MARK, Kind, Scope, is_ours, unit_name

_SYSTEM_UNITS: Final = Path("/etc/systemd/system")
_SYSTEM_SECRETS: Final = Path("/etc/edge")
_MOST_BYTES: Final = 1 << 20


def unit_path(kind: Kind, scope: Scope) -> Path:
    """Return where the unit of a service is. Raises: ServiceError without a home folder."""
    folder = _SYSTEM_UNITS if scope == "system" else _configuration() / "systemd" / "user"
    return folder / unit_name(kind)


def secrets_path(kind: Kind, scope: Scope) -> Path:
    """Return the file of variables that only the manager and the owner can read. Raises: as unit_path."""
    folder = _SYSTEM_SECRETS if scope == "system" else _configuration() / "edge"
    return folder / f"{kind}.env"


def check_ours(path: Path) -> None:
    """Raises: ServiceError where a file is there that was not made by `edge service install`."""
    if path.is_symlink():
        target = "masked (systemctl unmask)" if str(path.readlink()) == os.devnull else f"a link to {path.readlink()}"
        raise ServiceError(f"{path} is {target}: it is left as it is")
    if not path.exists():
        return
    if not is_ours(_read(path)):
        raise ServiceError(f"{path} was not made by edge service install: move it away first, or keep it")


def write(path: Path, text: str, *, mode: int) -> None:
    """Write a file whole, in the place of one of ours. Raises: ServiceError."""
    check_ours(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)  # whatever the umask is
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ServiceError(f"{path} cannot be written: {error.strerror}") from error


def remove(path: Path) -> bool:
    """Remove a file of ours; return whether there was one. Raises: ServiceError for one that is not."""
    check_ours(path)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ServiceError(f"{path} cannot be removed: {error.strerror}") from error
    return True


def secrets_text(values: Mapping[str, str]) -> str:
    """Return the text of a file of variables. Raises: ParameterError for what it cannot hold."""
    return "\n".join([MARK, *(f"{name}={quoting.secret(value)}" for name, value in values.items()), ""])


def read_secrets(path: Path) -> dict[str, str]:
    """Return the variables of a file that was made here; none where there is none. Raises: ServiceError for another."""
    check_ours(path)
    found = {}
    for line in _read(path).splitlines() if path.exists() else ():
        name, is_one, value = line.partition("=")
        if is_one and not line.startswith("#"):
            found[name] = quoting.unquoted(value)
    return found


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ServiceError(f"{path} cannot be read: {error.strerror}") from error


def _configuration() -> Path:
    chosen = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        return Path(chosen) if Path(chosen).is_absolute() else Path("~/.config").expanduser()
    except RuntimeError as error:
        raise ServiceError("no home folder for a unit: set XDG_CONFIG_HOME, or use --system") from error
