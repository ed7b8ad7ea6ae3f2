"""Random checkpoints: small, the same for the same seed, and in the released form."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_checkpoint import random_tokenizer, write_checkpoint
from export.checkpoint.random_shapes import ONE_B, TINY, TINY_TEXT
from export.checkpoint.tokenizer import convert
from export.errors import OutputError

SCRIPT = Path(__file__).parents[3] / "scripts" / "checkpoint.py"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("random") / "tiny", TINY)


def test_the_tiny_shape_stays_under_a_megabyte(tiny: Path) -> None:
    assert sum(len(data) for data in contents(tiny).values()) < 1_000_000


def test_a_seed_fixes_every_byte(tiny: Path, tmp_path: Path) -> None:
    assert contents(write_checkpoint(tmp_path / "same", TINY)) == contents(tiny)
    other = contents(write_checkpoint(tmp_path / "other", TINY, seed=1))
    assert {name for name, data in other.items() if data != contents(tiny)[name]} == {
        name for name in other if name.endswith(".safetensors")
    }


def test_the_files_are_what_safetensors_reads(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny)
    seen = 0
    for shard in sorted(tiny.glob("*.safetensors")):
        for name, values in load_file(shard).items():
            assert values.dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(checkpoint.read(name), values.astype(np.float32))
            seen += 1
    assert seen == len(checkpoint.names)


def test_the_tiny_shape_is_a_whole_model(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny)
    config = checkpoint.config
    assert config.vision is not None
    assert (config.vision.tile_px, config.vision.grid, config.vision.pooled) == (384, 4, 2)
    assert (config.text.head_dim, config.text.n_heads, config.text.n_kv_heads) == (16, 4, 2)
    assert Weights(checkpoint).tensor("projection.2.weight").shape == (64, 64)
    assert max(convert(tiny).control.values()) == config.text.vocab_size - 1
    assert "text_config.eos_token_id" in config.ignored


def test_values_have_a_size_that_a_model_can_live_with(tiny: Path) -> None:
    weights = Weights(Checkpoint.open(tiny))
    assert weights.tensor("text.embed").std() == pytest.approx(1, rel=0.05)
    assert weights.tensor("text.head").std() == pytest.approx(64**-0.5, rel=0.05)
    assert weights.tensor("text.norm").mean() == pytest.approx(1, abs=0.1)
    assert weights.tensor("text.norm").std() > 0.05


def test_rounding_to_bf16_is_that_of_ml_dtypes(tmp_path: Path) -> None:
    shape = replace(TINY_TEXT, n_layers=1)
    stored = Checkpoint.open(write_checkpoint(tmp_path / "a", shape)).read("lm_head.weight")
    assert np.array_equal(stored, stored.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_the_large_shape_is_the_asked_one() -> None:
    assert (ONE_B.hidden_size, ONE_B.n_layers, ONE_B.n_heads, ONE_B.n_kv_heads) == (2048, 16, 32, 8)
    assert (ONE_B.intermediate_size, ONE_B.vocab_size) == (8192, 100_352)
    assert ONE_B.tower is not None
    assert ONE_B.tower.hidden_sizes == (352, 704, 1408, 2816)
    assert (ONE_B.tower.depths, ONE_B.tower.tile_px, ONE_B.tower.tokens_per_tile) == ((3, 3, 27, 3), 512, 64)


def test_a_large_tokenizer_has_the_released_ids(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 100_352}))
    (tmp_path / "tokenizer.json").write_bytes(random_tokenizer(100_256))
    found = convert(tmp_path)
    assert found.control["<sep>"] == 100_290
    assert found.stop_ids == (100_257, 100_290)
    assert len(found.control) == 96


def test_an_existing_folder_is_left_alone(tiny: Path) -> None:
    before = contents(tiny)
    with pytest.raises(OutputError, match="exists"):
        write_checkpoint(tiny, TINY)
    assert contents(tiny) == before


def test_the_script_writes_a_shape_by_name(tiny: Path, tmp_path: Path) -> None:
    run = [sys.executable, str(SCRIPT), "tiny", str(tmp_path / "out")]
    subprocess.run(run, check=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    assert contents(tmp_path / "out") == contents(tiny)
    again = subprocess.run(run, check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.startswith("make_checkpoint: ")


def test_the_script_without_the_extra_says_how_it_is_installed(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.modules['gguf'] = None; "
        f"sys.argv = ['x', 'tiny', {str(tmp_path / 'out')!r}]; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=SCRIPT.parents[1]
    )
    assert done.returncode == 1
    assert done.stderr == (
        "make_checkpoint: scripts/make_checkpoint needs gguf, which is part of the extra `export` and not installed; "
        "in the project's folder: pip install '.[export]'\n"
    )
