"""All routes without a framework: method, raw path, headers and body in; status, headers and bytes out."""

import asyncio
import functools
import logging
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge.chat import Chat, Engines, Opened
from edge.chat.attachments import Access
from edge.chat.reply import Reply, api_errors, refused
from edge.chat.request import Request
from edge.limits import Limits, is_small_board
from edge.media.budget import Budget
from edge.media.pool import Pool
from edge.server import openapi, page
from edge.server.http import (
    MODELS_PATH,
    Headers,
    HttpRequest,
    HttpResponse,
    Writer,
    is_reka,
    json_response,
    refusal,
    route_path,
)
from edge.server.json_body import read_outline
from edge.server.metrics import Metrics
from edge.server.openai import from_openai
from edge.server.reka import ChatWriter, LegacyWriter, from_legacy, legacy_place, read_stream
from edge.server.streaming import Clock, Generation, parts
from edge.types import ApiError

if TYPE_CHECKING:
    from edge.media.remote import Remote

_LOG = logging.getLogger("edge")
_N_DECODERS = 2  # processes; one on boards with 4 GB or less

Fields = Mapping[str, object]
T = TypeVar("T")

ROUTES: Mapping[str, str] = {
    "/v1/chat": "POST",
    "/v1/models": "GET",
    "/v1/models/{model}": "GET",
    "/v1/chat/completions": "POST",
    "/chat": "POST",
    "/models": "GET",
    "/health": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
    "/": "GET",
}


@dataclass(frozen=True)
class RouteRequest:
    """A request whose fields are right: the chat it stands for, and how its answer is written."""

    request: Request
    writer: Writer


class Job:
    """An answer that was asked for and is not begun: nothing is decoded before open(), or generated before start()."""

    def __init__(self, app: "App", request: HttpRequest, asked: RouteRequest, begun_s: float) -> None:
        self._app = app
        self._path = request.path
        self._asked = asked
        self._begun_s = begun_s
        self._given_up = threading.Event()
        self._access = app.chat.access.shared(request.client)
        self._media: Opened | None = None

    @property
    def has_media(self) -> bool:
        """Whether there is anything to open."""
        return self._asked.request.has_media

    def give_up(self) -> None:
        """End what open() and start() do before the answer is on its way, from another thread."""
        self._given_up.set()
        self._access.stop()

    def open(self) -> HttpResponse | None:
        """Open the media, which needs no engine; return the response where that was wrong."""
        media = _answered(self._path, self._open, {})
        if isinstance(media, HttpResponse):
            return media
        self._media = media
        return None

    def start(self) -> Generation | HttpResponse:
        """Hand the prompt to the engine, the media opened; return the answer on its way or what was wrong."""
        app = self._app
        reply = _answered(self._path, self._begin, {})
        if isinstance(reply, HttpResponse):
            return reply
        return Generation(
            reply,
            self._asked.writer,
            path=self._path,
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

    def _open(self) -> Opened:
        return self._app.chat.open(self._asked.request, access=self._access)

    def _begin(self) -> Reply:
        media, self._media = self._media, None
        stopped = self._given_up.is_set
        return self._app.chat.start(self._asked.request, access=self._access, stopped=stopped, media=media)


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
        self._readers: Mapping[str, Callable[[Fields], RouteRequest]] = {
            "/v1/chat": self._chat,
            "/v1/chat/completions": self._completion,
            "/chat": self._legacy,
        }
        self._pages: Mapping[str, Callable[[HttpRequest], HttpResponse]] = {
            "/v1/models": self._list_models,
            "/v1/models/{model}": self._show_model,
            "/models": lambda _: json_response(self.chat.models.ids()),
            "/health": self._show_health,
            "/metrics": self._show_metrics,
            "/openapi.json": lambda _: json_response(openapi.document()),
            "/": page.answer,
        }

    def read(self, request: HttpRequest) -> Job | HttpResponse:
        """Check a request; return the answer it asks for, not begun, or the response where there is one already."""
        begun_s = self.clock()
        request = replace(request, path=route_path(request.path))
        unrouted = route_error(request.method, request.path, request.headers)
        if unrouted is not None:
            return unrouted
        page_of = self._pages.get(route_of(request.path) or "")
        if page_of is not None:
            return _answered(request.path, functools.partial(page_of, request), request.headers)
        return _answered(request.path, functools.partial(self._job, request, begun_s), request.headers)

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

    def _job(self, request: HttpRequest, begun_s: float) -> Job:
        check_content_type(request.headers)
        outline, whole = read_outline(request.body, self.chat.limits)
        asked = self._readers[request.path](outline)
        self.chat.engine(asked.request.model)
        if whole is not None:  # nothing was refused: now it is worth its memory
            asked = self._readers[request.path](whole())
        return Job(self, request, asked, begun_s)

    def _chat(self, body: Fields) -> RouteRequest:
        streams = read_stream(body)
        return RouteRequest(self.chat.read(body), ChatWriter(streams))

    def _legacy(self, body: Fields) -> RouteRequest:
        return RouteRequest(self.chat.read(from_legacy(body), place=legacy_place), LegacyWriter())

    def _completion(self, body: Fields) -> RouteRequest:
        completion = from_openai(body)
        request = self.chat.read(completion.fields, place=completion.place)
        return RouteRequest(request, completion.writer)

    def _list_models(self, request: HttpRequest) -> HttpResponse:
        """List models as OpenAI does, to Reka's own clients as Reka does."""
        ids = self.chat.models.ids()
        if is_reka(request.headers):
            return json_response([{"id": name} for name in ids])
        return json_response({"object": "list", "data": [_model(name) for name in ids]})

    def _show_model(self, request: HttpRequest) -> HttpResponse:
        """Describe the model that answers to a name, as OpenAI does."""
        name = urllib.parse.unquote(request.path.removeprefix(f"{MODELS_PATH}/"))
        return json_response(_model(self.chat.models.id_of(name)))

    def _show_health(self, _: HttpRequest) -> HttpResponse:
        """Say whether answers can be given: not where the files of a loaded bundle changed on disk."""
        reason = self.chat.models.changed()
        if reason is None:
            return json_response({"status": "ok"})
        return json_response({"status": "failing", "detail": reason}, status=503)

    def _show_metrics(self, _: HttpRequest) -> HttpResponse:
        headers = (("content-type", "text/plain; version=0.0.4; charset=utf-8"),)
        return HttpResponse(200, headers, self.metrics.text().encode())


def served_chat(
    models: Engines, *, files: bool | Path = False, remote: "Remote | None" = None, limits: Limits | None = None
) -> Chat:
    """Return a chat for clients over HTTP: all media are decoded in separate processes, in fair turns.

    files: local files that messages may name, none or those in a folder; remote: what may be fetched.
    """
    limits = limits or Limits.of_this_machine()
    budget = Budget(limits.decoding_s, limits.decoding_window_s)
    decoders = Pool(1 if is_small_board() else _N_DECODERS, budget=budget)
    return Chat(models, Access(files, remote, apart=True, worker=decoders), limits)


def route_of(path: str) -> str | None:
    """Return which of ROUTES a path belongs to, None where there is no route; the page's own files belong to it."""
    if path in page.FILES:
        return "/"
    if "{" not in path and path in ROUTES:
        return path
    return "/v1/models/{model}" if path.startswith(f"{MODELS_PATH}/") else None


def method_of(path: str) -> str | None:
    """Return the method that a route supports, None where there is no route."""
    return ROUTES.get(route_of(path) or "")


def route_error(method: str, path: str, asked: Mapping[str, str]) -> HttpResponse | None:
    """Return the 404 or 405 of a request that no route supports; HEAD is supported where GET is."""
    allowed = method_of(path)
    if allowed is None:
        detail = f"no route {path[:200]!r}; there are {', '.join(ROUTES)}"
        return refusal(path, refused(404, detail), asked=asked)
    if method != allowed and (method, allowed) != ("HEAD", "GET"):
        detail = f"{path[:200]}: expected {allowed}, got {method[:20]}"
        allow = (("allow", "GET, HEAD" if allowed == "GET" else allowed),)
        return refusal(path, refused(405, detail), asked=asked, headers=allow)
    return None


def check_content_type(headers: Mapping[str, str]) -> None:
    """Take JSON alone: what a foreign web page can send without asking first is not. Raises: ApiError 415."""
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise refused(415, f"content-type: expected application/json, got {kind[:200]!r}")
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise refused(415, f"content-encoding: expected none, got {coding[:200]!r}")


def _model(name: str) -> Fields:
    return {"id": name, "object": "model", "created": 0, "owned_by": "edge"}


def _answered(path: str, act: Callable[[], T], asked: Mapping[str, str]) -> T | HttpResponse:
    """Return what `act` does, or the response that its error is; an unexpected one stays in the log.

    asked: the request's headers.
    """
    try:
        with api_errors():
            return act()
    except ApiError as error:
        return refusal(path, error, asked=asked)
    except MemoryError:
        return refusal(path, refused(503, "out of memory"), asked=asked)
    except Exception as error:
        _LOG.error("a request failed: %s", type(error).__name__, exc_info=error)
        return refusal(path, refused(500, "the request failed"), asked=asked)


def _rest(first: bytes, arriving: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from arriving
