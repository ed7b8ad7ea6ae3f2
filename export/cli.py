"""The command line `edge-export`: results go to stdout, progress and errors to stderr."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edge.bundle.manifest import CERTIFICATE, MANIFEST, VoiceManifest, parse_manifest
from edge.errors import interruption
from edge.extras import check, missing
from export.certificate import words
from export.certificate.words import mib
from export.choices import CERTIFICATE_LEVEL, SEARCHED_RECIPE, CertificateLevel
from export.commands.compare import app as compare_app
from export.errors import CertificateError, ExportError
from export.memory import PeakMemory
from export.report import page, subject
from export.report import write as report_file

if TYPE_CHECKING:
    from export.build import Step
    from export.outline import Outline

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

STAGES: Final[Mapping[str, str]] = {
    "download": "downloading",
    "tracing": "tracing the model",
    "calibration images": "calibration: images",
    "sensitivity": "calibration: what each layer's bits cost",
    "weights": "quantizing and writing",
    "source": "hashing the checkpoint",
    "cache scales": "8-bit cache: reading text",
    "golden": "certificate: golden tokens",
    "text": "certificate: the bundle reads text",
    "conversations": "certificate: and conversations",
    "answers": "certificate: the bundle answers",
    "int8 cache": "certificate: text with 8-bit keys",
    "pictures": "certificate: reference, images",
    "reference": "certificate: reference, layers",
    "comparison": "certificate: comparing",
}


def main() -> None:
    """Run the command line; an error is one line on stderr and status 1."""
    try:
        if sys.argv[1:2] == ["compare"]:  # a checkpoint folder of that name is ./compare
            compare_app(sys.argv[2:], prog_name="edge-export compare")
        else:
            app()
    except ExportError as error:
        print(f"edge-export: {error}", file=sys.stderr)
        sys.exit(1)
    except ImportError as error:
        if interruption(error) is not None:
            sys.exit(130)
        if not isinstance(error, ModuleNotFoundError):
            raise
        print(f"edge-export: {missing(error.name, need='edge-export')}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command(epilog="edge-export compare BUNDLE...: bundles side by side. Its help: edge-export compare --help")
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A checkpoint's folder (config.json, safetensors), a .gguf file, or a hub's repository:"
            " ORG/NAME, ORG/NAME@REVISION or ORG/NAME:FILE.gguf."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle folder to create. Default: ./ID.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="int8, w8a8, int4-mixed, int4, fp32, carry, a .toml file. Default: int8; carry for a quantized .gguf.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="Id of the bundle. Default: NAME-RECIPE.")] = None,
    alias: Annotated[list[str] | None, typer.Option("--alias", help="A further model name. Repeatable.")] = None,
    certificate: Annotated[
        CertificateLevel, typer.Option("--certificate", help="Extent of the comparison with the checkpoint.")
    ] = CERTIFICATE_LEVEL,
    evaluate: Annotated[
        Path | None,
        typer.Option("--evaluate", help="A .txt or .jsonl file to measure with. Default: the text that is included."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when a threshold of the recipe is missed.")] = False,
    ranks: Annotated[
        Path | None, typer.Option("--ranks", help="A .tiktoken file, for a checkpoint without tokenizer.json.")
    ] = None,
    mmproj: Annotated[
        str | None, typer.Option("--mmproj", help="The projector file (.gguf) that belongs to a .gguf file.")
    ] = None,
    prompt_format: Annotated[
        str | None, typer.Option("--prompt-format", help="chatml or flash, whatever a Llama model's chat template is.")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate", help="Texts (.jsonl) to calibrate with, by any recipe with blocks, or off.", metavar="FILE"
        ),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option("--target-size", help="Search the layers' bits for a bundle of at most this size, such as 4.5G."),
    ] = None,
    target_kl: Annotated[
        float | None,
        typer.Option("--target-kl", help="Search the layers' bits for at most this expected mean KL divergence."),
    ] = None,
    save_recipe: Annotated[
        Path | None, typer.Option("--save-recipe", help="Write the recipe that was exported to this .toml file.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="An HTML file to write: the bundle as a page for people.")
    ] = None,
) -> None:
    """Turn a checkpoint into a quantized bundle, and measure what that cost in quality."""
    check("export", need="edge-export")  # not after an hour
    if certificate == "off" and (strict or evaluate is not None):
        raise CertificateError("--certificate off with --strict or --evaluate: expected quick or full, to measure with")
    if report is not None:
        report_file.check(report, [out] if out is not None else [])
    from export import source
    from export.build import Step, build
    from export.target import target

    started, wanted = time.monotonic(), target(target_size, target_kl)
    with _notes_told(), PeakMemory() as memory, _Bars(memory) as bars:
        chosen = source.choose(
            checkpoint, mmproj=mmproj, recipe=recipe or (SEARCHED_RECIPE if wanted else None), id=name,
            aliases=alias or (), out=out, ranks=ranks,
            certificate=certificate, prompt_format=prompt_format, tell=_tell,
            progress=lambda *done: bars.step(Step("download", *done)),
        )  # fmt: skip
        out = chosen.out
        build(
            chosen.path, out, recipe=chosen.recipe, id=chosen.id, aliases=alias or (), certificate=certificate,
            evaluate=evaluate, strict=strict, ranks=ranks, mmproj=chosen.mmproj, prompt_format=prompt_format,
            calibrate=_calibrate(calibrate), target=wanted, save_recipe=save_recipe, progress=bars.step,
            announce=_announce,
        )  # fmt: skip
        peak = memory.peak()
    _summary(out, time.monotonic() - started)
    print(f"peak memory     {mib(peak.anonymous)} own, {mib(peak.resident)} with mapped files")
    if certificate != "off":
        measured = (out / CERTIFICATE).read_bytes()
        print("\n".join(words.lines(measured)))
        for warning in words.warnings(measured):
            print(f"edge-export: warning: {warning}", file=sys.stderr)
    if report is not None:
        report_file.write(report, page.render(subject.read([out])))
        print(f"report          {report}")


def _calibrate(value: str | None) -> Path | Literal["off"] | None:
    return "off" if value == "off" else None if value is None else Path(value)


@contextlib.contextmanager
def _notes_told() -> Iterator[None]:
    """Say what an export that is stopped leaves behind."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        for note in getattr(error, "__notes__", ()):
            _tell(note)
        raise


def _tell(line: str) -> None:
    print(f"edge-export: {line}", file=sys.stderr)


class _Bars:
    """A bar for each stage, on stderr, with the peak memory beside it; where that is no terminal, how each ended."""

    def __init__(self, memory: PeakMemory) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[peak]}"),
        )
        self._memory = memory
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._tasks:
            self._progress.stop()

    def step(self, step: "Step") -> None:
        """Show how far a stage is."""
        if step.stage == "resumed":
            _tell(f"an export to this folder was stopped: {step.done} tensors that it had finished are used")
            return
        if not self._tasks:
            self._progress.start()  # not earlier: an error before the first step is one line and nothing else
        if step.stage not in self._tasks:
            self._tasks[step.stage] = self._progress.add_task(STAGES[step.stage], total=step.total, peak="")
        # The certificate's memory is its own process's: it is in the certificate.
        peak = mib(self._memory.peak().resident) if step.stage in ("weights", "source") else ""
        self._progress.update(self._tasks[step.stage], completed=step.done, peak=peak)


def _announce(outline: "Outline") -> None:
    """Say what will be done, before it is."""
    from export.outline import lines

    for heading, text in lines(outline):
        print(f"{heading:15} {text}", file=sys.stderr)


def _summary(out: Path, wall_s: float) -> None:
    manifest = parse_manifest((out / MANIFEST).read_bytes(), file=MANIFEST)
    size = sum(path.stat().st_size for path in out.iterdir())
    names = ", ".join((manifest.id, *manifest.aliases))
    print(f"bundle          {out}")
    print(f"names           {names}")
    recipe = manifest.family if isinstance(manifest, VoiceManifest) else manifest.recipe.name
    print(f"recipe          {recipe}, {mib(size)}, {wall_s:.0f} s")
    if manifest.source.ignored:
        print(f"not read        keys of the configuration: {', '.join(manifest.source.ignored)}")
    for note in manifest.source.notes:
        print(f"note            {note}")


if __name__ == "__main__":
    main()
