"""Files of llama.cpp's own converter, its sources in EDGE_LLAMA_CPP: they have the tensors of their checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.random_shapes import TINY, TINY_FLASH, Shape
from export.checkpoint.rope import frequencies
from export.checkpoint.tokenizer import convert
from tests.conftest import CheckpointOf
from tests.export.checkpoint.gguf.test_source import same_weights

SOURCES = os.environ.get("EDGE_LLAMA_CPP", "")
CONVERTER = Path(__file__).with_name("convert.py")
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SHAPES: Mapping[str, Shape] = {
    "plain": replace(TINY_FLASH, extra={"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "tied": replace(TINY_FLASH, tied=True, attention_bias=True, extra={"rope_scaling": YARN}),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCES, reason="EDGE_LLAMA_CPP is not a folder of llama.cpp's sources"),
]


def converted(checkpoint: Path, out: Path, *options: str) -> Path:
    """The file that the converter writes of a checkpoint, in float32 unless the options say otherwise."""
    source = out.parent / f"{out.stem}-source"
    shutil.copytree(checkpoint, source)
    (source / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    command = [
        sys.executable,
        str(CONVERTER),
        SOURCES,
        str(source),
        "--outfile",
        str(out),
        "--outtype",
        "f32",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_a_llama_file_is_its_checkpoint(shape: str, checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    folder = checkpoint_of(SHAPES[shape])
    path = converted(folder, tmp_path / "m.gguf")
    found, stored = Checkpoint.open(path), Checkpoint.open(folder)
    assert found.config.text == stored.config.text
    same_weights(found, stored, within=1e-6)
    assert convert(path, needed=(), general=True).control == convert(folder, needed=(), general=True).control


def test_the_factors_of_llama_3_give_its_frequencies(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    folder = checkpoint_of(replace(TINY_FLASH, extra={"rope_scaling": LLAMA3}))
    found, stored = Checkpoint.open(converted(folder, tmp_path / "m.gguf")), Checkpoint.open(folder)
    rates = [
        frequencies(rotary_dim=16, base=each.config.text.rope_base, scaling=each.config.text.rope_scaling)[0]
        for each in (found, stored)
    ]
    assert abs(rates[0] / rates[1] - 1).max() < 1e-6


def test_a_yasa2_pair_is_its_checkpoint(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    folder = checkpoint_of(TINY)
    text, vision = converted(folder, tmp_path / "m.gguf"), converted(folder, tmp_path / "v.gguf", "--mmproj")
    found, stored = Checkpoint.open(text, mmproj=vision), Checkpoint.open(folder)
    assert found.config.text == stored.config.text
    same_weights(found, stored, within=1e-6)


def test_the_converters_own_q8_0_is_within_half_a_step(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    folder = checkpoint_of(TINY_FLASH)
    path = converted(folder, tmp_path / "m.gguf", "--outtype", "q8_0")
    found = Checkpoint.open(path)
    assert found.kind("model.layers.0.self_attn.q_proj.weight") == "Q8_0"
    same_weights(found, Checkpoint.open(folder), within=0.02)
