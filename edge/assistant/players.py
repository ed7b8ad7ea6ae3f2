"""What is played, and when it is silent: a loudspeaker with a thread of its own, or a timeline that is written down."""

import logging
import threading
import wave
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr

from edge.arrays import F32
from edge.errors import DeviceError
from edge.speech.speaker import Spoken

RATE_HZ = 24_000  # of a timeline

_JOIN_S = 3.0
_LOG = logging.getLogger("edge.assistant")


class Player(Protocol):
    """What plays sentences and sounds, one after another."""

    @property
    def idle(self) -> bool:
        """Whether everything was played."""

    def put(self, spoken: Spoken) -> None:
        """Play something after what is there."""

    def hush(self) -> None:
        """Fall silent, and forget what was to be played."""

    def advance(self, seconds: float) -> None:
        """Let so much of the audio's time pass."""

    def release(self) -> None:
        """Give the device back until the next sentence: PortAudio sees new devices only while none is open."""

    def close(self) -> None:
        """Fall silent, for good."""


class Playing(Protocol):
    """What is used of an `edge.Loudspeaker`."""

    def play(self, coming: Iterable[Spoken], *, stop: threading.Event | None = None) -> bool: ...

    def close(self) -> None: ...


class LivePlayer:
    """Plays on a loudspeaker in a thread.

    fault: called, in that thread, with why a loudspeaker cannot be played on. What waits then is not played; the next
    sentence tries again.
    """

    def __init__(self, loudspeaker: Playing, fault: Callable[[DeviceError], None]) -> None:
        self._loudspeaker = loudspeaker
        self._fault = fault
        self._changed = threading.Condition()
        self._waiting: deque[Spoken] = deque()
        self._stop = threading.Event()
        self._playing = self._closed = self._releases = False
        self._thread = threading.Thread(target=self._run, name="edge-loudspeaker", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        with self._changed:
            return not (self._waiting or self._playing)

    def put(self, spoken: Spoken) -> None:
        with self._changed:
            self._waiting.append(spoken)
            self._changed.notify_all()

    def hush(self) -> None:
        with self._changed:
            self._waiting.clear()
            self._stop.set()
            self._stop = threading.Event()  # what is put from now on is not meant

    def advance(self, seconds: float) -> None:
        """Do nothing: time passes by itself."""

    def release(self) -> None:
        with self._changed:
            self._releases = True
            self._changed.notify_all()

    def close(self) -> None:
        self.hush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_JOIN_S)
        self._loudspeaker.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._playing = False
                self._changed.wait_for(lambda: self._waiting or self._closed or self._releases)
                if self._closed:
                    return
                releases, self._releases = self._releases, False
                self._playing, stop = True, self._stop
            if releases:
                self._loudspeaker.close()
                continue
            try:
                self._loudspeaker.play(self._coming(stop), stop=stop)
            except DeviceError as error:
                self._failed(error)
            except Exception as error:  # a thread that ended would leave the assistant speaking for ever
                _LOG.error("the loudspeaker failed: %s", type(error).__name__, exc_info=error)
                self._failed(DeviceError(f"loudspeaker: {type(error).__name__}"))

    def _failed(self, error: DeviceError) -> None:
        with self._changed:
            self._waiting.clear()
        self._fault(error)

    def _coming(self, stop: threading.Event) -> Iterator[Spoken]:
        """Yield what waits, until nothing does."""
        while True:
            with self._changed:
                if not self._waiting or stop is not self._stop:
                    return
                spoken = self._waiting.popleft()
            yield spoken


class Timeline:
    """Plays into a WAV file, beside the microphone: a second of the one is a second of the other, silence included.

    path: of the file, None to keep nothing. Raises: DeviceError for a file that cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._parts: deque[F32] = deque()
        self._owed = 0.0  # of a sample, between two blocks
        self._held = ExitStack()
        self._file: wave.Wave_write | None = None
        if path is not None:
            with _failures(path):
                stream = self._held.enter_context(path.open("wb"))
                self._file = self._held.enter_context(wave.Wave_write(stream))
                self._file.setparams((1, 2, RATE_HZ, 0, "NONE", "not compressed"))

    @property
    def idle(self) -> bool:
        return not self._parts

    def put(self, spoken: Spoken) -> None:
        samples = spoken.samples
        if spoken.rate_hz != RATE_HZ:
            samples = soxr.resample(samples, spoken.rate_hz, RATE_HZ)
        if len(samples):
            self._parts.append(samples.astype(np.float32))

    def hush(self) -> None:
        self._parts.clear()

    def release(self) -> None:
        """Do nothing: a file is kept."""

    def advance(self, seconds: float) -> None:
        exact = seconds * RATE_HZ + self._owed
        n = int(exact)
        self._owed = exact - n
        samples: F32 = np.zeros(n, np.float32)
        n_done = 0
        while self._parts and n_done < n:
            part = self._parts.popleft()
            taken = part[: n - n_done]
            samples[n_done : n_done + len(taken)] = taken
            n_done += len(taken)
            if len(taken) < len(part):
                self._parts.appendleft(part[len(taken) :])
        if self._file is not None and self._path is not None:
            with _failures(self._path):
                self._file.writeframesraw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())

    def close(self) -> None:
        self.hush()
        if self._path is not None:
            with _failures(self._path):
                self._held.close()


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    """Turn what writing a file fails with into a DeviceError."""
    try:
        yield
    except OSError as error:
        raise DeviceError(f"loudspeaker {str(path)!r:.200}: {error.strerror}") from error
