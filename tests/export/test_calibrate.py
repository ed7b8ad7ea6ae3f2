"""Calibration and search from end to end: what the options change, keep within, and where they are refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from edge.bundle.bundle import Bundle, verify
from export.build import Step, build
from export.checkpoint.random_shapes import TINY, TINY_SIGLIP, Shape
from export.errors import OutputError, RecipeError, UnsupportedError
from export.target import Target
from tests.conftest import BundleOf, CheckpointOf

TEXT = "The harbour lies still in the morning, and the boats wait for the tide. " * 8
SEARCHED = {"int4-block64", "int4-block32", "int8-block32"}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in (TEXT, TEXT.upper(), TEXT[::-1])) + "\n")
    return path


def schemes(bundle: Path) -> dict[str, str]:
    tensors = Bundle.open(bundle).manifest.recipe.tensors
    return {path: record.scheme for path, record in tensors.items() if path.startswith("decoder.layers.")}


def weights(bundle: Path) -> bytes:
    return (bundle / "decoder.bin").read_bytes()


@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_a_search_by_divergence_chooses_every_layer(
    recipe: str, text_checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    sizes = []
    for kl in (0.5, 1e-4):
        out, found = tmp_path / f"{kl}", tmp_path / f"{kl}.toml"
        build(
            text_checkpoint, out, recipe=recipe, certificate="off", calibrate=texts, target=Target(kl=kl),
            save_recipe=found,
        )  # fmt: skip
        assert verify(out) == []
        assert set(schemes(out).values()) <= SEARCHED
        sizes.append(len(weights(out)))
        again = build(text_checkpoint, tmp_path / f"{kl}b", recipe=str(found), certificate="off", calibrate=texts)
        assert weights(again) == weights(out)
    assert sizes[0] < sizes[1]


def test_a_size_that_leaves_nothing_for_the_layers_says_what_the_rest_takes(
    text_checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"a bundle of 1000 bytes: all but the decoder's layers takes about \d+: "):
        build(text_checkpoint, tmp_path / "out", certificate="off", calibrate=texts, target=Target(n_bytes=1e3))


@pytest.mark.parametrize("shape", [TINY, TINY_SIGLIP])
def test_large_images_calibrate(shape: Shape, checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    Image.linear_gradient("L").convert("RGB").resize((1600, 1200)).save(tmp_path / "large.png")
    content = [{"type": "image_url", "image_url": "large.png"}, {"type": "text", "text": "What is this?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "A gradient."}]
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"messages": messages}) + "\n")
    steps: list[Step] = []
    out = build(
        checkpoint_of(shape), tmp_path / "out", recipe="int4", certificate="off", calibrate=texts, progress=steps.append
    )
    assert verify(out) == []
    assert Step("calibration images", 1, 1) in steps


def test_without_calibration_a_search_is_left_to_the_rules(text_checkpoint: Path, tmp_path: Path) -> None:
    out = build(text_checkpoint, tmp_path / "out", recipe="int4-mixed", certificate="off", calibrate="off")
    last = max(int(path.split(".")[2]) for path in schemes(out))
    assert {scheme for path, scheme in schemes(out).items() if f".{last}." in path} == {"int8-block32"}
    assert schemes(out)["decoder.layers.0.qkv"] == "int4-block32"
    with pytest.raises(RecipeError, match="got --calibrate off"):
        build(text_checkpoint, tmp_path / "b", certificate="off", calibrate="off", target=Target(kl=0.1))


def test_a_file_of_texts_calibrates_whatever_the_recipe_says(
    text_checkpoint: Path, texts: Path, bundle_of: BundleOf, tmp_path: Path
) -> None:
    out = build(text_checkpoint, tmp_path / "out", recipe="int8", certificate="off", calibrate=texts)
    rounded = bundle_of(text_checkpoint, "int8")
    assert schemes(out) == schemes(rounded)
    assert weights(out) != weights(rounded)


@pytest.mark.parametrize("recipe", ["w8a8", "fp32"])
def test_a_file_of_texts_that_would_change_nothing_is_refused(
    recipe: str, text_checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=f"recipe {recipe} has no scheme whose values .* such as int4"):
        build(text_checkpoint, tmp_path / "out", recipe=recipe, certificate="off", calibrate=texts)


@pytest.mark.parametrize("options", [{"target": Target(n_bytes=1e9)}, {"calibrate": Path("texts.jsonl")}])
def test_a_speech_model_is_neither_calibrated_nor_searched(
    options: dict[str, object], whisper_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match="not supported for a Whisper model"):
        build(whisper_checkpoint, tmp_path / "out", recipe="int4", certificate="off", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_cannot_be_saved_is_told(text_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written: .*; the bundle is complete"):
        build(text_checkpoint, tmp_path / "out", certificate="off", save_recipe=tmp_path)
    assert verify(tmp_path / "out") == []
