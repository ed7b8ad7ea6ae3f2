"""edge doctor and edge bench: what is wrong with this machine, and how fast it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.console import AsJson, KvOption, ModelName, ProvidersOption, api_failures, fail

if TYPE_CHECKING:
    from edge.commands.checkup import Check


def doctor(
    model: ModelName = None,
    _providers: ProvidersOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Without measuring speed, which takes some seconds.")] = False,
) -> None:
    """Check this machine, what an assistant needs, and the bundle: versions, memory, devices, every byte, one token."""
    from edge.commands.checkup import examine

    with api_failures():
        healthy = True
        for check in examine(model, quick=quick):
            healthy = healthy and check.good
            print(line(check))
    if not healthy:
        raise typer.Exit(1)


def line(check: "Check") -> str:
    """Return what is printed for a check: ok or FAIL, its name, and what was found."""
    return f"{'ok  ' if check.good else 'FAIL'} {check.name + ':':<12} {check.found}"


def bench(
    model: ModelName = None,
    n_prompt: Annotated[int, typer.Option("--prompt", min=2, help="Prompt tokens.")] = 256,
    n_answer: Annotated[int, typer.Option("--tokens", min=2, help="Generated tokens.")] = 64,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. Default: all.")] = None,
    kv: KvOption = None,
    _providers: ProvidersOption = None,
    grammar: Annotated[
        bool,
        typer.Option("--grammar", help="Measure constrained decoding, too: its share of the decoding time."),
    ] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Time for longer contexts. 0: none is measured.")
    ] = 60,
    plot: Annotated[Path | None, typer.Option("--plot", help="File to draw the figures in, as SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on this machine: load, prompt and decode tokens/s by context, seconds per tile, memory."""
    import json

    from edge.commands.bench_plot import svg
    from edge.commands.checkup import measure

    figures, curves = measure(
        model, n_prompt=n_prompt, n_answer=n_answer, threads=threads, kv=kv, grammar=grammar, seconds=seconds
    )
    if plot is not None:
        try:
            plot.write_text(svg({**figures, **curves}), "utf-8")
        except OSError as error:
            fail(f"--plot {plot}: {error.strerror}")
    if as_json:
        print(json.dumps({**figures, **curves}, indent=1))
        return
    for name, value in figures.items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' ') + ':':<26} {shown}")
    for name, points in curves.items():
        shown = ", ".join(f"{at}: {value:.4g}" for at, value in points.items()) or "-"
        print(f"{name.replace('_', ' ') + ':':<26} {shown}")
