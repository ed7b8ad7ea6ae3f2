"""What the embedded model learns from: the losses of its three phases."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scripts.tiny.lessons import labels
from scripts.tiny.lessons.rows import ROWS
from scripts.tiny.lessons.sizes import CODED, SAID
from scripts.tiny.pictures.scenes import Thing
from scripts.tiny.training.model import AIM, BRIGHT, LATER, NAMED, REMEMBERED, TWINS, Yasa

SHAPELY = 2.5  # how much a shape's kind counts against its colour, which is far easier to see
HINTS = 0.5  # how much it counts what the decoder knows half way
SEVERAL = 0.8  # how much talk about several pictures counts against that about one or none
SEEN = 0.3  # how much it counts in training both what the detector misses
RECALLED = 0.1  # how much of that what a shape is like, whose errors are many numbers' squares
KNOWN = ("twins", "named", "remembered", "beheld", "tallied")  # of the terms of an answer
Batch = dict[str, Any]
Terms = tuple[Tensor, dict[str, Tensor]]


def detector_loss(found: Tensor, marks: Tensor) -> Tensor:
    """found: (B, G * G, FOUND); marks: (B, G * G, 7) as labels.targets gives them."""
    here = marks[..., 0]
    count = here.sum().clamp(min=1)
    objectness = F.binary_cross_entropy_with_logits(found[..., 0], here, reduction="sum")
    return (objectness + described_loss(found, marks, here, boxes=0.5)) / count


def spotter_loss(found: Tensor, covers: Tensor) -> Tensor:
    """found: (B, N, FOUND); covers: (B, N, 8) as labels.cover gives them."""
    here, weight = covers[..., 0], covers[..., 7]
    count = (here * weight).sum().clamp(min=1)
    objectness = F.binary_cross_entropy_with_logits(found[..., 0], here, weight=weight, reduction="sum")
    return (objectness + described_loss(found, covers, here * weight, boxes=0.25)) / count


def described_loss(found: Tensor, wanted: Tensor, weight: Tensor, *, boxes: float) -> Tensor:
    """How badly colour, shape, place and sides are told, summed over cells by their weight."""
    _, colours, shapes, sides = found.split(SAID, -1)
    colour = F.cross_entropy(colours.flatten(0, 1), wanted[..., 1].long().flatten(), reduction="none")
    shape = F.cross_entropy(shapes.flatten(0, 1), wanted[..., 2].long().flatten(), reduction="none")
    box = F.smooth_l1_loss(sides, wanted[..., 3:7], reduction="none").sum(-1).flatten()
    return ((colour + SHAPELY * shape + boxes * box) * weight.flatten()).sum()


def projection_loss(embeddings: Tensor, wanted: Tensor, code: Tensor) -> Tensor:
    """How far embeddings (B, G * G, H) are from those of a perfect tower, for each shape of the images."""
    return (embeddings.float() - wanted).square().sum() / BRIGHT**2 / code[..., 1].sum().clamp(min=1)


def answer_loss(model: Yasa, embeddings: Tensor, rows: tuple[Tensor, ...], code: Tensor, hints: float) -> Terms:
    """Mean losses over the learned positions, and the share of rows whose answers are all the first choice.

    rows: as data.padded gives them; code: (B, G * G, CODE) of the batch's pictures.
    """
    ids, labels, source, places, at, aims, after, twins = rows
    seen = embeddings.flatten(0, 1)[source.clamp(min=0)]
    inputs = torch.where((source >= 0)[..., None], seen.float(), model.model.language_model.embed_tokens(ids))
    states, looks = model.read(inputs, places)
    learned = labels >= 0
    logits, wanted = model.lm_head(states[-1][learned]), labels[learned]
    wrong = (logits.detach().argmax(-1) != wanted).float()
    mistakes = torch.zeros(len(labels)).index_add_(0, learned.nonzero()[:, 0], wrong)
    asked = at[:, 0], at[:, 1]
    terms = {
        "answer": F.cross_entropy(logits.float(), wanted),
        "aim": attention_loss(looks[AIM][asked], aims[:, 0]),
        "later": attention_loss(looks[LATER][asked], aims[:, 1]),
        "twins": twins_loss(model, states, looks, twins),
        "named": named_loss(model.namer(states[NAMED][source >= 0]), code.flatten(0, 1)[source[source >= 0]]),
        "remembered": classified(model.rememberer(states[REMEMBERED][asked]), after),
        "beheld": recalled_loss(model.describer(states[AIM][asked]), aims[:, 0], source[asked[0]], code),
        "tallied": tallied_loss(model.tallier(states[AIM][asked]), aims[:, 0], source[asked[0]]),
    }
    known = sum((terms[name] for name in KNOWN), start=torch.zeros(()))
    guided = terms["aim"] + terms["later"] + HINTS * known
    return terms["answer"] + hints * guided, terms | {"right": (mistakes == 0).float().mean()}


def named_loss(found: Tensor, code: Tensor) -> Tensor:
    """found: (N, KINDS), of which kind each cell's shape seems to be; code: (N, CODE) of the same cells."""
    _, colours, shapes, *_ = code.split(CODED, -1)
    kinds = colours.argmax(-1) * shapes.shape[-1] + shapes.argmax(-1)
    return classified(found, torch.where(code[:, 1] > 0.5, kinds, -100))


def recalled_loss(found: Tensor, aims: Tensor, source: Tensor, code: Tensor) -> Tensor:
    """How badly answers know what the one shape is like that they look at, its place and size above all.

    found: (N, CODE - 2); aims, source: (N, L) where they should look, and which of the pictures' cells lie there, or
    -1; code: (B, G * G, CODE).
    """
    share, place = aims.max(-1)
    cell = source.gather(1, place[:, None])[:, 0]
    one = (share > 0.99) & (cell >= 0)
    if not one.any():
        return found.sum() * 0
    missed = found[one].float() - code.flatten(0, 1)[cell[one]][:, CODED[0] :]
    return RECALLED * missed.square().sum(-1).mean()


def tallied_loss(found: Tensor, aims: Tensor, source: Tensor) -> Tensor:
    """How badly answers know how many shapes they look at besides <image>, which has a share like each of theirs.

    found: (N, TALLY); aims, source: as beheld_loss has them.
    """
    beside = (aims * (source < 0)).sum(-1)
    counted = (beside > 0) & (beside < 0.99)
    return classified(found, torch.where(counted, (1 / beside.clamp(min=0.1) - 1).round().long(), -100))


def classified(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean cross entropy over what is wanted, nothing where nothing is: found (N, classes), wanted (N,) or -100."""
    if not (wanted >= 0).any():
        return found.sum() * 0
    return F.cross_entropy(found.float(), wanted)


def twins_loss(model: Yasa, states: list[Tensor], looks: list[Tensor], twins: Tensor) -> Tensor:
    """How badly shapes know whether there are one, two, three, four of their kind before them, a layer for each.

    The first looks for any of its kind, the next for those that found one, and so on: no layer has to weigh, only to
    tell something from nothing. twins: (M, 3 + MOST) as data.padded gives them.
    """
    lost, here = torch.zeros(()), (twins[:, 0], twins[:, 1])
    for i, layer in enumerate(TWINS):
        before = twins[:, 3 + i :]
        some = before[:, 0] >= 0
        target = torch.zeros(len(twins), looks[layer].shape[-1])
        target.scatter_add_(1, before.clamp(min=0), (before >= 0).float())
        target.scatter_add_(1, twins[:, 2:3], (~some[:, None]).float())
        lost = lost + attention_loss(looks[layer][here], target / target.sum(-1, keepdim=True))
        lost = lost + classified(model.counters[i](states[layer][here]), some.long())
    return lost


def attention_loss(drawn: Tensor, aims: Tensor) -> Tensor:
    """How far a guided head looks from where it should: KL divergence, drawn and aims (N, L), nothing if no aim."""
    known = aims.sum(-1) > 0
    if not known.any():
        return drawn.sum() * 0
    return F.kl_div(drawn[known].float().log_softmax(-1).clamp(min=-30), aims[known], reduction="batchmean")


def traced_loss(found: Tensor, rims: Tensor) -> Tensor:
    """found: (B, N, RIMS); rims: (B, N, 2) as labels.rim gives them."""
    weight = rims[..., 1].flatten()
    missed = F.cross_entropy(found.flatten(0, 1), rims[..., 0].long().flatten(), reduction="none")
    return (missed * weight).sum() / weight.sum().clamp(min=1)


def stretch_loss(model: Yasa, maps: tuple[Tensor, ...], stretch: Tensor) -> Tensor:
    """How badly every cell knows how its picture was stretched, (B,): a square may be a rectangle that was squeezed."""
    found = [head(some).float().squeeze(-1) for head, some in zip(model.stretchers, maps, strict=True)]
    return sum((F.smooth_l1_loss(f, stretch[:, None].expand_as(f), beta=0.2) for f in found), start=torch.zeros(()))


def seen_loss(model: Yasa, maps: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
    """What detector, spotters, tracers and stretchers miss of what is known of the pictures."""
    return {
        "detect": detector_loss(model.detector(maps[3]).float(), batch["marks"]),
        "middle": spotter_loss(model.spotters[1](maps[2]).float(), batch["middle"]),
        "fine": spotter_loss(model.spotters[0](maps[1]).float(), batch["fine"]),
        "wide": traced_loss(model.tracers[1](maps[1]).float(), batch["wide_rims"]),
        "rims": traced_loss(model.tracers[0](maps[0]).float(), batch["rims"]),
        "stretch": stretch_loss(model, maps[2:], batch["stretch"]),
    }


def labelled(found: Tensor, known: Sequence[Sequence[Thing]], grid: int) -> Batch:
    """What detector and embeddings should say of each cell, given what the detector found: (B, G * G, FOUND)."""
    sure = found.detach()[..., 0].float().numpy()
    told = [(things, labels.surer(things, there, grid)) for things, there in zip(known, sure, strict=True)]
    marks, codes = (np.stack([label(*one, grid) for one in told]) for label in (labels.targets, labels.code))
    return {"marks": torch.from_numpy(marks), "code": torch.from_numpy(codes)}


def tower_loss(model: Yasa, batch: Batch, hints: float) -> Terms:
    with exactness():
        maps = model.look(batch["tiles"])
        batch = batch | labelled(model.detector(maps[-1]), batch["known"], model.shape.grid)
        terms = seen_loss(model, maps, batch)
        apart = projection_loss(model.project(maps[-1]), model.ideal_embeddings(batch["code"]), batch["code"])
    on_the_way = sum((term for name, term in terms.items() if name != "detect"), start=torch.zeros(()))
    return terms["detect"] + apart + hints * on_the_way, terms | {"apart": apart} | named_right(
        model, maps[-1], batch["marks"]
    )


@torch.no_grad()
def named_right(model: Yasa, last: Tensor, marks: Tensor) -> dict[str, Tensor]:
    """The shares of shapes whose colour and whose kind the detector names rightly."""
    here = marks[..., 0] > 0
    _, colours, shapes, _ = model.detector(last[here].float()).split(SAID, -1)
    colour, shape = (names.argmax(-1) == marks[here][:, i] for i, names in ((1, colours), (2, shapes)))
    return {"colour": colour.float().mean(), "shape": shape.float().mean()}


def decoder_loss(model: Yasa, batch: Batch, hints: float) -> Terms:
    with exactness():
        return spoken(model, model.ideal_embeddings(batch["code"]), batch, hints)


def spoken(model: Yasa, embeddings: Tensor, batch: Batch, hints: float) -> Terms:
    """The losses of the conversations about one picture or none, and of those about several."""
    said, terms = answer_loss(model, embeddings, tuple(batch[name] for name in ROWS), batch["code"], hints)
    rows = tuple(batch["group_" + name] for name in ROWS)
    grouped, several = answer_loss(model, embeddings, rows, batch["code"], hints)
    return said + SEVERAL * grouped, terms | {"several": several["answer"]}


def joint_loss(model: Yasa, batch: Batch, hints: float) -> Terms:
    with exactness():
        loss, terms = spoken(model, model.project(batch["features"]), batch, hints)
        detect = detector_loss(batch["found"], batch["marks"])
    return loss + SEEN * detect, terms | {"detect": detect}


def exactness() -> torch.autocast:
    """Half the bits where the processor multiplies them natively: elsewhere they are twenty times slower."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16())


@functools.cache
def has_bfloat16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
