"""One question of the command line: its parts as a message, its answer on the screen, its speed on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.console import fail
from edge.commands.reading_bar import reading_bar
from edge.commands.screen import screen

if TYPE_CHECKING:
    from edge.client import Reka
    from edge.commands.speaking import Speaking
    from edge.devices.camera import Camera
    from edge.devices.microphone import Utterance
    from edge.tools.rounds import Event
    from edge.tools.toolset import Toolset
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
    tools: "Toolset | None" = None
    said: list[Message] = field(default_factory=list)  # what the latest answer added to the conversation

    def ask(self, messages: Sequence[Message]) -> tuple[str, bool]:
        """Stream an answer to stdout; return it, and whether it came to its end or Ctrl-C stopped it.

        It is spoken as well where answers are; this does not wait until all of it is, and an answer before is silenced.
        Why it ended early, the calls of tools, and the figures, go to stderr. Raises: ApiError.
        """
        from edge.tools.rounds import ToolStarted
        from edge.types import ChunkChatResponse

        shown, bar = screen(markdown=self.markdown), reading_bar()
        speaking = self.speaking or _Silent()
        speaking.begin()
        started_s = first_s = time.monotonic()
        text, before, first, last = "", "", None, None
        self.said.clear()
        stream = self._events(messages, bar.show)
        try:
            with contextlib.closing(bar), contextlib.closing(stream):
                for event in stream:
                    bar.close()
                    if not isinstance(event, ChunkChatResponse):
                        if isinstance(event, ToolStarted) and text:
                            shown.end()
                            before, shown, text = f"{before}{text}\n\n", screen(markdown=self.markdown), ""
                        self._called(event, n_before=len(messages))
                        continue
                    last = event
                    if first is None:
                        first, first_s = last, time.monotonic()
                    if not last.responses[0].chunk.tool_calls:
                        text = str(last.responses[0].chunk.content)
                        shown.show(text)
                        speaking.show(before + text)
            shown.end()
        except KeyboardInterrupt:
            speaking.silence()
            shown.end()
            print("edge: stopped", file=sys.stderr)
            self.said[:] = [{"role": "assistant", "content": text}]
            return text, False
        finally:
            speaking.end()
        if not self.said:
            self.said[:] = [{"role": "assistant", "content": text}]
        if last is not None:
            _print_cut(last.responses[0].finish_reason)
        if self.stats and first is not None and last is not None:
            _print_stats(first.usage, last.usage, first_s - started_s, time.monotonic() - first_s)
        return text, True

    def _arguments(self, messages: Sequence[Message]) -> dict[str, Any]:
        return {
            "messages": messages,
            "model": self.model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    def _events(self, messages: Sequence[Message], on_progress: Callable[[Any], object]) -> "Generator[Event]":
        """Yield the answer as it grows, and the calls of tools in between."""
        options = {"additional_body_parameters": self.further, "on_progress": on_progress}
        if self.tools is None:
            yield from self.client.chat.create_stream(**self._arguments(messages), request_options=options)
        else:
            how = self._arguments(messages)
            yield from self.client.chat.run_stream(**how, request_options=options, tools=self.tools)

    def _called(self, event: "Event", *, n_before: int) -> None:
        """Show a call, and keep what a run added to the conversation. n_before: how many messages it began with."""
        from edge.commands.tool_use import tell
        from edge.tools.rounds import RunResponse

        if isinstance(event, RunResponse):
            self.said[:] = [
                message if isinstance(message, dict) else message.dict() for message in event.messages[n_before:]
            ]
        tell(event)

    def print_json(self, messages: Sequence[Message]) -> None:
        """Print the whole response as JSON: UTF-8 to the byte, whatever the locale."""
        options = {"additional_body_parameters": self.further}
        if self.tools is None:
            response = self.client.chat.create(**self._arguments(messages), request_options=options)
        else:
            from edge.commands.tool_use import tell
            from edge.types import ChatResponse

            how = self._arguments(messages)
            run = self.client.chat.run(**how, request_options=options, tools=self.tools, on_event=tell)
            response = ChatResponse(id=run.id, model=run.model, responses=run.responses, usage=run.usage)
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
