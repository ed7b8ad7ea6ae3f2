"""What an export says before it begins: the model, the bundle, the disk, the memory, and what was not read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.build import build
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY, TINY_FLASH, TINY_TEXT, Shape
from export.cli import app
from export.errors import OutputError, UnsupportedError
from export.outline import Outline, lines, memory_bytes, n_parameters
from tests.conftest import CheckpointOf


def outline_of(checkpoint: Path, out: Path, **options: object) -> Outline:
    """What is announced; the export ends there."""
    said: list[Outline] = []

    def stop(outline: Outline) -> None:
        said.append(outline)
        raise OutputError("enough")

    with pytest.raises(OutputError, match="enough"):
        build(checkpoint, out, announce=stop, **options)  # type: ignore[arg-type]
    assert not out.exists()
    return said[0]


@pytest.mark.parametrize("recipe", ["fp32", "w8a8", "int8"])
def test_the_size_is_that_of_the_bundle_or_a_little_more(recipe: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    said: list[Outline] = []
    out = build(tiny_checkpoint, tmp_path / "out", recipe=recipe, certificate="off", announce=said.append)
    size = sum(path.stat().st_size for path in out.iterdir())
    assert size <= said[0].sizes.bundle <= size + (6 << 20)
    assert said[0].id == json.loads((out / "manifest.json").read_bytes())["id"]


def test_it_is_said_in_plain_words(tiny_checkpoint: Path, tmp_path: Path) -> None:
    said = dict(lines(outline_of(tiny_checkpoint, tmp_path / "out", recipe="w8a8", id="mine", certificate="quick")))
    assert said["model"].startswith(f"{tiny_checkpoint}: Yasa2ForConditionalGeneration, 0.")
    assert said["model"].endswith("million parameters")
    assert said[""] == "Reka Edge (ConvNeXt V2): text and images"
    assert said["prompt"] == "format of Reka Edge, tools"
    assert said["bundle"].startswith("mine, recipe w8a8: about ")
    assert "free" in said["disk"] and "beside it for the certificate" in said["disk"]
    assert said["certificate"] == "quick, up to 3,976 positions compared"
    assert "initializer_range" in said["not read"]


@pytest.mark.parametrize("shape", [TINY, TINY_TEXT, TINY_FLASH, replace(TINY_FLASH, tied=True)])
def test_parameters_are_counted_once(shape: Shape, checkpoint_of: CheckpointOf) -> None:
    checkpoint = Checkpoint.open(checkpoint_of(shape))
    stored = 0
    for name in checkpoint.names:
        count = 1
        for size in checkpoint.shape(name):
            count *= size
        stored += count
    assert n_parameters(checkpoint.config) == stored


def test_calibration_takes_memory(checkpoint_of: CheckpointOf) -> None:
    text = Checkpoint.open(checkpoint_of(TINY_TEXT)).config.text
    plain = memory_bytes(text, positions=0)
    assert plain < memory_bytes(text, positions=1000) < memory_bytes(text, positions=30_000)
    large = replace(text, hidden_size=4096, intermediate_size=11_008, n_heads=32, head_dim=128)
    assert memory_bytes(large, positions=8192) < 3 << 30


def test_calibration_says_how_long_it_takes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    said = dict(lines(outline_of(tiny_checkpoint, tmp_path / "out", recipe="int4")))
    assert said["calibration"].startswith("about 1 min or more")
    assert "calibration" not in dict(lines(outline_of(tiny_checkpoint, tmp_path / "out", recipe="int8")))


def test_the_command_line_says_it_on_stderr_before_anything_else(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = [str(tiny_checkpoint), "--recipe", "w8a8", "--certificate", "off", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.stderr.startswith("model ")
    assert "not read        keys of the configuration: " in done.stdout


def test_a_speech_model_is_outlined_too(whisper_checkpoint: Path, tmp_path: Path) -> None:
    said = dict(lines(outline_of(whisper_checkpoint, tmp_path / "out", recipe="fp32", certificate="off")))
    assert said["model"].startswith(f"{whisper_checkpoint}: WhisperForConditionalGeneration, ")
    assert said[""] == "Whisper: audio to text"
    assert "prompt" not in said and said["certificate"] == "none"


def test_heads_that_the_kernel_does_not_take_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "odd", replace(TINY_FLASH, head_dim=24))
    steps: list[object] = []
    with pytest.raises(UnsupportedError, match="head_dim is 24, expected a multiple of 16"):
        build(checkpoint, tmp_path / "out", recipe="fp32", certificate="off", progress=steps.append)
    assert steps == []
