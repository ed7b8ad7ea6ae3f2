"""A conversation in a terminal, turn by turn: typed or spoken questions, images by name or from a camera."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands.asking import KINDS, Asker, Message, Part, audio_part, named, seen, user, without_frames
from edge.commands.choosing import accepted, needed, why_not
from edge.commands.console import reason
from edge.commands.keyboard import Keyboard
from edge.errors import DeviceError, EdgeError, ParameterError

if TYPE_CHECKING:
    from edge.bundle.store import Stored
    from edge.devices.camera import Camera
    from edge.devices.microphone import Microphone

_HELP = """\
/image FILE      add a picture to the next message; likewise /audio, /video, /pdf
/system TEXT     set the system message; without a text, take it back
/clear           forget the conversation
/save FILE       write the conversation, with its pictures and sounds, to a file
/load FILE       go on with a conversation from a file
/help            this
/quit            end, as Ctrl-D does
Ctrl-C stops an answer. Lines that are pasted together are one message; Alt-Enter begins another line,
three quotes begin and end a message of several lines."""


class Conversation:
    """What was said so far, what the next message will hold, and where it comes from.

    stored: the bundle that answers.
    """

    def __init__(
        self,
        asker: Asker,
        stored: "Stored",
        *,
        system: str | None = None,
        parts: list[Part] | None = None,
        camera: "Camera | None" = None,
        microphone: "Microphone | None" = None,
        hands_free: bool = False,
    ) -> None:
        self._asker = asker
        self._stored = stored
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
        if not self._hands_free:
            _say(f"{self._stored.id} accepts {', '.join(accepted(self._stored))}")
            _say("/help lists the commands" + ("; Ctrl-C to type instead of speaking" if self._microphone else ""))
        with Keyboard([*self._commands, "/quit"]) as keyboard:
            self._run(keyboard)
        if self._hands_free:
            self._hear_out()

    def _run(self, keyboard: Keyboard) -> None:
        listening = self._microphone is not None
        while True:
            try:
                goes_on = self._listen() if listening else self._read(keyboard)
                if not goes_on:
                    return
                listening = self._microphone is not None
            except KeyboardInterrupt:
                print(file=sys.stderr)
                if self._silence():
                    continue
                if self._hands_free:
                    return
                if not listening:
                    _say("/quit or Ctrl-D ends")
                listening = False

    def _read(self, keyboard: Keyboard) -> bool:
        """Take what is typed; return False at the end. Raises: KeyboardInterrupt."""
        try:
            text = keyboard.read()
        except EOFError:
            print(file=sys.stderr)
            return False
        except ParameterError as error:
            _say(f"edge: {error}")
            return True
        while text:
            line, _, rest = text.partition("\n")
            command, _, argument = line.strip().partition(" ")
            if command in ("/quit", "/exit"):
                return False
            if command in self._commands:
                self._obey(command, argument.strip())
                text = rest.strip("\n")
            elif line.startswith("/") and not rest:
                _say(f"edge: {command}: no such command; /help lists them")
                return True
            else:
                self._ask(text, [])
                return True
        return True

    def _listen(self) -> bool:
        """Take what is spoken; return False at the end of a file, or when nothing can be heard at all."""
        if self._microphone is None:
            return True
        self._hear_out()  # or the microphone would hear it
        _say("listening")
        try:
            utterance = self._microphone.listen()
        except DeviceError as error:
            _say(f"edge: {error}")
            if self._hands_free:
                return False
            self._microphone = None
            _say("edge: continuing without a microphone")
            return True
        if utterance is None:
            return False
        _say(f"heard {len(utterance.samples) / utterance.rate_hz:.1f} s")
        self._ask("", [audio_part(utterance)])
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
            self._asker.ask([*self._first(), *said, question])
        except (ApiError, DeviceError) as error:
            _say(f"edge: {reason(error)}")
            return
        finally:
            self._next.clear()
        self._said = [*said, question, *self._asker.said]

    def _hear_out(self) -> None:
        """Wait until the answer is spoken. Raises: KeyboardInterrupt."""
        if self._asker.speaking is not None:
            self._asker.speaking.wait()

    def _silence(self) -> bool:
        """Silence an answer; return whether there was one to be heard."""
        speaking = self._asker.speaking
        if speaking is None or not speaking.is_speaking:
            return False
        speaking.silence()
        return True

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
            cannot = why_not(self._stored, needed([kind])) if name else ""
            if cannot:
                _say(f"edge: /{kind}: {cannot}")
            elif Path(name).expanduser().is_file() or name.startswith("https:"):
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
