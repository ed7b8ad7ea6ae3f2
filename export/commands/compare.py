"""edge-export compare: bundles side by side, as a table on stdout and as a page for people."""

from pathlib import Path
from typing import Annotated

import typer

from export.report import columns, page, subject
from export.report import write as file

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders; manifest.json and certificate.json are read.")],
    report: Annotated[Path | None, typer.Option("--report", help="The HTML file to write, in one piece.")] = None,
    bench: Annotated[
        list[Path] | None, typer.Option("--bench", help="Output of `edge bench --json` or scripts/bench. Repeatable.")
    ] = None,
) -> None:
    """Compare bundles: size, what quantization cost, the error of each tensor, speed.

    Nothing is measured: the figures are those of the certificates, and of --bench. To export a checkpoint folder that
    is called compare, write ./compare.
    """
    if report is not None:
        file.check(report, bundles)
    subjects = subject.read(bundles, bench or ())
    print(columns.lines(subjects))
    if report is not None:
        file.write(report, page.render(subjects))
        print(f"\nreport  {report}")
