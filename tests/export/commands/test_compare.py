"""edge-export compare and --report, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.report import made


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    words = [sys.executable, "-m", "export.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "120"}
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_the_table_goes_to_stdout_and_the_page_to_its_file(tmp_path: Path) -> None:
    for name, kl in (("smol-int8", 0.01), ("smol-int4", 0.3)):
        made.bundle(tmp_path, name, kl=kl)
    bench = made.bench(tmp_path, "smol-int4")
    done = command("compare", "smol-int8", "smol-int4", "--bench", bench, "--report", "out.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split()[:3] == ["bundle", "recipe", "size"]
    assert rows[0].startswith("smol-int8") and "0.0100" in rows[0]
    assert rows[1].startswith("smol-int4") and "0.300" in rows[1] and rows[1].endswith("56.5")
    assert (tmp_path / "out.html").read_text("utf-8").startswith("<!doctype html>")
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [".html", ".json"]


def test_without_report_nothing_is_written(tmp_path: Path) -> None:
    made.bundle(tmp_path, "one")
    assert command("compare", "one", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_report_that_is_there_is_replaced(tmp_path: Path) -> None:
    made.bundle(tmp_path, "one")
    (tmp_path / "out.html").write_text("old")
    assert command("compare", "one", "--report", "out.html", cwd=tmp_path).returncode == 0
    assert "old" not in (tmp_path / "out.html").read_text()[:20]


@pytest.mark.parametrize(
    ("report", "problem"),
    [("one/out.html", "inside of a bundle"), ("two/out.html", "inside of a bundle"), ("none/out.html", "no folder"),
     (".", "is a folder")],
)  # fmt: skip
def test_a_report_that_cannot_be_written_is_refused(report: str, problem: str, tmp_path: Path) -> None:
    made.bundle(tmp_path, "one")
    made.bundle(tmp_path, "two")
    done = command("compare", "one", "--report", report, cwd=tmp_path)
    assert done.returncode == 1 and problem in done.stderr and done.stdout == ""
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"manifest.json", "certificate.json"}


def test_what_is_no_bundle_is_one_line(tmp_path: Path) -> None:
    done = command("compare", "none", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "edge-export: none: not a bundle: manifest.json cannot be read: No such file or directory\n"


def test_a_checkpoint_folder_called_compare_is_reached_by_its_path(text_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "compare").symlink_to(text_checkpoint)
    options = ("--out", "out", "--recipe", "int4", "--certificate", "off")
    assert command("./compare", *options, cwd=tmp_path).returncode == 0
    assert (tmp_path / "out" / "manifest.json").exists()
    assert command("compare", *options, cwd=tmp_path).returncode == 2


def test_an_export_writes_its_report_beside_the_bundle(text_checkpoint: Path, tmp_path: Path) -> None:
    options = ("--recipe", "int4", "--certificate", "off", "--id", "mine", "--report", "mine.html")
    done = command(text_checkpoint, "--out", "out", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report          mine.html" in done.stdout
    page = (tmp_path / "mine.html").read_text("utf-8")
    assert "<h1>mine</h1>" in page and "Error by tensor" in page and "Without a certificate" in page


def test_a_report_that_cannot_be_written_is_refused_before_an_export(text_checkpoint: Path, tmp_path: Path) -> None:
    done = command(text_checkpoint, "--out", "out", "--report", "none/mine.html", cwd=tmp_path)
    assert done.returncode == 1 and "no folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_comparing_needs_nothing_of_the_export_extra(tmp_path: Path) -> None:
    made.bundle(tmp_path, "one")
    heavy = ("torch", "transformers", "onnx", "safetensors", "onnxruntime", "optimum")
    code = (
        "import sys; sys.argv = ['edge-export', 'compare', 'one', '--report', 'out.html']; import export.cli\n"
        "try: export.cli.main()\nexcept SystemExit as end: print(end.code)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": root})  # fmt: skip
    assert done.stdout.endswith("0\n[]\n"), done.stdout + done.stderr


def test_the_help_of_export_names_compare(tmp_path: Path) -> None:
    assert "edge-export compare" in command("--help", cwd=tmp_path).stdout
    assert "--bench" in command("compare", "--help", cwd=tmp_path).stdout
