"""The one thread that owns the sessions: it admits, reads one unit of one conversation, steps all, and delivers."""

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from edge.arrays import F32
from edge.engine.answer import Answer
from edge.engine.drafting import Drafting
from edge.engine.handle import Handle
from edge.engine.layout import Positions
from edge.engine.model import Model, Units
from edge.engine.opening import Waiting
from edge.engine.pulse import Pulse
from edge.engine.session import failure_of
from edge.errors import EdgeError, EngineClosed, MemoryExhausted

T = TypeVar("T")

_log = logging.getLogger("edge")


@dataclass(frozen=True, eq=False)
class _Prompt:
    """A conversation that waits for a slot."""

    answer: Answer
    positions: Positions


@dataclass(frozen=True, eq=False)
class _Reading:
    """A conversation whose prompt is being read."""

    answer: Answer
    slot: int
    units: Units[F32]


@dataclass(frozen=True, eq=False)
class _Call:
    """A function to run on the worker's thread, when a slot is free if it needs one."""

    run: Callable[[Model], None]
    fail: Callable[[EdgeError], None]
    needs_slot: bool


class Worker:
    """Owns a model from start to close.

    check: raises where the model's weights are not to be read any more; asked before every unit of work.
    drafting: guesses for answers that are alone; None: no guesses.
    """

    def __init__(
        self, model: Model, *, check: Callable[[], None] = lambda: None, drafting: Drafting | None = None
    ) -> None:
        self._model = model
        self._check = check
        self._drafting = drafting
        self._runs = model.runs
        self._pulse = Pulse()
        self._changed = threading.Condition()
        self._closing = False
        self._waiting: deque[_Prompt | _Call] = deque()
        self._reading: deque[_Reading] = deque()
        self._running: dict[int, Answer] = {}  # by slot
        # A daemon: a program that ends without closing must not hang; the engine closes it on the way out.
        self._thread = threading.Thread(target=self._serve, name="edge-engine", daemon=True)
        self._thread.start()

    def submit(self, answer: Answer, positions: Positions) -> None:
        """Put a conversation into the queue. Raises: EngineClosed."""
        self._enqueue(_Prompt(answer, positions))

    def call(self, function: Callable[[Model], T], *, needs_slot: bool = True) -> T:
        """Run a function between the steps of others and return its result. Raises: EngineClosed, and as it does.

        needs_slot: whether it waits its turn for a slot of the cache.
        """
        future: Future[T] = Future()

        def run(model: Model) -> None:
            try:
                future.set_result(function(model))
            except BaseException as error:
                future.set_exception(self._failure(error))

        self._enqueue(_Call(run, future.set_exception, needs_slot))
        return future.result()

    def post(self, function: Callable[[Model], None]) -> None:
        """Run a function that needs no slot as soon as may be, and do not wait for it; once closed, do nothing.

        For what a garbage collector calls, on any thread: waiting for the worker on its own would never end.
        """
        with contextlib.suppress(EngineClosed):
            self._enqueue(_Call(function, lambda _: None, needs_slot=False))

    @property
    def model(self) -> Model:
        """The model, to be looked at only. Raises: EngineClosed."""
        with self._changed:
            if self._closing:
                raise EngineClosed("the engine was closed")
            return self._model

    def stalled_s(self) -> float:
        """Return the seconds in which a unit of work has not moved on, as `Pulse` has it; inf where its thread died."""
        if self._thread.is_alive():
            return self._pulse.stalled_s()
        return 0.0 if self._closing else math.inf

    def cancel(self, handle: Handle) -> None:
        """Stop working for a handle that was cancelled."""
        self._runs.end(handle)
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End everything, wait for the thread, and free the model. Closing twice is fine."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._runs.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _enqueue(self, entry: _Prompt | _Call) -> None:
        with self._changed:
            if self._closing:
                raise EngineClosed("the engine was closed")
            self._waiting.append(entry)
            self._changed.notify_all()

    def _serve(self) -> None:
        while self._wait():
            try:
                # Looked at first: whoever cancels and then asks anew finds the slot free, with what was read in it.
                waiting = self._queue()
                self._drop_cancelled()
                if not self._checked():
                    continue
                self._admit(waiting)
                self._read_one()
                self._step_all()
            except BaseException as error:  # not expected anywhere above; whoever it concerns is told, the rest goes on
                _log.exception("the engine gave up its running conversations")
                self._give_up(error)
        self._refuse_all(EngineClosed("the engine was closed"))
        del self._model  # sessions and cache go with it

    def _checked(self) -> bool:
        """Return whether the weights may be read; where not, everybody is told why."""
        try:
            self._check()
        except EdgeError as error:
            self._refuse_all(error)
            return False
        return True

    def _refuse_all(self, error: EdgeError) -> None:
        """End every conversation, and whatever waits."""
        self._give_up(error)
        with self._changed:
            entries = [*self._waiting]
            self._waiting.clear()
        for entry in entries:
            if isinstance(entry, _Call):
                entry.fail(error)
            else:
                entry.answer.handle.fail(error)

    def _wait(self) -> bool:
        """Wait for something to do; return False when closing."""
        with self._changed:
            self._pulse.rests()
            self._changed.wait_for(self._is_due)
            self._pulse.began()
            return not self._closing

    def _is_due(self) -> bool:
        if self._closing or self._reading or self._running:
            return True
        return any(self._may_begin(entry) or _is_cancelled(entry) for entry in [*self._waiting])

    def _may_begin(self, entry: _Prompt | _Call) -> bool:
        needs_slot = isinstance(entry, _Prompt) or entry.needs_slot
        return not needs_slot or self._model.cache.has_free_slot()

    def _drop_cancelled(self) -> None:
        """Let go of conversations that nobody waits for any more."""
        for reading in [reading for reading in self._reading if reading.answer.handle.cancelled]:
            self._reading.remove(reading)
            self._release(reading.slot)
        for slot in [slot for slot, answer in self._running.items() if answer.handle.cancelled]:
            del self._running[slot]
            self._release(slot)
        with self._changed:
            for entry in filter(_is_cancelled, [*self._waiting]):
                self._waiting.remove(entry)

    def _queue(self) -> list[_Prompt | _Call]:
        with self._changed:
            return [*self._waiting]

    def _admit(self, waiting: list[_Prompt | _Call]) -> None:
        """Give free slots to whoever waits, in order; who needs none does not wait for those who do."""
        for entry in waiting:
            if _is_cancelled(entry) or not self._may_begin(entry):
                continue
            with self._changed:
                self._waiting.remove(entry)
            if isinstance(entry, _Call):
                entry.run(self._model)
            else:
                self._begin(entry)

    def _begin(self, prompt: _Prompt) -> None:
        """Give a conversation a slot."""
        try:
            slot = self._model.cache.take(prompt.positions.keys, n_read=2)
        except BaseException as error:
            prompt.answer.handle.fail(self._failure(error))
            raise
        units = self._model.read(prompt.positions, slot, n_logits=1, owner=prompt.answer.handle)
        self._reading.append(_Reading(prompt.answer, slot, units))

    def _read_one(self) -> None:
        """Do one unit for the conversation that came first; once its prompt is read, choose its first token."""
        if not self._reading:
            return
        reading = self._reading[0]
        try:
            step = next(reading.units)
        except StopIteration as end:
            self._reading.popleft()
            self._take(reading.answer, reading.slot, end.value[-1])
        except BaseException as error:
            self._reading.popleft()
            self._fail(reading.answer, reading.slot, error)
        else:
            if isinstance(step, Waiting):
                self._reading.rotate(-1)
            elif step is not None:
                reading.answer.handle.report(step)

    def _step_all(self) -> None:
        """Feed every running conversation its newest token and choose the next one; one alone may be guessed ahead."""
        running = dict(self._running)
        if not running:
            return
        if len(running) == 1 and self._verified(*next(iter(running.items()))):
            return
        started = time.monotonic()
        try:
            logits = self._model.step(list(running), [answer.token for answer in running.values()])
        except BaseException as error:
            for slot, answer in running.items():
                self._fail(answer, slot, error)
            return
        if len(running) == 1 and self._drafting is not None:
            self._drafting.pace.took(1, time.monotonic() - started)
        for (slot, answer), row in zip(running.items(), logits, strict=True):
            self._take(answer, slot, row)

    def _verified(self, slot: int, answer: Answer) -> bool:
        """Take a step of a conversation with guesses; return False where there are none to check."""
        cache = self._model.cache
        if self._drafting is None or answer.draft is None or not self._model.can_verify:
            return False
        guesses = answer.draft.guess(cache.free(slot) - 1)
        if not guesses:
            return False
        started = time.monotonic()
        try:
            logits = self._model.verify(slot, [answer.token, *guesses])
        except BaseException as error:
            self._fail(answer, slot, error)
            return True
        self._drafting.pace.took(1 + len(guesses), time.monotonic() - started)
        self._keep(answer, slot, guesses[: len(logits) - 1], logits)
        return True

    def _keep(self, answer: Answer, slot: int, guesses: list[int], logits: F32) -> None:
        """Let a conversation choose from row after row, for as long as it chooses what was guessed."""
        n_accepted = 0
        for row, guess in zip(logits, [*guesses, None], strict=True):
            self._model.cache.grew(slot)
            self._take(answer, slot, row)
            if slot not in self._running or answer.token != guess:
                break
            n_accepted += 1
        self._model.work.verified(len(guesses), n_accepted)
        if answer.draft is not None and guesses:
            answer.draft.checked(len(guesses), n_accepted)

    def _take(self, answer: Answer, slot: int, logits: F32) -> None:
        """Let a conversation choose its next token; logits: (V,). One that ended or was cancelled leaves its slot."""
        try:
            goes_on = not answer.handle.cancelled and answer.take(logits, n_free=self._model.cache.free(slot))
        except BaseException as error:
            self._fail(answer, slot, error)
            return
        if goes_on:
            self._running[slot] = answer
        else:
            self._running.pop(slot, None)
            self._release(slot)

    def _fail(self, answer: Answer, slot: int, error: BaseException) -> None:
        """End a conversation with an error; what it wrote may be what failed, so it is not used again."""
        failure = self._failure(error)
        self._running.pop(slot, None)
        if not (answer.handle.cancelled or self._closing):  # then nothing failed: the run was told to end
            self._model.cache.trim(slot, 0)
            _log.warning("a generation failed: %s", type(failure).__name__, exc_info=error)
        self._release(slot)
        if isinstance(failure, MemoryExhausted):
            self._model.forget()
        answer.handle.fail(failure)

    def _failure(self, error: BaseException) -> EdgeError:
        return EngineClosed("the engine was closed") if self._closing else failure_of(error)

    def _release(self, slot: int) -> None:
        self._model.cache.release(slot)

    def _give_up(self, error: BaseException) -> None:
        """End every conversation that has a slot."""
        for reading in [*self._reading]:
            self._fail(reading.answer, reading.slot, error)
        self._reading.clear()
        for slot, answer in [*self._running.items()]:
            self._fail(answer, slot, error)


def _is_cancelled(entry: _Prompt | _Call) -> bool:
    return isinstance(entry, _Prompt) and entry.answer.handle.cancelled
