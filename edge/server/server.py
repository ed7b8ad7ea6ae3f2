"""The app over TCP: uvicorn around it, opened as `edge serve` is told and ended in order."""

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import python_multipart  # noqa: F401 - forms are read with it: told here, and not with the first one
import uvicorn

from edge.chat.attachments import allowing
from edge.errors import EdgeError, ParameterError
from edge.limits import Limits
from edge.models import Models
from edge.server.access import Guard, is_loopback
from edge.server.app import App, default_slots, served_chat
from edge.server.asgi import Server
from edge.server.connection import Connection
from edge.server.listener import BACKLOG, listening, tls_context
from edge.server.queue import Queue

OnReady = Callable[[str, Callable[[], None]], None]  # the address, and what stops the server
OnTick = Callable[[Callable[[], "State"]], None]  # what tells the state, asked where somebody wants to know

GRACE_S = 10
_LAST_WORDS_S = 2
_FIRST_LINE_BYTES = 8 << 10


@dataclass(frozen=True)
class Settings:
    """What `edge serve` is told; None: as the machine or the model has it."""

    model: str | None
    verify: bool
    host: str
    port: int
    aliases: Mapping[str, str]
    slots: int | None
    context: int | None
    threads: int | None
    kv: str | None
    media_folder: Path | None
    media_hosts: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    key: str | None
    tls_cert: Path | None
    tls_key: Path | None
    limits: Limits


@dataclass(frozen=True)
class State:
    """What a server does at a moment.

    stalled_s: seconds in which an engine's work has not moved on, 0.0 while it does or there is none.
    """

    n_running: int
    n_waiting: int
    stalled_s: float


class _Uvicorn(uvicorn.Server):
    """uvicorn that ends in order: who waits is sent away, who is answered has GRACE_S, a second signal ends it now.

    tick: called over and over by the event loop; stop: called when it is told to end.
    """

    def __init__(self, config: uvicorn.Config, *, tick: Callable[[], None], stop: Sequence[Callable[[], None]]) -> None:
        super().__init__(config)
        self._tick = tick
        self._stop = stop

    async def on_tick(self, counter: int) -> bool:
        is_over = await super().on_tick(counter)
        if not is_over:
            self._tick()
        return is_over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for told in self._stop:
            told()
        late = asyncio.get_running_loop().call_later(GRACE_S, self._break_off)
        await super().shutdown(sockets)
        late.cancel()

    def _break_off(self) -> None:
        """End what still runs; uvicorn itself would do it only when nobody waits for its last words any more."""
        for task in self.server_state.tasks:
            task.cancel()

    def stop(self) -> None:
        """End in order, told from any thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take the signals that end a server, without raising them again at the end: it ended as it was told to."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    settings: Settings, *, on_ready: OnReady, on_tick: OnTick | None = None, on_stop: Callable[[], None] | None = None
) -> None:
    """Serve until a signal ends it; `on_ready` gets the address once connections are accepted, and what stops it.

    on_tick: called by the event loop, about ten times a second, from the moment that it answers until it is told to
    stop; on_stop: called then.
    Raises: ParameterError for a bind beyond this machine without a key, or one that cannot be had; and as Models.
    """
    tls = check(settings)
    with listening(settings.host, settings.port) as listener:
        run(_open(settings), listener, tls=tls, on_ready=on_ready, on_tick=on_tick, on_stop=on_stop)


def check(settings: Settings) -> ssl.SSLContext | None:
    """Return the certificate to serve with, None for plain HTTP. Raises: ParameterError for what cannot be served."""
    if settings.key is None and not is_loopback(settings.host):
        msg = f"host: {settings.host} can be reached from elsewhere: give a key, EDGE_API_KEY or --api-key-file"
        raise ParameterError(msg, field="host")
    return tls_context(settings.tls_cert, settings.tls_key)


def run(
    server: Server,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None,
    on_ready: OnReady,
    on_tick: OnTick | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve at a socket until it is told to stop, then close the server and what it holds."""
    config = uvicorn.Config(
        server,
        http=Connection,
        loop="edge.server.connection:Loop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S + _LAST_WORDS_S,
        h11_max_incomplete_event_size=_FIRST_LINE_BYTES + server.app.chat.limits.header_bytes,
    )
    config.load()
    config.ssl = tls
    # What uvicorn says of a failing request may quote it; ours says what failed and where.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    tick = (lambda: on_tick(functools.partial(_state, server))) if on_tick else lambda: None
    uvicorn_server = _Uvicorn(config, tick=tick, stop=(server.refuse, on_stop or (lambda: None)))
    try:
        on_ready(f"{'http' if tls is None else 'https'}://{place}:{port}", uvicorn_server.stop)
        uvicorn_server.run(sockets=[listener])
    finally:
        server.close()


def _state(server: Server) -> State:
    return State(server.queue.n_running, server.queue.n_waiting, server.app.chat.models.stalled_s())


def _open(settings: Settings) -> Server:
    """Open the model, so that the first request does not wait for it, and what is around it."""
    slots = settings.slots or default_slots()
    limits = settings.limits
    models = Models(
        model=settings.model,
        aliases=settings.aliases,
        threads=settings.threads,
        context=settings.context,
        slots=slots,
        kv=settings.kv,
        verify=settings.verify,
    )
    try:
        for name in models.ids()[:1]:
            models.engine(name)
    except EdgeError:
        models.close()
        raise
    files, remote = settings.media_folder or False, allowing(settings.media_hosts, limits)
    app = App(served_chat(models, files=files, remote=remote, limits=limits))
    guard = Guard(key=settings.key, hosts=settings.allowed_hosts, limits=limits)
    return Server(app, guard, Queue(slots, max_waiting=limits.waiting, max_wait_s=limits.wait_s))
