"""edge batch: many requests at once, from a file into a file, here or on a Ray cluster."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.choosing import chosen
from edge.commands.console import Verify, fail
from edge.commands.pace import Pace, duration
from edge.errors import UnknownModelError
from edge.extras import check

if TYPE_CHECKING:
    from edge.batch.asker import Settings
    from edge.batch.lines import Settled
    from edge.batch.results import Plan, Results
    from edge.batch.sources import Entry, Images, LinesFile, Source
    from edge.batch.work import Work
    from edge.limits import Limits

SOME_FAILED = 3  # the status of a run in which lines failed
_N_AHEAD = 2  # lines whose media are opened while the slots are busy


def batch(
    names: Annotated[
        list[str], typer.Argument(metavar="INPUT OUTPUT", help="Files of lines; with --images a question and a file.")
    ],
    images: Annotated[
        str | None, typer.Option("--images", metavar="PATTERN", help="A folder or a quoted glob: a line per image.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Id, alias or folder of the bundle for all lines.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of lines that have none.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="N|NAME=NUMBER", help="Ask the first N lines; or a limit of requests."),
    ] = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", help="File of the lines that failed. Default: OUTPUT with .errors.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask lines that failed again.")] = False,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Lines answered at the same time.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. Default: all.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=1, help="Context length of each slot, in tokens.")
    ] = None,
    verify: Verify = False,
    system: Annotated[str | None, typer.Option("--system", help="With --images: the system message.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="With --images: limit of each answer, in tokens.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="With --images: 0 is greedy decoding.")
    ] = None,
    media_folder: Annotated[
        Path | None, typer.Option("--media-folder", help="Folder whose files lines may name.")
    ] = None,
    allow_media: Annotated[
        list[str] | None, typer.Option("--allow-media", help="Host to fetch media from. Repeatable.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: HOST:PORT, or local.")
    ] = None,
) -> None:
    """Answer OpenAI's batch lines from a file into a file. The same command again goes on where it ended.

    Status: 0 all lines are answered, 3 some failed, 1 the run could not go on, 130 Ctrl-C.
    """
    from edge.batch.asker import Settings

    if ray is not None:
        _check_ray()
    first, output = _two(names, images)
    if Path(output).is_dir():
        fail(f"{output}: expected a file, got a folder")
    n_first, limits = _limits(limit or [])
    if images is None and (system, max_tokens, temperature) != (None, None, None):
        fail("--system, --max-tokens and --temperature are for --images: the lines of a file have their own")
    if media_folder is not None and not media_folder.is_dir():
        fail(f"--media-folder {media_folder}: no such folder")
    settings = Settings(
        model=model,
        seed=seed,
        slots=slots,
        threads=threads,
        context=context,
        verify=verify,
        media_folder=media_folder and media_folder.absolute(),
        media_hosts=tuple(allow_media or ()),
        limits=limits,
    )
    settings, settled = _settled(settings, with_images=images is not None, on_cluster=ray is not None)
    asked = _Asked(Path(output), errors or _errors_of(Path(output)), n_first, retry_failed, ray)
    with _file_failures(), contextlib.ExitStack() as opened:
        if images is None:
            source: Source = opened.enter_context(_lines(first, asked, limits))
        else:
            source = _images(images, first, system, max_tokens, temperature)
        status = _run(source, asked, settings, settled)
    sys.exit(status)


@dataclass(frozen=True)
class _Asked:
    """What a run is told beside how lines are answered. n_first: how many lines, None for all."""

    output: Path
    errors: Path
    n_first: int | None
    retry: bool
    ray: str | None


def _check_ray() -> None:
    try:
        check("ray", need="edge batch --ray")
    except ModuleNotFoundError as error:
        fail(str(error))


def _two(names: list[str], images: str | None) -> tuple[str, str]:
    """Return the two arguments; a pattern that the shell has spelt out is told."""
    if len(names) == 2:
        return names[0], names[1]
    spelt = "; quote the pattern, or the shell puts the files' names in its place" if images and len(names) > 2 else ""
    fail(f"expected IN.jsonl OUT.jsonl, or --images PATTERN QUESTION OUT.jsonl, got {len(names)} arguments{spelt}")


def _limits(wanted: list[str]) -> tuple[int | None, "Limits"]:
    """Return how many lines are asked, None for all, and the limits of each."""
    from edge.limits import Limits

    numbers = [text for text in wanted if "=" not in text]
    for text in numbers:
        if not (text.isascii() and text.isdecimal()):
            fail(f"--limit {text!r:.200}: expected a number of lines, or NAME=NUMBER")
    others = [text for text in wanted if "=" in text]
    return min(map(int, numbers), default=None), Limits.of_this_machine().changed(others)


def _settled(settings: "Settings", *, with_images: bool, on_cluster: bool) -> tuple["Settings", "Settled"]:
    """Return what ids are made with, and the settings with the bundle that images need.

    A cluster may have a bundle that this machine has not.
    """
    from edge.batch.lines import Settled

    try:
        stored = chosen(settings.model, ["images"] if with_images else [])
    except UnknownModelError:
        if not on_cluster or settings.model is None:
            raise
        return settings, Settled(settings.model, settings.seed)
    if with_images and settings.model is None:
        settings = replace(settings, model=stored.id)
    return settings, Settled(None if settings.model is None else stored.id, settings.seed)


def _errors_of(output: Path) -> Path:
    return output.with_name(f"{output.stem}.errors{output.suffix}")


@contextlib.contextmanager
def _lines(name: str, asked: _Asked, limits: "Limits") -> Iterator["LinesFile"]:
    """Give the lines of a file."""
    from edge.batch.sources import LinesFile, readable

    for path in (asked.output, asked.errors):
        if name != "-" and path.exists() and Path(name).exists() and path.samefile(name):
            fail(f"{path}: expected another file than the one that is read")
    with readable(name) as read:
        if not Path(read).is_file():
            fail(f"{name}: no such file")
        yield LinesFile(read, limits)


def _images(
    pattern: str, question: str, system: str | None, max_tokens: int | None, temperature: float | None
) -> "Images":
    """Return the images of a pattern with their question; what is left out of a folder is told."""
    from edge.batch.sources import Images, images_of

    paths, others = images_of(pattern)
    if others:
        print(f"edge: {len(others)} files are no images and are left out, such as {others[0]}", file=sys.stderr)
    if not paths:
        fail(f"--images {pattern!r:.200}: no such image")
    if not question.strip():
        fail("expected a question about the images, got an empty one")
    return Images(tuple(paths), str(Path.cwd()), question, system, max_tokens, temperature)


def _run(source: "Source", asked: _Asked, settings: "Settings", settled: "Settled") -> int:
    """Ask what is left to ask; return the status of the command."""
    from edge.batch.lines import identity, read_line
    from edge.batch.results import Results

    if asked.output.absolute() == asked.errors.absolute():
        fail(f"--errors {asked.errors}: expected another file than the output")
    with Results(asked.output, asked.errors) as results:
        if results.torn:
            print(f"edge: {asked.output}: a torn last line is cut away, and asked again", file=sys.stderr)
        plan = results.plan(
            source.entries(settled),
            lambda entry: identity(read_line(source.read(entry), settings.limits), settled),
            most=asked.n_first,
            retry=asked.retry,
        )
        _tell_plan(plan, asked)
        n_failed = plan.n_failed + plan.n_refused
        pace = Pace(plan.n_lines, n_done=plan.n_answered + n_failed, n_failed=n_failed)
        ended = _work(source, plan, asked, settings, settled, results, pace) if plan.todo else None
    n_answered = pace.n_done - pace.n_failed
    took = f"; {pace.n_here} lines in {duration(pace.seconds)}" if pace.n_here else ""
    failed = f", {pace.n_failed} failed ({asked.errors} says why)" if pace.n_failed else ""
    print(f"edge: {n_answered} of {plan.n_lines} lines answered{failed}{took}", file=sys.stderr)
    if ended is not None:
        print("edge: stopped; the same command goes on", file=sys.stderr)
        return 128 + ended
    return SOME_FAILED if pace.n_failed else 0


def _tell_plan(plan: "Plan", asked: _Asked) -> None:
    """Say what is done already, and what does not belong here."""
    if plan.n_answered or plan.n_failed:
        before = f"{plan.n_answered} of {plan.n_lines} lines were answered before"
        failed = f", {plan.n_failed} failed (--retry-failed asks them again)" if plan.n_failed else ""
        print(f"edge: {before}{failed}; {len(plan.todo)} are left", file=sys.stderr)
    if plan.n_others:
        print(f"edge: {asked.output} has answers to {plan.n_others} other lines as well; they stay", file=sys.stderr)


def _work(
    source: "Source",
    plan: "Plan",
    asked: _Asked,
    settings: "Settings",
    settled: "Settled",
    results: "Results",
    pace: Pace,
) -> int | None:
    """Ask the lines of a plan; return the signal that ended it early, None at its end."""
    from edge.batch.work import run

    work = _opened(source, plan.todo, asked.ray, settings, settled)
    with pace:
        return run(
            work,
            results,
            on_record=lambda record: pace.count(failed=not record.is_answer),
            on_signal=lambda: pace.tell("finishing what is being answered; Ctrl-C again gives it up"),
        )


def _opened(
    source: "Source", entries: "tuple[Entry, ...]", ray: str | None, settings: "Settings", settled: "Settled"
) -> "Work":
    """Load the model, or find the cluster."""
    if ray is None:
        from edge.batch.asker import Asker
        from edge.batch.work import LocalWork

        n_threads = min(len(entries), settings.n_slots + _N_AHEAD)
        return LocalWork(entries, source, Asker.open(settings, settled), n_threads=n_threads)
    from edge.batch.cluster import ClusterWork

    return ClusterWork(entries, source, settings, settled, address=ray)


@contextlib.contextmanager
def _file_failures() -> Iterator[None]:
    """End with the words of a file that cannot be read or written."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}; what was answered before is kept, and the same command goes on")
