"""The library of the extra `mic`, by which microphones and loudspeakers are opened."""

import importlib
import logging
import threading
from types import ModuleType

from edge.errors import DeviceError
from edge.extras import missing

_LOG = logging.getLogger("edge.portaudio")
_OPEN: set[int] = set()  # streams, by id
_LOCK = threading.Lock()
# Held from the look at the devices until a stream is noted: in between, another look would end the stream.
OPENING = threading.RLock()


def keep(stream: object) -> None:
    """Note a stream as open: while one is, the library is not told to look at the devices anew."""
    with _LOCK:
        _OPEN.add(id(stream))


def forget(stream: object) -> None:
    """Note a stream as closed."""
    with _LOCK:
        _OPEN.discard(id(stream))


def sounddevice(*, need: str) -> ModuleType:
    """Return the library, told to look at the devices anew: it lists them once and never sees one come back.

    That would end every stream that is open, so it is not done while one is; who opens one holds OPENING.
    need: what cannot be done without it, such as `a microphone`. Raises: DeviceError where it is not installed.
    """
    try:
        library = importlib.import_module("sounddevice")
    except ImportError as error:
        raise DeviceError(missing("sounddevice", need=need)) from error
    except OSError as error:
        raise DeviceError(f"{need} needs PortAudio, which is not installed: sudo apt install libportaudio2") from error
    try:
        with OPENING, _LOCK:
            if not _OPEN:
                library._terminate()
                library._initialize()
    except Exception:
        _LOG.debug("sounddevice: the devices were not looked at anew", exc_info=True)
    return library


def lacking(need: str) -> str:
    """Return what the library lacks, the extra or PortAudio, and the command that installs it; "" for nothing.

    need: as for `sounddevice`.
    """
    try:
        sounddevice(need=need)
    except DeviceError as error:
        return str(error)
    return ""
