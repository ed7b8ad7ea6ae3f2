"""`Reka` and `AsyncReka`: the clients of Reka's SDK, in process, on an engine they share with each other."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge.chat import Chat
from edge.chat.arguments import Fields, OnReading, Options, chat_request, with_parameters_of
from edge.chat.arguments import on_progress as progress_of
from edge.chat.attachments import Access, allowing, folder_of
from edge.chat.reply import Reply, api_errors
from edge.engine.handle import Progress
from edge.errors import EngineClosed
from edge.limits import Limits
from edge.media.pool import Pool
from edge.models import Models
from edge.tools.rounds import Event, RunResponse
from edge.tools.running import arun, run, run_request
from edge.types import ApiError, ChatResponse, ChunkChatResponse, Model, RekaEnvironment

Argument = Any  # of a method whose parameters another function has: there it has its type

_N_STARTERS = 2


class _LocalClient:
    """What both clients are: an engine's door, opened with arguments that are listed here alone."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        environment: RekaEnvironment = RekaEnvironment.DEFAULT,
        api_key: str | None = None,
        timeout: float | None = None,
        follow_redirects: bool | None = True,
        httpx_client: object = None,
        model: str | Path | None = None,
        aliases: Mapping[str, str] | None = None,
        threads: int | None = None,
        context: int | None = None,
        providers: Sequence[str] | str | None = None,
        files: bool | str | Path = True,
        allow_media: Sequence[str] = (),
        limits: Limits | None = None,
        speech: str | Path | None = None,
        verify: bool = False,
        kv: str | None = None,
    ) -> None:
        engine = {"threads": threads, "context": context}
        models = Models(
            model=model, aliases=aliases or {}, speech=speech, verify=verify, kv=kv, providers=providers, **engine
        )
        limits = limits or Limits.of_this_machine()
        self._door = Chat(models, Access(folder_of(files), allowing(allow_media, limits), worker=Pool()), limits)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._door.models})"


class Reka(_LocalClient):
    """Chat on this device. The SDK's arguments are accepted and ignored; the others are ours.

    model: id, alias or folder of a bundle (default: the one that `edge models default` names, else the first installed,
    else the embedded one). aliases: further model names. threads, context: of the engine (default: what the machine
    has). files: whether messages may name local files, True, False or a folder they must lie in. allow_media: hosts
    that media may be fetched from over https ("example.com", "*.example.com", "*"), none unless given. limits: what a
    request may hold. speech: id or folder of the speech-to-text model for bundles without an audio tower (default: the
    one that `edge models speech` sets). verify: read every byte of the bundle before it is loaded. kv: how keys and
    values are kept, "fp32" or "int8", a quarter of the memory (default: what fits). providers: of onnxruntime that may
    compute, such as ["cuda", "tensorrt", "cpu"]; what fails on one runs on the next, and without "cpu" it is an error
    (default: EDGE_PROVIDERS, else the CPU). Clients on one bundle share its
    engine; the last one closed frees it.

        with Reka() as client:
            answer = client.chat.create(model="reka-edge", messages=[{"role": "user", "content": "Who are you?"}])
            print(answer.responses[0].message.content)

    Raises: UnknownModelError, BundleError; ParameterError for threads, context, kv or providers other than the bundle's
    open ones, and for providers that are not in this onnxruntime.
    """

    @functools.cached_property
    def chat(self) -> "ChatClient":
        """Conversations."""
        return ChatClient(self._door)

    @functools.cached_property
    def models(self) -> "ModelsClient":
        """The models that are loaded or installed."""
        return ModelsClient(self._door)

    def close(self) -> None:
        """Give the engine up; it is freed when no other client uses it."""
        self._door.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncReka(_LocalClient):
    """As `Reka`, with its arguments, for asyncio: nothing blocks the loop, and cancelling a task stops its generation.

        async with AsyncReka() as client:
            await client.chat.create(model="reka-edge", messages=[{"role": "user", "content": "Who are you?"}])

    Raises: as Reka.
    """

    @functools.cached_property
    def chat(self) -> "AsyncChatClient":
        """Conversations."""
        return AsyncChatClient(self._door)

    @functools.cached_property
    def models(self) -> "AsyncModelsClient":
        """The models that are loaded or installed."""
        return AsyncModelsClient(self._door)

    async def aclose(self) -> None:
        """Give the engine up; it is freed when no other client uses it."""
        await asyncio.to_thread(self._door.close)
        self.chat.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ChatClient:
    """`client.chat` of `Reka`."""

    def __init__(self, door: Chat) -> None:
        self._door = door

    @with_parameters_of(chat_request)
    def create_stream(self, **arguments: Argument) -> Generator[ChunkChatResponse, None, None]:
        """Yield the answer as it grows, each chunk with the whole text so far; closing it stops the generation.

        Nothing is checked or run before the first chunk; `on_progress` of request_options is called while the prompt is
        read, with an `edge.Reading` each time. Raises: ApiError. Source: chat-interface.md, 1 and 2.
        """
        on_progress = progress_of(arguments)
        reply = self._door.start(self._door.read(chat_request(**arguments)))
        with contextlib.closing(reply.progress(on_progress)) as arriving:
            for progress in arriving:
                yield reply.chunk(progress)

    @with_parameters_of(chat_request)
    def create(self, **arguments: Argument) -> ChatResponse:
        """Return the whole answer.

        messages: the conversation, its newest message last: `ChatMessage`s or dicts with `role` ("user", "assistant")
        and `content`, a text or a list of parts; media are `data:` URLs or, if the client allows it, paths. model: id
        or alias of a bundle. max_tokens: of the answer, 1024 unless given. temperature: 0.4; 0 always chooses the most
        likely token. top_p: 0.95, in (0, 1]; top_k: 1024. frequency_penalty, presence_penalty: 0.0, from -2 to 2. seed:
        an integer; the same seed and request give the same answer. stop: strings that end the answer, and are not part
        of it. tools, tool_choice: functions that the model may call ("auto"), must call ("tool") or must not ("none").
        use_search_engine: only false is supported. request_options: `additional_body_parameters` are further fields
        (`detail`, `max_tiles`, `video_frames`, ...), `on_progress` is called with an `edge.Reading` for each tile of an
        image and each part of the prompt, before the answer begins.

            client.chat.create(model="reka-edge", messages=[{"role": "user", "content": "Who are you?"}])

        Raises: ApiError with `status_code` and `body`: 404 for a model that is not installed, 400 for what is not
        supported or does not fit into the context; UnprocessableEntityError (422) for a field of the wrong type.
        Source: chat-interface.md, 1 and 2.
        """
        on_progress = progress_of(arguments)
        reply = self._door.start(self._door.read(chat_request(**arguments)))
        last = None
        for progress in reply.progress(on_progress):
            last = progress
        return reply.response(_ended(last))

    @with_parameters_of(run_request)
    def run_stream(self, **arguments: Argument) -> Generator[Event, None, None]:
        """Yield what happens in a `run`: chunks of each answer, `ToolStarted`, `ToolEnded`, at last the `RunResponse`.

        Closing it stops the generation; a tool that runs goes on in its thread. Raises: as `run`.
        """
        request = run_request(**arguments)
        with contextlib.closing(run(request, self.create_stream)) as events:
            for event in events:
                if request.on_event is not None:
                    request.on_event(event)
                yield event

    @with_parameters_of(run_request)
    def run(self, **arguments: Argument) -> RunResponse:
        """Answer with the help of tools: calls are made and their results given back until an answer has no calls.

        tools: functions (as they are, or made by `edge.tool`), or a `Toolset`. What fails, wrong arguments and unknown
        names too, goes back to the model. max_rounds: of calls, 8 unless given; then, and when one call had one result
        three times, the model answers once more without tools (`finish_reason` "max_rounds" or "repeated"). ask: called
        with name and arguments before a tool that is not read-only; without it all functions that are given here are
        allowed, or those that `allow` names. on_event: called with each event of `run_stream`. cancel: set, it ends the
        run soon (`finish_reason` "stopped"). tool_choice: of the first answer alone. The others: as `create`.

            answer = client.chat.run(model="reka-edge", messages=messages, tools=[weather])
            print(answer.text, answer.calls, answer.usage)
            messages = answer.messages

        Calls of one answer are made one after the other, in order. Of the images in results the newest six stay.
        Raises: ApiError, as `create`; UnprocessableEntityError for what are no tools.
        """
        return next(event for event in self.run_stream(**arguments) if isinstance(event, RunResponse))


class AsyncChatClient:
    """`client.chat` of `AsyncReka`."""

    def __init__(self, door: Chat) -> None:
        self._door = door
        self._starters = ThreadPoolExecutor(_N_STARTERS, thread_name_prefix="edge-start")

    @with_parameters_of(chat_request)
    async def create_stream(self, **arguments: Argument) -> AsyncGenerator[ChunkChatResponse, None]:
        """Yield the answer as `ChatClient.create_stream` does; closing it or cancelling its task stops it."""
        on_progress = progress_of(arguments)
        reply = await self._start(chat_request(**arguments))
        async with contextlib.aclosing(_arriving(reply, on_progress)) as arriving:
            async for progress in arriving:
                yield reply.chunk(progress)

    @with_parameters_of(chat_request)
    async def create(self, **arguments: Argument) -> ChatResponse:
        """Return the whole answer; cancelling the task stops the generation. Raises: as `ChatClient.create`."""
        on_progress = progress_of(arguments)
        reply = await self._start(chat_request(**arguments))
        last = None
        async with contextlib.aclosing(_arriving(reply, on_progress)) as arriving:
            async for progress in arriving:
                last = progress
        return reply.response(_ended(last))

    @with_parameters_of(run_request)
    async def run_stream(self, **arguments: Argument) -> AsyncGenerator[Event, None]:
        """Yield what `ChatClient.run_stream` does; closing it or cancelling its task stops it."""
        request = run_request(**arguments)
        async with contextlib.aclosing(arun(request, self.create_stream)) as events:
            async for event in events:
                if request.on_event is not None:
                    request.on_event(event)
                yield event

    @with_parameters_of(run_request)
    async def run(self, **arguments: Argument) -> RunResponse:
        """Answer with the help of tools, as `ChatClient.run`; coroutine functions run on this loop.

        Cancelling the task stops generation and tools. Raises: as `ChatClient.run`.
        """
        events = [event async for event in self.run_stream(**arguments) if isinstance(event, RunResponse)]
        return events[-1]

    def close(self) -> None:
        """Start no further replies."""
        self._starters.shutdown(wait=False)

    async def _start(self, request: Fields) -> Reply:
        """Begin a reply on a thread: opening an engine or images takes longer than a loop may wait."""
        given_up, access = threading.Event(), self._door.access.shared(None)

        def start() -> Reply:
            return self._door.start(self._door.read(request), access=access, stopped=given_up.is_set)

        try:
            job = self._starters.submit(start)
        except RuntimeError as error:
            raise ApiError(status_code=503, body={"detail": "the client is closed"}) from error
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            given_up.set()
            access.stop()
            job.add_done_callback(_abandon)
            raise


class ModelsClient:
    """`client.models` of `Reka`."""

    def __init__(self, door: Chat) -> None:
        self._door = door

    def get(self, *, request_options: Options | None = None) -> list[Model]:
        """Return what is loaded or installed. Raises: ApiError."""
        return _listed(self._door)


class AsyncModelsClient:
    """`client.models` of `AsyncReka`."""

    def __init__(self, door: Chat) -> None:
        self._door = door

    async def get(self, *, request_options: Options | None = None) -> list[Model]:
        """Return what is loaded or installed. Raises: ApiError."""
        return _listed(self._door)


def _listed(door: Chat) -> list[Model]:
    with api_errors():
        return [Model(id=name) for name in door.models.ids()]


async def _arriving(reply: Reply, on_progress: OnReading | None = None) -> AsyncGenerator[Progress, None]:
    """Yield the newest progress as the engine's thread announces it; leaving early stops the generation."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(news.set)

    try:
        reply.handle.subscribe(wake)
        while not reply.handle.done:
            news.clear()
            with api_errors():
                progress = reply.handle.poll()
            reading = reply.handle.poll_reading()
            if reading is not None and on_progress is not None:
                on_progress(reading)
            if progress is not None:
                yield progress
            elif not reply.handle.done:
                await news.wait()
    finally:
        reply.handle.cancel()


def _abandon(job: Future[Reply]) -> None:
    """Stop what a cancelled task had asked for, once it has begun."""
    if not job.cancelled() and job.exception() is None:
        job.result().handle.cancel()


def _ended(last: Progress | None) -> Progress:
    """Return the last progress. Raises: ApiError when the generation was stopped before its end."""
    if last is None or last.finish_reason is None:
        with api_errors():
            raise EngineClosed("the generation was stopped before its end")
    return last
