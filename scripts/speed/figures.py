"""What one process measures of itself: seconds, and its memory by kind."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

Figures = dict[str, float]

AT: Final = (256, 4096, 8192)  # positions before the steps
PREFILL: Final = 512
STEPS: Final = 24
REPEATS: Final = 3
ANSWER: Final = 32  # tokens of each of several conversations
SLOTS: Final = 4
CHUNK: Final = 256

_STATUS = Path("/proc/self/status")
_KINDS = {"RssAnon": "anonymous_mib", "RssShmem": "shared_mib", "RssFile": "mapped_mib", "VmSwap": "swap_mib"}


def memory() -> Figures:
    """This process's memory in MiB: anonymous, shared, mapped files, swap, and the largest it ever was."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    found = {name: int(lines[kind].split()[0]) / 1024 for kind, name in _KINDS.items()}
    return found | {"peak_mib": int(lines["VmHWM"].split()[0]) / 1024}


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def median_seconds(act: Callable[[], object]) -> float:
    """The median of a few runs."""
    return statistics.median(seconds(act) for _ in range(REPEATS))


def prompts(vocab_size: int, length: int) -> Iterator[list[int]]:
    """Prompts of random ids; no two begin alike, so nothing is answered from a cache."""
    random = np.random.default_rng(7)
    while True:
        yield random.integers(100, vocab_size - 200, length).tolist()


def tell(figures: Figures) -> None:
    """Print the figures as one JSON object."""
    print(json.dumps(figures))
