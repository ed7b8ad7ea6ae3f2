"""The command line, a module of edge.commands for each command: results go to stdout, everything else to stderr."""

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.commands.assistant import assistant
from edge.commands.batch import batch
from edge.commands.chat import chat
from edge.commands.console import fail, markup, reason
from edge.commands.detect import detect
from edge.commands.doctor import bench, doctor
from edge.commands.models import models
from edge.commands.plan import plan
from edge.commands.say import say
from edge.commands.serve import serve
from edge.commands.service import service
from edge.commands.transcribe import transcribe
from edge.commands.watch import watch
from edge.errors import EdgeError, interruption
from edge.version import RUNTIME_VERSION

# What writing to a file or a pipe fails with.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=markup(),
    help="Reka's chat interface, offline, on the device. Help of a command: edge COMMAND --help",
)
app.command()(chat)
app.command()(detect)
app.command()(transcribe)
app.command()(say)
app.command()(watch)
app.command()(batch)
app.command()(serve)
app.add_typer(assistant, name="assistant")
app.add_typer(service, name="service")
app.add_typer(models, name="models")
app.command()(doctor)
app.command()(bench)
app.command()(plan)


def main() -> None:
    """Run the command line; an error is one line on stderr and a status that is not 0."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - it was closed: what is printed goes nowhere
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the locale cannot write
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # at exit nobody could say that it failed
    except EdgeError as error:
        fail(reason(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except ImportError as error:
        if interruption(error) is None:
            raise
        sys.exit(130)
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _forget_output()
        if error.errno == errno.EPIPE:  # the reader has seen enough
            sys.exit(1)
        fail(f"standard output: {error.strerror}")


def _forget_output() -> None:
    """Let what could not be written go nowhere, or Python would try once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Reka's chat interface, offline, on the device."""
    if show:
        print(RUNTIME_VERSION)
        raise typer.Exit


if __name__ == "__main__":
    main()
