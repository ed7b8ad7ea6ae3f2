"""Our side: a recipe exported from the reference, its bytes, its logits by prefill and by single steps."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from edge.bundle.bundle import Bundle
from edge.engine.engine import Engine
from edge.engine.pieces import Control
from export.arrays import F32
from scripts.quality.passages import WINDOW

Region = tuple[int, int]  # first byte, the one after the last


def export(checkpoint: Path, out: Path, recipe: str, options: Sequence[str]) -> None:
    """Export with `edge-export`, without a certificate, in place of what an earlier run left there.

    Raises: SystemExit where it fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        shutil.rmtree(out)
    command = [sys.executable, "-c", "from export.cli import main; main()", str(checkpoint), "--out", str(out)]
    command += ["--recipe", recipe, "--id", out.name, "--certificate", "off", *options]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise SystemExit(f"scripts/bench quality: edge-export failed with the recipe {recipe}")


def tensor_schemes(folder: Path) -> dict[str, dict[str, int]]:
    """How many tensors of each kind (embed, qkv, down, ...) have which scheme."""
    found: dict[str, Counter[str]] = {}
    for path, record in Bundle.open(folder).manifest.recipe.tensors.items():
        found.setdefault(path.rpartition(".")[2], Counter())[record.scheme] += 1
    return {kind: dict(schemes) for kind, schemes in found.items()}


def tensor_bytes(folder: Path) -> int:
    """The bytes of weights, scales, zero points and the table, norms included; without graph, tokenizer and padding.

    The tables of sines and cosines do not count: llama.cpp computes them. What two tensors share counts once.
    """
    graph = onnx.load(str(folder / "decoder.onnx"), load_external_data=False).graph
    inline, regions = 0, dict[str, list[Region]]()
    for tensor in graph.initializer:
        # A single number is a constant of the graph, such as an axis.
        if tensor.name.startswith("rotary.") or math.prod(tensor.dims) <= 1:
            continue
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            at = {entry.key: entry.value for entry in tensor.external_data}
            start = int(at.get("offset", "0"))
            regions.setdefault(at["location"], []).append((start, start + int(at["length"])))
        else:
            inline += math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    table = folder / "embedding.bin"
    if table.exists():
        regions.setdefault(table.name, []).append((0, table.stat().st_size))
    return inline + sum(map(covered, regions.values()))


def covered(regions: Sequence[Region]) -> int:
    """The bytes that lie in at least one of the regions."""
    total = end = 0
    for first, last in sorted(regions):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


class OurBundle:
    """A bundle opened by the engine."""

    def __init__(self, folder: Path, *, threads: int, context: int = WINDOW) -> None:
        self._engine = Engine.open(folder, threads=threads, context=context)

    def logits(self, ids: list[int]) -> F32:
        """The logits (n, V) behind each token of a window, read as a prompt."""
        # What predicts the token behind the last is asked for, too: any id stands for that token.
        return self._engine.score([Control((ids[0],))], [*ids[1:], ids[0]])

    def decoded(self, ids: list[int], *, first: int) -> F32:
        """The logits (n - first, V) behind the tokens from `first` on, each fed as a decode step."""
        rows: list[F32] = []
        following = iter(ids[first:])

        def sample(logits: F32) -> int:
            rows.append(logits.copy())
            return next(following, ids[0])

        # The first logits come from reading the prompt; the rest, one more than there are tokens, from steps.
        for _ in self._engine.generate(ids[:first], max_tokens=len(ids) - first + 1, sample=sample, stop_ids=()):
            pass
        return np.stack(rows[1:])

    def read(self, ids: list[int]) -> None:
        """Read a prompt for the logits behind its last token."""
        self._engine.logits([Control(tuple(ids))])

    def step_seconds(self, ids: list[int], n_steps: int) -> float:
        """The seconds of so many decode steps behind a prompt, sampling included."""
        answer = self._engine.generate(ids, max_tokens=n_steps + 1, stop_ids=())
        next(answer)  # reads the prompt
        start = time.perf_counter()
        n_done = sum(1 for _ in answer)
        taken = time.perf_counter() - start
        if n_done != n_steps:
            raise RuntimeError(f"expected {n_steps} steps, counted {n_done}")
        return taken

    def close(self) -> None:
        """Free everything."""
        self._engine.close()
