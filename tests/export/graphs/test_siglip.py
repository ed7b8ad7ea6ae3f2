"""Bundles of YasaMMLMForConditionalGeneration against transformers' SigLIP, its image processor and Llama."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from edge.bundle.bundle import Bundle
from edge.chat.prompt import DecodedImage, DecodedVideo, Turn, pieces
from edge.engine.engine import Engine
from edge.engine.layout import lay_out
from edge.engine.pieces import Control, Media, Piece
from edge.engine.tokenizer import Tokenizer
from edge.media.image import digest
from edge.media.tiles import frame_tile, tiles
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY_SIGLIP
from export.errors import GraphError
from export.graphs.siglip import write_siglip
from export.reference import model as reference
from export.texts.scenes import scene
from tests.conftest import BundleOf, CheckpointOf
from tests.export.checkpoint.random_weights import model, recipe
from tests.export.graphs import llama

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of: CheckpointOf) -> Path:
    torch.set_num_threads(1)
    return checkpoint_of(TINY_SIGLIP)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, bundle_of: BundleOf) -> Bundle:
    return Bundle.open(bundle_of(checkpoint, "fp32"))


@pytest.fixture(scope="module")
def look(checkpoint: Path) -> Callable[[np.ndarray], np.ndarray]:
    """transformers' own tower, pooling and projection: a tile (3, T, T) -> (tokens, H)."""
    stored = json.loads((checkpoint / "config.json").read_text())
    state = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        state |= {name: value.float() for name, value in load_file(file).items()}
    tower = SiglipVisionModel(SiglipVisionConfig(**stored["vision_config"])).eval()
    inner = {name.removeprefix("vision_model."): value for name, value in state.items() if name.startswith("vision_m")}
    missing, unknown = tower.load_state_dict(inner, strict=False)
    assert not unknown and all(".head." in name for name in missing)

    def see(tile: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            rows = tower(torch.from_numpy(tile)[None]).last_hidden_state[0]  # (cells², C)
            side = round(len(rows) ** 0.5)
            cells = rows.T.reshape(-1, side, side)
            x = functional.adaptive_avg_pool2d(cells, int(stored["num_query_tokens"] ** 0.5)).flatten(1).T
            for index in (0, 2):
                layer = [state[f"language_projection.{index}.{kind}"] for kind in ("weight", "bias")]
                x = functional.linear(functional.gelu(x) if index else x, *layer)
            return x.numpy()

    return see


def scenes() -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for width, height in ((40, 30), (90, 70), (200, 60))]


def seen(rgb: np.ndarray) -> DecodedImage:
    return DecodedImage(rgb, digest(rgb))


def expected_logits(checkpoint: Path, bundle: Bundle, prompt: list[Piece], embeds: dict[str, np.ndarray]) -> np.ndarray:
    """The logits of every position by transformers' Llama."""
    opened = Weights(Checkpoint.open(checkpoint))
    decoder = llama.llama(opened, opened.checkpoint.config.text)
    positions = lay_out(prompt, Tokenizer.open(bundle), limit=1024)
    table = decoder.get_input_embeddings().weight.detach().numpy()
    rows = [embeds[key[0]][key[1]] if isinstance(key, tuple) else table[key] for key in positions.keys]
    return llama.logits(decoder, np.stack(rows)[None])[0]


def test_manifest_says_what_siglip_wants(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.family, manifest.prompt.format, manifest.audio) == ("siglip", "yasa-timed", None)
    assert manifest.vision is not None
    assert (manifest.vision.order, manifest.vision.crop_share) == ("whole-first", None)
    assert (manifest.vision.resample, manifest.vision.mean, manifest.vision.std) == ("bicubic", (0.5,) * 3, (0.5,) * 3)


def test_logits_after_images_are_those_of_transformers(
    checkpoint: Path, bundle: Bundle, look: Callable[[np.ndarray], np.ndarray]
) -> None:
    shown = [seen(rgb) for rgb in scenes()]
    prompt = pieces([Turn("user", (*shown, "What is there?"))], bundle.manifest)
    embeds = {each.digest: np.concatenate([look(tile) for tile in tiles(each.rgb, bundle.manifest.vision)])
              for each in shown}  # fmt: skip
    with Engine.open(bundle.path) as engine:
        for each in shown:
            np.testing.assert_allclose(engine.encode_image(each.rgb), embeds[each.digest], atol=1e-4)
        found = engine.score(prompt, [5, 6, 7])
    expected = expected_logits(checkpoint, bundle, [*prompt, Control((5, 6))], embeds)
    np.testing.assert_allclose(found, expected[-3:], atol=TOLERANCE)


def test_logits_after_a_video_are_those_of_transformers(
    checkpoint: Path, bundle: Bundle, look: Callable[[np.ndarray], np.ndarray]
) -> None:
    frames = tuple(seen(scene(np.random.default_rng(seed))) for seed in (1, 2))
    prompt = pieces([Turn("user", (DecodedVideo(frames, (0, 3)), "What moves?"))], bundle.manifest)
    media = [piece for piece in prompt if isinstance(piece, Media)]
    embeds = {each.digest: look(frame_tile(each.rgb, bundle.manifest.vision)) for each in media}
    assert len(embeds) == 2
    with Engine.open(bundle.path) as engine:
        found = engine.score(prompt, [5])
    np.testing.assert_allclose(found, expected_logits(checkpoint, bundle, prompt, embeds)[-1:], atol=TOLERANCE)


def test_int8_sees_nearly_the_same(checkpoint: Path, bundle: Bundle, bundle_of: BundleOf) -> None:
    rgb = scenes()[1]
    rows = []
    for path in (bundle.path, bundle_of(checkpoint, "int8")):
        with Engine.open(path) as engine:
            rows.append(engine.encode_image(rgb).ravel())
    cosine = rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
    assert 0.999 < cosine < 1


def test_certificate_reference_sees_like_transformers(
    checkpoint: Path, bundle: Bundle, look: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "TILES_AT_ONCE", 2)
    weights = Weights(Checkpoint.open(checkpoint))
    cut = [tile for rgb in scenes() for tile in tiles(rgb, bundle.manifest.vision)]
    found = list(reference.tile_embeds(weights, weights.checkpoint.config, cut))
    assert len(found) == len(cut) > 6
    for rows, tile in zip(found, cut, strict=True):
        np.testing.assert_allclose(rows, look(tile), atol=1e-5)


@pytest.mark.parametrize("tile_px", [56, 98, 392])
def test_tiles_are_those_of_the_image_processor_whole_image_first(bundle: Bundle, tile_px: int) -> None:
    spec = replace(bundle.manifest.vision, tile_px=tile_px)
    processor = SiglipImageProcessor(size={"height": tile_px, "width": tile_px})
    rgb = np.random.default_rng(1).integers(0, 256, (tile_px * 2, tile_px * 2, 3), np.uint8)
    whole = Image.fromarray(rgb)
    corners = [(left, top, left + tile_px, top + tile_px) for top in (0, tile_px) for left in (0, tile_px)]
    shown = [whole, *(whole.crop(corner) for corner in corners)]  # cells of just T x T: nothing else is resized
    expected = processor(shown, return_tensors="np")["pixel_values"]
    found = np.stack(list(tiles(rgb, spec)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    video = np.random.default_rng(2).integers(0, 256, (70, 300, 3), np.uint8)
    expected = processor(Image.fromarray(video), return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(frame_tile(video, spec), expected, atol=1e-6)


def test_a_checkpoint_with_another_tower_is_refused(tmp_path: Path) -> None:
    config = model()
    with pytest.raises(GraphError, match="Test has no SigLIP tower"):
        write_siglip(Weights, config, recipe("fp32"), tmp_path, progress=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 144, "n_heads": 2},  # heads of 72, as the released so400m has them
        {"tile_px": 60},  # 4 patches and a rest that no patch covers
        {"tile_px": 98, "tokens_per_tile": 4},  # 7 x 7 cells to 2 x 2: windows overlap
        {"patch_px": 8, "tokens_per_tile": 49, "n_layers": 1},
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()),
)
def test_other_shapes_see_like_the_reference(
    changes: dict[str, int], checkpoint_of: CheckpointOf, bundle_of: BundleOf
) -> None:
    shape = replace(TINY_SIGLIP, tower=replace(TINY_SIGLIP.tower, **changes))
    weights = Weights(Checkpoint.open(checkpoint_of(shape)))
    opened = Bundle.open(bundle_of(checkpoint_of(shape), "fp32"))
    rgb = scenes()[0]
    expected = reference.tile_embeds(weights, weights.checkpoint.config, tiles(rgb, opened.manifest.vision))
    with Engine.open(opened.path) as engine:
        np.testing.assert_allclose(engine.encode_image(rgb), np.concatenate(list(expected)), atol=1e-4)
