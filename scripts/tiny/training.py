"""The training of reka-edge-tiny: its losses, its phases, and a run that can be interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from data import Batches
from model import Shape, Yasa

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
    """found: (B, 4 * G * G, 18); covers: (B, 4 * G * G, 3) as data.cover gives them."""
    here = covers[..., 0]
    weight = (here / here.sum().clamp(min=1)).flatten()
    objectness = F.binary_cross_entropy_with_logits(found[..., 0], here, reduction="sum") / here.sum().clamp(min=1)
    colour = F.cross_entropy(found[..., 1:12].flatten(0, 1), covers[..., 1].long().flatten(), reduction="none")
    shape = F.cross_entropy(found[..., 12:18].flatten(0, 1), covers[..., 2].long().flatten(), reduction="none")
    return 0.5 * objectness + ((colour + shape) * weight).sum()


def answer_loss(model: Yasa, embeds: Tensor, ids: Tensor, labels: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss over the learned positions, and whether each row's answers are all the first choice."""
    seen = embeds.flatten(0, 1)[source.clamp(min=0)]
    inputs = torch.where((source >= 0)[..., None], seen.float(), model.model.language_model.embed_tokens(ids))
    logits = model.read(inputs).float()
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    right = ((logits.argmax(-1) == labels) | (labels < 0)).all(-1)
    return loss, right


@dataclass(frozen=True)
class Plan:
    """Steps of each phase: the tower learns to see, the decoder to talk about what perfect eyes see, both together."""

    looking: int
    reading: int
    talking: int

    @property
    def steps(self) -> int:
        return self.looking + self.reading + self.talking


def look_loss(model: Yasa, batch: Batch) -> Terms:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, before = model.look(batch["tiles"])
        found, spotted = model.detector(features), model.spotter(before)
    detected = detector_loss(found.float(), batch["marks"])
    spot = spotter_loss(spotted.float(), batch["covers"])
    return detected + spot, {"detect": detected, "spot": spot}


def read_loss(model: Yasa, batch: Batch) -> Terms:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return spoken(model, model.imagine(batch["cells"]), batch)


def talk_loss(model: Yasa, batch: Batch, *, guidance: float) -> Terms:
    """guidance: how much the tower's embeds are held to those of perfect eyes, which the decoder already reads."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, before = model.look(batch["tiles"])
        embeds = model.project(features)
        found, spotted = model.detector(features), model.spotter(before)
        loss, terms = spoken(model, embeds, batch)
        wanted = model.imagine(batch["cells"]).detach()
    detected = detector_loss(found.float(), batch["marks"])
    apart = F.mse_loss(embeds.float(), wanted.float()) / wanted.float().var().clamp(min=1e-6)
    spot = spotter_loss(spotted.float(), batch["covers"])
    terms |= {"detect": detected, "spot": spot, "apart": apart}
    return loss + 0.5 * (detected + spot) + guidance * apart, terms


def spoken(model: Yasa, embeds: Tensor, batch: Batch) -> Terms:
    said, right = answer_loss(model, embeds, batch["ids"], batch["labels"], batch["source"])
    grouped, _ = answer_loss(model, embeds, batch["group_ids"], batch["group_labels"], batch["group_source"])
    return said + 0.2 * grouped, {"answer": said, "several": grouped, "right": right.float().mean()}


def rate(step: int, plan: Plan, peak: float) -> float:
    """Warm up at the start of each phase, hold, and fall to nothing over the last two fifths of all steps."""
    starts = (0, plan.looking, plan.looking + plan.reading)
    warm = min(1.0, (step - max(s for s in starts if s <= step) + 1) / 150)
    fall = plan.steps * 0.6
    return peak * warm * (1.0 if step < fall else 0.5 * (1 + math.cos(math.pi * (step - fall) / (plan.steps - fall))))


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

    def resume(self) -> None:
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.step, self.slow = state["step"], state["slow"]
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)

    def learn(self, loss: Tensor, plan: Plan) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate(self.step, plan, self.peak)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(0.999, self.step / (self.step + 20))
        torch._foreach_lerp_(list(self.slow.values()), [p.detach() for p in self.model.parameters()], 1 - keep)


def batches(data: Batches, start: int, stop: int, workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        Subset(data, range(start, stop)), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None
    )
    yield from loader


def train(run: Run, data: Batches, plan: Plan, *, workers: int) -> None:
    # Only the tower: compiling the losses with it crashes in torch 2.13's generated backward pass.
    run.model.look = torch.compile(run.model.look, dynamic=False)  # type: ignore[method-assign]
    began, log = time.monotonic(), run.folder / "log.jsonl"
    seen: list[dict[str, float]] = []
    for batch in batches(data, run.step, plan.steps, workers):
        into = run.step - plan.looking - plan.reading
        if run.step < plan.looking:
            loss, terms = look_loss(run.model, batch)
        elif into < 0:
            loss, terms = read_loss(run.model, batch)
        else:
            loss, terms = talk_loss(run.model, batch, guidance=max(0.0, 1 - into / 600))
        run.learn(loss, plan)
        seen.append({name: float(term.detach()) for name, term in terms.items()})
        if run.step % 50 == 0 or run.step in (plan.looking, plan.looking + plan.reading):
            means = {name: round(sum(s[name] for s in seen) / len(seen), 4) for name in seen[0]}
            with log.open("a") as out:
                out.write(json.dumps({"step": run.step, "seconds": round(time.monotonic() - began), **means}) + "\n")
            seen = []
        if run.step % 250 == 0 or run.step == plan.steps:
            run.save()
