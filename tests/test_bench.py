"""scripts/bench: the lines that it keeps, and the table of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts import measure, results

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "models" / "reka-edge-tiny"
FIGURES: dict[str, float | None] = {
    "threads": 2,
    "prefill_tokens_per_s": 1234.5678,
    "decode_tokens_per_s": 100.0,
    "seconds_per_tile": None,
    "anonymous_bytes": 50_000_000,
}


def line(**changed: object) -> results.Line:
    made = results.line(EMBEDDED, FIGURES, rounds=3, options=["--tokens", "8"], load=0.123, note="idle")
    return {**made, **changed}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another file for the lines, and figures without a measurement."""
    path = tmp_path / "docs" / "results.jsonl"
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", path)
    monkeypatch.setattr(measure, "bench", lambda bundle, options: dict(FIGURES))
    return path


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/bench", *arguments])
    measure.main()


def test_a_line_says_when_where_and_of_what_it_is() -> None:
    made = line()
    assert (made["bundle"], made["recipe"], made["threads"], made["rounds"]) == ("reka-edge-tiny", "int8", 2, 3)
    assert (made["load"], made["note"], made["options"]) == (0.12, "idle", ["--tokens", "8"])
    assert all(made[key] for key in ("date", "cpu", "cpus", "onnxruntime", "python", "manifest"))
    assert made["figures"] == {
        "prefill_tokens_per_s": 1235.0,
        "decode_tokens_per_s": 100.0,
        "seconds_per_tile": None,
        "anonymous_bytes": 50_000_000,
    }


def test_a_measurement_adds_a_line_for_each_bundle(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], int8_bundle: Path
) -> None:
    bench(monkeypatch, "--rounds", "1", "--note", "first")
    bench(monkeypatch, str(EMBEDDED), str(int8_bundle), "--rounds", "1", "--tokens", "8")
    rows = results.read(kept)
    assert [row["bundle"] for row in rows] == [
        "reka-edge-tiny",
        "reka-edge-tiny",
        results.bundle_fields(int8_bundle)["bundle"],
    ]
    assert [row["note"] for row in rows] == ["first", "", ""]
    assert rows[1]["options"] == ["--tokens", "8"]
    assert "1235" in capsys.readouterr().out


def test_no_record_keeps_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench(monkeypatch, "--rounds", "1", "--no-record")
    assert not kept.exists()


def test_history_measures_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results.append([line(commit="aaa"), line(commit="bbb", bundle="other")], kept)
    monkeypatch.setattr(measure, "bench", None)
    bench(monkeypatch, "--history", "other")
    shown = capsys.readouterr().out
    assert "bbb" in shown and "aaa" not in shown
    assert len(results.read(kept)) == 2


def test_a_slower_commit_shows_and_only_beside_lines_that_are_alike() -> None:
    slow = {**line()["figures"], "decode_tokens_per_s": 80.0, "anonymous_bytes": 60_000_000}
    fast = {**slow, "decode_tokens_per_s": 88.0}
    rows = [
        line(commit="one"),
        line(commit="two", cpu="another CPU", figures=slow),
        line(commit="three", figures=slow),
        line(commit="four", figures=fast),
    ]
    shown = [row.split("|") for row in results.history(rows).splitlines()[2:]]
    decode = [row[7].strip() for row in shown]
    assert decode == ["100", "80", "80 (-20% !)", "88 (+10%)"]
    assert [row[10].strip() for row in shown] == ["50", "60", "60 (+20% !)", "60 (+0%)"]
    assert [row[9].strip() for row in shown] == ["-"] * 4


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for wrong in ("[1]", "{broken"):
        path.write_text(f"{json.dumps(line())}\n{wrong}\n")
        with pytest.raises(ValueError, match="line 2: expected a JSON object"):
            results.read(path)


def test_a_changed_checkout_is_marked_and_a_plain_folder_has_no_commit(tmp_path: Path) -> None:
    plain, checkout = tmp_path / "plain", tmp_path / "checkout"
    plain.mkdir()
    (checkout / "docs" / "benchmarks").mkdir(parents=True)
    assert results.this_commit(plain) is None
    author = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    git = ["git", "-C", str(checkout), *author]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--no-verify", "--allow-empty", "-m", "One"], check=True)
    clean = results.this_commit(checkout)
    assert clean is not None and len(clean) == 12
    (checkout / "docs" / "benchmarks" / "results.jsonl").write_text("{}\n")
    assert results.this_commit(checkout) == clean
    (checkout / "new.py").write_text("")
    assert results.this_commit(checkout) == f"{clean}+"
    assert results.this_commit(checkout / "docs") is None


def test_every_kept_line_can_be_read() -> None:
    keys = {*line()}
    assert all({*row} == keys for row in results.read(ROOT / "docs" / "benchmarks" / "results.jsonl"))
