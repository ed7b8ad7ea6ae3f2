"""Mutated bundles: each is verified and opened in a process that must neither crash nor raise what is not ours."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.fuzzing import mutators

if TYPE_CHECKING:
    from scripts.fuzzing.run import Extent, Findings

_OPEN_S = 60.0
_OUTCOME = "outcome: "
# Reads folders from standard input, one a line; answers each with a line: what became of it.
_OPENER = """
import sys
from edge.bundle.bundle import verify
from edge.engine.engine import Engine
from edge.errors import EdgeError
for line in sys.stdin:
    try:
        problems = verify(line.rstrip("\\n"))
        with Engine.open(line.rstrip("\\n"), threads=1, context=64) as engine:
            outcome = "opened" if problems else "opened and verified"
    except EdgeError as error:
        outcome = "refused" if problems else "refused when it is loaded"
    except BaseException as error:
        outcome = f"FAIL {type(error).__name__}: {error}"
    print("outcome: " + outcome.replace("\\n", " ")[:300], flush=True)
"""
_SMALL = ("manifest.json", "tokenizer.json", "decoder.onnx", "vision.onnx", "audio.onnx")


class Opener:
    """A process that opens bundles one after another; started again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def open(self, folder: Path) -> str:
        """Return what became of a bundle: opened, refused, or what went wrong."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        for line in process.stdout:  # libraries print as they please
            if line.startswith(_OUTCOME):
                return line.removeprefix(_OUTCOME).strip()
        self._process = None
        return f"FAIL the process that opened it ended with status {process.wait(timeout=_OPEN_S)}"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def mutated(bundle: Path, folder: Path, rng: random.Random) -> str:
    """Write a mutated copy of a bundle; return what was changed."""
    shutil.copytree(bundle, folder)
    folder.chmod(0o755)
    names = sorted(path.name for path in folder.iterdir())
    name = rng.choice([*names, *[name for name in _SMALL if name in names]])
    path = folder / name
    path.chmod(0o644)
    data = path.read_bytes()
    if name == "manifest.json" and rng.random() < 0.7:
        path.write_bytes(_other_manifest(data, rng))
    else:
        path.write_bytes(mutators.any_bytes(data, rng))
        if rng.random() < 0.5:
            _declare(folder, name)
    return name


def one(bundle: Path, number: int, seed: int, seen: Findings, opener: Opener | None = None) -> None:
    """Open the bundle of one case."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fuzzed"
        name = mutated(bundle, folder, random.Random(f"{seed} bundles {number}"))
        given = opener or Opener()
        try:
            outcome = given.open(folder)
        finally:
            if opener is None:
                given.close()
    seen.answers[f"bundles {outcome.partition(' ')[0] if outcome.startswith('FAIL') else outcome}"] += 1
    if outcome.startswith("FAIL"):
        seen.add("bundles", number, seed, f"{name}: {outcome[5:]}")


def fuzz(bundle: Path, extent: Extent, seen: Findings) -> None:
    """Open mutated bundles until there were enough."""
    opener = Opener()
    try:
        for number in extent.numbers():
            one(bundle, number, extent.seed, seen, opener)
    finally:
        opener.close()


def _other_manifest(data: bytes, rng: random.Random) -> bytes:
    """Return a manifest with one value, at any depth, replaced."""
    document = json.loads(data)
    place = document
    while True:
        key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        value = place[key]
        if not isinstance(value, dict | list) or not value or rng.random() < 0.2:
            break
        place = value
    place[key] = rng.choice((None, True, -1, 0, 1, 3, 2**31, 2**63, 1e300, "", "../x", "a" * 300, [], {}, [1]))
    return json.dumps(document).encode()


def _declare(folder: Path, name: str) -> None:
    """Put a file's new size and sha256 into the manifest, as somebody would who wants it loaded."""
    path = folder / "manifest.json"
    if name in ("manifest.json", "certificate.json"):
        return
    document = json.loads(path.read_bytes())
    data = (folder / name).read_bytes()
    document["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.chmod(0o644)
    path.write_bytes(json.dumps(document).encode())
