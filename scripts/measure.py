"""Measures bundles against each other with `edge bench`: fresh processes taking turns, medians over the rounds.

Memory bandwidth swings with what else a machine does, so small differences show in one alternating run alone. The
medians are kept in docs/benchmarks/results.jsonl, a line of JSON for each bundle, and --history shows them by commit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from edge.models import find
from scripts import results as kept

EMBEDDED = str(kept.ROOT / "models" / "reka-edge-tiny")

Figures = dict[str, float | None]


def bench(bundle: str, options: list[str]) -> Figures:
    """The figures of one run, peak_bytes (resident, mapped files included) besides those of `edge bench`.

    Raises: SystemExit with what `edge bench` said where it failed.
    """
    command = [
        str(Path(sys.executable).with_name("edge")),
        "bench",
        "--model",
        bundle,
        "--json",
        "--seconds",
        "0",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout is not None else ""
        # Waited for by hand: only this call tells one child's peak memory from another's.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"edge bench failed on {bundle} with status {process.returncode}")
    figures = {name: value for name, value in json.loads(output).items() if not isinstance(value, str | dict)}
    return {**figures, "peak_bytes": usage.ru_maxrss * 1024}


def medians(rounds: list[Figures]) -> Figures:
    """Each figure's median; None where it was never measured."""
    values = {name: [row[name] for row in rounds] for name in rounds[0]}
    known = {name: [value for value in column if value is not None] for name, column in values.items()}
    return {name: statistics.median(column) if column else None for name, column in known.items()}


def shown(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value / 1e6:.0f} MB" if name.endswith("_bytes") else f"{value:.4g}"


def table(results: dict[str, Figures]) -> str:
    """The results as a Markdown table, one bundle a column."""
    names = [Path(bundle).name for bundle in results]
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for figure in next(iter(results.values())):
        cells = [shown(figure, figures[figure]) for figures in results.values()]
        rows.append(f"| {figure.removesuffix('_bytes').replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, epilog="Other options are those of `edge bench`."
    )
    made.add_argument("bundles", nargs="*", help="ids or folders of bundles, measured in turns; the embedded one else")
    made.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    made.add_argument("--json", action="store_true", help="print the figures of every round as JSON")
    made.add_argument("--no-record", action="store_true", help="add no line to docs/benchmarks/results.jsonl")
    made.add_argument("--note", default="", help="what else the machine does, for that line")
    made.add_argument("--history", action="store_true", help="measure nothing; show the lines, of the named ids only")
    return made


def measured(bundles: list[str], rounds: int, options: list[str]) -> dict[str, list[Figures]]:
    """The figures of every round of each bundle, measured in turns."""
    results: dict[str, list[Figures]] = {bundle: [] for bundle in bundles}
    for number in range(rounds):
        for bundle, figures in results.items():
            print(f"round {number + 1} of {rounds}: {bundle}", file=sys.stderr)
            figures.append(bench(bundle, options))
    return results


def main() -> None:
    arguments, options = parser().parse_known_args()
    if arguments.rounds < 1:
        raise SystemExit(f"scripts/bench: --rounds: expected 1 or more, found {arguments.rounds}")
    if arguments.history:
        print(kept.history(kept.read(kept.RESULTS), arguments.bundles))
        return
    load = os.getloadavg()[0]
    results = measured(arguments.bundles or [EMBEDDED], arguments.rounds, options)
    middle = {bundle: medians(rounds) for bundle, rounds in results.items()}
    print(json.dumps(results, indent=1) if arguments.json else table(middle))
    if arguments.no_record:
        return
    common = {"rounds": arguments.rounds, "options": options, "load": load, "note": arguments.note}
    lines = [kept.line(find(bundle, {}, kind=None).path, row, **common) for bundle, row in middle.items()]
    kept.append(lines, kept.RESULTS)
    print(f"added to {kept.RESULTS.relative_to(kept.ROOT)}; --no-record keeps nothing", file=sys.stderr)


if __name__ == "__main__":
    main()
