"""Commands for an assistant that runs: a line into its socket, from a button, a script or a terminal."""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from edge.errors import EdgeError

VARIABLE = "EDGE_ASSISTANT_SOCKET"

_NAME = "edge-assistant.sock"
_SYSTEM = Path("/run/edge-assistant") / _NAME  # of a unit with RuntimeDirectory=edge-assistant
_PATIENCE_S = 2.0  # with a client that says nothing
_ANSWER_S = 10.0  # for which a command waits: such clients may be in front of it
_MAX_BYTES = 1000
_MAX_PATH = 107  # bytes, of a socket's address


def own_path() -> Path:
    """Return where an assistant listens: EDGE_ASSISTANT_SOCKET, the service's or the user's runtime folder, or /tmp."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or os.environ.get("XDG_RUNTIME_DIR")
    if folder:
        return Path(folder) / _NAME
    return Path(f"/tmp/edge-assistant-{os.getuid()}") / _NAME


def paths() -> list[Path]:
    """Return where an assistant may listen, seen by who sends a command."""
    return list(dict.fromkeys([own_path(), Path(f"/run/user/{os.getuid()}") / _NAME, _SYSTEM]))


def send(command: str, path: Path | None = None) -> str:
    """Send a command; return the answer, the state before it. Raises: EdgeError when no assistant listens."""
    tried = [path] if path is not None else paths()
    for where in tried:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _asked(where, command)
    shown = ", ".join(map(str, tried))
    raise EdgeError(
        f"no assistant is running: none listens at {shown}; start one: edge assistant, or name its --control PATH"
    )


def _asked(path: Path, command: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
            to.settimeout(_ANSWER_S)
            to.connect(str(path))
            to.sendall(f"{command}\n".encode())
            return to.recv(_MAX_BYTES).decode("utf-8", "replace").strip()
    except (FileNotFoundError, ConnectionRefusedError):
        raise
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror or error}") from error


class Control:
    """Listens for commands; a context manager.

    commands: what each does, called from a thread; state: what is answered. Raises: EdgeError for a path where another
    one listens, or that cannot be had.
    """

    def __init__(self, path: Path, commands: Mapping[str, Callable[[], None]], state: Callable[[], str]) -> None:
        self.path = path
        self._commands = commands
        self._state = state
        self._socket = _listening(path)
        self._thread = threading.Thread(target=self._serve, name="edge-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._socket.close()
        self._thread.join(_PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.settimeout(_PATIENCE_S)
                client.sendall(f"{self._obey(client.recv(_MAX_BYTES))}\n".encode())

    def _obey(self, data: bytes) -> str:
        command = data.decode("utf-8", "replace").strip()
        before = self._state()
        if command == "state":
            return before
        if command not in self._commands:
            return f"error: expected one of {', '.join([*self._commands, 'state'])}"
        self._commands[command]()
        return before


def _listening(path: Path) -> socket.socket:
    """Return a socket at a path that only this user can write to; one that was left there is removed."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise EdgeError(f"{path}: expected a path of at most {_MAX_PATH} bytes for a socket")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.name.startswith("edge-assistant-") and path.parent.stat().st_uid != os.getuid():
            raise EdgeError(f"{path.parent}: belongs to another user")
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise EdgeError(f"{path}: is no socket")
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                _asked(path, "state")
                raise EdgeError(f"{path}: an assistant listens there already; another one: --control PATH")
            path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(4)
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror or error}") from error
    return sock
