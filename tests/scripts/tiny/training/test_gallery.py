"""Images are kept as the tower saw them, to be talked about again."""

from __future__ import annotations

import pytest
import torch

from scripts.tiny.lessons.batches import DOUBLED, Batches
from scripts.tiny.lessons.rows import Writer
from scripts.tiny.training import losses
from scripts.tiny.training.gallery import ROUNDED, Gallery
from scripts.tiny.training.model import Yasa
from tests.scripts.tiny.shapes import SHAPE, square


def test_pictures_seen_double_are_talked_about_again(writer: Writer) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 4))
    gallery = Gallery(Yasa(SHAPE), lessons, {})
    gallery.look(**lessons[0])
    gallery.doubled[0] = []
    plain = gallery.told(0)["code"]
    strange = [square(0.01, 0.01, "brown")] * 3
    gallery.doubled[0] = [(strange, torch.zeros(4 * SHAPE.tokens, SHAPE.dims[-2]))] * 9
    again = gallery.told(0)
    changed = (again["code"] != plain).any(-1).any(-1)
    assert changed.sum() == DOUBLED // 4
    assert (again["code"][changed, 0, 1] == 3).all()
    assert torch.equal(gallery.told(0)["features"], again["features"])


def test_a_batch_for_both_is_written_after_the_tower_has_looked(writer: Writer, halved: bool) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 12))
    gallery = Gallery(Yasa(SHAPE), lessons, {})
    gallery.look(**lessons[0])
    batch = gallery.told(0)
    assert batch["features"].shape == (len(batch["code"]), SHAPE.tokens, SHAPE.dims[-1])
    with losses.exactness():
        plain = gallery.model.deepen(gallery.seen[0][1])
    assert (plain.dtype == torch.bfloat16) == halved
    noise = (batch["features"] - plain).std() / plain.std()
    assert noise.item() == pytest.approx(ROUNDED, rel=0.01)
    loss, terms = losses.joint_loss(gallery.model, batch, 1.0)
    assert loss.isfinite()
    assert terms["twins"] > 0
    assert terms["detect"] > 0


def test_in_training_both_the_last_stage_of_the_tower_learns_and_no_other(writer: Writer) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 12))
    gallery = Gallery(Yasa(SHAPE), lessons, {})
    gallery.look(**lessons[0])
    losses.joint_loss(gallery.model, gallery.told(0), 1.0)[0].backward()
    stages = gallery.model.model.vision_model.backbone.encoder.stages
    assert [any(p.grad is not None for p in stage.parameters()) for stage in stages] == [False, False, False, True]
    assert all(p.grad is not None for p in stages[-1].parameters())


def test_what_was_seen_double_stays_known_though_the_tower_goes_on_learning(writer: Writer) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 12))
    gallery = Gallery(Yasa(SHAPE), lessons, {0: [1, 3]})
    batch = lessons[0]
    gallery.look(**batch)
    assert [things for things, _ in gallery.doubled[0]] == [batch["shown"].things[1], batch["shown"].things[3]]
    assert gallery.known == {0: [1, 3]}
