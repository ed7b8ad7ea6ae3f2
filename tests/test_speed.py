"""scripts/bench speed: what a process measures of itself, turns, the record, its page and its plots."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from scripts.speed import figures, record, tasks
from scripts.speed.plots import bars, lines
from scripts.speed.turns import Contestant, drop, medians, ratio, read_bandwidth, take_turns

ROOT = Path(__file__).parents[1]
TOY = ROOT / "models" / "reka-edge-tiny"


def run(decode: float, *, measure: str = "text", date: str = "2026-01-01") -> record.Record:
    def row(side: str, name: str, share: float) -> dict[str, object]:
        middle = {"prefill": 200 * share, "decode_256": decode * share, "decode_4096": 10 * share}
        if measure == "load":
            middle = {"load_s": share, "anonymous_mib": 100 * share}
        return {"side": side, "name": name, "bytes": 8e8, "median": middle, "rounds": [middle]}

    rows = [row("edge", "int4", 1.5), row("llama.cpp", "Q4_0", 1.0)]
    about = {"date": f"{date}T00:00:00", "cpu": "a CPU", "threads": 2, "rounds": 5, "bandwidth_gb_s": 40.0}
    versions = {"onnxruntime": "1.32.0", "torch": "2.13.0", "llama_cpp": "llama-cpp-python 0.3 (AVX2 = 1)"}
    return {**about, "load_average": 0.1, "versions": versions, "measures": {measure: rows}}


def test_a_process_knows_its_memory_by_kind() -> None:
    before = figures.memory()
    held = np.ones(64 << 17)
    after = figures.memory()
    assert after["anonymous_mib"] - before["anonymous_mib"] > 60 and after["peak_mib"] >= after["anonymous_mib"]
    assert held.nbytes == 64 << 20


@pytest.mark.parametrize("measure", ["load", "slots", "tile"])
def test_a_bundle_is_measured_in_a_process_of_its_own(measure: str) -> None:
    command = [sys.executable, "-m", "scripts.speed.ours", measure, str(TOY), "--threads", "1", "--context", "256"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    assert found and all(value >= 0 for value in found.values())
    assert {"load": "load_s", "slots": "all", "tile": "tile_s"}[measure] in found


def test_what_has_no_tower_is_refused_by_name(text_bundle: Path) -> None:
    command = [sys.executable, "-m", "scripts.speed.ours", "tile", str(text_bundle), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and "has no vision tower" in done.stderr


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def measured(each: Contestant, measure: str, **how: object) -> figures.Figures:
        order.append(each.name)
        return {"load_s": float(len(order))}

    monkeypatch.setattr("scripts.speed.turns.measured", measured)
    everyone = [Contestant("edge", "a", TOY), Contestant("llama.cpp", "b", Path("none"))]
    found = take_turns(everyone, "load", rounds=3, threads=1, context=64)
    assert order == ["a", "b"] * 3 and [row["load_s"] for row in found[0]] == [1, 3, 5]
    assert medians(found[1]) == {"load_s": 4}


def test_ratios_are_of_what_both_have() -> None:
    assert ratio({"x": 3.0}, {"x": 2.0}, "x") == 1.5
    assert ratio({"x": 3.0}, {}, "x") is None and ratio({}, {"x": 1.0}, "x") is None


def test_files_leave_the_page_cache_and_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * 100_000)
    drop([path, tmp_path / "missing"])
    assert path.read_bytes() == b"w" * 100_000


def test_bandwidth_is_measured() -> None:
    assert 0.1 < read_bandwidth(1) < 10_000


def test_page_has_ratios_and_shares_of_the_bandwidth() -> None:
    page = record.page({"1b": [run(20.0), run(20.0, measure="load")]})
    assert "| int4 : Q4_0 |  | **1.50** | **1.50** | **1.50** |" in page
    assert "edge int4 60 %, llama.cpp Q4_0 40 %" in page
    assert "decode at 4,096, tokens/s" in page and "speed-1b-load.svg" in page


def test_what_is_measured_again_takes_the_place_of_what_was() -> None:
    before = {"1b": [run(20.0), run(1.0, measure="load")]}
    after = record.with_shape(before, "1b", run(30.0, date="2026-02-02"))
    assert [sorted(each["measures"]) for each in after["1b"]] == [["load"], ["text"]]
    assert after["1b"][1]["date"].startswith("2026-02-02")
    assert record.with_shape(before, "edge-7b", run(2.0))["1b"] == before["1b"]


def test_a_record_is_kept_with_page_and_plots(tmp_path: Path) -> None:
    kept = {"1b": [run(20.0), run(20.0, measure="load")]}
    record.write(kept, tmp_path)
    assert record.read(tmp_path) == kept and record.read(tmp_path / "none") == {}
    names = {"speed.json", "speed.md", "speed-1b-decode.svg", "speed-1b-load.svg", "speed-1b-memory.svg"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    "svg",
    [
        lines(
            {"a <b>": [(256, 10.0), (4096, 5.0)], "c": [(256, 9.9), (4096, 5.1)]}, title="t", x_title="x", y_title="y"
        ),
        lines({"one": [(256, 10.0)]}, title="t", x_title="x", y_title="y"),
        bars({"edge int4": 0.5, "llama.cpp Q4_0": 1234.0}, title="t", unit="s"),
    ],
)
def test_plots_are_svg_that_names_everything(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "t" in texts and not [element for element in root.iter() if "href" in element.attrib]


def test_tasks_say_again_what_they_ask_about() -> None:
    assert [kind for kind, _ in tasks.read()] == ["repeat", "extract", "edit"]


def test_the_kept_page_is_made_from_the_kept_record() -> None:
    kept = record.read()
    assert (record.FOLDER / "speed.md").read_text("utf-8") == record.page(kept)
    for name, svg in record.plots(kept).items():
        assert (record.FOLDER / name).read_text("utf-8") == svg
