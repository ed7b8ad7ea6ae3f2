"""The training of reka-edge-tiny: its losses, its phases, and a run that can be interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from data import ROWS, Batches
from model import KINDS, Shape, Yasa

ALIGNING, HOLDING = 150, 700  # steps of talking: for the embeds alone, and until nothing holds them any more
Batch = dict[str, Tensor]
Terms = tuple[Tensor, dict[str, Tensor]]


def detector_loss(found: Tensor, marks: Tensor) -> Tensor:
    """found: (B, G * G, 22); marks: (B, G * G, 7) as data.targets gives them."""
    here = marks[..., 0]
    weight = here / here.sum().clamp(min=1)
    objectness = F.binary_cross_entropy_with_logits(found[..., 0], here, reduction="sum") / here.sum().clamp(min=1)
    colour = F.cross_entropy(found[..., 1:12].flatten(0, 1), marks[..., 1].long().flatten(), reduction="none")
    shape = F.cross_entropy(found[..., 12:18].flatten(0, 1), marks[..., 2].long().flatten(), reduction="none")
    box = F.smooth_l1_loss(found[..., 18:22], marks[..., 3:7], reduction="none").sum(-1)
    return objectness + ((colour + shape) * weight.flatten()).sum() + 0.5 * (box * weight).sum()


def spotter_loss(found: Tensor, covers: Tensor) -> Tensor:
    """found: (B, N, 22); covers: (B, N, 8) as data.cover gives them."""
    here, weight = covers[..., 0], covers[..., 7]
    count = (here * weight).sum().clamp(min=1)
    on = (here * weight).flatten()
    objectness = F.binary_cross_entropy_with_logits(found[..., 0], here, weight=weight, reduction="sum")
    colour = F.cross_entropy(found[..., 1:12].flatten(0, 1), covers[..., 1].long().flatten(), reduction="none")
    shape = F.cross_entropy(found[..., 12:18].flatten(0, 1), covers[..., 2].long().flatten(), reduction="none")
    box = F.smooth_l1_loss(found[..., 18:22], covers[..., 3:7], reduction="none").sum(-1).flatten()
    return (objectness + ((colour + shape + 0.25 * box) * on).sum()) / count


def answer_loss(model: Yasa, embeds: Tensor, rows: tuple[Tensor, ...], cells: Tensor | None) -> Terms:
    """Mean losses over the learned positions, and the share of rows whose answers are all the first choice.

    rows: as data.padded gives them; cells: (B, G * G, IMAGINED) of each row's picture, to teach counting by.
    """
    ids, labels, source, places, kinds = rows
    seen = embeds.flatten(0, 1)[source.clamp(min=0)]
    inputs = torch.where((source >= 0)[..., None], seen.float(), model.model.language_model.embed_tokens(ids))
    learned = labels >= 0
    logits, counted, pointed = model.read(inputs, places, learned)
    wanted, row = labels[learned], learned.nonzero()[:, 0]
    wrong = (logits.detach().argmax(-1) != wanted).float()
    mistakes = torch.zeros(len(labels)).index_add_(0, row, wrong)
    # Where a listing turns to the next kind it has to know which one, how many there are, and whether it is the last.
    turns = ((kinds >= 0) & (kinds != kinds.roll(1, 1)))[learned]
    weight = 1 + 3 * turns.float()
    lost = (F.cross_entropy(logits.float(), wanted, reduction="none") * weight).sum() / weight.sum()
    terms = {"answer": lost, "right": (mistakes == 0).float().mean()}
    if cells is None:
        return terms["answer"], terms
    shown = (source >= 0).any(1)[row]
    least = cells[..., -KINDS:].sum(1)[row[shown], :, None] > torch.arange(3)
    count = F.binary_cross_entropy_with_logits(counted[shown].float(), least.float(), reduction="sum") / len(row)
    point = F.cross_entropy(pointed.float(), kinds[learned], ignore_index=-100)
    return terms["answer"] + 0.1 * count + 0.2 * point, terms | {"count": count, "point": point}


@dataclass(frozen=True)
class Plan:
    """Steps of each phase: the tower learns to see, the decoder to talk of what perfect eyes see, then both together,
    and at last the decoder alone to tell what the tower sees.
    """

    looking: int
    reading: int
    talking: int
    telling: int

    @property
    def starts(self) -> tuple[int, int, int, int]:
        reading, talking = self.looking, self.looking + self.reading
        return 0, reading, talking, talking + self.talking

    @property
    def steps(self) -> int:
        return self.starts[-1] + self.telling


def seen_loss(model: Yasa, maps: tuple[Tensor, Tensor, Tensor], batch: Batch) -> Terms:
    """What detector and spotters miss of what is known of the pictures."""
    fine, middle, last = maps
    found = model.detector(last), model.spotters[1](middle), model.spotters[0](fine)
    detected = detector_loss(found[0].float(), batch["marks"])
    spotted = spotter_loss(found[1].float(), batch["middle"])
    sketched = spotter_loss(found[2].float(), batch["fine"])
    return detected + spotted + sketched, {"detect": detected, "middle": spotted, "fine": sketched}


def look_loss(model: Yasa, batch: Batch) -> Terms:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return seen_loss(model, model.look(batch["tiles"]), batch)


def read_loss(model: Yasa, batch: Batch) -> Terms:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return spoken(model, model.imagine(batch["cells"]), batch)


def talk_loss(model: Yasa, batch: Batch, *, into: int) -> Terms:
    """into: steps into the phase; the embeds are held to those of perfect eyes, which the decoder reads already.

    At first only that, so that the decoder is not spoilt by embeds that mean nothing yet; later less and less of it.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = model.look(batch["tiles"])
        embeds = model.project(maps[-1])
        missed, terms = seen_loss(model, maps, batch)
        wanted = model.imagine(batch["cells"]).detach()
        apart = F.mse_loss(embeds.float(), wanted.float()) / wanted.float().var().clamp(min=1e-6)
        terms["apart"] = apart
        if into < ALIGNING:
            return 0.5 * missed + apart, terms
        loss, said = spoken(model, embeds, batch)
    return loss + 0.5 * missed + max(0.0, 1 - into / HOLDING) * apart, terms | said


def spoken(model: Yasa, embeds: Tensor, batch: Batch) -> Terms:
    """The losses of the conversations about one picture or none, and of those about several."""
    said, terms = answer_loss(model, embeds, tuple(batch[name] for name in ROWS), batch["cells"])
    grouped, _ = answer_loss(model, embeds, tuple(batch["group_" + name] for name in ROWS), None)
    return said + 0.2 * grouped, terms | {"several": grouped}


def tell_loss(model: Yasa, batch: Batch) -> Terms:
    """The tower stays as it is, which takes a third of the time."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            features = model.look(batch["tiles"])[-1]
        return spoken(model, model.project(features), batch)


def rate(step: int, plan: Plan, peak: float) -> float:
    """Warm up at the start of each phase, hold, and fall to nothing over the last two; the decoder alone bears more."""
    phase = max(i for i, start in enumerate(plan.starts) if start <= step)
    warm = min(1.0, (step - plan.starts[phase] + 1) / 150)
    length = (1, 1, plan.talking, plan.telling)[phase]
    fallen = (step - plan.starts[phase]) / max(length, 1) if phase >= 2 else 0.0
    more = 1.5 if phase == 1 else 1.0
    return peak * more * warm * 0.5 * (1 + math.cos(math.pi * fallen))


def optimizers(model: Yasa, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the decoder's matrices, which learn faster with it; AdamW for all else."""
    named = list(model.named_parameters())
    inside = [p for name, p in named if p.ndim == 2 and "language_model.layers" in name]
    chosen = {id(p) for p in inside}
    rest = [p for _, p in named if id(p) not in chosen]
    matrices = [p for p in rest if p.ndim > 1 and min(p.shape[:2]) > 1]
    others = [p for p in rest if not (p.ndim > 1 and min(p.shape[:2]) > 1)]
    groups = [{"params": matrices, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
    muon = torch.optim.Muon(inside, lr=peak, weight_decay=0.03, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)]


class Run:
    """A training run: the model, its slow average, the optimizer, and where they are kept."""

    def __init__(self, folder: Path, shape: Shape, *, seed: int, peak: float) -> None:
        torch.manual_seed(seed)
        self.folder, self.peak, self.step = folder, peak, 0
        self.model = Yasa(shape)
        self.slow = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizers = optimizers(self.model, peak)

    @property
    def file(self) -> Path:
        return self.folder / "run.pt"

    def save(self) -> None:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "slow": self.slow,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.file)

    def note(self, seconds: float, seen: list[dict[str, float]]) -> None:
        """Adds a line to the log: the step, the seconds since this start, and each term's mean."""
        values = {name: [terms[name] for terms in seen if name in terms] for name in seen[-1]}
        means = {name: round(sum(some) / len(some), 4) for name, some in values.items()}
        with (self.folder / "log.jsonl").open("a") as out:
            out.write(json.dumps({"step": self.step, "seconds": round(seconds), **means}) + "\n")

    def resume(self) -> None:
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.step, self.slow = state["step"], state["slow"]
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)

    def learn(self, loss: Tensor, plan: Plan) -> None:
        loss.backward()
        average(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate(self.step, plan, self.peak)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(0.999, self.step / (self.step + 20))
        torch._foreach_lerp_(list(self.slow.values()), [p.detach() for p in self.model.parameters()], 1 - keep)


def average(model: Yasa) -> None:
    """The mean of the gradients over the processes that share this run, in place."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    parts = (flat / distributed.get_world_size()).split([g.numel() for g in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def batches(data: Batches, start: int, stop: int, workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        Subset(data, range(start, stop)), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None
    )
    yield from loader


def train(run: Run, data: Batches, plan: Plan, *, workers: int) -> None:
    # Only the tower: compiling the losses with it crashes in torch 2.13's generated backward pass.
    run.model.look = torch.compile(run.model.look, dynamic=False)  # type: ignore[method-assign]
    began, seen, first = time.monotonic(), list[dict[str, float]](), data.part[0] == 0
    for batch in batches(data, run.step, plan.steps, workers):
        phase = max(i for i, start in enumerate(plan.starts) if start <= run.step)
        into = run.step - plan.starts[phase]
        loss, terms = (
            look_loss(run.model, batch)
            if phase == 0
            else read_loss(run.model, batch)
            if phase == 1
            else talk_loss(run.model, batch, into=into)
            if phase == 2
            else tell_loss(run.model, batch)
        )
        run.learn(loss, plan)
        seen.append({name: float(term.detach()) for name, term in terms.items()})
        if first and (run.step % 50 == 0 or run.step in plan.starts):
            run.note(time.monotonic() - began, seen)
        if run.step % 50 == 0 or run.step in plan.starts:
            seen = []
        if first and (run.step % 250 == 0 or run.step == plan.steps):
            run.save()
