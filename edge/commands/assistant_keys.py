"""The keys of a terminal in which an assistant runs: one press each, without Enter."""

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

_POLL_S = 0.2
_END_OF_FILE = ("", "\x04")


@contextlib.contextmanager
def keys(commands: Mapping[str, Callable[[], None]]) -> Iterator[bool]:
    """Call what a key stands for while the block runs; yields whether there is a terminal. commands: by their keys."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    descriptor, over = sys.stdin.fileno(), threading.Event()
    before = termios.tcgetattr(descriptor)
    thread = threading.Thread(target=_read, args=(descriptor, commands, over), name="edge-keys", daemon=True)
    try:
        tty.setcbreak(descriptor)
        thread.start()
        yield True
    finally:
        over.set()
        thread.join()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read(descriptor: int, commands: Mapping[str, Callable[[], None]], over: threading.Event) -> None:
    while not over.is_set():
        if not select.select([descriptor], [], [], _POLL_S)[0]:
            continue
        key = os.read(descriptor, 1).decode("latin-1")
        if key in commands:
            commands[key]()
        if key in _END_OF_FILE:
            return
