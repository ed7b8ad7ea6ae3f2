"""What a service tells systemd of itself, as sd_notify(3) does: nothing, and no error, where nobody asked for it."""

import contextlib
import math
import os
import socket
from typing import Final

_SOCKET: Final = "NOTIFY_SOCKET"
_INTERVAL, _OWNER = "WATCHDOG_USEC", "WATCHDOG_PID"
_MOST_CHARS: Final = 300  # of a status: a line of `systemctl status`
_PATIENCE_S: Final = 1.0  # for what is said once; what is said over and over waits for nobody, or event loops would


def is_on() -> bool:
    """Return whether somebody listens: systemd with a unit of Type=notify, or what stands in for it."""
    return _address() is not None


def ready() -> None:
    """Say that the start is over: what was asked for can be used now."""
    _send("READY=1", wait_s=_PATIENCE_S)


def stopping() -> None:
    """Say that the end has begun."""
    _send("STOPPING=1", wait_s=_PATIENCE_S)


def status(text: str) -> None:
    """Say in a line what goes on; `systemctl status` shows it. Control characters become spaces."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    _send(f"STATUS={line[:_MOST_CHARS]}")


def watchdog() -> None:
    """Say that the work moves on. Only who has looked may say so: a mere timer knows nothing."""
    _send("WATCHDOG=1")


def extend(seconds: float) -> None:
    """Ask for so many more seconds from now, for a start or an end that takes longer than its unit allows.

    Raises: ValueError for seconds that are not above 0.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds: expected a number above 0, got {seconds!r}")
    _send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


def watchdog_s() -> float | None:
    """Return the seconds within which the next `watchdog` has to come; None where this process is not watched.

    Source: sd_watchdog_enabled(3).
    """
    interval, owner = os.environ.get(_INTERVAL, ""), os.environ.get(_OWNER, "")
    is_number = interval.isascii() and interval.isdigit() and int(interval) > 0
    if not (is_on() and is_number and owner in ("", str(os.getpid()))):
        return None
    return int(interval) / 1e6


def _address() -> str | None:
    """Return the address of the socket: a path, or an abstract name, which is written with an @."""
    named = os.environ.get(_SOCKET, "")
    if named.startswith("@") and len(named) > 1:
        return f"\0{named[1:]}"
    return named if named.startswith("/") else None


def _send(assignment: str, *, wait_s: float = 0.0) -> None:
    """Send one assignment; where that fails, the service goes on, for it is worth more than what is said of it."""
    address = _address()
    if address is None:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.settimeout(wait_s)
        to.sendto(assignment.encode("utf-8", "replace"), address)
