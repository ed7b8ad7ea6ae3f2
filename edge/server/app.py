"""The app without a framework: method, raw path, headers and body in; status, headers and bytes out."""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge.chat import Chat, Engines, Preset
from edge.chat.attachments import Access
from edge.chat.reply import api_errors, refused
from edge.chat.voices import Voices
from edge.limits import Limits, is_small_board
from edge.media.budget import Budget
from edge.media.pool import Pool
from edge.server.http import Headers, HttpRequest, HttpResponse
from edge.server.json_body import read_json, read_outline
from edge.server.metrics import Metrics
from edge.server.multipart import read_form
from edge.server.route import Answer, Asked, Backend, DirectRoute, ErrorForm, Route, SpeechRoute, UploadRoute
from edge.server.routes import find, path_of
from edge.server.streaming import Clock, Generation, parts
from edge.types import ApiError

if TYPE_CHECKING:
    from edge.media.remote import Remote

_LOG = logging.getLogger("edge")
_N_DECODERS = 2  # processes; one on boards with 4 GB or less
_N_SLOTS = 4

T = TypeVar("T")


class Job:
    """An answer that was asked for and is not begun: nothing is decoded before open(), or generated before start()."""

    def __init__(self, app: "App", route: Route, request: HttpRequest, asked: Asked, begun_s: float) -> None:
        self.route = route
        self._app = app
        self.has_media = asked.has_media
        self.queued = asked.queued
        self._asked = [asked]  # until it begins: what it holds is freed with its prompt
        self._begun_s = begun_s
        self._given_up = threading.Event()
        self._access = app.chat.access.shared(request.client)

    def give_up(self) -> None:
        """End what open() and start() do before the answer is on its way, from another thread."""
        self._given_up.set()
        self._access.stop()

    def open(self) -> HttpResponse | None:
        """Open the media, which needs no engine; return the response where that was wrong."""
        return _answered(self.route.errors, self._open)

    def start(self) -> Generation | HttpResponse:
        """Hand the prompt to the engine, the media opened; return the answer on its way or what was wrong."""
        app = self._app
        answer = _answered(self.route.errors, self._begin)
        if isinstance(answer, HttpResponse):
            return answer
        return Generation(
            answer,
            route=self.route,
            metrics=app.metrics,
            begun_s=self._begun_s,
            max_s=app.chat.limits.answer_s,
            clock=app.clock,
        )

    async def opened(self, threads: Executor) -> HttpResponse | None:
        """As open, on a thread; whoever stops waiting for it stops it, and leaves once it has stopped."""
        try:
            work = asyncio.wrap_future(threads.submit(self.open))
        except RuntimeError:  # closed: then nothing begins that could take long
            return self.open()
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self.give_up()
            await asyncio.wait({work})
            raise

    async def begun(self, threads: Executor) -> Generation | HttpResponse:
        """As start, on a thread; whoever stops waiting for it stops it."""
        try:
            work = threads.submit(self.start)
        except RuntimeError:  # closed: then nothing begins that could take long
            return self.start()
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            work.add_done_callback(_stop)
            self.give_up()
            raise

    def _open(self) -> None:
        self._asked.append(self._asked.pop().opened(self._app.chat, self._access))

    def _begin(self) -> Answer | HttpResponse:
        return self._asked.pop().begun(self._app.chat, self._access, self._given_up.is_set)


def _stop(work: "Future[Generation | HttpResponse]") -> None:
    """Stop what was begun for somebody who had left by then."""
    if not work.cancelled() and work.exception() is None:
        answer = work.result()
        if isinstance(answer, Generation):
            answer.cancel()


class App:
    """The interface over HTTP, whoever carries it: a server, or a transport in process.

    chat: what answers, its media decoded in processes of their own (`served_chat`).
    """

    def __init__(self, chat: Chat, *, clock: Clock = time.monotonic) -> None:
        self.chat = chat
        self.clock = clock
        self.metrics = Metrics()

    def read(self, request: HttpRequest) -> Job | HttpResponse:
        """Check a request; return the answer it asks for, not begun, or the response where there is one already."""
        begun_s = self.clock()
        request = replace(request, path=path_of(request.path))
        route = find(request.method, request.path, request.headers)
        if isinstance(route, HttpResponse):
            return route
        return _answered(route.errors, functools.partial(self._answer, route, request, begun_s))

    def respond(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Headers, Iterator[bytes]]:
        """Answer one request, waiting for its status; leaving the iterator early stops the generation.

        The iterator raises StreamBroken after its last bytes when a stream failed on its way.
        """
        job = self.read(HttpRequest(method, path, headers, body))
        answer = job.start() if isinstance(job, Job) else job
        if isinstance(answer, HttpResponse):
            return answer.status, answer.headers, iter((answer.body,))
        arriving = parts(answer)
        first = next(arriving, b"")
        return answer.status or 500, answer.headers, _rest(first, arriving)

    def close(self) -> None:
        """Give the engines up, and the processes that decode."""
        self.chat.close()

    def _answer(self, route: Route, request: HttpRequest, begun_s: float) -> Job | HttpResponse:
        if route.method == "POST":
            check_content_type(request.headers, route)
        if isinstance(route, DirectRoute):
            return route.show(Backend(self.chat, self.metrics), request)
        if isinstance(route, UploadRoute):
            kind = request.headers.get("content-type", "")
            form = read_form(request.body, kind, files=route.files, limits=self.chat.limits)
            return Job(self, route, request, route.read(self.chat, form), begun_s)
        if isinstance(route, SpeechRoute):
            return Job(self, route, request, route.read(self.chat, read_json(request.body, self.chat.limits)), begun_s)
        outline, whole = read_outline(request.body, self.chat.limits)
        asked = route.read(self.chat, outline)
        if not isinstance(asked, HttpResponse):
            self.chat.engine(asked.request.model)
        if whole is not None:  # nothing was refused: now it is worth its memory
            asked = route.read(self.chat, whole())
        return asked if isinstance(asked, HttpResponse) else Job(self, route, request, asked, begun_s)


def default_slots() -> int:
    """Return how many requests are decoded at the same time here, unless the owner says otherwise."""
    return 1 if is_small_board() else _N_SLOTS


def served_chat(
    models: Engines,
    *,
    files: bool | Path = False,
    remote: "Remote | None" = None,
    limits: Limits | None = None,
    preset: Preset | None = None,
    voices: Voices | None = None,
) -> Chat:
    """Return a chat for clients over HTTP: all media are decoded in separate processes, in fair turns.

    files: local files that messages may name, none or those in a folder; remote: what may be fetched; preset: fields of
    every request; voices: what speaks.
    """
    limits = limits or Limits.of_this_machine()
    budget = Budget(limits.decoding_s, limits.decoding_window_s)
    decoders = Pool(1 if is_small_board() else _N_DECODERS, budget=budget)
    return Chat(models, Access(files, remote, apart=True, worker=decoders), limits, preset=preset, voices=voices)


def check_content_type(headers: Mapping[str, str], route: Route) -> None:
    """Refuse what a route does not accept: a foreign page can send it without asking first. Raises: ApiError 415."""
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() not in route.accepts:
        wanted = " or ".join(each or "none" for each in route.accepts)
        raise refused(415, f"content-type: expected {wanted}, got {kind[:200]!r}")
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise refused(415, f"content-encoding: expected none, got {coding[:200]!r}")


def _answered(errors: ErrorForm, act: Callable[[], T]) -> T | HttpResponse:
    """Return what `act` does, or the response that its error is; an unexpected one stays in the log."""
    try:
        with api_errors():
            return act()
    except ApiError as error:
        return errors.response(error)
    except MemoryError:
        return errors.response(refused(503, "out of memory"))
    except Exception as error:
        _LOG.error("a request failed: %s", type(error).__name__, exc_info=error)
        return errors.response(refused(500, "the request failed"))


def _rest(first: bytes, arriving: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from arriving
