"""Measurements: of `edge bench --json` and of scripts/bench, the median of each figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.errors import ReportError
from export.report import speed
from tests.export.report import made


def test_the_output_of_edge_bench_is_read(tmp_path: Path) -> None:
    found = speed.read([made.bench(tmp_path, "a")], ["a", "b"])["a"]
    assert (found.prefill_tokens_per_s, found.decode_tokens_per_s, found.load_s) == (1234.0, 56.5, 0.5)
    assert (found.seconds_per_tile, found.anonymous_bytes) == (None, 50_000_000)
    assert found.conditions == ("Some CPU, 2 threads, onnxruntime 1.32.0, 256 prompt tokens and 64 generated",)


def test_several_runs_give_their_median(tmp_path: Path) -> None:
    runs = [made.bench(tmp_path, "a", decode_tokens_per_s=value) for value in (50.0, 10.0, 60.0)]
    found = speed.read(runs, ["a"])["a"]
    assert (found.decode_tokens_per_s, found.n_runs) == (50.0, 3)
    other = made.bench(tmp_path, "a", threads=4)
    assert len(speed.read([*runs, other], ["a"])["a"].conditions) == 2


def test_figures_of_an_older_edge_bench_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"model": "a", "threads": 2, "decode_tokens_per_s": 7.0}))
    found = speed.read([path], ["a", "b"])["a"]
    assert (found.decode_tokens_per_s, found.load_s, found.conditions) == (7.0, None, ("2 threads",))


def test_of_the_lines_of_scripts_bench_the_newest_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = [{"bundle": name, "cpu": "X", "threads": 2, "figures": {"decode_tokens_per_s": value}}
             for name, value in (("a", 5.0), ("b", 9.0), ("a", 7.0), ("other", 1.0))]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = speed.read([path], ["a", "b"])
    assert {name: one.decode_tokens_per_s for name, one in found.items()} == {"a": 7.0, "b": 9.0}
    assert found["a"].conditions == ("X, 2 threads",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "expected 1 to"),
        ("[1]", "line 1: expected a JSON object"),
        ('{"model": "a"}\n{broken', "line 2: expected a JSON object"),
        ('{"threads": 2}', "model: expected the id of a bundle"),
        ('{"model": 5}', "model: expected a string"),
        ('{"model": "a", "decode_tokens_per_s": -1}', "decode_tokens_per_s: expected a number of at least 0"),
        ('{"model": "a", "decode_tokens_per_s": NaN}', "decode_tokens_per_s: expected a number"),
        ('{"model": "a", "load_s": "fast"}', "load_s: expected a number"),
        ('{"bundle": "a", "figures": [1]}', "figures: expected an object"),
    ],
)
def test_what_is_no_measurement_is_named(content: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(ReportError) as error:
        speed.read([path], ["a", "b"])
    assert str(error.value).startswith(str(path)) and problem in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read"):
        speed.read([tmp_path / "none.json"], ["a"])


def test_measurements_of_no_bundle_here_are_an_error(tmp_path: Path) -> None:
    path = made.bench(tmp_path, "two")
    with pytest.raises(ReportError, match=r"has measurements of two; expected some of one, three"):
        speed.read([path], ["three", "one"])
    with pytest.raises(ReportError, match="several bundles here have that id"):
        speed.read([path], ["two", "two"])
