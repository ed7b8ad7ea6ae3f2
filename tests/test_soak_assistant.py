"""The soak of an assistant: what it counts as waiting, and that it sees what is wrong. It takes minutes itself."""

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "soak_assistant.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak_assistant", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["soak_assistant"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_seconds_in_which_it_waits_count_as_waiting(soak: ModuleType) -> None:
    states = ["idle"] * 5 + ["thinking"] * 2 + ["idle"] * 4
    cpu_s = [0, 1, 1, 1.02, 1.04, 1.5, 2.5, 3, 3.5, 3.5, 3.53]
    samples = [soak.Sample(i, 1, 1, cpu, state) for i, (cpu, state) in enumerate(zip(cpu_s, states, strict=True))]
    assert soak.idle_percents(samples) == pytest.approx([2, 2, 3])


def test_what_is_wrong_is_seen(soak: ModuleType) -> None:
    samples = [soak.Sample(i, 50_000_000, 60_000_000, 0.02 * i, "idle") for i in range(100)]
    good = soak.Seen(Counter(wake=6, sentence=4), "idle", samples)
    assert soak.problems(good, 100, 50) == []
    grown = [replace(one, own_bytes=one.own_bytes + 100_000 * i) for i, one in enumerate(samples)]
    busy = [replace(one, cpu_s=0.06 * i) for i, one in enumerate(samples)]
    for seen, word in (
        (replace(good, samples=grown), "memory"),
        (replace(good, samples=busy), "processor"),
        (replace(good, wrong=["failed: no camera"]), "failed"),
        (replace(good, events=Counter(wake=5, sentence=4)), "at least 6 wake"),
        (replace(good, events=Counter(wake=6, sentence=3)), "at least 4 sentence"),
        (replace(good, events=Counter(wake=10, sentence=4)), "10 wake words, where 9 were said"),
        (replace(good, samples=[replace(one, state="thinking") for one in samples]), "never waited"),
    ):
        (problem,) = soak.problems(seen, 100, 50)
        assert word in problem


def test_the_loop_is_made_of_speech_and_silence(soak: ModuleType) -> None:
    pytest.importorskip("soxr")
    assert 50 < len(soak.cycle()) / soak.RATE_HZ < 75
