"""Resource limits that a service was started with: kept where they are lower, and never called damaged data."""

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import MemoryExhausted
from edge.media.allowance import shortage

ROOT = Path(__file__).parents[2]
DECODE = """
import json, resource, sys
from edge.media.sandbox import Worker

limit, soft, hard, kind = sys.argv[1:5]
data = sys.stdin.buffer.read()
worker = Worker()
resource.setrlimit(getattr(resource, limit), (int(soft), int(hard)))
options = {"max_px": 64_000_000, "frames": 2, "max_s": 60, "max_frames": 100, "side": 64, "crop_share": None,
           "resample": "bilinear"}
found = []
for _ in range(3):
    try:
        found.append(["ok", len(worker.decode(kind, data, options).arrays)])
    except Exception as error:
        found.append([type(error).__name__, str(error)])
worker.close()
print(json.dumps(found))
"""
UNLIMITED = resource.RLIM_INFINITY


def under(limit: str, soft: int, hard: int, data: bytes, kind: str = "image") -> list[tuple[str, object]]:
    """What decoding gives, three times, in a process that lives under a limit."""
    command = [sys.executable, "-c", DECODE, limit, str(soft), str(hard), kind]
    done = subprocess.run(command, input=data, capture_output=True, cwd=ROOT, check=True)
    return [(name, said) for name, said in json.loads(done.stdout)]


def png(side: int = 64) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("both", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize(
    ("limit", "value"),
    [("RLIMIT_AS", 100 << 30), ("RLIMIT_DATA", 100 << 30), ("RLIMIT_AS", 1 << 30), ("RLIMIT_DATA", 1 << 30),
     ("RLIMIT_CPU", 100_000), ("RLIMIT_CPU", 10), ("RLIMIT_FSIZE", 100_000), ("RLIMIT_NOFILE", 20),
     ("RLIMIT_NOFILE", 100_000), ("RLIMIT_CORE", 5), ("RLIMIT_STACK", 1 << 20)],
)  # fmt: skip
def test_an_image_is_decoded_under_limits_that_leave_enough(limit: str, value: int, both: bool) -> None:
    hard = resource.getrlimit(getattr(resource, limit))[1]
    value = value if hard == UNLIMITED else min(value, hard)
    hard = value if both else hard
    assert under(limit, value, hard, png()) == [("ok", 1)] * 3


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_too_little_memory_is_not_called_damaged_and_names_the_limit(limit: str) -> None:
    for name, said in under(limit, 200 << 20, 200 << 20, png(6000)):
        assert name == "MemoryExhausted" and "damaged" not in str(said) and limit in str(said)


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_next_to_no_memory_is_no_fault_of_the_data(limit: str) -> None:
    for name, said in under(limit, 20 << 20, 20 << 20, png()):
        assert name == "MemoryExhausted" and "damaged" not in str(said)


def test_too_little_processor_time_names_the_limit() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(grey).save(data, "WEBP", lossless=True, method=0)
    found = under("RLIMIT_CPU", 1, 1, data.getvalue())
    # A fast machine may be done within a second; nobody is told of damaged data.
    assert {name for name, _ in found} <= {"ok", "MemoryExhausted"}
    assert all("RLIMIT_CPU" in str(said) for name, said in found if name != "ok")


def test_a_file_that_the_limit_of_sizes_forbids_is_not_called_damaged() -> None:
    mp4 = b"\x00\x00\x00\x20ftypisom" + bytes(100_000)
    for name, said in under("RLIMIT_FSIZE", 1000, 1000, mp4, kind="video"):
        assert name == "MemoryExhausted" and "RLIMIT_FSIZE is 1000" in str(said)


@pytest.mark.parametrize(
    ("error", "lacking"),
    [(MemoryError(), "memory"), (OSError(12, "x"), "memory"), (OSError(24, "x"), "open files"),
     (OSError(27, "x"), "file size"), (OSError(28, "x"), "room for files"), (OSError("truncated"), None),
     (RuntimeError("can't start new thread"), "threads"), (ValueError("bad"), None), (MemoryExhausted("x"), "memory"),
     (None, None)],
)  # fmt: skip
def test_a_shortage_is_told_from_damage(error: Exception | None, lacking: str | None) -> None:
    assert shortage(error) == lacking
    outer = ValueError("damaged")
    outer.__cause__ = error
    assert shortage(outer) == lacking
