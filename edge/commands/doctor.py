"""edge doctor and edge bench: what is wrong with this machine, and how fast it is."""

from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.console import AsJson, ModelName, api_failures

if TYPE_CHECKING:
    from edge.commands.checkup import Check


def doctor(model: ModelName = None) -> None:
    """Check this machine and the bundle: versions, threads, memory, every byte, one token."""
    from edge.commands.checkup import examine

    with api_failures():
        healthy = True
        for check in examine(model):
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
    grammar: Annotated[
        bool,
        typer.Option("--grammar", help="Measure constrained decoding, too: its share of the decoding time."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: prompt and decode tokens/s, GB/s, seconds per tile, anonymous and mapped memory."""
    import json

    from edge.commands.checkup import measure

    figures = measure(model, n_prompt=n_prompt, n_answer=n_answer, threads=threads, grammar=grammar)
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' ') + ':':<26} {shown}")
