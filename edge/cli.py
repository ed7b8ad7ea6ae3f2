"""The command line: edge chat, serve, models, doctor, bench; results go to stdout, everything else to stderr."""

import contextlib
import io
import os
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from edge.bundle import RUNTIME_VERSION
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.client import Reka
    from edge.store import Stored
    from edge.types import ApiError, Usage

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
models = typer.Typer(no_args_is_help=True, help="What is installed: list, look at, verify, install, remove, prefer.")
app.add_typer(models, name="models")

ModelName = Annotated[str | None, typer.Option("--model", help="Id, alias or folder of a bundle.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; an error is one line on stderr and a status that is not 0."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the locale cannot write
    try:
        app()
    except EdgeError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Reka's chat interface, offline, on the device."""
    if show:
        print(RUNTIME_VERSION)
        raise typer.Exit


@app.command()
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

    text = "\n\n".join(part for part in (question, _piped(question)) if part)
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    history: list[dict[str, object]] = [] if system is None else [{"role": "system", "content": system}]
    with _api_failures(), Reka(model=model) as client:
        if text or image:
            messages = [*history, _user(text, image or [])]
            if as_json:
                print(client.chat.create(messages=messages, model=_first(client), **options).json(indent=1))
            else:
                _answer(client, messages, options, stats=stats)
        elif sys.stdin.isatty():
            _converse(client, history, options, stats=stats)
        else:
            _fail("no question: give one as an argument or on standard input, or start this in a terminal")


@app.command()
def serve(
    model: ModelName = None,
    host: Annotated[str, typer.Option("--host", help="Another than this machine's own needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    alias: Annotated[list[str] | None, typer.Option("--alias", metavar="NAME=MODEL", help="Repeatable.")] = None,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Conversations at a time.")] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, help="Positions of each conversation.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: every CPU.")] = None,
    media_folder: Annotated[Path | None, typer.Option("--media-folder", help="Messages may name files in it.")] = None,
    allow_media: Annotated[list[str] | None, typer.Option("--allow-media", metavar="HOST", help="Not yet.")] = None,
    allowed_host: Annotated[list[str] | None, typer.Option("--allowed-host", help="A name of this server.")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="The process list shows it to everybody.")] = None,
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", help="Its first line is the key.")] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="PEM, with the chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM.")] = None,
) -> None:
    """Serve the chat interface over HTTP; a key is taken from EDGE_API_KEY or --api-key-file."""
    try:
        from edge.server import Settings
        from edge.server import serve as run
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed: the extra `server` brings it")
    from edge.logs import log_to_stderr

    if allow_media:
        _fail("--allow-media: remote media is off in this version; data: URLs and --media-folder are taken")
    if media_folder is not None and not media_folder.is_dir():
        _fail(f"--media-folder {media_folder}: no such folder")
    aliases = dict(_alias(text) for text in alias or ())
    key = _key(api_key, api_key_file)
    hosts = tuple(allowed_host or ())
    settings = Settings(
        model, host, port, aliases, slots, context, threads, media_folder, hosts, key, tls_cert, tls_key
    )
    log_to_stderr()
    run(settings, on_ready=lambda address, _: print(f"edge: serving at {address}", file=sys.stderr, flush=True))


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the bundles on this device, the one that wins shared names first."""
    import json

    from rich.console import Console
    from rich.table import Table

    from edge import store

    bundles = store.bundles()
    if as_json:
        print(json.dumps([_described(stored) for stored in bundles], indent=1))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("ID", "ALIASES", "RECIPE", "MB", "TAKES", "WHERE"):
            table.add_column(heading, justify="right" if heading == "MB" else "left", overflow="fold")
        for stored in bundles:
            mark = " (default)" if stored.id == store.default_id() else ""
            takes = "text" if stored.manifest.vision is None else "text, images"
            where = "embedded" if stored.embedded else "installed"
            aliases, megabytes = ", ".join(stored.manifest.aliases), f"{stored.n_bytes / 1e6:.1f}"
            table.add_row(stored.id + mark, aliases, stored.manifest.recipe.name, megabytes, takes, where)
        Console().print(table)
    for path, reason in store.broken():
        print(f"edge: {path.name} cannot be used: {reason}", file=sys.stderr)


@models.command()
def info(name: Annotated[str, typer.Argument(help="Id, alias or folder.")], as_json: AsJson = False) -> None:
    """Show what a bundle is and what it was made from."""
    import json

    from edge.models import find

    stored = find(name, {})
    described = _described(stored)
    if as_json:
        print(json.dumps(described, indent=1))
        return
    for key, value in described.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{key + ':':<22} {'' if shown is None else shown}".rstrip())


@models.command()
def verify(name: Annotated[str, typer.Argument(help="Id, alias or folder.")]) -> None:
    """Read every byte of a bundle and compare it with the manifest; nothing is written."""
    from edge import bundle
    from edge.models import find

    stored = find(name, {})
    problems = bundle.verify(stored.path)
    for problem in problems:
        print(f"edge: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    print(f"{stored.id}: {len(stored.manifest.files)} files, {stored.n_bytes} bytes, all as the manifest says")


@models.command()
def install(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle, as edge-export makes it.")]) -> None:
    """Copy a bundle into the models folder, verified byte by byte."""
    from rich.console import Console
    from rich.progress import Progress

    from edge import store

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("copying", total=None)
        stored = store.install(folder, progress=lambda done, total: bar.update(task, completed=done, total=total))
    print(f"{stored.id} is installed in {stored.path}")


@models.command()
def remove(name: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Remove an installed bundle."""
    from edge import store

    store.remove(name)
    print(f"{name} is removed")


@models.command()
def default(name: Annotated[str | None, typer.Argument(metavar="[ID]")] = None) -> None:
    """Say which bundle wins the names it shares with others; without an id, show it."""
    from edge import store

    if name is not None:
        print(f"{store.set_default(name).id} is the default")
    else:
        print(next((stored.id for stored in store.bundles()), "no bundle is installed"))


@app.command()
def doctor(model: ModelName = None) -> None:
    """Check this machine and the bundle: versions, threads, memory, every byte, one token."""
    from edge.checkup import examine

    with _api_failures():
        healthy = True
        for check in examine(model):
            healthy = healthy and check.good
            print(f"{'ok  ' if check.good else 'BAD '} {check.name + ':':<12} {check.found}")
    if not healthy:
        raise typer.Exit(1)


@app.command()
def bench(
    model: ModelName = None,
    n_prompt: Annotated[int, typer.Option("--prompt", min=2, help="Tokens to read.")] = 256,
    n_answer: Annotated[int, typer.Option("--tokens", min=2, help="Tokens to generate.")] = 64,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: every CPU.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: tokens/s in and out, GB/s, seconds per tile, memory anonymous and mapped apart."""
    import json

    from edge.checkup import measure

    figures = measure(model, n_prompt=n_prompt, n_answer=n_answer, threads=threads)
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' ') + ':':<26} {shown}")


def _alias(text: str) -> tuple[str, str]:
    name, separator, target = text.partition("=")
    if not (name and separator and target):
        _fail(f"--alias {text!r:.200}: expected NAME=MODEL")
    return name, target


def _key(given: str | None, file: Path | None) -> str | None:
    """Return the key that the server asks for: the flag's, the file's first line, or EDGE_API_KEY; None without one."""
    if given is not None and file is not None:
        _fail("--api-key and --api-key-file: expected one of them")
    key = os.environ.get("EDGE_API_KEY") if given is None else given
    if file is not None:
        try:
            key = file.read_text("utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            _fail(f"--api-key-file {file}: {getattr(error, 'strerror', None) or 'not text'}")
    if key is None:
        return None
    if not (key and key.isascii() and key.isprintable()):
        _fail("the key: expected printable ASCII characters, at least one")
    return key


def _first(client: "Reka") -> str:
    """Return the id of the bundle the client prefers."""
    installed = client.models.get()
    if not installed:
        _fail("no bundle is installed: edge models install DIR")
    return installed[0].id


def _answer(client: "Reka", messages: list[dict[str, object]], options: dict[str, Any], *, stats: bool) -> str:
    """Stream an answer to stdout and return it; why it ended early, and the figures, go to stderr."""
    started_s = first_s = time.monotonic()
    shown, first, last = "", None, None
    for last in client.chat.create_stream(messages=messages, model=_first(client), **options):
        if first is None:
            first, first_s = last, time.monotonic()
        text = str(last.responses[0].chunk.content)
        sys.stdout.write(_harmless(text[len(shown) :]))
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
                print(f"edge: {_reason(error)}", file=sys.stderr)
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


def _harmless(text: str) -> str:
    """Drop control characters, which a terminal would obey; line ends and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def _described(stored: "Stored") -> dict[str, object]:
    manifest = stored.manifest
    return {
        "id": manifest.id,
        "aliases": list(manifest.aliases),
        "path": str(stored.path),
        "embedded": stored.embedded,
        "architecture": manifest.source.architecture,
        "recipe": manifest.recipe.name,
        "context": manifest.text.context,
        "layers": manifest.text.n_layers,
        "hidden_size": manifest.text.hidden_size,
        "vocabulary": manifest.text.vocab_size,
        "takes": ["text"] if manifest.vision is None else ["text", "images"],
        "bytes": stored.n_bytes,
        "weights_bytes": manifest.memory.weights_bytes,
        "cache_bytes_per_token": manifest.memory.cache_bytes_per_token,
        "min_runtime": manifest.min_runtime,
        "ignored": list(manifest.source.ignored),
        "notes": list(manifest.source.notes),
    }


@contextlib.contextmanager
def _api_failures() -> Iterator[None]:
    """End with an API error's own words; the reader owns the machine, so its cause is shown with its paths."""
    from edge.types import ApiError

    try:
        yield
    except ApiError as error:
        _fail(_reason(error))


def _reason(error: "ApiError") -> str:
    if error.__cause__ is not None:
        return str(error.__cause__)
    body = error.body
    detail = body.get("detail") if isinstance(body, dict) else getattr(body, "detail", None)
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, problem.loc[1:]))}: {problem.msg}" for problem in detail)
    return str(detail)


def _piped(question: str | None) -> str:
    """Return what is piped in, nothing from a terminal; say so when a question is kept waiting for it."""
    import select

    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    with contextlib.suppress(OSError, ValueError):
        if question and not select.select([sys.stdin], [], [], 2.0)[0]:
            print("edge: waiting for standard input (without any: < /dev/null)", file=sys.stderr)
    return sys.stdin.read().strip()


def _fail(message: str) -> NoReturn:
    print(f"edge: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
