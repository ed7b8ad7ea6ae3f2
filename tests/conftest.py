"""Random tiny checkpoints and the bundles exported from them, made once a session."""

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

# Before torch or onnxruntime start their threads: tiny models lose more to waking threads than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts a program in the background has it ignore Ctrl-C, and nohup the end of the terminal; so would
# everything that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import pytest

from export.build import build
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY, TINY_TEXT, Shape

CheckpointOf = Callable[[Shape], Path]
BundleOf = Callable[[Path, str], Path]


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> CheckpointOf:
    """A checkpoint of some shape, written the first time it is asked for."""
    made: dict[str, Path] = {}

    def write(shape: Shape) -> Path:
        key = repr(shape)
        if key not in made:
            made[key] = write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "reka-edge-random", shape)
        return made[key]

    return write


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> BundleOf:
    """A bundle of a checkpoint by one of the recipes, without a certificate, made the first time it is asked for."""

    @cache
    def export(checkpoint: Path, recipe: str) -> Path:
        out = tmp_path_factory.mktemp("bundle") / recipe
        return build(checkpoint, out, recipe=recipe, id=checkpoint.name, certificate="off")

    return export


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoint_of: CheckpointOf) -> Path:
    """The smallest yasa2 checkpoint: three layers, tiles of 384 px, four tokens each."""
    return checkpoint_of(TINY)


@pytest.fixture(scope="session")
def text_checkpoint(checkpoint_of: CheckpointOf) -> Path:
    """The smallest text-only checkpoint, half of each head rotated."""
    return checkpoint_of(TINY_TEXT)


@pytest.fixture(scope="session")
def fp32_bundle(tiny_checkpoint: Path, bundle_of: BundleOf) -> Path:
    """The tiny checkpoint as it is."""
    return bundle_of(tiny_checkpoint, "fp32")


@pytest.fixture(scope="session")
def int8_bundle(tiny_checkpoint: Path, bundle_of: BundleOf) -> Path:
    """The tiny checkpoint by the default recipe."""
    return bundle_of(tiny_checkpoint, "int8")


@pytest.fixture(scope="session")
def int4_bundle(tiny_checkpoint: Path, bundle_of: BundleOf) -> Path:
    """The tiny checkpoint in four bits."""
    return bundle_of(tiny_checkpoint, "int4")


@pytest.fixture(scope="session")
def text_bundle(text_checkpoint: Path, bundle_of: BundleOf) -> Path:
    """The text-only checkpoint as it is."""
    return bundle_of(text_checkpoint, "fp32")


@pytest.fixture(scope="session")
def whisper_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper model of two layers and random weights."""
    from tests.export.checkpoint.whisper_checkpoint import write_whisper  # loads transformers

    return write_whisper(tmp_path_factory.mktemp("checkpoint") / "whisper-random")


@pytest.fixture(scope="session")
def speech_bundle(whisper_checkpoint: Path, bundle_of: BundleOf) -> Path:
    """The Whisper checkpoint as it is."""
    return bundle_of(whisper_checkpoint, "fp32")


@pytest.fixture(scope="session")
def int8_speech_bundle(whisper_checkpoint: Path, bundle_of: BundleOf) -> Path:
    """The Whisper checkpoint by the default recipe."""
    return bundle_of(whisper_checkpoint, "int8")
