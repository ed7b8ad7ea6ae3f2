"""What a caller holds of a running generation: the newest progress, an end, and a way to stop it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from edge.errors import EdgeError

FinishReason = Literal["stop", "length", "context"]

_log = logging.getLogger("edge")


@dataclass(frozen=True)
class TokenScore:
    """A token of an answer: its bytes in the text, none for a control token, and its probability's natural logarithm.

    The model's own probabilities, before penalties, temperature and schema; most likely: the most likely tokens, best
    first, control tokens by their names; controls: which of them are such.
    """

    data: bytes
    log_probability: float
    most_likely: tuple[tuple[bytes, float], ...]
    controls: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Progress:
    """The whole text so far and the tokens so far; finish_reason only in the last one.

    scores: of every token so far, if they were asked for. stop: the string of the request's that ended the answer.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: FinishReason | None
    scores: tuple[TokenScore, ...] = ()
    stop: str | None = None


@dataclass(frozen=True)
class Times:
    """When a generation began, had its first token and ended, in seconds of `time.monotonic`; None: not yet."""

    begun_s: float
    first_s: float | None = None
    ended_s: float | None = None


@dataclass(frozen=True)
class Reading:
    """How far a prompt is read, before its answer begins.

    stage: "image", "frame" (of a video) and "audio" are media that a tower encodes, "tokens" the prompt as the decoder
    reads it. number, count: which of the prompt's images, frames or audio, and of how many; both 0 for tokens. step,
    steps: the tile or window that is encoded now, and of how many; the tokens that are read, and of how many.
    """

    stage: Literal["image", "frame", "audio", "tokens"]
    number: int
    count: int
    step: int
    steps: int


class Handle:
    """One generation, seen from any thread: iterate it, or subscribe and poll it.

    Newer progress replaces what was not taken yet, so a slow reader gets only the newest. The iteration ends after
    the progress that has a finish_reason, or when the generation was cancelled; errors are raised where it is read.
    While the prompt is read, `events` and `poll_reading` tell how far.
    """

    def __init__(self, start: Progress, on_cancel: Callable[["Handle"], None]) -> None:
        self._changed = threading.Condition()  # reentrant: a signal handler may cancel while its thread polls
        self._newest = start
        self._is_news = False
        self._reading: Reading | None = None
        self._ended = False
        self._error: EdgeError | None = None
        self._cancelled = False
        self._hurried = False
        self._on_cancel = on_cancel
        self._callback: Callable[[], None] | None = None
        self._times = Times(time.monotonic())

    def __iter__(self) -> Iterator[Progress]:
        """Yield progress as it comes, waiting for it. Raises: EdgeError when the generation failed."""
        return (event for event in self.events() if isinstance(event, Progress))

    def events(self) -> Iterator[Reading | Progress]:
        """Yield how far the prompt is read, then progress, as they come. Raises: EdgeError, as iterating does."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_news or self._ended or self._reading is not None)
                # In the same hold: an error that came in between would not be seen.
                event = self.poll_reading() or self.poll()
            if event is None:
                return
            yield event

    def poll(self) -> Progress | None:
        """Take the newest progress without waiting; None when there is nothing new. Raises as iterating does."""
        with self._changed:
            if self._is_news:
                self._is_news = False
                return self._newest
            if self._error is not None:
                raise self._error
            return None

    def poll_reading(self) -> Reading | None:
        """Take how far the prompt is read without waiting; None when there is nothing new, or the answer has begun."""
        with self._changed:
            reading, self._reading = self._reading, None
            return reading

    @property
    def done(self) -> bool:
        """Whether the generation ended and everything was taken."""
        with self._changed:
            return self._ended and not self._is_news and self._error is None

    @property
    def newest(self) -> Progress:
        """The newest progress, taken or not."""
        with self._changed:
            return self._newest

    @property
    def times(self) -> Times:
        """When it began, had its first token and ended; taken where that happens, not where it is read."""
        with self._changed:
            return self._times

    @property
    def cancelled(self) -> bool:
        """Whether cancel() came before the end."""
        return self._cancelled

    @property
    def hurried(self) -> bool:
        """Whether hurry() was called."""
        return self._hurried

    def result(self) -> Progress:
        """Wait for the end and return the last progress; its finish_reason is None when it was cancelled."""
        for _ in self:
            pass
        return self._newest

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, from the engine's thread, whenever there is something to poll or the end came."""
        with self._changed:
            self._callback = callback
            due = self._is_news or self._ended or self._reading is not None
        if due:
            callback()

    def cancel(self) -> None:
        """Stop the generation: at once for the reader, within one chunk, tile or step for the engine."""
        with self._changed:
            if self._ended:
                return
            self._cancelled = self._ended = True
            self._is_news, self._reading = False, None
        self._on_cancel(self)
        self._notify()

    def hurry(self) -> None:
        """Have an answer that is constrained by a schema take the shortest way to its end; others go on."""
        self._hurried = True

    def report(self, reading: Reading) -> None:
        """Tell how far the prompt is read; the engine's side."""
        with self._changed:
            if self._ended:
                return
            self._reading = reading
        self._notify()

    def put(self, progress: Progress) -> None:
        """Deliver progress; the engine's side."""
        with self._changed:
            if self._ended:
                return
            self._newest, self._is_news, self._reading = progress, True, None
            self._ended = progress.finish_reason is not None
            if self._times.first_s is None or self._ended:
                now_s = time.monotonic()
                first_s = now_s if self._times.first_s is None else self._times.first_s
                self._times = replace(self._times, first_s=first_s, ended_s=now_s if self._ended else None)
        self._notify()

    def fail(self, error: EdgeError) -> None:
        """End with an error; the engine's side."""
        with self._changed:
            if self._ended:
                return
            self._error, self._ended, self._reading = error, True, None
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            callback = self._callback
        if callback is not None:
            try:
                callback()
            except Exception:  # a closed event loop, for example: no reason to stop serving others
                _log.exception("a subscriber of a generation failed")
