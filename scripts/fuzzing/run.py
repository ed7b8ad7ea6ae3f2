"""Fuzzes a real server and bundles for a while; a finding is printed with the command that repeats it."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import SHAPES
from scripts.fuzzing import bundles
from scripts.fuzzing.targets import TARGETS
from scripts.soak import address_of, memory_bytes

HANG_S = 90.0
MEMORY_BYTES = 400 << 20  # what limits.md lets one request hold, twice, and 16 MiB beside its body
IDLE_BYTES = 48 << 20
_LIMITS = ("decoding_s=1000000",)  # or the only client would be told to wait
_N_CLIENTS = 2
_BUNDLES_SHARE = 0.15  # of the time


@dataclass
class Findings:
    """What was seen: answers by target and status, and what was wrong."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, target: str, number: int, seed: int, problem: str) -> None:
        with self.lock:
            again = f"scripts/fuzz {target} --seed {seed} --case {number}"
            self.wrong.append(f"{target} case {number}: {problem}\n         again: {again}")


@dataclass(frozen=True)
class Extent:
    """How long to go on: n_cases of each target, or, where that is None, so many seconds."""

    seed: int
    seconds: float
    n_cases: int | None = None

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the cases while there is time."""
        until_s = time.monotonic() + self.seconds
        for number in itertools.count():
            if number == self.n_cases or (self.n_cases is None and time.monotonic() >= until_s):
                return
            yield number


@dataclass(frozen=True)
class Served:
    """A server under test."""

    process: subprocess.Popen[bytes]
    address: str


@contextmanager
def serving(bundle: Path, folder: Path) -> Iterator[Served]:
    """Run `edge serve` on a bundle; yield it. It must end in order."""
    log = folder / "log"
    limits = [flag for limit in _LIMITS for flag in ("--limit", limit)]
    command = [sys.executable, "-m", "edge.cli", "serve", "--model", str(bundle), "--alias", f"default={bundle.name}"]
    environment = {**os.environ, "EDGE_MODELS": str(bundle.parent / "models")}
    command += ["--port", "0", *limits]
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, env=environment) as process:
        try:
            yield Served(process, address_of(process, log))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def family_bytes(pid: int) -> int:
    """Return the own memory of a process and its children; of one that has just ended nothing."""
    total = 0
    for number in [pid, *_children(pid)]:
        try:
            total += memory_bytes(number)
        except (OSError, KeyError):
            continue
    return total


def _children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def ask(served: Served, target: str, number: int, seed: int, seen: Findings) -> None:
    """Send one case and look at its answer."""
    case = TARGETS[target](random.Random(f"{seed} {target} {number}"))
    try:
        with httpx.Client(base_url=served.address, timeout=HANG_S, trust_env=False) as client:
            response = client.post(case.path, content=case.body, headers={"content-type": case.content_type})
        problem = case.check(response.status_code, response.content)
        status = str(response.status_code)
    except httpx.HTTPError as error:
        problem, status = f"{type(error).__name__}: {error}", "no answer"
    except ValueError as error:
        problem, status = f"not JSON: {error}", "not JSON"
    with seen.lock:
        seen.answers[f"{target} {status}"] += 1
    if problem is not None:
        seen.add(target, number, seed, f"{case.kind}: {problem}")


def storm(served: Served, targets: Sequence[str], extent: Extent, seen: Findings) -> None:
    """Let clients send cases in turn until there were enough or the server is gone, and watch its memory."""
    cases = ((target, number) for number in extent.numbers() for target in targets)
    lock, pid = threading.Lock(), served.process.pid

    def work() -> None:
        while served.process.poll() is None:
            with lock:
                target, number = next(cases, ("", 0))
            if not target:
                return
            ask(served, target, number, extent.seed, seen)

    clients = [threading.Thread(target=work) for _ in range(_N_CLIENTS)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        seen.peak_bytes = max(seen.peak_bytes, family_bytes(pid))
        time.sleep(0.02)
    if served.process.poll() is not None:
        seen.wrong.append(f"the server ended with status {served.process.returncode}")


def fuzz_server(bundle: Path, targets: Sequence[str], extent: Extent, seen: Findings) -> None:
    """Fuzz one server; memory over the limit at any time, or kept at the end, is a finding."""
    with tempfile.TemporaryDirectory() as folder, serving(bundle, Path(folder)) as served:
        for target in targets:  # what is kept for later is there before memory is looked at
            for number in range(-8, 0):
                ask(served, target, number, extent.seed, seen)
        warm_bytes = family_bytes(served.process.pid)
        storm(served, targets, extent, seen)
        left_bytes = memory_bytes(served.process.pid) if served.process.poll() is None else 0
    if seen.peak_bytes - warm_bytes > MEMORY_BYTES:
        seen.wrong.append(f"memory: {(seen.peak_bytes - warm_bytes) >> 20} MiB more at its peak than when warm")
    if left_bytes - warm_bytes > IDLE_BYTES:
        seen.wrong.append(f"memory: {(left_bytes - warm_bytes) >> 20} MiB kept")


def made_bundle(folder: Path) -> Path:
    """Return a bundle of random weights that accepts images, video and audio, exported once."""
    bundle = folder / "fuzzed"
    if not (bundle / "manifest.json").is_file():
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = Path(scratch) / "checkpoint"
            write_checkpoint(checkpoint, SHAPES["tiny-sound"], seed=0)
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "export.cli", str(checkpoint), "--out", str(bundle)]
            flags = ["--id", bundle.name, "--certificate", "off"]
            subprocess.run([*command, *flags], check=True, capture_output=True)
    return bundle


def made_speech(folder: Path) -> None:
    """Have the server under test find a speech bundle of random weights, exported once."""
    bundle = folder / "models" / "whisper-fuzzed"
    if not (bundle / "manifest.json").is_file():
        from tests.export.checkpoint.whisper_checkpoint import write_whisper  # loads transformers

        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = write_whisper(Path(scratch) / "checkpoint")
            bundle.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "export.cli", str(checkpoint), "--out", str(bundle)]
            flags = ["--id", bundle.name, "--certificate", "off"]
            subprocess.run([*command, *flags], check=True, capture_output=True)


def main() -> None:
    names = [*TARGETS, "bundles"]
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}; all unless given")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, help="so many of each target, however long they take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="send this case alone, and print its answer's status")
    parser.add_argument("--folder", type=Path, default=Path("runs/fuzz"), help="where the bundle under test is kept")
    arguments = parser.parse_args()
    targets = arguments.targets or names
    if unknown := set(targets) - set(names):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    seen = Findings()
    bundle = made_bundle(arguments.folder)
    if "forms" in targets:
        made_speech(arguments.folder)
    over_http = [name for name in targets if name in TARGETS]
    seconds = arguments.minutes * 60
    if arguments.case is not None:
        repeat(bundle, targets[0], arguments.case, arguments.seed, seen)
    else:
        share = (_BUNDLES_SHARE if over_http else 1.0) if "bundles" in targets else 0.0
        if share:
            bundles.fuzz(bundle, Extent(arguments.seed, seconds * share, arguments.cases), seen)
        if over_http:
            fuzz_server(bundle, over_http, Extent(arguments.seed, seconds * (1 - share), arguments.cases), seen)
    for name, n_answers in sorted(seen.answers.items()):
        print(f"{name:36} {n_answers}")
    if seen.peak_bytes:
        print(f"{'peak memory':36} {seen.peak_bytes >> 20} MiB, decoding processes included")
    for each in seen.wrong[:50]:
        print(f"FAIL     {each}")
    print(f"{sum(seen.answers.values())} cases, {len(seen.wrong)} findings")
    sys.exit(1 if seen.wrong else 0)


def repeat(bundle: Path, target: str, number: int, seed: int, seen: Findings) -> None:
    """Send one case again."""
    if target == "bundles":
        bundles.one(bundle, number, seed, seen)
        return
    with tempfile.TemporaryDirectory() as folder, serving(bundle, Path(folder)) as served:
        ask(served, target, number, seed, seen)


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    main()
