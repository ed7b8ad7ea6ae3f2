"""Answers spoken while they are shown: sentence by sentence, until a new question or Ctrl-C silences them."""

import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.devices.loudspeaker import Loudspeaker
    from edge.speech.speaker import Speaker


class Speaking:
    """Speaks one answer at a time; a context manager, which silences it at its end.

    The speaker and the loudspeaker stay whoever's they are.
    """

    def __init__(self, speaker: "Speaker", loudspeaker: "Loudspeaker") -> None:
        self._speaker = speaker
        self._loudspeaker = loudspeaker
        self._pieces: SimpleQueue[str | None] = SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._n_given = 0
        self.failed: EdgeError | None = None

    @property
    def is_speaking(self) -> bool:
        """Whether something of an answer is still to be heard."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self) -> None:
        """Begin another answer, and silence the one before."""
        self.silence()
        if self.failed is not None:
            return
        self._pieces, self._stop, self._n_given = SimpleQueue(), threading.Event(), 0
        self._thread = threading.Thread(
            target=self._speak, args=(self._pieces, self._stop), name="edge-speaking", daemon=True
        )
        self._thread.start()

    def show(self, text: str) -> None:
        """Speak what is new in an answer so far; it only ever grows."""
        self._pieces.put(text[self._n_given :])
        self._n_given = len(text)

    def end(self) -> None:
        """Say that the answer is whole; it is spoken to its end, which nobody has to wait for."""
        self._pieces.put(None)

    def wait(self) -> None:
        """Wait until the answer is spoken. Raises: KeyboardInterrupt, once it is silent."""
        try:
            if self._thread is not None:
                self._thread.join()
        except KeyboardInterrupt:
            self.silence()
            raise

    def silence(self) -> None:
        """Silence the answer, and let nothing more of it be spoken."""
        self._stop.set()
        self._pieces.put(None)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def __enter__(self) -> "Speaking":
        return self

    def __exit__(self, *_: object) -> None:
        self.silence()

    def _speak(self, pieces: "SimpleQueue[str | None]", stop: threading.Event) -> None:
        try:
            self._loudspeaker.play(self._speaker.say(_growing(pieces), stop=stop), stop=stop)
        except EdgeError as error:
            self.failed = error
            print(f"edge: {error}; answers are not spoken any more", file=sys.stderr)


def _growing(pieces: "SimpleQueue[str | None]") -> Iterator[str]:
    while (piece := pieces.get()) is not None:
        yield piece
