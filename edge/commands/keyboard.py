"""Messages from the keyboard: lines that are typed one by one, and lines that are pasted together as one message."""

import contextlib
import re
import select
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.commands.console import harmless
from edge.errors import ParameterError

_QUOTES = '"""'
_TOGETHER_S = 0.05  # lines that follow each other faster than this were not typed
_PASTE_MARKS = re.compile(r"\x1b\[20[01]~")
_CUT_BYTES = 4095  # the most that a terminal passes on as one line, where it edits lines itself


class Keyboard:
    """A terminal at which messages are written; a context manager, which gives the terminal back as it was.

    commands: what the tab key completes at the beginning of a line.
    """

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = list(commands)
        self._held = contextlib.ExitStack()
        self._edits = False

    def __enter__(self) -> "Keyboard":
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return self
        self._edits = _edit_lines(self._commands)
        if self._edits:
            self._held.enter_context(_unbuffered())
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def read(self) -> str:
        """Return what is written next: a line, lines that were pasted together, or what is between three quotes.

        Control characters but tabs and line ends are left out. Raises: EOFError at the end; KeyboardInterrupt;
        ParameterError for a line that came damaged, the rest of what was pasted with it being dropped.
        """
        text = self._together("> ")
        if not text.lstrip().startswith(_QUOTES):
            return text
        inner = text.strip().removeprefix(_QUOTES)
        if not inner.endswith(_QUOTES) and _QUOTES in inner:
            return text  # a text of its own that begins with a quotation
        with contextlib.suppress(EOFError):
            while not inner.endswith(_QUOTES):
                more = self._together("... ")
                inner = f"{inner}\n{more.rstrip()}" if inner else more.rstrip()
        return _trimmed(inner.removesuffix(_QUOTES))

    def _together(self, prompt: str) -> str:
        """Return a line and those that are there already behind it. Raises: as `read`."""
        lines = [self._line(prompt)]
        with contextlib.suppress(EOFError):
            while _is_more():
                lines.append(self._line("... "))
        text = "\n".join(lines).replace("\r\n", "\n").replace("\r", "\n")
        return _trimmed(harmless(_PASTE_MARKS.sub("", text)))

    def _line(self, prompt: str) -> str:
        """Read a line; the prompt goes where the reader looks, never into a file. Raises: as `read`."""
        try:
            if sys.stdout.isatty():
                line = input(prompt)
            else:
                print(prompt, end="", file=sys.stderr, flush=True)
                line = input()
            n_bytes = len(line.encode("utf-8"))
        except UnicodeError as error:
            _drop()
            raise ParameterError("what is written here: expected UTF-8", field="message") from error
        if not self._edits and n_bytes >= _CUT_BYTES and sys.stdin.isatty():
            _drop()
            msg = f"a terminal cuts lines at {_CUT_BYTES} bytes, so nothing is sent; from a file: edge chat < FILE"
            raise ParameterError(msg, field="message")
        return line


def _trimmed(text: str) -> str:
    """Return a line without spaces around it, several without empty ones around them; how they are indented stays."""
    return text.strip() if "\n" not in text else text.strip("\n").rstrip()


def _is_more() -> bool:
    """Whether more is there already, or comes faster than anybody types."""
    with contextlib.suppress(OSError, ValueError):
        return bool(select.select([sys.stdin], [], [], _TOGETHER_S)[0])
    return False


def _drop() -> None:
    """Drop what came with a line that cannot be used: half a message is none."""
    import termios

    with contextlib.suppress(OSError, ValueError, termios.error):
        termios.tcflush(sys.stdin, termios.TCIFLUSH)


@contextlib.contextmanager
def _unbuffered() -> Iterator[None]:
    """Have the terminal pass everything on as it comes, also while nobody reads.

    Between two lines it would otherwise cut what is pasted at 4 096 bytes, and obey the control characters in it.
    """
    import termios

    try:
        before = termios.tcgetattr(sys.stdin)
        raw = termios.tcgetattr(sys.stdin)
        raw[3] &= ~termios.ICANON
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, raw)
    except (OSError, termios.error):
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _edit_lines(commands: list[str]) -> bool:
    """Give input() line editing: the tab key completes commands and their files, Alt-Enter begins another line."""
    try:
        import readline
    except ImportError:
        return False

    def complete(text: str, n: int) -> str | None:
        if not readline.get_line_buffer().startswith("/"):
            return f"{text}\t" if n == 0 else None  # a tab is one, in what is pasted above all
        if readline.get_begidx() == 0:
            found = [f"{command} " for command in commands if command.startswith(text)]
        else:
            path = Path(text).expanduser()
            folder, start = (path, "") if text.endswith("/") or not text else (path.parent, path.name)
            found = sorted(str(other) for other in folder.glob(f"{start}*"))
        return found[n] if n < len(found) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    if "libedit" not in (readline.__doc__ or ""):
        readline.parse_and_bind(r'"\e\C-m": "\C-v\C-j"')
    return True
