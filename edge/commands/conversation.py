"""A conversation in a terminal, turn by turn: typed or spoken questions, pictures by name or from a camera."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands.asking import KINDS, Asker, Message, Part, heard, named, seen, user, without_frames
from edge.commands.console import reason
from edge.errors import DeviceError, EdgeError

if TYPE_CHECKING:
    from edge.camera import Camera
    from edge.microphone import Microphone

_HELP = """\
/image FILE      add a picture to the next message; likewise /audio, /video, /pdf
/system TEXT     set the system message; without a text, take it back
/clear           forget the conversation
/save FILE       write the conversation, with its pictures and sounds, to a file
/load FILE       go on with a conversation from a file
/help            this
/quit            end, as Ctrl-D does
Ctrl-C stops an answer. A line of three quotes begins and ends a message of several lines."""
_QUOTES = '"""'


class Conversation:
    """What was said so far, what the next message will hold, and where it comes from."""

    def __init__(
        self,
        asker: Asker,
        *,
        system: str | None = None,
        parts: list[Part] | None = None,
        camera: "Camera | None" = None,
        microphone: "Microphone | None" = None,
        hands_free: bool = False,
    ) -> None:
        self._asker = asker
        self._system = system
        self._next = list(parts or ())
        self._camera = camera
        self._microphone = microphone
        self._hands_free = hands_free
        self._said: list[Message] = []
        self._commands: dict[str, Callable[[str], None]] = {
            **{f"/{kind}": self._adder(kind) for kind in KINDS},
            "/system": self._set_system,
            "/clear": self._clear,
            "/save": self._save,
            "/load": self._load,
            "/help": lambda _: _say(_HELP),
        }

    def run(self) -> None:
        """Talk until there is nothing more to hear or to read, or /quit."""
        _edit_lines([*self._commands, "/quit"])
        if not self._hands_free:
            _say("/help lists the commands" + ("; Ctrl-C to type instead of speaking" if self._microphone else ""))
        listening = self._microphone is not None
        while True:
            try:
                goes_on = self._listen() if listening else self._read()
                if not goes_on:
                    return
                listening = self._microphone is not None
            except KeyboardInterrupt:
                print(file=sys.stderr)
                if self._hands_free:
                    return
                if not listening:
                    _say("/quit or Ctrl-D ends")
                listening = False

    def _read(self) -> bool:
        """Take a line that is typed; return False at the end. Raises: KeyboardInterrupt."""
        try:
            line = _line("> ").strip()
            if line.startswith(_QUOTES):
                line = _several_lines(line.removeprefix(_QUOTES))
                self._ask(line, [])
                return True
        except EOFError:
            print(file=sys.stderr)
            return False
        command, _, argument = line.partition(" ")
        if command in ("/quit", "/exit"):
            return False
        if command in self._commands:
            self._obey(command, argument.strip())
        elif line.startswith("/"):
            _say(f"edge: {command}: no such command; /help lists them")
        elif line:
            self._ask(line, [])
        return True

    def _listen(self) -> bool:
        """Take what is spoken; return False at the end of a file, or when nothing can be heard at all."""
        if self._microphone is None:
            return True
        _say("listening")
        try:
            utterance = self._microphone.listen()
        except DeviceError as error:
            _say(f"edge: {error}")
            if self._hands_free:
                return False
            self._microphone = None
            _say("edge: going on without a microphone")
            return True
        if utterance is None:
            return False
        _say(f"heard {len(utterance.samples) / utterance.rate_hz:.1f} s")
        self._ask("", [heard(utterance)])
        return True

    def _ask(self, text: str, parts: list[Part]) -> None:
        """Ask, and keep what was said: of an answer that was stopped, too, but not of a question that failed."""
        from edge.types import ApiError

        try:
            said = self._said
            if self._camera is not None:
                parts = [seen(self._camera), *parts]
                said = without_frames(said)
            question = user(text, [*self._next, *parts])
            answer, _ = self._asker.ask([*self._first(), *said, question])
        except (ApiError, DeviceError) as error:
            _say(f"edge: {reason(error)}")
            return
        finally:
            self._next.clear()
        self._said = [*said, question, {"role": "assistant", "content": answer}]

    def _first(self) -> list[Message]:
        return [] if self._system is None else [{"role": "system", "content": self._system}]

    def _obey(self, command: str, argument: str) -> None:
        try:
            self._commands[command](argument)
        except EdgeError as error:
            _say(f"edge: {error}")
        except OSError as error:
            _say(f"edge: {argument}: {error.strerror}")

    def _adder(self, kind: str) -> Callable[[str], None]:
        """Return the command that adds a file of a kind to the next message."""

        def add(name: str) -> None:
            name = name.strip("\"'")
            if Path(name).expanduser().is_file() or name.startswith("https:"):
                self._next.append(named(kind, name))
            elif name:
                _say(f"edge: {name!r:.200}: no such file")
            else:
                _say(f"edge: /{kind}: expected a file")

        return add

    def _set_system(self, text: str) -> None:
        self._system = text or None

    def _clear(self, _: str) -> None:
        self._said.clear()
        self._next.clear()

    def _save(self, name: str) -> None:
        if not name:
            _say("edge: /save: expected a file")
            return
        from edge.commands.transcript import save

        path = Path(name.strip("\"'")).expanduser()
        save(path, [*self._first(), *self._said], model=self._asker.model)
        _say(f"{len(self._said)} messages are in {path}")

    def _load(self, name: str) -> None:
        if not name:
            _say("edge: /load: expected a file")
            return
        from edge.commands.transcript import load

        messages = load(Path(name.strip("\"'")).expanduser())
        is_system = bool(messages) and messages[0].get("role") == "system"
        self._system = str(messages[0]["content"]) if is_system else None
        self._said = messages[1:] if is_system else messages
        self._next.clear()
        _say(f"{len(self._said)} messages are here")


def _line(prompt: str) -> str:
    """Read a line; the prompt goes where the reader looks, never into a file."""
    if sys.stdout.isatty():
        return input(prompt)
    print(prompt, end="", file=sys.stderr, flush=True)
    return input()


def _several_lines(first: str) -> str:
    """Read lines up to the one that ends with three quotes. Raises: EOFError."""
    lines = [first] if first else []
    while not (lines and lines[-1].rstrip().endswith(_QUOTES)):
        lines.append(_line("... "))
    lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
    return "\n".join(lines).strip()


def _edit_lines(commands: list[str]) -> None:
    """Give input() line editing, and the tab key the commands and the files."""
    with contextlib.suppress(ImportError):
        import readline

        def complete(text: str, n: int) -> str | None:
            if text.startswith("/") and readline.get_begidx() == 0:
                found = [f"{command} " for command in commands if command.startswith(text)]
            else:
                path = Path(text).expanduser()
                folder, start = (path, "") if text.endswith("/") or not text else (path.parent, path.name)
                found = sorted(str(other) for other in folder.glob(f"{start}*"))
            return found[n] if n < len(found) else None

        readline.set_completer_delims(" ")
        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
