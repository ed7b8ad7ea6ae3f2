"""What all commands share: their common options, errors as one line, text that a terminal can take."""

import base64
import contextlib
import logging
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from edge.errors import EdgeError, UnknownModelError

if TYPE_CHECKING:
    from edge.devices.camera import Camera

_FRAMES_FROM = 60  # columns

ModelName = Annotated[str | None, typer.Option("--model", help="Id, alias or folder of a bundle.")]
KvOption = Annotated[
    str | None,
    typer.Option("--kv", help="Keys and values: fp32, or int8, a quarter of the memory. Default: what fits."),
]
ProvidersOption = Annotated[
    str | None,
    typer.Option(
        "--providers",
        metavar="NAMES",
        help="What computes: cpu, or cuda,tensorrt,cpu. Without cpu, what fails on a GPU is an error.",
        callback=lambda value: _choose_providers(value),
    ),
]
Verify = Annotated[bool, typer.Option("--verify", help="Read every byte of the bundle before it is loaded.")]
MemoryCheck = Annotated[
    bool,
    typer.Option(
        "--memory-check/--no-memory-check",
        help="Refuse a model that does not fit in memory.",
        callback=lambda value: _check_memory(refuse=value),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _check_memory(*, refuse: bool) -> bool:
    """Have every engine of this process load what does not fit in memory, where the command line says so."""
    if not refuse:
        from edge.engine.fit import VARIABLE

        os.environ[VARIABLE] = "off"
    return refuse


def _choose_providers(names: str | None) -> str | None:
    """Have every engine of this process compute on these providers, where the command line names them."""
    from edge.engine.providers import VARIABLE, check_available, parse
    from edge.engine.providers import available as available_here

    if names is not None or VARIABLE in os.environ:
        _tell_fallbacks()
    if names is not None:
        try:
            found = parse(names, field="--providers")
            if found != ("cpu",):
                check_available(found, available_here(), field="--providers")
        except EdgeError as error:
            fail(str(error))
        os.environ[VARIABLE] = ",".join(found)
    return names


def _tell_fallbacks() -> None:
    """Say on stderr what does not run where it should, unless all that is logged is shown anyway."""
    log, above = logging.getLogger("edge.providers"), logging.getLogger("edge")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("edge: %(message)s"))
        handler.addFilter(lambda _: all(isinstance(each, logging.NullHandler) for each in above.handlers))
        log.addHandler(handler)


def markup() -> Literal["rich"] | None:
    """Return how help is drawn: with frames, or plainly where they would cut words or come out as other signs."""
    is_wide = shutil.get_terminal_size().columns >= _FRAMES_FROM
    return "rich" if is_wide and os.environ.get("TERM") != "dumb" else None


def fail(message: str) -> NoReturn:
    """End the command with one line on stderr and status 1."""
    print(f"edge: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


@contextlib.contextmanager
def api_failures() -> Iterator[None]:
    """End with an error's own words; the reader owns the machine, so its cause is shown with its paths."""
    try:
        yield
    except EdgeError as error:
        fail(reason(error))


def reason(error: EdgeError) -> str:
    """Return why something failed, in one line, with the way out that a command line has."""
    from edge.types import ApiError

    if isinstance(error, UnknownModelError) and error.target is not None:
        answer = f"edge models alias set {error.name[:100]}={error.target}"
        return f"{error.found}; to add a bundle: edge models install DIR; to have one answer to that name: {answer}"
    if not isinstance(error, ApiError):
        return str(error)
    if isinstance(error.__cause__, EdgeError):
        return reason(error.__cause__)
    if error.__cause__ is not None:
        return str(error.__cause__)
    body = error.body
    detail = body.get("detail") if isinstance(body, dict) else getattr(body, "detail", None)
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, problem.loc[1:]))}: {problem.msg}" for problem in detail)
    return str(detail)


def camera_of(name: str, *, size: str | None = None, still: bool = False, loop: bool = False) -> "Camera":
    """Open the camera of a --camera option, and tell on stderr what it passes by; size: its --size, WIDTHxHEIGHT.

    Raises: DeviceError.
    """
    from edge.devices.camera import Camera

    width, separator, height = (size or "").lower().partition("x")
    if size is not None and not (separator and width.isdecimal() and height.isdecimal() and int(width) * int(height)):
        fail(f"--size {size!r:.200}: expected WIDTHxHEIGHT, such as 1280x720")
    log_to_stderr("edge.capture")
    return Camera(name, size=(int(width), int(height)) if size else None, still=still, loop=loop)


def log_to_stderr(name: str) -> None:
    """Have what a logger of ours says shown on stderr, a line each."""
    log = logging.getLogger(name)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("edge: %(message)s"))
        log.addHandler(handler)


def piped(question: str | None) -> tuple[str, list[dict[str, object]]]:
    """Return a question with the text that is piped in behind it, and what else is piped in, as parts of a message."""
    import select

    from edge.media.fetch import MAX_BYTES
    from edge.media.sniff import is_text, is_utf16, sniff

    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return question or "", []
    with contextlib.suppress(OSError, ValueError):
        if question and not select.select([sys.stdin], [], [], 2.0)[0]:
            print("edge: waiting for standard input (without any: < /dev/null)", file=sys.stderr)
    data = _read_piped(MAX_BYTES)
    found = None if is_text(data) else sniff(data)
    if found is not None:
        if not found.is_supported:
            fail(f"standard input: {found.refusal()}")
        kind = found.kinds[0]
        url = f"data:application/octet-stream;base64,{base64.b64encode(data).decode('ascii')}"
        return question or "", [{"type": f"{kind}_url", f"{kind}_url": url}]
    for encoding in ("utf-16" if is_utf16(data) else "utf-8-sig", sys.stdin.encoding or "utf-8"):
        with contextlib.suppress(UnicodeDecodeError):
            return "\n\n".join(part for part in (question, data.decode(encoding).strip()) if part), []
    fail("standard input: expected text, or an image, audio, a video or a PDF")


def _read_piped(max_bytes: int) -> bytes:
    """Return what is piped in; of what is too much, no more is read than shows that it is."""
    if hasattr(sys.stdin, "buffer"):
        data = sys.stdin.buffer.read(max_bytes + 1)
    else:
        data = sys.stdin.read(max_bytes + 1).encode()
    if len(data) > max_bytes:
        fail(f"standard input: expected at most {max_bytes} bytes, got more: send less, or name a shorter file")
    return data


def harmless(text: str) -> str:
    """Drop control characters, which a terminal would obey; line ends and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
