"""edge chat: one question, or a conversation in a terminal."""

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.commands.console import AsJson, ModelName, api_failures, fail, harmless, piped, reason

if TYPE_CHECKING:
    from edge.client import Reka
    from edge.types import Usage


def chat(
    question: Annotated[str | None, typer.Argument(help="Without one: a conversation, in a terminal.")] = None,
    image: Annotated[list[str] | None, typer.Option("--image", help="A picture; repeatable.")] = None,
    model: ModelName = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 always takes the likeliest.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Same seed, same request, same answer.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print tokens and seconds to stderr.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a question about text or pictures; text piped in is added to the question."""
    from edge.client import Reka

    text = "\n\n".join(part for part in (question, piped(question)) if part)
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    history: list[dict[str, object]] = [] if system is None else [{"role": "system", "content": system}]
    with api_failures(), Reka(model=model) as client:
        if text or image:
            messages = [*history, _user(text, image or [])]
            if as_json:
                print(client.chat.create(messages=messages, model=_first(client), **options).json(indent=1))
            else:
                _answer(client, messages, options, stats=stats)
        elif sys.stdin.isatty():
            _converse(client, history, options, stats=stats)
        else:
            fail("no question: give one as an argument or on standard input, or start this in a terminal")


def _first(client: "Reka") -> str:
    """Return the id of the bundle the client prefers."""
    installed = client.models.get()
    if not installed:
        fail("no bundle is installed: edge models install DIR")
    return installed[0].id


def _answer(client: "Reka", messages: list[dict[str, object]], options: dict[str, Any], *, stats: bool) -> str:
    """Stream an answer to stdout and return it; why it ended early, and the figures, go to stderr."""
    started_s = first_s = time.monotonic()
    shown, first, last = "", None, None
    for last in client.chat.create_stream(messages=messages, model=_first(client), **options):
        if first is None:
            first, first_s = last, time.monotonic()
        text = str(last.responses[0].chunk.content)
        sys.stdout.write(harmless(text[len(shown) :]))
        sys.stdout.flush()
        shown = text
    print()
    if first is None or last is None:
        return shown
    reason = last.responses[0].finish_reason
    if reason in ("length", "context"):
        limit = "--max-tokens is reached" if reason == "length" else "the context is full"
        print(f"edge: the answer is cut: {limit}", file=sys.stderr)
    if stats:
        _print_stats(first.usage, last.usage, first_s - started_s, time.monotonic() - first_s)
    return shown


def _print_stats(first: "Usage", last: "Usage", first_s: float, rest_s: float) -> None:
    """Print tokens and speed; the first chunk may hold several tokens, as a slow reader gets only the newest."""
    n_rest = last.output_tokens - first.output_tokens
    speed = f"{n_rest / rest_s:.1f} tokens/s" if n_rest > 0 and rest_s > 0 else "no more"
    counts = f"{last.input_tokens} tokens in, {last.output_tokens} out"
    print(f"{counts}; first after {first_s:.2f} s, then {speed}", file=sys.stderr)


def _converse(client: "Reka", history: list[dict[str, object]], options: dict[str, Any], *, stats: bool) -> None:
    """Talk turn by turn in a terminal: /image FILE for the next message, /clear, /quit."""
    from edge.types import ApiError

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (its import gives input() line editing)
    print("/image FILE adds a picture to the next message, /clear forgets, /quit ends", file=sys.stderr)
    n_kept, images = len(history), list[str]()
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        command, _, argument = line.partition(" ")
        if command == "/quit":
            return
        if command == "/clear":
            del history[n_kept:]
            images.clear()
        elif command == "/image":
            _take_image(argument.strip(), images)
        elif line.startswith("/"):
            print(f"edge: {command}: expected /image FILE, /clear or /quit", file=sys.stderr)
        elif line:
            question = _user(line, images)
            images.clear()
            try:
                answer = _answer(client, [*history, question], options, stats=stats)
                history += [question, {"role": "assistant", "content": answer}]
            except ApiError as error:
                print(f"edge: {reason(error)}", file=sys.stderr)
            except KeyboardInterrupt:
                print("\nedge: stopped; this turn is forgotten", file=sys.stderr)


def _take_image(name: str, images: list[str]) -> None:
    if Path(name).is_file():
        images.append(name)
    else:
        print(f"edge: {name!r:.200}: no such file", file=sys.stderr)


def _user(text: str, images: list[str]) -> dict[str, object]:
    """Return a user's message, its pictures first."""
    # A path with a colon would read as a URL; a file: URL says what is meant.
    urls = [Path(image).absolute().as_uri() if Path(image).is_file() else image for image in images]
    parts: list[dict[str, object]] = [{"type": "image_url", "image_url": url} for url in urls]
    return {"role": "user", "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}
