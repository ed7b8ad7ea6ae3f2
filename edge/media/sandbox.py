"""A separate process for decoding untrusted media: it may crash, swell or hang, and this one goes on."""

import contextlib
import fcntl
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from edge.errors import MediaError, MemoryExhausted
from edge.media import wire
from edge.media.allowance import inherited
from edge.media.decoded import Decoded, Json, Options

_LOG = logging.getLogger("edge")

MEMORY_BYTES = 1 << 30
SECONDS: Mapping[str, float] = {"image": 20.0, "audio": 60.0, "video": 60.0, "pdf": 20.0}

_MAX_JOBS = 256  # then a fresh process takes over: what libraries lose of their memory comes back
_TRIES = 2
_START_S = 120.0
_END_S = 2.0
_PIPE_BYTES = 1 << 20
_MAX_MESSAGE_CHARS = 500
# The environment goes with it as far as programs need one to start at all: keys stay here.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
# What keeps it and its libraries quiet and small.
ENVIRONMENT = {
    "EDGE_IDLE_S": "120",  # then it ends, and gives its memory back; the next job starts another
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_FFMPEG_THREADS": "2",
    # Demuxers by name, for playlists would open further files; and no protocol that leads out of this machine.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "format_whitelist;mov,mp4,matroska,webm,avi|protocol_whitelist;file",
}


class Worker:
    """One decoding process, started when it is first needed and again after it ended; any thread may ask it.

    memory_bytes: what one job may take beyond the process itself (default: MEMORY_BYTES, at most a quarter of the
    machine's). seconds: by kind, how long one may take.
    Jobs wait for each other. Raises on decode: MediaError for what is damaged, bombs, crashes and hangs;
    MemoryExhausted when no process can be started, or the resource limits of this one are in the way.
    """

    def __init__(self, *, memory_bytes: int | None = None, seconds: Mapping[str, float] = SECONDS) -> None:
        machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._memory_bytes = memory_bytes or min(MEMORY_BYTES, machine_bytes // 4)
        self._seconds = dict(seconds)
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    def decode(
        self,
        kind: str,
        data: bytes,
        options: Options,
        *,
        limit_s: float = math.inf,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Decoded:
        """Decode as edge.media.decoding.decode does, in the other process.

        limit_s: seconds it may take, at most the kind's own. stopped: asked before a process is given the job; one that
        has it already is ended by interrupt(). The option memory_bytes: the most to use, at most the worker's own.
        """
        most = min(int(options.get("memory_bytes") or self._memory_bytes), self._memory_bytes)
        with self._lock:
            if self._closed:
                raise MemoryExhausted(f"{kind}: the decoder was closed")
            try:
                for _ in range(_TRIES):
                    with contextlib.suppress(_NotStarted):
                        child = self._ready()
                        if stopped():
                            raise MediaError(f"{kind}: decoding it was stopped")
                        seconds = min(limit_s, self.limit_s(kind))
                        return child.run(kind, data, options, memory_bytes=most, limit_s=seconds)
                    _LOG.warning("the decoding process had ended; a new one is started")
                raise MemoryExhausted(f"{kind}: the decoding process ends as soon as it is started")
            finally:
                if self._child is not None and not self._child.usable:
                    self._drop()

    @property
    def pid(self) -> int | None:
        """The process id, None while there is no process."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the process; a job under way fails. Closing twice is fine."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()  # a job that holds the lock ends with it
        with self._lock:
            self._drop()

    def interrupt(self) -> None:
        """End the job under way: it fails. Whoever asks makes sure that it is the one that is meant."""
        child = self._child
        if child is not None:
            child.kill()

    def limit_s(self, kind: str) -> float:
        """Return how many seconds a job of a kind may take."""
        return self._seconds.get(kind, max(self._seconds.values()))

    def _ready(self) -> "_Child":
        child = self._child
        if child is not None and child.owner_pid != os.getpid():
            child = self._child = None  # it belongs to the process that this one was forked from
        if child is not None and (not child.usable or not child.alive or child.n_jobs >= _MAX_JOBS):
            self._drop()
            child = None
        if child is None:
            child = self._child = _Child()
        return child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _NotStarted(Exception):
    """A process ended before it had heard what its job is."""


class _Child:
    """A process and the pipes to it."""

    def __init__(self) -> None:
        self.owner_pid = os.getpid()
        self.n_jobs = 0
        self.usable = True
        self._late = False
        self._process = _start()
        self._finalizer = weakref.finalize(self, _end, self._process, self.owner_pid)
        try:
            with self._deadline(_START_S):
                answer = wire.receive(self._from)
        except (wire.WireError, OSError) as error:
            self.end()
            raise MemoryExhausted(_unstarted(inherited())) from error
        if "failed" in answer:
            self.end()
            raise MemoryExhausted(_unstarted(_said(answer, "failed")))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, kind: str, data: bytes, options: Options, *, memory_bytes: int, limit_s: float) -> Decoded:
        """Do one job. Raises: MediaError, and is not usable after a crash or at the limit."""
        self.n_jobs += 1
        self.usable = False
        decoded, begun = None, {}
        head = {"kind": kind, "options": dict(options), "n_bytes": len(data), "memory_bytes": memory_bytes}
        try:
            with self._deadline(limit_s):
                begun = self._ask({**head, "limit_s": limit_s}, data)
                answer = begun if "failed" in begun else wire.receive(self._from)
                if "error" not in answer and "failed" not in answer:
                    decoded = wire.receive_decoded(self._from, answer, max_bytes=memory_bytes)
        except (wire.WireError, OSError) as error:
            raise self._ended(kind, limit_s, begun) from error
        except MemoryError as error:
            raise MemoryExhausted(f"{kind}: no memory left to hold it") from error
        self.usable = not (self._late or answer.get("last") or "failed" in begun)
        if "failed" in answer:
            raise MemoryExhausted(_said(answer, "failed"))
        if decoded is None:
            raise MediaError(_said(answer, "error"))
        return decoded

    def _ask(self, head: Mapping[str, Json], data: bytes) -> dict[str, Json]:
        """Send a job; return what was said when it was heard.

        Raises: _Unheard when the process ended before it had the data, which is not to blame then.
        """
        try:
            wire.send(self._to, head, [data])
            return wire.receive(self._from)
        except (wire.WireError, OSError) as error:
            if self._late:
                raise
            raise _NotStarted from error

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """End the process and close the pipes."""
        self.usable = False
        self._finalizer()

    @property
    def _to(self) -> BinaryIO:
        return _open(self._process.stdin)

    @property
    def _from(self) -> BinaryIO:
        return _open(self._process.stdout)

    @contextlib.contextmanager
    def _deadline(self, limit_s: float) -> Iterator[None]:
        """Kill the process after so many seconds: whoever waits for it then reads the end of its pipe."""
        timer = threading.Timer(limit_s, self._too_late)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError as error:  # nothing is decoded that nobody could end
            self.kill()
            raise MemoryExhausted(_unstarted("not enough threads or memory")) from error
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # or it could strike between two jobs

    def _too_late(self) -> None:
        self._late = True
        self._process.kill()

    def _ended(self, kind: str, limit_s: float, begun: Mapping[str, Json]) -> MediaError | MemoryExhausted:
        """Say why there is no answer; what ended the process stays in the log."""
        if self._late:
            return MediaError(f"{kind}: decoding it exceeds {limit_s:g} s")
        self._process.kill()
        status = self._process.wait()
        _LOG.warning("%s: the decoding process ended with status %d", kind, status)
        short = " ".join(str(begun.get("short") or "")[:_MAX_MESSAGE_CHARS].split())
        if -status == signal.SIGXCPU and "RLIMIT_CPU" not in short:
            return MediaError(f"{kind}: decoding it exceeds {limit_s:g} s")
        if -status == signal.SIGXCPU or begun.get("tight"):
            return MemoryExhausted(f"{kind}: the decoder was ended by the resource limits of this process: {short}")
        return MediaError(f"{kind}: the data is damaged: decoding it failed")


def _start() -> "subprocess.Popen[bytes]":
    """Start a process that sees no key, no terminal and no folder of this one's. Raises: MemoryExhausted."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join([*(str(Path(entry).resolve()) for entry in sys.path if entry), here])
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", "edge.media.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **ENVIRONMENT, "PYTHONPATH": path},
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for this process; it ends the other one
        )
    except OSError as error:
        raise MemoryExhausted(_unstarted(error.strerror)) from error
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            fcntl.fcntl(_open(stream), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


def _end(process: "subprocess.Popen[bytes]", owner_pid: int) -> None:
    if os.getpid() != owner_pid:
        return  # a fork of its owner ends, not its owner
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _open(stream: object) -> BinaryIO:
    if stream is None:
        raise OSError("no pipe")
    return stream  # type: ignore[return-value]


def _unstarted(reason: str | None) -> str:
    return "the decoder of media cannot be started" + (f": {reason}" if reason else "")


def _said(answer: Mapping[str, Json], key: str) -> str:
    """Return the error the other process sent: one line, not long, for it may not be itself any more."""
    detail = answer.get("detail")
    if detail:
        _LOG.debug("decoding: %s", str(detail)[:_MAX_MESSAGE_CHARS])
    return " ".join(str(answer[key])[:_MAX_MESSAGE_CHARS].split())
