"""The figures of scripts/bench over time: lines of JSON in docs/benchmarks/results.jsonl, and their table.

Source: docs/benchmarks/README.md, which says what each key is and how lines are compared.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.commands.machine import this_cpu as this_cpu  # part of what this module gives

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks" / "results.jsonl"

Figures = Mapping[str, float | None]
Line = dict[str, Any]
# Lines that agree in all of these are compared; what differs besides is the code.
ALIKE = ("bundle", "recipe", "cpu", "cpus", "threads", "onnxruntime", "options")
# Name in a line, head of its column, how a value is shown, whether more is better.
COLUMNS = (
    ("decode_tokens_per_s", "decode tok/s", 1.0, True),
    ("prefill_tokens_per_s", "prefill tok/s", 1.0, True),
    ("seconds_per_tile", "ms/tile", 1e3, False),
    ("anonymous_bytes", "anonymous MB", 1e-6, False),
)


def this_commit(root: Path = ROOT) -> str | None:
    """The commit of a checkout, with + at its end where files differ from it; None where the folder is no checkout."""
    # The results themselves may have lines that are not committed.
    status = ("status", "--porcelain", "--", ".", ":(exclude)docs/benchmarks/results.jsonl")
    said = []
    for arguments in (("rev-parse", "--show-toplevel"), ("rev-parse", "--short=12", "HEAD"), status):
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        if done.returncode != 0:
            return None
        said.append(done.stdout.strip())
    top, commit, changed = said
    # An unpacked release inside of somebody's checkout has none of its commits.
    return commit + ("+" if changed else "") if Path(top).resolve() == root.resolve() else None


def bundle_fields(folder: Path) -> Line:
    """What a bundle's manifest says it is: its id, its recipe, and the manifest's own digest, in 12 digits."""
    data = (folder / "manifest.json").read_bytes()
    manifest = json.loads(data)
    digest = hashlib.sha256(data).hexdigest()[:12]
    return {"bundle": manifest["id"], "recipe": manifest["recipe"]["name"], "manifest": digest}


def line(folder: Path, figures: Figures, *, rounds: int, options: Sequence[str], load: float, note: str) -> Line:
    """A measurement as a line: when, where and of what it is, then the medians of its rounds.

    folder: the bundle's. load: processes that ran or waited, on average over the minute before. note: what else the
    machine did.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": this_commit(),
        **bundle_fields(folder),
        "cpu": this_cpu(),
        "cpus": os.cpu_count(),
        "threads": figures.get("threads"),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "python": platform.python_version(),
        "rounds": rounds,
        "options": list(options),
        "load": round(load, 2),
        "note": note,
        "figures": {name: rounded(value) for name, value in figures.items() if name != "threads"},
    }


def rounded(value: float | None) -> float | None:
    """Four digits of speeds and times; bytes are whole already."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def append(measured: Sequence[Line], path: Path) -> None:
    """Add lines at the end of the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in measured)


def read(path: Path) -> list[Line]:
    """Every line, the oldest first. Raises: ValueError that names the line that is no JSON object."""
    if not path.exists():
        return []
    rows = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: expected a JSON object, found {text[:40]!r}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path.name}, line {number}: expected a JSON object, found {text[:40]!r}")
        rows.append(row)
    return rows


def history(rows: Sequence[Line], bundles: Sequence[str] = ()) -> str:
    """The lines as a Markdown table; each figure with its change from the line before that is alike.

    A change for the worse has an exclamation mark. bundles: the ids to show, all by default.
    """
    heads = ["date", "commit", "bundle", "CPU", "threads", "load", *(head for _, head, _, _ in COLUMNS)]
    table = ["| " + " | ".join(heads) + " |", "|---|---|---|---|---:|---:|" + "---:|" * len(COLUMNS)]
    before: dict[str, Line] = {}
    for row in rows:
        if bundles and row.get("bundle") not in bundles:
            continue
        alike = json.dumps([row.get(key) for key in ALIKE])
        cells = [str(row.get("date", ""))[:10], *(str(row.get(key)) for key in ("commit", "bundle", "cpu"))]
        cells += [str(row.get("threads")), str(row.get("load"))]
        cells += [cell(row, before.get(alike), *column) for column in COLUMNS]
        table.append("| " + " | ".join(cells) + " |")
        before[alike] = row
    return "\n".join(table)


def cell(row: Line, before: Line | None, name: str, _head: str, scale: float, more_is_better: bool) -> str:
    """A figure, with its change in per cent from the line before."""
    value = row.get("figures", {}).get(name)
    if value is None:
        return "-"
    shown = f"{value * scale:.4g}"
    old = before.get("figures", {}).get(name) if before is not None else None
    if not old:
        return shown
    change = round((value / old - 1) * 100)
    worse = change < 0 if more_is_better else change > 0
    return f"{shown} ({change:+d}%{' !' if worse else ''})"
