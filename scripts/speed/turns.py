"""Contestants in fresh processes that take turns: every round one after another, each figure's median, and ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle import packed
from scripts.results import ROOT
from scripts.speed.figures import Figures, seconds

OURS = "edge"
_SPAN_BYTES = 1 << 28


@dataclass(frozen=True)
class Contestant:
    """A bundle, a GGUF file, or torch. side: edge, llama.cpp or torch; n_bytes: of its files."""

    side: str
    name: str
    path: Path

    @property
    def files(self) -> list[Path]:
        """What is mapped when it is opened."""
        if not self.path.is_dir():
            return [self.path]
        return sorted([*self.path.glob("*.bin"), *self.path.glob("*.gguf")])

    @property
    def n_bytes(self) -> int:
        """The size of those files."""
        return sum(path.stat().st_size for path in self.files if path.exists())


def take_turns(
    contestants: Sequence[Contestant], measure: str, *, rounds: int, threads: int, context: int, cold: bool = False
) -> list[list[Figures]]:
    """The figures of every round of each contestant. cold: whether its files leave the page cache before."""
    found: list[list[Figures]] = [[] for _ in contestants]
    for number in range(rounds):
        for each, rows in zip(contestants, found, strict=True):
            print(f"{measure}, round {number + 1} of {rounds}: {each.side} {each.name}", file=sys.stderr, flush=True)
            if cold:
                drop(each.files)
                drop([*packed.home(each.path).glob("*/*.bin")] if each.side == OURS else [])
            rows.append(measured(each, measure, threads=threads, context=context))
    return found


def measured(each: Contestant, measure: str, *, threads: int, context: int) -> Figures:
    """One process's figures. Raises: SystemExit where it fails."""
    module = "scripts.speed.ours" if each.side == OURS else "scripts.speed.theirs"
    command = [sys.executable, "-m", module, measure, str(each.path), "--threads", str(threads)]
    command += ["--context", str(context)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench speed: {each.side} {each.name} failed with status {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def medians(rows: Sequence[Figures]) -> Figures:
    """Each figure's median."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def ratio(one: Mapping[str, float], other: Mapping[str, float], name: str) -> float | None:
    """How many times the other's figure one's is; None where one of them has none."""
    return one[name] / other[name] if one.get(name) and other.get(name) else None


def drop(files: Sequence[Path]) -> None:
    """Have files leave the page cache, as after a boot; pages that are not written yet stay."""
    for path in files:
        if path.exists():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def read_bandwidth(threads: int) -> float:
    """GB a second that so many threads read from memory: the sum of a large array, the best of a few times."""
    from concurrent.futures import ThreadPoolExecutor

    parts = [np.ones(_SPAN_BYTES // 8, np.int64) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        best = min(seconds(lambda: list(pool.map(np.max, parts))) for _ in range(5))
    return threads * _SPAN_BYTES / best / 1e9
