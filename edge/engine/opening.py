"""A graph that is opened with its first use, by a thread of its own: text is answered meanwhile."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.engine.session import failure_of

if TYPE_CHECKING:
    import onnxruntime as ort

_PATIENCE_S = 0.002  # between two looks: what others generate meanwhile is to be hardly slower


@dataclass(frozen=True)
class Waiting:
    """What a unit of work yields while it waits for an opening: others go first."""


class Opening:
    """A session that is there once somebody asked for it. Any thread may ask.

    open_it: loads and checks it. Where that fails, all who wait are told, and the next who asks has it tried again.
    """

    def __init__(self, open_it: "Callable[[], ort.InferenceSession]") -> None:
        self._open = open_it
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._opened: Future[ort.InferenceSession] | None = None

    def session(self) -> "ort.InferenceSession":
        """Return the session, opened if need be. Raises: BundleError, MemoryExhausted."""
        return self._begun().result()

    def waits(self) -> Generator[Waiting, None, None]:
        """Open it, yielding meanwhile for others to work. Raises: as session."""
        opened = self._begun()
        while not opened.done():
            with self._lock:
                thread = self._thread
            if thread is not None:
                thread.join(_PATIENCE_S)
            yield Waiting()
        opened.result()

    def close(self) -> None:
        """Wait until nothing is being opened any more: a program must not end in the middle."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _begun(self) -> "Future[ort.InferenceSession]":
        """Return the attempt to open it, a new one unless it is open or being opened."""
        with self._lock:
            if self._opened is None or (self._opened.done() and self._opened.exception() is not None):
                self._opened = Future()
                self._thread = threading.Thread(
                    target=self._run, args=(self._opened,), name="edge-opening", daemon=True
                )
                self._thread.start()
            return self._opened

    def _run(self, opened: "Future[ort.InferenceSession]") -> None:
        try:
            opened.set_result(self._open())
        except BaseException as error:
            opened.set_exception(failure_of(error))
