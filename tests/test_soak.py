"""The soak: a short one of a real server, and that it sees what is wrong."""

import importlib.util
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["soak"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_crowd_that_cancels_and_vanishes_leaves_nothing_behind(int8_bundle: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(int8_bundle), "--seconds", "12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("finished", "cancelled", "vanished"):
        assert kind in done.stdout


def test_what_is_wrong_is_seen(soak: ModuleType) -> None:
    warm = soak.GrammarStats(threads={1: "python", 2: "python"}, descriptors=11, children=1)
    good = soak.Seen(Counter(finished=3), [], [70_000_000, 74_900_000, 70_000_000])
    assert soak.problems(good, warm, replace(warm, children=0), '{"level": "info"}\n') == []
    for seen, last, log, word in (
        (replace(good, memory=[70_000_000, 75_100_000]), warm, "", "memory"),
        (replace(good, wrong=["request 3: other words"]), warm, "", "request 3"),
        (replace(good, endings=Counter(cancelled=3)), warm, "", "finished"),
        (good, replace(warm, threads={**warm.threads, 3: "left"}), "", "since then began: left (3)"),
        (good, replace(warm, threads={1: "python"}), "", "since then ended: python (2)"),
        (good, replace(warm, descriptors=12), "", "descriptors"),
        (good, replace(warm, children=2), "", "children"),
        (good, warm, '{"level": "error", "event": "a request failed"}\n', "a request failed"),
    ):
        (problem,) = soak.problems(seen, warm, last, log)
        assert word in problem
