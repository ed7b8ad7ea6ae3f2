"""What a measurement is kept as: docs/benchmarks/speed.json, and the page and plots made from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.quality.record import PAIRS, table
from scripts.results import ROOT
from scripts.speed.plots import bars, lines
from scripts.speed.turns import OURS, ratio

FOLDER: Final = ROOT / "docs" / "benchmarks"
Record = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

_TITLES: Final = {
    "load": "Opening, files in the page cache, and memory at the first token",
    "cold": "Opening, files not in the page cache",
    "text": "Text",
    "slots": "Slots, tokens/s",
    "tile": "A tile of the vision tower",
    "draft": "Guesses: how many times as fast an answer's steps are with them",
}
_COLUMNS: Final = {
    "load_s": "first token, s", "anonymous_mib": "anonymous, MiB", "shared_mib": "cache, MiB",
    "mapped_mib": "mapped, MiB", "swap_mib": "swap, MiB", "peak_mib": "peak, MiB", "prefill": "prefill 512, tokens/s",
    "one_of_1": "one slot open", "one_of_4": "one of four slots", "all": "four together", "tile_s": "tile, s",
}  # fmt: skip


def read(folder: Path = FOLDER) -> Record:
    """The record as it is kept; empty where there is none."""
    path = folder / "speed.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def with_shape(record: Mapping[str, Any], shape: str, found: Mapping[str, Any]) -> Record:
    """The record with a shape's new measurements; the others of that shape are kept, with their circumstances."""
    before = record.get(shape, [])
    names = set(found["measures"])
    kept = []
    for run in before:
        rest = {name: rows for name, rows in run["measures"].items() if name not in names}
        if rest:
            kept.append({**run, "measures": rest})
    return {**record, shape: [*kept, dict(found)]}


def write(record: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Keep a record, and make page and plots from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "speed.md").write_text(page(record), "utf-8")
    for name, svg in plots(record).items():
        (folder / name).write_text(svg, "utf-8")


def page(record: Mapping[str, Any]) -> str:
    """The page: what was measured when and where, the tables, ratios to llama.cpp's format of the same bytes."""
    parts = [
        "# Speed and memory beside llama.cpp",
        "Written by `scripts/bench speed` from speed.json; not edited by hand. Random weights in the shapes of "
        "`scripts/make_checkpoint`, both sides alike; fresh processes take turns, medians of the rounds. Memory is of "
        "the process as Linux counts it; `cache` is shared memory, where the keys and values of edge lie. "
        "Quality at the same bytes is in [quality.md](quality.md).",
    ]
    for shape, runs in record.items():
        parts.append(f"## {shape}")
        for run in runs:
            parts.append(
                f"{run['date'][:10]}, {run['cpu']}, {run['threads']} threads, {run['rounds']} rounds, reads "
                f"{run['bandwidth_gb_s']} GB/s, load average {run['load_average']} before; onnxruntime "
                f"{run['versions']['onnxruntime']}, {run['versions']['llama_cpp'].split(' (')[0]}, torch "
                f"{run['versions']['torch']}."
            )
            for name, rows in run["measures"].items():
                parts += [f"### {_TITLES[name]}", _table(name, rows, run["bandwidth_gb_s"])]
        parts += [f"![{svg}]({svg})" for svg in plots({shape: runs})]
    return "\n\n".join(parts) + "\n"


def _table(name: str, rows: Rows, bandwidth: float) -> str:
    figures = list(rows[0]["median"])
    if name == "cold":
        figures = ["load_s"]
    heads = ["", "MB", *(_column(figure) for figure in figures)]
    shown = [
        [f"{row['side']} {row['name']}", f"{row['bytes'] / 1e6:,.0f}", *(_shown(row["median"].get(f)) for f in figures)]
        for row in rows
    ]
    for ours, theirs in (*PAIRS, ("int8", "F16"), ("int8", "float32")):
        one, other = _row(rows, OURS, ours), _row(rows, "torch" if theirs == "float32" else "llama.cpp", theirs)
        if one and other:
            ratios = [ratio(one["median"], other["median"], figure) for figure in figures]
            shown.append([f"{ours} : {theirs}", "", *("" if each is None else f"**{each:.2f}**" for each in ratios)])
    text = table(heads, shown)
    if name == "text":
        shares = [
            f"{row['side']} {row['name']} {row['bytes'] * row['median']['decode_256'] / bandwidth / 1e7:.0f} %"
            for row in rows
            if "decode_256" in row["median"]
        ]
        text += f"\n\nBytes of the files read per token at 256 positions, of the bandwidth: {', '.join(shares)}."
    return text


def _row(rows: Rows, side: str, name: str) -> Mapping[str, Any] | None:
    return next((row for row in rows if (row["side"], row["name"].removeprefix("edge-7b-")) == (side, name)), None)


def _column(figure: str) -> str:
    if figure.startswith("decode_"):
        return f"decode at {int(figure.removeprefix('decode_')):,}, tokens/s"
    return _COLUMNS.get(figure, figure.replace("_", " "))


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def plots(record: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG of each plot."""
    made = {}
    for shape, runs in record.items():
        measures = {name: rows for run in runs for name, rows in run["measures"].items()}
        if "text" in measures:
            curves = {f"{row['side']} {row['name']}": _decode(row["median"]) for row in measures["text"]}
            made[f"speed-{shape}-decode.svg"] = lines(
                curves, title=f"Decode, {shape}", x_title="positions before the token", y_title="tokens/s"
            )
        if "load" in measures:
            loads = {f"{row['side']} {row['name']}": row["median"]["load_s"] for row in measures["load"]}
            made[f"speed-{shape}-load.svg"] = bars(loads, title=f"Opening to the first token, {shape}", unit="s")
            memory = {f"{row['side']} {row['name']}": row["median"]["anonymous_mib"] for row in measures["load"]}
            made[f"speed-{shape}-memory.svg"] = bars(memory, title=f"Anonymous memory, {shape}", unit="MiB")
    return made


def _decode(median: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(int(name.removeprefix("decode_")), value) for name, value in median.items() if name.startswith("decode_")]
