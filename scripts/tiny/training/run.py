"""A training run that can be interrupted: its state, its steps, and what it writes down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Subset

from scripts.tiny.lessons.batches import Batches
from scripts.tiny.lessons.sizes import Shape
from scripts.tiny.training.gallery import Gallery
from scripts.tiny.training.losses import Batch, decoder_loss, joint_loss, tower_loss
from scripts.tiny.training.model import Yasa
from scripts.tiny.training.optimizer import optimizers
from scripts.tiny.training.plan import Plan, hinted, rate

LOSSES = (tower_loss, decoder_loss, joint_loss)


class Run:
    """A training run: the model, its slow average, the optimizer, and where they are kept.

    doubled: of each process, which pictures of which batches were seen double (see Gallery).
    """

    def __init__(self, folder: Path, shape: Shape, *, seed: int, peak: float) -> None:
        torch.manual_seed(seed)
        self.folder, self.peak, self.step = folder, peak, 0
        self.doubled: list[dict[int, list[int]]] = []
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
            "doubled": self.doubled,
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
            self.step, self.slow, self.doubled = state["step"], state["slow"], state["doubled"]
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)

    def seen_double(self, part: tuple[int, int]) -> dict[int, list[int]]:
        """What a process knew of its pictures; nothing if there were more or fewer, for they had others then."""
        number, of = part
        return self.doubled[number] if len(self.doubled) == of else {}

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


def freeze_tower(model: Yasa) -> None:
    """From now on tower, projector and all that answers for the tower stay as they are: only the decoder learns."""
    learning = ("model.language_model.", "lm_head.", "namer.", "rememberer.", "counters.", "describer.", "tallier.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(learning))


def begin(folder: Path, model: Yasa, tokenizer: str) -> None:
    """Makes a folder with a run that is about to begin with a model's weights."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tokenizer)
    run = Run(folder, model.shape, seed=0, peak=0.0)  # whoever resumes it sets the rate anew at every step
    run.model.load_state_dict(model.state_dict())
    run.slow = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.save()


def average_weights(first: Batch, second: Batch, share: float) -> Batch:
    """The state of a run as Run.save writes it: `second` with the average of both's slow weights, of which it has
    `share`.

    Raises: SystemExit naming a weight that is not of the same shape in both.
    """
    slow = {}
    for name, weight in second["slow"].items():
        other = first["slow"].get(name)
        if other is None or other.shape != weight.shape:
            found = "none" if other is None else tuple(other.shape)
            raise SystemExit(f"{name}: expected {tuple(weight.shape)} in both runs, found {found} in the first")
        slow[name] = torch.lerp(other, weight, share)
    return second | {"slow": slow, "model": second["model"] | slow}


def average(model: Yasa) -> None:
    """The mean of the gradients over the processes that share this run, in place."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    parts = (flat / distributed.get_world_size()).split([g.numel() for g in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def batches(data: Batches, start: int, stop: int, workers: int) -> Iterator[dict[str, Any]]:
    loader = DataLoader(
        Subset(data, range(start, stop)), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None
    )
    yield from loader


def train(run: Run, data: Batches, plan: Plan, *, until: int, workers: int) -> None:
    """Goes on to step `until`, saving and noting on the way."""
    began, seen, first = time.monotonic(), list[dict[str, float]](), data.part[0] == 0
    gallery = Gallery(run.model, data, run.seen_double(data.part))
    start = data.earliest(run.step)
    for index, batch in enumerate(batches(data, start, until, workers), start):
        if "shown" in batch:
            gallery.look(**batch)
        if index < run.step:
            continue
        if index >= data.joint_start:
            batch = gallery.told(index)
        loss, terms = LOSSES[plan.phase(run.step)](run.model, batch, hinted(run.step, plan))
        run.learn(loss, plan)
        seen.append({name: float(term.detach()) for name, term in terms.items()})
        due = run.step % 50 == 0 or run.step in (*plan.starts, until)
        if due and first:
            run.note(time.monotonic() - began, seen)
        if due:
            seen = []
        if run.step % 250 == 0 or run.step in (*plan.starts, until):
            run.doubled = of_all(gallery.known)
            if first:
                run.save()


def of_all(known: dict[int, list[int]]) -> list[dict[int, list[int]]]:
    """What each of the processes knows that share this run."""
    if not distributed.is_initialized():
        return [known]
    all_known: list[dict[int, list[int]]] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(all_known, known)
    return all_known
