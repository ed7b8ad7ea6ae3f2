"""The fuzzer: a short run of it, and that it sees what is wrong."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.fuzzing import inputs, mutators
from scripts.fuzzing.targets import TARGETS

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.fuzzing.run", "--cases", "40", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    for target in (*TARGETS, "bundles"):
        assert f"\n{target} " in f"\n{done.stdout}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_case_is_made_from_its_seed_alone(target: str) -> None:
    one, again, other = (TARGETS[target](random.Random(f"0 {target} {number}")) for number in (1, 1, 2))
    assert one.body == again.body != other.body


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_answer_is_seen(target: str) -> None:
    case = TARGETS[target](random.Random(0))
    refusal = json.dumps({"detail": "image: expected a PNG", "error": {}}).encode()
    assert case.check(400, refusal) is None
    for status, body in (
        (500, refusal),
        (503, refusal),
        (400, b'{"message": "no"}'),
        (400, b'{"detail": "/tmp/upload/1: Traceback"}'),
    ):
        assert case.check(status, body) is not None


def test_an_answer_that_breaks_its_schema_is_seen() -> None:
    case = TARGETS["schemas"](random.Random(0))
    answer = {"choices": [{"message": {"content": "not JSON"}}]}
    assert "no valid instance" in str(case.check(200, json.dumps(answer).encode()))


def test_a_mutated_png_keeps_its_checksums() -> None:
    data, mutate = inputs.images()["PNG"]
    assert mutate is mutators.png
    rng = random.Random(3)
    for _ in range(20):
        mutated = mutate(data, rng)
        for start, end in mutators._png_chunks(mutated):
            assert mutators.zlib.crc32(mutated[start + 4 : end - 4]) == int.from_bytes(mutated[end - 4 : end], "big")


def test_a_mutated_ogg_page_keeps_its_checksum() -> None:
    data, _ = inputs.audio()["OGG"]
    page = bytearray(data[: data.find(b"OggS", 4)])
    stored = int.from_bytes(page[22:26], "little")
    page[22:26] = bytes(4)
    assert mutators._ogg_crc(page) == stored
