"""The library of the extra `mic`, by which microphones and loudspeakers are opened."""

import importlib
import logging
from types import ModuleType

from edge.errors import DeviceError
from edge.extras import missing

_LOG = logging.getLogger("edge.portaudio")


def sounddevice(*, need: str) -> ModuleType:
    """Return the library, told to look at the devices anew: it lists them once and never sees one come back.

    need: what cannot be done without it, such as `a microphone`. Raises: DeviceError where it is not installed.
    """
    try:
        library = importlib.import_module("sounddevice")
    except ImportError as error:
        raise DeviceError(missing("sounddevice", need=need)) from error
    except OSError as error:
        raise DeviceError(f"{need} needs PortAudio, which is not installed: sudo apt install libportaudio2") from error
    try:
        library._terminate()
        library._initialize()
    except Exception:
        _LOG.debug("sounddevice: the devices were not looked at anew", exc_info=True)
    return library
