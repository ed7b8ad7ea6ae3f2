"""The app over ASGI: limits while a request arrives, a queue before the engine, and nobody's work outlives them."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from starlette.types import Message, Receive, Scope, Send

from edge.chat.reply import refused
from edge.limits import is_small_board
from edge.media.pool import Client
from edge.server.access import Guard, network
from edge.server.app import App, Job, check_content_type
from edge.server.connection import CROWD
from edge.server.http import HttpRequest, HttpResponse, header_map
from edge.server.queue import Queue
from edge.server.routes import errors_of, find, path_of, pattern_of
from edge.server.streaming import Generation, StreamBroken, arriving
from edge.types import ApiError

_LOG = logging.getLogger("edge.server")

BODY_S = 60.0
BODY_GRACE_S = 10.0  # before its rate counts
BODY_BYTES_PER_S = 8 << 10
_N_THREADS = 4
_N_OPENINGS = 4  # requests whose media are opened at a time, or wait with them for a place
_N_VOICES = 2  # requests that are spoken at a time; one on boards with 4 GB or less
_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20


class Server:
    """The ASGI application around an app; for one event loop.

    queue: the places of generations. Media are opened before a request asks for one of them, on other threads than
    everything else: so many requests at a time hold decoded media, half of them one address's at most.
    """

    def __init__(self, app: App, guard: Guard, queue: Queue) -> None:
        self.app = app
        self.queue = queue
        self._guard = guard
        limits, n_openings = app.chat.limits, _N_OPENINGS // 2 if is_small_board() else _N_OPENINGS
        n_voices = _N_VOICES // 2 if is_small_board() else _N_VOICES
        waiting = {"max_waiting": limits.waiting, "max_wait_s": limits.wait_s}
        self.openings = Queue(n_openings, most=n_openings // 2, **waiting)  # type: ignore[arg-type]
        # An answer is read out while it grows, and must not wait for its own end.
        self.voices = Queue(n_voices, **waiting)  # type: ignore[arg-type]
        # Each place may be held by audio that is turned into text: what is quick has threads besides.
        self._threads = _threads(_N_THREADS + queue.n_places + n_voices)
        self._openers = _threads(n_openings)
        app.metrics.gauge("edge_running", lambda: queue.n_running)
        app.metrics.gauge("edge_queue_length", lambda: queue.n_waiting)
        app.metrics.gauge("edge_media_queue_length", lambda: self.openings.n_waiting)
        app.metrics.gauge("edge_voices_running", lambda: self.voices.n_running)
        app.metrics.gauge("edge_voices_queue_length", lambda: self.voices.n_waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Source: the ASGI specification, 2.3."""
        if scope["type"] != "http":
            return
        begun_s = time.monotonic()
        said = _Said(send, closes=CROWD in scope.get("state", {}))
        generation = None
        try:
            generation = await self._answer(scope, receive, said)
        except (StreamBroken, _Gone):
            pass  # the connection closes without a proper end
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            await said.broken_off(scope, refused(503, "the server is shutting down"))
        except Exception as error:
            _LOG.error("a request failed: %s", type(error).__name__, exc_info=error)
            if said.status is None:
                await said.response(_refusal(scope, refused(500, "the request failed")))
        finally:
            self._report(scope, said.status, time.monotonic() - begun_s, generation or said.generation)

    def close(self) -> None:
        """Give up threads and engines."""
        for threads in (self._threads, self._openers):
            threads.shutdown(wait=False, cancel_futures=True)
        self.app.close()

    def refuse(self) -> None:
        """Send away everybody who waits, and everybody who comes."""
        self.openings.close()
        self.voices.close()
        self.queue.close()

    async def _answer(self, scope: Scope, receive: Receive, said: "_Said") -> Generation | None:
        path = raw_path(scope)
        early = self._refused_early(scope, path)
        if early is not None:
            await _send_early(early, scope, receive, said)
            return None
        try:
            body = await _read_body(receive, max_bytes=self.app.chat.limits.body_bytes)
        except ApiError as error:
            await _send_early(_refusal(scope, error), scope, receive, said)
            return None
        request = HttpRequest(scope["method"], path, header_map(scope["headers"]), body, self._client(scope))
        work = asyncio.ensure_future(self._work(request, said))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            await asyncio.wait({work, gone})
        if work.cancelled():
            raise _Gone
        return work.result()

    def _refused_early(self, scope: Scope, path: str) -> HttpResponse | None:
        """Return the response for what need not be read to its end, None for what is let in."""
        crowd = scope.get("state", {}).get(CROWD)
        if crowd is not None and path != "/health":
            return _refusal(scope, refused(503, crowd))
        reached = scope["server"][0] if scope.get("server") else None
        refusing = self._guard.check(scope["method"], path, scope["headers"], reached=reached)
        if refusing is not None:
            return refusing
        headers = header_map(scope["headers"])
        route = find(scope["method"], path, headers)
        if isinstance(route, HttpResponse):
            return route
        if route.method != "POST":
            return None
        try:
            check_content_type(headers, route)
            length = headers.get("content-length", "0")
            if length.isdigit() and int(length) > self.app.chat.limits.body_bytes:
                raise refused(413, f"body: expected at most {self.app.chat.limits.body_bytes} bytes, got {length[:20]}")
        except ApiError as error:
            return _refusal(scope, error)
        return None

    async def _work(self, request: HttpRequest, said: "_Said") -> Generation | None:
        # Whether the server is ready must be known while every thread is busy.
        is_health = request.path == "/health"
        reading = None if is_health else self._threads.submit(self.app.read, request)
        job = self.app.read(request) if reading is None else await asyncio.wrap_future(reading)
        if isinstance(job, HttpResponse):
            await said.response(job)
            return None
        try:
            return await self._placed(job, request, said)
        except ApiError as error:
            await said.response(job.route.errors.response(error))
            return None

    async def _placed(self, job: Job, request: HttpRequest, said: "_Said") -> Generation | None:
        """Open what there is to open, wait for a place, and answer in it. Raises: ApiError."""
        address = None if request.client is None else request.client.address
        if not job.has_media:
            async with self._place(job, address):
                return await self._generate(job, said)
        if job.queued is not None:
            self.queue.check(address)  # or it would be decoded for nothing
        async with contextlib.AsyncExitStack() as opening:
            await opening.enter_async_context(self.openings.place(address))
            refusing = await job.opened(self._openers)
            if refusing is not None:
                await opening.aclose()
                await said.response(refusing)
                return None
            async with self._place(job, address):
                await opening.aclose()
                return await self._generate(job, said)

    def _place(self, job: Job, address: str | None) -> contextlib.AbstractAsyncContextManager[object]:
        """Return the place that a job waits for: none where it takes nobody's time."""
        if job.queued is None:
            return contextlib.nullcontext()
        return (self.voices if job.queued == "voices" else self.queue).place(address)

    def _client(self, scope: Scope) -> Client:
        """Return who asks: with a key, that pays for everybody."""
        address = network(scope["client"][0]) if scope.get("client") else ""
        return Client("the key" if self._guard.asks else address, address)

    async def _generate(self, job: Job, said: "_Said") -> Generation | None:
        answer = await job.begun(self._threads)
        if isinstance(answer, HttpResponse):
            await said.response(answer)
            return None
        said.generation = answer
        async with contextlib.aclosing(arriving(answer)) as coming:
            await _send_all(answer, coming, said)
        return answer

    def _report(self, scope: Scope, status: int | None, seconds: float, generation: Generation | None) -> None:
        """Count and log a request: what it was and cost, never what it said."""
        path = raw_path(scope)
        route = pattern_of(path) or "other"
        self.app.metrics.request(route, status or 499)  # 499: the client left before there was a status
        fields: dict[str, object] = {"route": route, "status": status, "seconds": round(seconds, 3)}
        if generation is not None:
            newest = generation.newest
            fields |= {"input_tokens": newest.input_tokens, "output_tokens": newest.output_tokens}
            fields["end"] = newest.finish_reason or ("failed" if generation.broken else "cancelled")
        _LOG.info("request", extra={"fields": fields})


class _Gone(Exception):
    """The client left."""


class _Said:
    """What was sent to one client; closes: whether its connection ends with this answer."""

    def __init__(self, send: Send, *, closes: bool = False) -> None:
        self._send = send
        self.closes = closes
        self.status: int | None = None
        self.generation: Generation | None = None

    async def head(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        self.status = status
        closing = (("connection", "close"),) if self.closes else ()
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*headers, *closing)]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def response(self, response: HttpResponse) -> None:
        # A 304's length would be that of what it stands for.
        length = () if response.status == 304 else (("content-length", str(len(response.body))),)
        await self.head(response.status, (*response.headers, *length))
        await self.body(response.body, more=False)

    async def broken_off(self, scope: Scope, error: ApiError) -> None:
        """Say what ended a request too early: in its status, or as the last event of a stream that has begun."""
        if self.status is None:
            await self.response(_refusal(scope, error))
        elif self.generation is not None and self.generation.streams:
            await self.body(self.generation.break_off(error), more=True)


def _threads(n_threads: int) -> ThreadPoolExecutor:
    """Return a pool whose threads all run: there is none to be had in need, and what a server holds does not grow."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="edge-serve")
    here = threading.Barrier(n_threads + 1)
    try:
        for _ in range(n_threads):
            pool.submit(here.wait)
    except RuntimeError:  # the system has no more of them
        here.abort()
        pool.shutdown(wait=False)
        raise
    here.wait()
    return pool


def raw_path(scope: Scope) -> str:
    """Return the path as it was sent, nothing decoded, without the slashes at its end that make no other route."""
    raw = scope.get("raw_path")
    return path_of(raw.decode("latin-1") if isinstance(raw, bytes) else str(scope["path"]))


def _refusal(scope: Scope, error: ApiError) -> HttpResponse:
    """Return the response for an error, in the form that the client of this request reads."""
    return errors_of(raw_path(scope), header_map(scope["headers"])).response(error)


async def _send_all(generation: Generation, coming: AsyncGenerator[bytes, None], said: _Said) -> None:
    async for part in coming:
        if said.status is None:
            length = () if generation.streams else (("content-length", str(len(part))),)
            await said.head(generation.status or 500, (*generation.headers, *length))
        await said.body(part, more=True)
    await said.body(b"", more=False)


async def _send_early(response: HttpResponse, scope: Scope, receive: Receive, said: _Said) -> None:
    """Answer before the body was read, then take in what is on its way, or the client could not read the answer."""
    headers = header_map(scope["headers"])
    said.closes = True
    await said.head(response.status, (*response.headers, ("content-length", str(len(response.body)))))
    await said.body(response.body, more=True)
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        await _drain(receive)
    await said.body(b"", more=False)


async def _drain(receive: Receive) -> None:
    left = _LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return


async def _read_body(receive: Receive, *, max_bytes: int) -> bytearray:
    """Read a body, counted and timed as it comes. Raises: ApiError 413, 408; _Gone."""
    body, n_bytes = bytearray(), 0  # grows in place: joining parts would hold all of it twice
    began_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began_s + min(BODY_S, BODY_GRACE_S)) as deadline:
            while True:
                message: Message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                body += message.get("body", b"")
                n_bytes = len(body)
                if n_bytes > max_bytes:
                    raise refused(413, f"body: expected at most {max_bytes} bytes, got {n_bytes} or more")
                if not message.get("more_body"):
                    return body
                deadline.reschedule(began_s + min(BODY_S, BODY_GRACE_S + n_bytes / BODY_BYTES_PER_S))
    except TimeoutError as error:
        rate = f"{BODY_BYTES_PER_S} bytes a second after {BODY_GRACE_S:g} seconds"
        wanted = f"all of it in {BODY_S:g} seconds, and {rate}"
        raise refused(408, f"body: expected {wanted}; got {n_bytes} bytes") from error


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
