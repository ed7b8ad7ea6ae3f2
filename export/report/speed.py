"""How fast bundles are: what `edge bench --json` and scripts/bench wrote, the median of each figure."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from export.errors import ReportError
from export.report.fields import Fields

MAX_BYTES: Final = 8 << 20
MAX_RUNS: Final = 10_000


@dataclass(frozen=True)
class Speed:
    """The medians of a bundle's runs, each None where no run has it; where they were measured, in words."""

    n_runs: int
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    load_s: float | None
    seconds_per_tile: float | None
    anonymous_bytes: float | None
    conditions: tuple[str, ...]


FIGURES: Final = (
    "prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "seconds_per_tile", "anonymous_bytes",
)  # fmt: skip


def read(paths: Sequence[Path], ids: Sequence[str]) -> dict[str, Speed]:
    """Return the speed of bundles by their ids; what files say of others is left out.

    Raises: ReportError naming a file and what is wrong with it, or that it says nothing of these bundles.
    """
    runs: dict[str, list[Fields]] = {}
    for path in paths:
        of_file = _runs(path)
        if not of_file.keys() & set(ids):
            found, wanted = ", ".join(sorted(of_file)[:8]), ", ".join(sorted(set(ids)))
            raise ReportError(f"{path}: has measurements of {found}; expected some of {wanted}")
        for name in of_file.keys() & set(ids):
            if ids.count(name) > 1:
                raise ReportError(f"{path}: has measurements of {name}, but several bundles here have that id")
            runs.setdefault(name, []).extend(of_file[name])
    return {name: _medians(found) for name, found in runs.items()}


def _runs(path: Path) -> dict[str, list[Fields]]:
    """Return the figures of a file by bundle: every run of edge bench, the newest line of scripts/bench."""
    runs: dict[str, list[Fields]] = {}
    for place, document in _documents(path):
        fields = Fields(document, place)
        name = fields.text("model") or fields.text("bundle")  # of edge bench; of scripts/bench
        if name is None:
            raise ReportError(f"{place}: model: expected the id of a bundle, as `edge bench --json` writes it")
        figures = fields.child("figures").data
        before = [] if figures else runs.get(name, [])  # the lines of scripts/bench are medians, the oldest first
        runs[name] = [*before, Fields({**document, **figures}, place)]
    return runs


def _documents(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ReportError(f"{path}: expected at most {MAX_BYTES} bytes")
    if (whole := _object(data)) is not None:
        yield str(path), whole
        return
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if not lines or len(lines) > MAX_RUNS:
        raise ReportError(f"{path}: expected 1 to {MAX_RUNS} lines of JSON, got {len(lines)}")
    for number, line in lines:
        found = _object(line)
        if found is None:
            raise ReportError(f"{path}, line {number}: expected a JSON object, got {line[:60]!r}")
        yield f"{path}, line {number}", found


def _object(data: bytes) -> dict[str, object] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _medians(runs: Sequence[Fields]) -> Speed:
    columns = {name: [run.number(name, low=0) for run in runs] for name in FIGURES}
    known = {name: [value for value in column if value is not None] for name, column in columns.items()}
    middle = {name: statistics.median(column) if column else None for name, column in known.items()}
    return Speed(len(runs), **middle, conditions=tuple(dict.fromkeys(filter(None, map(_conditions, runs)))))


def _conditions(run: Fields) -> str:
    """Return what a run's figures depend on beside the bundle, as far as it says."""
    cpu, threads, version = run.text("cpu"), run.whole("threads"), run.text("onnxruntime")
    prompt, answer = run.whole("prompt_tokens"), run.whole("answer_tokens")
    return ", ".join(
        words
        for known, words in (
            (cpu, f"{cpu}"),
            (threads, f"{threads} threads"),
            (version, f"onnxruntime {version}"),
            (prompt and answer, f"{prompt} prompt tokens and {answer} generated"),
        )
        if known
    )
