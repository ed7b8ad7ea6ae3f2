"""Answers as they come, on a terminal or into a pipe: Markdown block by block, and no line drawn twice in vain."""

import os
import re
import sys
import time
from typing import TYPE_CHECKING, TextIO

from edge.commands.console import harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.markdown import Markdown

_REDRAW_S = 1 / 12
_SPACES_AT_END = re.compile(r" +((?:\x1b\[0m)?)$")
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # what is between appears at once, on terminals that know it


class PlainScreen:
    """Text as it is: for pipes, files, and terminals that cannot move their cursor."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._n_shown = 0

    def show(self, text: str) -> None:
        """Show an answer so far; it only ever grows."""
        self._file.write(harmless(text[self._n_shown :]))
        self._file.flush()
        self._n_shown = len(text)

    def end(self) -> None:
        """End the answer with a line end."""
        self._file.write("\n")
        self._file.flush()


class MarkdownScreen:
    """Markdown on a terminal. Blocks that are whole are drawn once; only the last one is drawn again as it grows."""

    def __init__(self, file: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=file, highlight=False)
        self._lines = _Lines(file)
        self._text = ""
        self._n_done = 0  # characters of the blocks that are whole
        self._begun = False
        self._drawn_s = float("-inf")

    def show(self, text: str) -> None:
        """Show an answer so far; it only ever grows. Most calls draw nothing: eyes are slower than tokens."""
        self._text = text
        if time.monotonic() - self._drawn_s >= _REDRAW_S:
            self._draw()

    def end(self) -> None:
        """Draw the rest."""
        self._draw()

    def _draw(self) -> None:
        self._drawn_s = time.monotonic()
        rest = harmless(self._text)[self._n_done :]
        n_whole = _whole(rest)
        last = _rendered(rest[n_whole:], self._console)
        gap = [""] if self._begun and last else []
        if not n_whole:
            self._lines.draw([*gap, *last], self._console.height)
            return
        whole = [*([""] if self._begun else []), *_rendered(rest[:n_whole], self._console)]
        self._lines.draw([*whole, *([""] if last else []), *last], self._console.height)
        self._lines.keep(len(whole))
        self._n_done += n_whole
        self._begun = True


class _Lines:
    """Lines at the end of a terminal that may still change; each is shorter than the terminal is wide."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._shown: list[str] = []

    def draw(self, lines: list[str], height: int) -> None:
        """Replace the lines, writing only from the first that differs; what has scrolled away stays as it is."""
        n_same = 0
        while n_same < min(len(lines), len(self._shown)) and lines[n_same] == self._shown[n_same]:
            n_same += 1
        first = max(n_same, len(self._shown) - height + 1)
        n_up, n_before = len(self._shown) - first, len(self._shown)
        self._shown = lines  # first: what Ctrl-C comes after was drawn
        if n_up or len(lines) > first:
            up = f"\x1b[{n_up}A" if n_up else ""
            below = "\x1b[J" if len(lines) < n_before else ""
            drawn = "".join(f"{line}\x1b[K\n" for line in lines[first:])
            self._file.write(f"{_BEGIN}{up}\r{drawn}{below}{_END}")
            self._file.flush()

    def keep(self, n: int) -> None:
        """Let the first n lines be as they are from now on."""
        self._shown = self._shown[n:]


def screen(*, markdown: bool) -> PlainScreen | MarkdownScreen:
    """Return the screen for standard output: of Markdown on a terminal, unless plain text is wanted."""
    is_able = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return MarkdownScreen(sys.stdout) if markdown and is_able else PlainScreen(sys.stdout)


def _whole(text: str) -> int:
    """Return how many characters the blocks in front of the last one take: nothing that follows can change those."""
    begins = [token.map[0] for token in _parsed(text).parsed if token.level == 0 and token.map is not None]
    if len(begins) < 2 or begins[-1] == 0:
        return 0
    return sum(len(line) + 1 for line in text.split("\n")[: begins[-1]])


def _parsed(text: str) -> "Markdown":
    """Parse Markdown; links show their address, and line ends stay, as answers mean them."""
    from rich.markdown import Markdown

    parsed = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    for token in parsed.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return parsed


def _rendered(text: str, console: "Console") -> list[str]:
    """Return the lines of a text as the terminal takes them, without empty ones around them and spaces behind."""
    with console.capture() as captured:
        # A full line would wrap before its end is erased.
        console.print(_parsed(text), width=max(10, console.width - 1))
    lines = [_SPACES_AT_END.sub(r"\1", line) for line in captured.get().split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines
