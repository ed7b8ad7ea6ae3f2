"""What the losses ask for is what the images show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scripts.tiny.lessons import conversations, rows
from scripts.tiny.lessons import labels as labelling
from scripts.tiny.lessons.batches import Batches
from scripts.tiny.lessons.conversations import Conversation, Exchange
from scripts.tiny.lessons.rows import Row, Writer
from scripts.tiny.lessons.sizes import TALLY
from scripts.tiny.training import losses
from scripts.tiny.training.model import Yasa
from tests.scripts.tiny.shapes import GRID, SHAPE, square


def test_the_tower_learns_to_tell_by_the_cell_that_already_is_surer() -> None:
    thing = square(4.05 / GRID, 6.48 / GRID)
    cell, other = 6 * GRID + 4, 6 * GRID + 3
    model, last = Yasa(SHAPE), torch.zeros(2, SHAPE.tokens, SHAPE.dims[-1])
    torch.nn.init.ones_(model.detector.weight)
    last[0, cell] = last[1, other] = 1
    told = losses.labelled(model.detector(last), [[thing], [thing]], SHAPE.grid)
    assert told["marks"][..., 0].nonzero().tolist() == [[0, cell], [1, other]]
    assert told["marks"][0, cell, 3:5].tolist() == pytest.approx([0.05, 0.48], abs=1e-5)
    assert told["marks"][1, other, 3:5].tolist() == pytest.approx([1.05, 0.48], abs=1e-5)
    assert told["code"][..., 1].nonzero().tolist() == [[0, cell], [1, other]]
    assert torch.equal(told["code"][0, cell], told["code"][1, other])


def test_a_batch_for_the_tower_is_labelled_once_the_tower_has_looked(writer: Writer, halved: bool) -> None:
    lessons = Batches(writer.tokenizer.to_str(), SHAPE, seed=0, tower_steps=1, decoder_steps=0, part=(0, 8))
    batch = lessons[0]
    assert "marks" not in batch
    loss, terms = losses.tower_loss(Yasa(SHAPE), batch, 1.0)
    assert loss.isfinite()
    assert terms["detect"] > 0
    loss.backward()


def test_an_answer_learns_what_the_shape_is_like_that_it_looks_at() -> None:
    thing = square(0.2, 0.9)
    cell = 10 * 12 + 2
    code = torch.from_numpy(labelling.code([thing], [labelling.seen(thing, 12)], 12))[None]
    source = torch.tensor([[-1, cell, -1], [-1, cell, -1], [-1, cell, -1]])
    aims = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    right = torch.from_numpy(labelling.described(thing)).expand(3, -1)
    wrong = right + torch.tensor([[0.0], [5.0], [5.0]])
    assert losses.recalled_loss(wrong, aims, source, code) == 0, "only the first looks at one shape alone"
    assert losses.recalled_loss(right + 1, aims, source, code) > 0.1
    assert losses.recalled_loss(wrong, aims[1:2], source[1:2], code) == 0


def sum_of(row: Row, exchange: Exchange) -> int:
    """Of how many positions of a row an exchange's answer is."""
    return sum(look is not None and look[0] is exchange.parts[0] for look in row.looks)


def test_a_count_learns_how_many_it_looks_at_beside_the_picture(writer: Writer) -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue"), square(0.9, 0.9)]
    one, three = (conversations.asked("How many?", "some", range(n), counts=True) for n in (1, 3))
    listed = Exchange("What do you see?", conversations.listing(things))
    row = writer.row(Conversation((replace(one, images=(0,)), three, listed)), [0])
    weights = [labelling.seen(thing, 12) for thing in things]
    _, _, source, _, at, aims, _, _ = map(torch.from_numpy, rows.padded([row], [weights], [[1, 25, 1]], 400))
    sources = source[at[:, 0]]
    assert losses.tallied_loss(torch.zeros(len(at), TALLY), aims[:, 0], sources) > 1
    known = torch.stack([torch.nn.functional.one_hot(torch.tensor(n), TALLY) * 50.0 for n in (1, 3)])
    counted = torch.cat([known[:1].expand(sum_of(row, one), -1), known[1:].expand(sum_of(row, three), -1)])
    said = torch.cat([counted, torch.zeros(len(at) - len(counted), TALLY)])
    assert losses.tallied_loss(said, aims[:, 0], sources) < 1e-6
