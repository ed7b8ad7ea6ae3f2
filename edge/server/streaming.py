"""An answer on its way out: what to send next, known without waiting, for threads and event loops alike."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Callable
from collections.abc import Generator as GeneratorType
from dataclasses import replace

from edge.chat.reading import fields_of
from edge.chat.reply import api_errors
from edge.engine.handle import Handle, Progress
from edge.errors import EngineClosed
from edge.limits import Limits
from edge.server.http import Headers, HttpResponse, comment
from edge.server.metrics import Metrics
from edge.server.route import EVENT_STREAM, Answer, Route
from edge.types import ApiError

Clock = Callable[[], float]  # seconds that never go back


_HURRY_S = 60.0


class StreamBroken(Exception):
    """An answer failed after it had begun; its last event said so, and its body must not end as a whole one does."""


class Generation:
    """One answer; `status` and `headers` are known once poll() gave the first bytes.

    `broken`: the body is to end without its proper end. After max_s the answer ends with `length`, as far as it came;
    a minute before (a tenth of max_s, where that is less) one that is constrained by a schema is told to finish.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        route: Route,
        metrics: Metrics,
        begun_s: float,
        max_s: float = Limits.answer_s,
        clock: Clock = time.monotonic,
    ) -> None:
        self.status: int | None = None
        self.headers: Headers = ()
        self.done = False
        self.broken = False
        self.newest = answer.handle.newest
        self._answer = answer
        self._route = route
        self._metrics = metrics
        self._begun_s = begun_s
        self._first_s: float | None = None
        self._n_first = 0  # tokens that were there when the first were seen
        self._clock = clock
        self._deadline_s = clock() + max_s
        self._hurry_s = min(_HURRY_S, max_s / 10)
        self._counted = False

    @property
    def handle(self) -> Handle:
        return self._answer.handle

    @property
    def streams(self) -> bool:
        return self._answer.streams

    @property
    def _stream_type(self) -> str:
        return self._answer.stream_type or self._route.stream_type

    def poll(self) -> bytes | None:
        """Return what is to be sent next, None when there is nothing new; `done` says whether more can come.

        None says that the handle has nothing more: a failure or an end right behind a token that sends nothing is
        answered now, for nothing further would announce it.
        """
        while not self.done:
            if self.left_s <= self._hurry_s:
                self.handle.hurry()
            try:
                with api_errors():
                    progress = self._taken()
                part = None if progress is None else self._send(progress)
            except ApiError as error:
                return self._fail(error)
            if progress is None:
                return self._told()
            if part is not None:
                return part
        return None

    @property
    def left_s(self) -> float:
        """The seconds until the answer ends with what it has."""
        return max(0.0, self._deadline_s - self._clock())

    def cancel(self) -> None:
        """Stop the generation, if it still runs, and count it. Calling it twice is fine."""
        self.handle.cancel()
        self._count("cancelled")
        self.done = True

    def break_off(self, error: ApiError) -> bytes:
        """Stop the generation of a stream that has begun, and return its last event."""
        self.cancel()
        self.broken = True
        return self._answer.broken(self.newest, error)

    def _taken(self) -> Progress | None:
        """Take the handle's news, the answer's end when its time is over. Raises: EdgeError."""
        progress = self._noted(self.handle.poll())
        if self.left_s == 0 and (progress is None or progress.finish_reason is None):
            self.handle.cancel()
            # What the engine said just before is still there to be taken; what was cancelled says nothing more.
            progress = self._noted(self.handle.poll()) or replace(self.newest, finish_reason="length")
        elif progress is None and self.handle.done:
            raise EngineClosed("the generation was stopped before its end")
        return progress

    def _send(self, progress: Progress) -> bytes | None:
        self.newest = progress
        last = progress.finish_reason is not None
        if last:
            self.done = True
            self._count(str(progress.finish_reason))
        if self._answer.streams:
            events = self._answer.events(progress)
            self._begin()
            return events
        return self._whole(self._answer.whole(progress)) if last else None

    def _told(self) -> bytes | None:
        """Return how far the prompt is read, for streams whose readers skip comments."""
        reading = self.handle.poll_reading()
        if reading is None or not self._answer.streams or self._stream_type != EVENT_STREAM:
            return None
        self._begin()
        return comment("progress", fields_of(reading))

    def _begin(self) -> None:
        """Begin a stream."""
        headers = ("content-type", self._stream_type), ("cache-control", "no-cache")
        self.status, self.headers = 200, headers

    def _fail(self, error: ApiError) -> bytes:
        self.done = True
        self._count("failed")
        if self.status is None:
            return self._whole(self._route.errors.response(error))
        self.broken = True
        return self._answer.broken(self.newest, error)

    def _whole(self, response: HttpResponse) -> bytes:
        self.status, self.headers = response.status, response.headers
        return response.body

    def _noted(self, progress: Progress | None) -> Progress | None:
        """Return what the handle gave, with the time of its first token noted."""
        if progress is None:
            return None
        if self._first_s is None:
            self._first_s, self._n_first = self._clock(), progress.output_tokens
            self._metrics.first_token(self._first_s - self._begun_s)
        self.newest = progress
        return progress

    def _count(self, end: str) -> None:
        if self._counted:
            return
        self._counted = True
        decode_s = 0.0 if self._first_s is None else self._clock() - self._first_s
        n_input, n_output = self.newest.input_tokens, self.newest.output_tokens
        self._metrics.generation(end, n_input=n_input, n_output=n_output, n_timed=n_output - self._n_first, s=decode_s)


def parts(generation: Generation) -> GeneratorType[bytes, None, None]:
    """Yield what is to be sent, waiting for it; leaving early stops the generation. Raises: StreamBroken at the end."""
    news = threading.Event()
    try:
        generation.handle.subscribe(news.set)
        while not generation.done:
            news.clear()
            part = generation.poll()
            if part is not None:
                yield part
            elif not generation.done:
                news.wait(generation.left_s)
        if generation.broken:
            raise StreamBroken
    finally:
        generation.cancel()


async def arriving(generation: Generation) -> AsyncGenerator[bytes, None]:
    """Yield as `parts` does, without blocking the event loop."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(news.set)

    try:
        generation.handle.subscribe(wake)
        while not generation.done:
            news.clear()
            part = generation.poll()
            if part is not None:
                yield part
            elif not generation.done:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(generation.left_s):
                        await news.wait()
        if generation.broken:
            raise StreamBroken
    finally:
        generation.cancel()
