"""Contestants' speed in fresh processes that take turns, medians over the rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.results import ROOT

Speeds = dict[str, float]


def take_turns(
    contestants: Sequence[tuple[str, Path]], *, rounds: int, threads: int, vocab: int
) -> list[tuple[Speeds, list[Speeds]]]:
    """Each contestant's medians and the figures of every round. contestants: their side and path."""
    found: list[list[Speeds]] = [[] for _ in contestants]
    for number in range(rounds):
        for (side, path), rows in zip(contestants, found, strict=True):
            print(f"round {number + 1} of {rounds}: {side} {path.stem}", file=sys.stderr, flush=True)
            rows.append(measured(side, path, threads=threads, vocab=vocab))
    return [(medians(rows), rows) for rows in found]


def measured(side: str, path: Path, *, threads: int, vocab: int) -> Speeds:
    """One process's figures. Raises: SystemExit where it fails."""
    kind = "ours" if side == "edge" else "llama.cpp"
    command = [sys.executable, "-m", "scripts.quality.speed", kind, str(path)]
    command += ["--threads", str(threads), "--vocab", str(vocab)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench quality: {side} {path.stem} failed with status {done.returncode}")
    return dict(json.loads(done.stdout))


def medians(rows: Sequence[Speeds]) -> Speeds:
    """Each figure's median."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}
