"""What training takes out of a bundle is what the runtime says, and fitting moves only what is fitted."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edge import Engine, Reka
from edge.chat import next_logits
from scripts.tiny.lessons import batches, conversations, rows
from scripts.tiny.lessons.sizes import Shape
from scripts.tiny.pictures import scenes
from scripts.tiny.training import bundle, fitting
from scripts.tiny.training.model import Yasa

BUNDLE = Path(__file__).parents[4] / "models" / "reka-edge-tiny"
SHAPE = Shape(vocab_size=2112)


@pytest.fixture(scope="module")
def bundled() -> tuple[Yasa, str]:
    return bundle.read_bundle(BUNDLE)


def test_a_bundle_that_is_opened_says_what_the_runtime_says(bundled: tuple[Yasa, str]) -> None:
    model, tokenizer = bundled
    rgb = cv2.cvtColor(cv2.imread(str(BUNDLE.parent / "sample.png")), cv2.COLOR_BGR2RGB)
    writer, row, question = rows.Writer(Tokenizer.from_str(tokenizer), SHAPE.tokens), rows.Row(), "What do you see?"
    writer.question(row, conversations.Exchange(question, (conversations.Part(""),), (0,)), [0], ())
    writer.mark(row, "<sep>")
    writer.text(row, "assistant:")
    tile = scenes.tile(rgb, tile_px=SHAPE.tile_px, patch_px=SHAPE.patch_px).transpose(2, 0, 1)
    with torch.no_grad():
        seen = model.project(model.look(torch.from_numpy(tile[None].copy()))[-1])[0]
        embeddings, source = model.model.language_model.embed_tokens(torch.tensor(row.ids)), torch.tensor(row.source)
        embeddings[source >= 0] = seen[source[source >= 0]]
        ours = model.lm_head(model.read(embeddings[None], torch.tensor([row.places]))[0][-1][0, -1]).numpy()
    message = {"role": "user", "content": [{"type": "image", "image": rgb}, {"type": "text", "text": question}]}
    with Engine.open(BUNDLE) as engine:
        theirs = next_logits(engine, [message])
    assert ours.argmax() == theirs.argmax()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999


def test_a_bundle_of_another_recipe_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"decoder\.head\.weight: expected a bundle of the recipe int8.*float32"):
        bundle.tensor({"decoder.head.weight": np.zeros((2, 3), np.float32)}, "decoder.head.weight")


def test_a_folder_that_is_no_bundle_and_a_bundle_of_other_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected a bundle, found no manifest.json in it"):
        bundle.read_bundle(tmp_path)
    manifest = (BUNDLE / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(manifest.replace('"n_layers": 6', '"n_layers": 8'))
    with pytest.raises(SystemExit, match="n_layers: expected 6, found 8"):
        bundle.read_bundle(tmp_path)


def moved(before: dict[str, torch.Tensor], model: Yasa) -> set[str]:
    """The parts of a model that are no longer what they were."""
    assert all(p.requires_grad for p in model.parameters())
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    return {".".join(name.split(".")[: 2 if name.startswith("model.") else 1]) for name in changed}


def test_fitting_moves_only_what_is_fitted(bundled: tuple[Yasa, str]) -> None:
    model, tokenizer = copy.deepcopy(bundled[0]), bundled[1]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fitting.fit_heads(model, batches.Batches(tokenizer, SHAPE, seed=0, tower_steps=1, decoder_steps=0, part=(0, 8)), 1)
    heads = {"detector", "spotters", "tracers", "stretchers", "model.language_projection"}
    assert moved(before, model) == heads
    model = bundle.with_tower(bundled[0], dict(model.named_parameters()))
    assert moved(before, model) == heads - {"model.language_projection"}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fitting.fit_hints(model, batches.Batches(tokenizer, SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 12)), 1)
    assert moved(before, model) == {"namer", "rememberer", "counters", "describer", "tallier"}


def test_the_detector_is_fitted_alone(bundled: tuple[Yasa, str]) -> None:
    model = copy.deepcopy(bundled[0])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fitting.fit_detector(model, 0, 1)
    assert moved(before, model) == {"detector"}


def painted(*shapes: tuple[str, tuple[int, int, int]]) -> np.ndarray:
    """A white picture with circles and squares side by side."""
    image = np.full((300, 400, 3), 255, np.uint8)
    for i, (shape, colour) in enumerate(shapes):
        centre = (110 + 190 * i, 120 + 60 * i)
        if shape == "circle":
            cv2.circle(image, centre, 60, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(image, (centre[0] - 55, centre[1] - 55), (centre[0] + 55, centre[1] + 55), colour, -1)
    return image


RED, BLUE, GREEN = (215, 30, 35), (35, 70, 205), (30, 150, 60)
LISTS = "first picture: a red circle and a blue square; second picture: a red circle and a green square"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What colours and shapes are present in both images?", LISTS),
        ("What is in both images?", LISTS),
        ("What do the two images have in common?", LISTS),
        ("Compare the two pictures", LISTS),
        ("How do the images differ?", LISTS),
        ("What shapes are present in each image?", LISTS),
        ("What is in these pictures?", LISTS),
        ("What colours are in the first image?", "a red circle and a blue square"),
        ("Describe the second picture.", "a red circle and a green square"),
    ],
)
def test_questions_about_two_images_are_answered(question: str, answer: str) -> None:
    shown = [painted(("circle", RED), ("square", BLUE)), painted(("circle", RED), ("square", GREEN))]
    parts = [{"type": "image", "image": image} for image in shown]
    message = {"role": "user", "content": [*parts, {"type": "text", "text": question}]}
    with Reka(model=str(BUNDLE)) as client:
        response = client.chat.create(model="reka-edge", messages=[message], temperature=0.0)
    assert response.responses[0].message.content == answer


def test_a_projector_is_fitted_to_a_tower_that_sees_otherwise(bundled: tuple[Yasa, str]) -> None:
    model = copy.deepcopy(bundled[0])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model.model.vision_model.backbone.encoder.stages[-1].layers[-1].pwconv2.bias.add_(0.05)
    fitting.fit_projector(model, bundled[0], 0, 12)
    assert moved(before, model) == {"model.vision_model", "model.language_projection"}
    rgb = cv2.cvtColor(cv2.imread(str(BUNDLE.parent / "sample.png")), cv2.COLOR_BGR2RGB)
    tile = scenes.tile(rgb, tile_px=SHAPE.tile_px, patch_px=SHAPE.patch_px).transpose(2, 0, 1)
    with torch.no_grad():
        ours, theirs = (one.look(torch.from_numpy(tile[None].copy()))[-1] for one in (model, bundled[0]))
        wanted, unfitted = bundled[0].project(theirs), bundled[0].project(ours)
        assert (model.project(ours) - wanted).square().mean() < 0.8 * (unfitted - wanted).square().mean()
