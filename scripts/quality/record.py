"""What a measurement is kept as: docs/benchmarks/quality.json, and the page and the plot made from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.quality.plot import Point, svg
from scripts.results import ROOT

# Each recipe beside the format that it is meant to match or beat.
PAIRS: Final = (("int8", "Q8_0"), ("w8a8", "Q8_0"), ("int4-mixed", "Q4_K_M"), ("int4", "Q4_0"))
PLOTTED: Final = "quality of recipes"
FOLDER: Final = ROOT / "docs" / "benchmarks"
Record = dict[str, Any]


def read(folder: Path = FOLDER) -> Record:
    """The record as it is kept; empty where there is none."""
    path = folder / "quality.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def write(record: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Keep a record, and make page and plot from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quality.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "quality.md").write_text(page(record), "utf-8")
    if PLOTTED in record:
        (folder / "quality.svg").write_text(plot(record[PLOTTED]), "utf-8")


def merged(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Record:
    """A measurement with the contestants that an earlier one has besides, `apart`; both of the same weights and text.

    Quality does not depend on when it is measured. Raises: SystemExit where weights or text differ.
    """
    if before is None:
        return dict(now)
    for part, key in (("reference", "sha256"), ("reference", "seed"), ("text", "sha256"), ("text", "positions")):
        if before[part][key] != now[part][key]:
            raise SystemExit(f"--merge: {part}.{key} was {before[part][key]}, is {now[part][key]}: measure all again")
    names = {(row["side"], row["name"]) for row in now["contestants"]}
    others = [row | {"apart": True} for row in before["contestants"] if (row["side"], row["name"]) not in names]
    rows = sorted([*now["contestants"], *others], key=lambda row: (row["side"], -row["bytes"]))
    return {**now, "reference": {**before["reference"], **now["reference"]}, "contestants": rows}


def page(record: Mapping[str, Any]) -> str:
    """The page: what was measured, the tables, and what counts as a byte."""
    parts = [
        "# Quality and speed beside llama.cpp",
        "Written by `scripts/bench quality` from quality.json; not edited by hand.",
    ]
    for name in sorted(record):
        title = f"{name[0].upper()}{name[1:]}"
        parts.append(_speed(title, record[name]) if name.startswith("speed") else _quality(title, record[name]))
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def plot(quality: Mapping[str, Any]) -> str:
    """KL against bytes, a curve for each side."""
    points = [
        Point(row["name"], row["side"], row["bytes"] / 1e6, row["figures"]["kl_mean"])
        for row in quality["contestants"]
        if row["name"] not in ("F16", "fp32")
    ]
    return svg(points, x_title="weights, MB", y_title="mean KL to float32, nats")


def _quality(title: str, quality: Mapping[str, Any]) -> str:
    reference, text = quality["reference"], quality["text"]
    rows = [_quality_row(row, reference["weights"]) for row in quality["contestants"]]
    heads = ["", "mean KL", "p99 KL", "top-1", "perplexity", "MB", "bits a weight", "prefill : decode KL"]
    notes = [
        f"Model: {reference['model']}, dequantized to float32, plus Gaussian noise of a third of a 4-bit step on every "
        f"weight matrix (seed {reference['seed']}): the packaged weights lie on a grid of 4-bit blocks of 32, which "
        "would favour formats with that grid. Both sides quantize the noised weights. Perplexity: "
        f"{reference['perplexity']:.3f} of the noised model, {reference['exact_perplexity']:.3f} without noise.",
        f"Text: {text['positions']} positions in windows of 512 tokens, teacher-forced: {text['windows']['text']} "
        f"windows of running text, {text['windows']['chat']} of chats ({', '.join(text['files'])}). None of it is used "
        "for calibration.",
        "KL is KL(reference ‖ model) over the whole vocabulary in float64; ± is the standard error of the mean. MB "
        "(10⁶ bytes) are weights, scales, zero points, norms and the table; no tokenizer, graph, metadata or rotary "
        "table. *prefill : decode* is the KL between the same tokens read as a prompt and fed as single steps, in "
        f"brackets as a share of the mean KL ({quality['step_positions']} positions).",
        f"{quality['cpu']}, {quality['threads']} threads; {quality['versions']['llama_cpp']}; onnxruntime "
        f"{quality['versions']['onnxruntime']}; {quality['date'][:10]}, commit {quality['commit']}.",
    ]
    apart = [row["name"] for row in quality["contestants"] if row.get("apart")]
    if apart:
        notes.append(f"Measured in a run of their own, on the same reference and text: {', '.join(apart)}.")
    types = [[row["name"], row["side"], _types(row["types"])] for row in quality["contestants"]]
    types_table = "| | | tensors |\n|---|---|---|\n" + "\n".join("| " + " | ".join(row) + " |" for row in types)
    return "\n\n".join(
        [
            f"## {title}",
            notes[0],
            notes[1],
            table(heads, rows),
            *_pairs(quality["contestants"]),
            *notes[2:],
            "What each holds. K-quants need rows of a multiple of 256 and fall back to other types where they are not:",
            types_table,
        ]
    )


def _pairs(contestants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each recipe's KL and bytes as shares of its counterpart's, and the plot; nothing without recipes."""
    found = {row["name"]: row for row in contestants}
    rows = []
    for ours, theirs in PAIRS:
        if ours in found and theirs in found:
            one, other = found[ours], found[theirs]
            shares = (one["figures"]["kl_mean"] / other["figures"]["kl_mean"], one["bytes"] / other["bytes"])
            rows.append([f"{ours} : {theirs}", *(f"{share:.3f}" for share in shares)])
    return [table(["ratio", "mean KL", "bytes"], rows), "![Mean KL against bytes](quality.svg)"] if rows else []


def _quality_row(row: Mapping[str, Any], n_weights: int) -> list[str]:
    figures, steps = row["figures"], row.get("prefill_against_decode")
    between = "" if steps is None else f"{steps['kl_mean']:.5f} ({steps['kl_mean'] / figures['kl_mean']:.0%})"
    return [
        f"{row['side']} {row['name']}",
        f"{figures['kl_mean']:.5f} ± {figures['kl_error']:.5f}",
        f"{figures['kl_p99']:.4f}",
        f"{figures['top1']:.2%}",
        f"{figures['perplexity']:.3f}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['bytes'] * 8 / n_weights:.2f}",
        between,
    ]


def _types(types: Mapping[str, Mapping[str, int]]) -> str:
    """Kinds of tensors with the types they have: ffn_down 14 Q6_K, 16 Q5_0."""
    kinds = (f"{kind} " + ", ".join(f"{n} {name}" for name, n in found.items()) for kind, found in types.items())
    return "; ".join(kinds)


def _speed(title: str, speed: Mapping[str, Any]) -> str:
    against = {row["name"]: row["figures"] for row in speed["contestants"] if row["side"] == "llama.cpp"}
    bases = [base for base in ("Q8_0", "Q4_0", "Q4_K_M") if base in against]
    heads = ["", "prefill tok/s", "decode tok/s"]
    heads += [f"{kind} : {base}" for base in bases for kind in ("prefill", "decode")]
    rows = []
    for row in speed["contestants"]:
        found = row["figures"]
        cells = [f"{row['side']} {row['name']}"]
        cells += [f"{found[key]:.1f}" for key in ("prefill_tokens_per_s", "decode_tokens_per_s")]
        for base in bases:
            for key in ("prefill_tokens_per_s", "decode_tokens_per_s"):
                cells.append(f"{found[key] / against[base][key]:.2f}")
        rows.append(cells)
    note = (
        "A prompt of 512 tokens, and 64 steps from 256 on. Fresh processes taking turns, medians of "
        f"{speed['rounds']} rounds. {speed['cpu']}, {speed['threads']} threads, load before {speed['load']}; "
        f"{speed['versions']['llama_cpp']}; onnxruntime {speed['versions']['onnxruntime']}; {speed['date'][:10]}, "
        f"commit {speed['commit']}."
    )
    return "\n\n".join([f"## {title}", table(heads, rows), note])
