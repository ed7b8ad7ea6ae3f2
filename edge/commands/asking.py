"""One question of the command line: its parts as a message, its answer on the screen, its speed on stderr."""

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands.console import fail
from edge.commands.reading_bar import reading_bar
from edge.commands.screen import screen

if TYPE_CHECKING:
    from edge.client import Reka
    from edge.commands.speaking import Speaking
    from edge.devices.camera import Camera
    from edge.devices.microphone import Utterance
    from edge.types import Usage

Part = dict[str, object]
Message = dict[str, object]

KINDS = ("image", "audio", "video", "pdf")


@dataclass(frozen=True)
class Asker:
    """How questions are asked: by which client and model, with which options, and how answers are shown."""

    client: "Reka"
    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    markdown: bool = True
    stats: bool = False
    further: Mapping[str, object] = field(default_factory=dict)  # fields of the request
    speaking: "Speaking | None" = None

    def ask(self, messages: Sequence[Message]) -> tuple[str, bool]:
        """Stream an answer to stdout; return it, and whether it came to its end or Ctrl-C stopped it.

        It is spoken as well where answers are; this does not wait until all of it is, and an answer before is silenced.
        Why it ended early, and the figures, go to stderr. Raises: ApiError.
        """
        shown, bar = screen(markdown=self.markdown), reading_bar()
        speaking = self.speaking or _Silent()
        speaking.begin()
        started_s = first_s = time.monotonic()
        text, first, last = "", None, None
        stream = self.client.chat.create_stream(
            messages=messages,
            model=self.model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            request_options={"additional_body_parameters": self.further, "on_progress": bar.show},
        )
        try:
            with contextlib.closing(bar), contextlib.closing(stream):
                for last in stream:
                    if first is None:
                        bar.close()
                        first, first_s = last, time.monotonic()
                    text = str(last.responses[0].chunk.content)
                    shown.show(text)
                    speaking.show(text)
            shown.end()
        except KeyboardInterrupt:
            speaking.silence()
            shown.end()
            print("edge: stopped", file=sys.stderr)
            return text, False
        finally:
            speaking.end()
        if last is not None:
            _print_cut(last.responses[0].finish_reason)
        if self.stats and first is not None and last is not None:
            _print_stats(first.usage, last.usage, first_s - started_s, time.monotonic() - first_s)
        return text, True

    def print_json(self, messages: Sequence[Message]) -> None:
        """Print the whole response as JSON: UTF-8 to the byte, whatever the locale."""
        response = self.client.chat.create(
            messages=messages,
            model=self.model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            request_options={"additional_body_parameters": self.further},
        )
        text = response.json(indent=1) + "\n"
        sys.stdout.flush()
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
            sys.stdout.buffer.flush()
        else:
            sys.stdout.write(text)


class _Silent:
    """Answers that are not spoken."""

    def begin(self) -> None: ...

    def show(self, text: str) -> None: ...

    def end(self) -> None: ...

    def silence(self) -> None: ...


def first_model(client: "Reka") -> str:
    """Return the id of the bundle the client prefers."""
    installed = client.models.get()
    if not installed:
        fail("no bundle is installed: edge models install DIR")
    return installed[0].id


def user(text: str, parts: Sequence[Part]) -> Message:
    """Return a user's message, its media first."""
    return {"role": "user", "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}


def named(kind: str, name: str) -> Part:
    """Return the part of a file or an address; kind: one of KINDS."""
    return {"type": f"{kind}_url", f"{kind}_url": address(name)}


def address(name: str) -> str:
    """Return the address of what a person names: a file's as a file: URL, or its colons would read as a URL's."""
    path = Path(name).expanduser()
    return path.absolute().as_uri() if path.is_file() else name


def seen(camera: "Camera") -> Part:
    """Return a camera's newest frame as a part. Raises: DeviceError."""
    return {"type": "image", "image": camera.newest().rgb}


def audio_part(utterance: "Utterance") -> Part:
    """Return what somebody said as a part."""
    return {"type": "audio", "audio": (utterance.samples, utterance.rate_hz)}


def without_frames(messages: Sequence[Message]) -> list[Message]:
    """Return messages without a camera's images: those of earlier questions show what is past."""
    return [{**message, "content": _without_frames(message["content"])} for message in messages]


def _without_frames(content: object) -> object:
    if not isinstance(content, list):
        return content
    left = [part for part in content if not (isinstance(part, Mapping) and "image" in part)]
    return left or [{"type": "text", "text": ""}]


def _print_cut(finish_reason: object) -> None:
    """Say why an answer ended early, if it did."""
    if finish_reason in ("length", "context"):
        limit = "--max-tokens is reached" if finish_reason == "length" else "the context is full"
        print(f"edge: the answer is cut: {limit}", file=sys.stderr)


def _print_stats(first: "Usage", last: "Usage", first_s: float, rest_s: float) -> None:
    """Print tokens and speed; the first chunk may hold several tokens, as a slow reader gets only the newest."""
    n_rest = last.output_tokens - first.output_tokens
    speed = f"{n_rest / rest_s:.1f} tokens/s" if n_rest > 0 and rest_s > 0 else "no more"
    counts = f"{last.input_tokens} tokens in, {last.output_tokens} out"
    print(f"{counts}; first after {first_s:.2f} s, then {speed}", file=sys.stderr)
