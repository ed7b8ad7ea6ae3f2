"""What the folder of installed bundles remembers beside them: the default, speech bundles of chat bundles, aliases."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edge.bundle import aliases as naming
from edge.errors import BundleError

_DEFAULT = ".default"
_DEFAULT_VOICE = ".voice"
_SPEECH_MODELS = ".companions"
_ALIASES = ".aliases"
_MAX_BYTES = 8 << 20  # of each file


def models_folder() -> Path:
    """Return the folder of installed bundles: $EDGE_MODELS, else ~/.local/share/edge/models; it may not exist yet.

    Raises: BundleError when there is neither the variable nor a home folder.
    """
    chosen = os.environ.get("EDGE_MODELS")
    try:
        return Path(chosen or "~/.local/share/edge/models").expanduser().absolute()
    except RuntimeError as error:
        raise BundleError("no home folder for installed bundles: set EDGE_MODELS") from error


def default_id() -> str | None:
    """Return the id chosen by `edge models default`, None without one."""
    return _chosen(_DEFAULT)


def default_voice_id() -> str | None:
    """Return the id of the voice chosen by `edge models default`, None without one."""
    return _chosen(_DEFAULT_VOICE)


def set_default(id: str) -> None:  # noqa: A002 - a bundle's
    """Remember the id of the bundle that wins shared names. Raises: BundleError."""
    _write(_DEFAULT, lambda: id, "the default cannot be set")


def set_default_voice(id: str) -> None:  # noqa: A002 - a bundle's
    """Remember the id of the voice that speaks where none is named. Raises: BundleError."""
    _write(_DEFAULT_VOICE, lambda: id, "the default voice cannot be set")


def forget_default(id: str) -> None:  # noqa: A002 - a bundle's
    """Let a bundle be no default any more; the caller holds the folder's lock. Raises: OSError."""
    for name in (_DEFAULT, _DEFAULT_VOICE):
        if _chosen(name) == id:
            (models_folder() / name).unlink()


def _chosen(name: str) -> str | None:
    try:
        return (models_folder() / name).read_text("utf-8", "replace").strip() or None
    except (OSError, BundleError):
        return None


def speech_models() -> dict[str, str]:
    """Return speech ids by chat ids; a file that cannot be read names none."""
    try:
        found = json.loads((models_folder() / _SPEECH_MODELS).read_bytes()[:_MAX_BYTES])
    except (OSError, BundleError, ValueError, RecursionError):
        return {}
    return {str(chat): str(speech) for chat, speech in found.items()} if isinstance(found, dict) else {}


def set_speech_models(speech_models: Mapping[str, str]) -> None:
    """Remember speech ids by chat ids. Raises: BundleError."""
    text = json.dumps(speech_models, sort_keys=True, indent=1)
    _write(_SPEECH_MODELS, lambda: text, "the speech-to-text model cannot be set")


def aliases() -> dict[str, str]:
    """Return what further names stand for, as `change_aliases` left it; a file that cannot be read has none."""
    try:
        return naming.of_lines((models_folder() / _ALIASES).read_bytes()[:_MAX_BYTES].decode("utf-8"))
    except (OSError, BundleError, ValueError):
        return {}


def change_aliases(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Remember other aliases; change: from those that are remembered. Raises: BundleError."""
    _write(_ALIASES, lambda: naming.lines(change(aliases())), "the aliases cannot be stored")


def _write(name: str, text: Callable[[], str], failure: str) -> None:
    """Replace one of the folder's own files by a rename; text: asked while nobody else writes. Raises: BundleError."""
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            replace_file(folder / name, text())
            settle(folder, f"{folder / name} is written")
    except OSError as error:
        way = "EDGE_MODELS names another folder: export EDGE_MODELS=DIR"
        raise BundleError(f"{failure} in {folder}: {error.strerror}; {way}") from error


def replace_file(path: Path, text: str) -> None:
    """Replace a file by a rename, once its text is on the disk. Raises: OSError."""
    fresh = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
    try:
        with fresh.open("x", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one install, removal or choice at a time."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def settle(folder: Path, done: str) -> None:
    """Sync a folder after a rename in it; done: what is true by then. Raises: BundleError saying so."""
    try:
        sync_folder(folder)
    except OSError as error:
        reason = f"{folder} cannot be synced: {error.strerror or error}"
        raise BundleError(f"{done}, but a power cut may undo that: {reason}. To be sure, do it again") from error


def sync_folder(folder: Path) -> None:
    """Have what was renamed in a folder outlast a power cut. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
