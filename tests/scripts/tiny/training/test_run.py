"""A run that is interrupted, averaged or resumed continues as it would have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.tiny.lessons.batches import Batches
from scripts.tiny.lessons.rows import Writer
from scripts.tiny.training import checkpoint, losses
from scripts.tiny.training.gallery import Gallery
from scripts.tiny.training.model import Yasa
from scripts.tiny.training.plan import Plan
from scripts.tiny.training.run import Run, average_weights, freeze_tower, train
from tests.scripts.tiny.shapes import SHAPE


def test_a_model_that_is_kept_still_learns_in_its_decoder_alone(writer: Writer) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 12))
    gallery = Gallery(Yasa(SHAPE), lessons, {})
    freeze_tower(gallery.model)
    gallery.look(**lessons[0])
    losses.joint_loss(gallery.model, gallery.told(0), 1.0)[0].backward()
    learning = {name for name, p in gallery.model.named_parameters() if p.grad is not None}
    own = ("vision_model", "language_projection", "detector", "spotters", "tracers", "stretchers")
    assert not [name for name in learning if any(part in name for part in own)]
    assert {name for name, _ in gallery.model.named_parameters() if "language_model" in name} <= learning


def test_an_interrupted_run_of_both_goes_on_as_if_nothing_had_been(writer: Writer, tmp_path: Path) -> None:
    text, plan = writer.tokenizer.to_str(), Plan(0, 0, 6)

    def go(folder: Path, *stops: int) -> Run:
        for stop in stops:
            run = Run(folder, SHAPE, seed=0, peak=1e-3)
            run.resume()
            lessons = Batches(text, SHAPE, seed=0, tower_steps=0, decoder_steps=0, part=(0, 12))
            train(run, lessons, plan, until=stop, workers=0)
        return run

    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    whole, halves = go(tmp_path / "whole", 6), go(tmp_path / "halves", 3, 6)
    assert halves.step == whole.step == 6
    assert halves.doubled == whole.doubled
    assert all(torch.equal(halves.slow[name], value) for name, value in whole.slow.items())


def test_a_run_that_goes_on_writes_its_checkpoint_anew(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    run = Run(tmp_path, SHAPE, seed=0, peak=1e-3)
    written = []
    for change in (0, 1):
        run.slow["lm_head.weight"] += change
        run.save()
        checkpoint.save(tmp_path, tmp_path / "checkpoint")
        written.append((tmp_path / "checkpoint" / "model.safetensors").read_bytes())
    assert written[0] != written[1]


def test_the_average_of_two_runs_lies_between_them_and_goes_on_as_the_second(tmp_path: Path) -> None:
    states = []
    for seed, step in ((0, 3), (1, 5)):
        (tmp_path / str(seed)).mkdir()
        run = Run(tmp_path / str(seed), SHAPE, seed=seed, peak=1e-3)
        run.step = step
        run.save()
        states.append(torch.load(run.file, weights_only=True))
    first, second = states
    made = average_weights(first, second, 0.25)
    assert made["step"] == 5
    for name, weight in made["slow"].items():
        assert torch.allclose(weight, 0.75 * first["slow"][name] + 0.25 * second["slow"][name], atol=1e-6)
        assert torch.equal(made["model"][name], weight)
    (tmp_path / "mean").mkdir()
    gone_on = Run(tmp_path / "mean", SHAPE, seed=2, peak=1e-3)
    torch.save(made, gone_on.file)
    gone_on.resume()
    assert torch.equal(gone_on.model.lm_head.weight, made["slow"]["lm_head.weight"])


def test_an_average_of_runs_of_other_sizes_names_what_differs() -> None:
    first, second = ({"slow": {"head": torch.zeros(size)}, "model": {}} for size in (3, 4))
    with pytest.raises(SystemExit, match=r"head: expected \(4,\) in both runs, found \(3,\) in the first"):
        average_weights(first, second, 0.5)
    with pytest.raises(SystemExit, match="head: expected .* found none in the first"):
        average_weights({"slow": {}}, second, 0.5)


def test_what_other_processes_saw_double_is_forgotten(tmp_path: Path) -> None:
    run = Run(tmp_path, SHAPE, seed=0, peak=1e-3)
    run.doubled = [{0: [1]}, {0: [2]}]
    assert run.seen_double((1, 2)) == {0: [2]}
    assert run.seen_double((0, 1)) == run.seen_double((2, 3)) == {}
