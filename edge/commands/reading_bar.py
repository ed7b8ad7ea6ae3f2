"""A bar on a terminal while a prompt is read: which tile of which image, then how many of its tokens."""

import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from edge.engine.handle import Reading

_CELLS = 24
_FULL, _EMPTY = "\u2501", "\u2500"  # heavy and light lines
_ASCII = ("#", "-")


class ReadingBar:
    """One line that is drawn over itself, and is gone when the answer begins. file: None draws nothing."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._shown = False

    def show(self, reading: "Reading") -> None:
        """Draw how far a prompt is read."""
        from edge.chat.reading import line_of, share_of

        if self._file is None:
            return
        full, empty = _ASCII if "utf" not in (self._file.encoding or "").lower() else (_FULL, _EMPTY)
        n_full = int(_CELLS * share_of(reading))
        line = f"{full * n_full}{empty * (_CELLS - n_full)} {line_of(reading)}"
        # A full line would wrap, and the next one would not be drawn over it.
        self._file.write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        self._file.flush()
        self._shown = True

    def close(self) -> None:
        """Take the line away. Closing twice is fine."""
        if self._file is not None and self._shown:
            self._file.write("\r\x1b[K")
            self._file.flush()
        self._shown = False


def reading_bar() -> ReadingBar:
    """Return the bar for standard error: on a terminal that can draw a line over another, else one that is not seen."""
    is_able = (
        sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    )
    return ReadingBar(sys.stderr if is_able else None)
