"""`edge.Transport`: other people's clients in process, without a port; httpx or httpx2 carries their requests."""

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import cast

import httpx
import python_multipart  # noqa: F401 - forms are read with it: told here, and not with the first one

from edge.chat.attachments import allowing, folder_of
from edge.limits import Limits
from edge.models import Models
from edge.server.app import App, Job, served_chat
from edge.server.http import HttpRequest, HttpResponse
from edge.server.streaming import Generation, StreamBroken, arriving, parts

_N_STARTERS = 2


class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers requests in process: `httpx.Client(transport=edge.Transport())`, or `AsyncClient`, or httpx2's clients.

    model, aliases, threads, context, limits, speech: as Reka accepts them. files: which local files messages may name;
    none unless it is True or a folder. allow_media: hosts that media may be fetched from over https. Closing a response
    early stops its generation.

        http = httpx.Client(transport=Transport())
        client = openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http)

    Raises: as Reka.
    """

    def __init__(
        self,
        *,
        model: str | Path | None = None,
        aliases: Mapping[str, str] | None = None,
        threads: int | None = None,
        context: int | None = None,
        files: bool | str | Path = False,
        allow_media: Sequence[str] = (),
        limits: Limits | None = None,
        speech: str | Path | None = None,
        kv: str | None = None,
        providers: Sequence[str] | str | None = None,
    ) -> None:
        models = Models(
            model=model,
            aliases=aliases or {},
            threads=threads,
            context=context,
            speech=speech,
            kv=kv,
            providers=providers,
        )
        remote = allowing(allow_media, limits)
        self._app = App(served_chat(models, files=folder_of(files), remote=remote, limits=limits))
        self._starters = ThreadPoolExecutor(_N_STARTERS, thread_name_prefix="edge-start")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of httpx or httpx2, in its own classes; the body of a stream arrives as it is generated.

        Raises: TypeError for another library's request.
        """
        library = _library(request)
        request.read()
        answer = self._begun_here(request)
        if isinstance(answer, HttpResponse):
            return _whole(library, request, answer)
        body = _bodies(library)[0](answer, self, library)
        return _response(library, answer.status or 500, headers=list(answer.headers), stream=body)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request without blocking the event loop. Raises: as handle_request."""
        library = _library(request)
        await request.aread()
        answer = await self._begun(request)
        if isinstance(answer, HttpResponse):
            return _whole(library, request, answer)
        body = await _bodies(library)[1].begun(answer, self, library)
        return _response(library, answer.status or 500, headers=list(answer.headers), stream=body)

    def close(self) -> None:
        """Give the engine up; it is freed when nobody else uses it."""
        self._app.close()
        self._starters.shutdown(wait=False)

    async def aclose(self) -> None:
        """As close, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    async def _begun(self, request: httpx.Request) -> Generation | HttpResponse:
        try:
            reading = self._starters.submit(self._read, request)
        except RuntimeError:  # closed: then nothing begins that could take long
            return self._begun_here(request)
        job = await asyncio.wrap_future(reading)
        return job if isinstance(job, HttpResponse) else await job.begun(self._starters)

    def _begun_here(self, request: httpx.Request) -> Generation | HttpResponse:
        job = self._read(request)
        return job if isinstance(job, HttpResponse) else job.start()

    def _read(self, request: httpx.Request) -> Job | HttpResponse:
        path = request.url.raw_path.decode("ascii").partition("?")[0]
        headers = {name.lower(): value for name, value in request.headers.items()}
        return self._app.read(HttpRequest(request.method, path, headers, request.content))


class _Body:
    """A body that is generated while it is read; its first part is there already, and with it the status.

    It keeps its transport: an engine that nobody else uses would be closed with it.
    """

    def __init__(self, generation: Generation, transport: Transport, library: ModuleType) -> None:
        self._transport = transport
        self._library = library
        self._generation = generation
        self._arriving = parts(generation)
        self._first = next(self._arriving, b"")

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        try:
            yield from self._arriving
        except StreamBroken as error:
            raise _broken(self._library) from error

    def close(self) -> None:
        self._arriving.close()
        self._generation.cancel()


class _AsyncBody:
    """As _Body, for asyncio."""

    def __init__(self, generation: Generation, transport: Transport, library: ModuleType) -> None:
        self._transport = transport
        self._library = library
        self._generation = generation
        self._arriving = arriving(generation)
        self._first = b""

    @classmethod
    async def begun(cls, generation: Generation, transport: Transport, library: ModuleType) -> "_AsyncBody":
        body = cls(generation, transport, library)
        body._first = await anext(body._arriving, b"")
        return body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        try:
            async for part in self._arriving:
                yield part
        except StreamBroken as error:
            raise _broken(self._library) from error

    async def aclose(self) -> None:
        await self._arriving.aclose()
        self._generation.cancel()


def _library(request: object) -> ModuleType:
    """Return the library that a request is of: httpx, or httpx2, which is loaded where it is used. Raises: TypeError.

    Each of them wants answers of its own classes.
    """
    for library in (httpx, sys.modules.get("httpx2")):
        if library is not None and isinstance(request, library.Request):
            return library
    kind = f"{type(request).__module__}.{type(request).__qualname__}"
    raise TypeError(f"edge.Transport: expected a request of httpx or httpx2, got {kind:.200}")


@functools.cache
def _bodies(library: ModuleType) -> tuple[type[_Body], type[_AsyncBody]]:
    """Return the bodies as streams of a library, whose clients accept no others."""
    here = {"__module__": __name__}
    waiting = type("_BodyStream", (_Body, library.SyncByteStream), here)
    return waiting, type("_AsyncBodyStream", (_AsyncBody, library.AsyncByteStream), here)


def _broken(library: ModuleType) -> Exception:
    return cast(Exception, library.RemoteProtocolError("the answer failed on its way"))


def _response(library: ModuleType, status: int, **fields: object) -> httpx.Response:
    return cast(httpx.Response, library.Response(status, **fields))


def _whole(library: ModuleType, request: httpx.Request, answer: HttpResponse) -> httpx.Response:
    """Return a response that is there already; of one to HEAD the headers alone."""
    if request.method != "HEAD":
        return _response(library, answer.status, headers=list(answer.headers), content=answer.body)
    length = [("content-length", str(len(answer.body)))] if answer.body else []
    return _response(library, answer.status, headers=[*answer.headers, *length])
