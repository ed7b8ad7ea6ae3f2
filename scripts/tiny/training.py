"""The training of reka-edge-tiny: its losses, its phases, and a run that can be interrupted."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

import labelling
from data import AGAIN, DOUBLED, GAP, PICTURES, ROWS, SOUGHT, Batches, Shown
from model import AIM, BRIGHT, CODED, LATER, NAMED, REMEMBERED, SAID, TWINS, Shape, Yasa
from paints import Rng
from scenes import Thing

SHAPELY = 2.5  # how much a shape's kind counts against its colour, which is far easier to see
HINTS = 0.5  # how much it counts what the decoder knows half way
SEVERAL = 0.8  # how much talk about several pictures counts against that about one or none
SEEN = 0.3  # how much it counts in telling what the detector misses
ROUNDED = 0.02  # noise on the tower's features, a share of their spread; eight bits move embeds about as much
BEHELD = 0.1  # how much of that what a shape is like, whose errors are many numbers' squares
KNOWN = ("twins", "named", "remembered", "beheld", "tallied")  # of the terms of an answer
Batch = dict[str, Any]
Sight = tuple[Sequence[Thing], Tensor]  # a picture's shapes, and the map (4 * G * G, C) that the last stage begins with
Terms = tuple[Tensor, dict[str, Tensor]]


def detector_loss(found: Tensor, marks: Tensor) -> Tensor:
    """found: (B, G * G, FOUND); marks: (B, G * G, 7) as labelling.targets gives them."""
    here = marks[..., 0]
    count = here.sum().clamp(min=1)
    objectness = F.binary_cross_entropy_with_logits(found[..., 0], here, reduction="sum")
    return (objectness + described_loss(found, marks, here, boxes=0.5)) / count


def spotter_loss(found: Tensor, covers: Tensor) -> Tensor:
    """found: (B, N, FOUND); covers: (B, N, 8) as labelling.cover gives them."""
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


def understood_loss(embeds: Tensor, wanted: Tensor, code: Tensor) -> Tensor:
    """How far embeds (B, G * G, H) are from those of perfect eyes, for each shape of the pictures."""
    return (embeds.float() - wanted).square().sum() / BRIGHT**2 / code[..., 1].sum().clamp(min=1)


def answer_loss(model: Yasa, embeds: Tensor, rows: tuple[Tensor, ...], code: Tensor, hints: float) -> Terms:
    """Mean losses over the learned positions, and the share of rows whose answers are all the first choice.

    rows: as data.padded gives them; code: (B, G * G, CODE) of the batch's pictures.
    """
    ids, labels, source, places, at, aims, after, twins = rows
    seen = embeds.flatten(0, 1)[source.clamp(min=0)]
    inputs = torch.where((source >= 0)[..., None], seen.float(), model.model.language_model.embed_tokens(ids))
    states, looks = model.read(inputs, places)
    learned = labels >= 0
    logits, wanted = model.lm_head(states[-1][learned]), labels[learned]
    wrong = (logits.detach().argmax(-1) != wanted).float()
    mistakes = torch.zeros(len(labels)).index_add_(0, learned.nonzero()[:, 0], wrong)
    asked = at[:, 0], at[:, 1]
    terms = {
        "answer": F.cross_entropy(logits.float(), wanted),
        "aim": look_apart(looks[AIM][asked], aims[:, 0]),
        "later": look_apart(looks[LATER][asked], aims[:, 1]),
        "twins": twins_loss(model, states, looks, twins),
        "named": named_loss(model.namer(states[NAMED][source >= 0]), code.flatten(0, 1)[source[source >= 0]]),
        "remembered": classified(model.rememberer(states[REMEMBERED][asked]), after),
        "beheld": beheld_loss(model.describer(states[AIM][asked]), aims[:, 0], source[asked[0]], code),
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


def beheld_loss(found: Tensor, aims: Tensor, source: Tensor, code: Tensor) -> Tensor:
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
    return BEHELD * missed.square().sum(-1).mean()


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
        lost = lost + look_apart(looks[layer][here], target / target.sum(-1, keepdim=True))
        lost = lost + classified(model.counters[i](states[layer][here]), some.long())
    return lost


def look_apart(drawn: Tensor, aims: Tensor) -> Tensor:
    """How far a guided head looks from where it should: KL divergence, drawn and aims (N, L), nothing if no aim."""
    known = aims.sum(-1) > 0
    if not known.any():
        return drawn.sum() * 0
    return F.kl_div(drawn[known].float().log_softmax(-1).clamp(min=-30), aims[known], reduction="batchmean")


@dataclass(frozen=True)
class Plan:
    """Steps of each phase: the tower learns to see, the decoder to talk of what it is told, then both of what is seen.

    skilled: the tower has learned before.
    """

    looking: int
    reading: int
    telling: int
    skilled: bool = False

    @property
    def starts(self) -> tuple[int, int, int]:
        return 0, self.looking, self.looking + self.reading

    @property
    def lengths(self) -> tuple[int, int, int]:
        return self.looking, self.reading, self.telling

    @property
    def heights(self) -> tuple[float, float, float]:
        """How fast each phase learns at most: a new tower fast, one that can see already with care."""
        return 0.5 if self.skilled else 1.5, 1.0, 0.5

    @property
    def steps(self) -> int:
        return sum(self.lengths)

    def phase(self, step: int) -> int:
        return max(i for i, start in enumerate(self.starts) if start <= step)


def traced_loss(found: Tensor, rims: Tensor) -> Tensor:
    """found: (B, N, RIMS); rims: (B, N, 2) as labelling.rim gives them."""
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
    """What detector and embeds should say of each cell, known once the tower has looked: (B, G * G, FOUND) found."""
    sure = found.detach()[..., 0].float().numpy()
    told = [(things, labelling.surer(things, there, grid)) for things, there in zip(known, sure, strict=True)]
    marks, codes = (np.stack([label(*one, grid) for one in told]) for label in (labelling.targets, labelling.code))
    return {"marks": torch.from_numpy(marks), "code": torch.from_numpy(codes)}


def look_loss(model: Yasa, batch: Batch, hints: float) -> Terms:
    with exactness():
        maps = model.look(batch["tiles"])
        batch = batch | labelled(model.detector(maps[-1]), batch["known"], model.shape.grid)
        terms = seen_loss(model, maps, batch)
        apart = understood_loss(model.project(maps[-1]), model.imagine(batch["code"]), batch["code"])
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


def read_loss(model: Yasa, batch: Batch, hints: float) -> Terms:
    with exactness():
        return spoken(model, model.imagine(batch["code"]), batch, hints)


def spoken(model: Yasa, embeds: Tensor, batch: Batch, hints: float) -> Terms:
    """The losses of the conversations about one picture or none, and of those about several."""
    said, terms = answer_loss(model, embeds, tuple(batch[name] for name in ROWS), batch["code"], hints)
    rows = tuple(batch["group_" + name] for name in ROWS)
    grouped, several = answer_loss(model, embeds, rows, batch["code"], hints)
    return said + SEVERAL * grouped, terms | {"several": several["answer"]}


def tell_loss(model: Yasa, batch: Batch, hints: float) -> Terms:
    with exactness():
        loss, terms = spoken(model, model.project(batch["features"]), batch, hints)
        detect = detector_loss(batch["found"], batch["marks"])
    return loss + SEEN * detect, terms | {"detect": detect}


class Gallery:
    """What the tower saw in the latest pictures, up to its last stage, which goes on learning while the decoder learns
    to tell.

    Looking takes longer than talking about what was seen, so pictures are talked about several times; those in which
    two cells tell of one shape, which are rare and what lists fail at, far more often.
    """

    def __init__(self, model: Yasa, data: Batches, known: dict[int, list[int]]) -> None:
        """known: which of the pictures of some batches were seen double by the tower as it was when it looked."""
        self.model, self.data, self.known = model, data, dict(known)
        self.seen: dict[int, tuple[Shown, Tensor]] = {}
        self.doubled: dict[int, list[Sight]] = {}

    @torch.no_grad()
    def look(self, tiles: Tensor, shown: Shown) -> None:
        with exactness():
            _, _, third, last = self.model.look(tiles)
            found = self.model.detector(last).float().numpy()
        told, grid = len(tiles) - self.data.of(SOUGHT), self.model.shape.grid
        if shown.number not in self.known:
            self.known[shown.number] = [i for i, there in enumerate(found) if labelling.doubled(there, grid)]
        self.doubled[shown.number] = [(shown.things[i], third[i].clone()) for i in self.known[shown.number]]
        self.seen[shown.number] = replace(shown, things=shown.things[:told]), third[:told].clone()
        for kept in (self.seen, self.doubled, self.known):
            kept.pop(shown.number - (AGAIN - 1) * GAP - 1, None)

    def told(self, index: int) -> Batch:
        """Batch `index` of telling, whose pictures have been looked at, a few of them replaced by some seen double; all
        as if the tower's products had been rounded.
        """
        rng = np.random.default_rng([self.data.seed, 6, index, *self.data.part])
        shown, third = self.chosen(index, rng)
        with exactness():
            features = self.model.deepen(third)
            found = self.model.detector(features).float()
        marks = labelled(found, shown.things, self.model.shape.grid)["marks"]
        told = self.data.told(index, shown, found.detach().numpy())
        noise = torch.from_numpy(rng.standard_normal(features.shape, np.float32))
        rounded = features + ROUNDED * features.detach().std() * noise
        return {"features": rounded, "found": found, "marks": marks} | told

    def chosen(self, index: int, rng: Rng) -> tuple[Shown, Tensor]:
        """The pictures that batch `index` of telling talks about, and what the last stage begins with in them."""
        shown, third = self.seen[self.data.topic(index)]
        things, third = list(shown.things), third.clone()
        doubled = [sight for number in sorted(self.doubled) for sight in self.doubled[number]]
        filmed = {frame for frames in shown.films for frame in frames}
        places = [i for i in range(self.data.of(PICTURES)) if i not in filmed]
        picked = rng.permutation(len(doubled))[: self.data.of(DOUBLED)]
        for place, which in zip(rng.permutation(places), picked, strict=False):
            things[place], third[place] = doubled[which]
        return replace(shown, things=things), third


LOSSES = (look_loss, read_loss, tell_loss)


def exactness() -> torch.autocast:
    """Half the bits where the processor multiplies them natively: elsewhere they are twenty times slower."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16())


@functools.cache
def has_bfloat16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def rate(step: int, plan: Plan, peak: float) -> float:
    """Warm up at the start of each phase, hold, and fall over its last two fifths."""
    phase = plan.phase(step)
    warm = min(1.0, (step - plan.starts[phase] + 1) / 150)
    return peak * plan.heights[phase] * warm * (0.02 + 0.98 * left(step, plan))


def hinted(step: int, plan: Plan) -> float:
    """How much it counts what is known on the way: less and less while the rate falls, for the end is what matters."""
    return 0.2 + 0.8 * left(step, plan)


def left(step: int, plan: Plan) -> float:
    """1 for three fifths of a phase, then falling to 0 as a cosine does."""
    phase = plan.phase(step)
    fallen = max(0.0, (step - plan.starts[phase]) / max(plan.lengths[phase], 1) - 0.6) / 0.4
    return 0.5 * (1 + math.cos(math.pi * fallen))


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for matrices: Keller Jordan's Muon, with steps as long as those of AdamW.

    torch's own computes in bfloat16, which many processors only imitate, and one matrix at a time.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for matrices in alike.values():
                self.move(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def move(self, matrices: list[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        """One step of matrices of one shape."""
        gradients = [p.grad for p in matrices if p.grad is not None]
        kept = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in matrices]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, kept, momentum)
        turned = orthogonal(torch.stack(list(ahead)))
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        length = 0.2 * math.sqrt(max(matrices[0].shape))
        torch._foreach_add_(matrices, list(turned.unbind()), alpha=-lr * length)


def orthogonal(x: Tensor) -> Tensor:
    """Matrices (N, A, B) with all singular values near 1, by Newton and Schulz's iteration of fifth order."""
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.transpose(1, 2) if tall else x


def optimizers(model: Yasa, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the decoder's matrices, which learn faster with it; AdamW for all else."""
    named = list(model.named_parameters())
    inside = [p for name, p in named if p.ndim == 2 and "language_model.layers" in name]
    chosen = {id(p) for p in inside}
    rest = [p for _, p in named if id(p) not in chosen]
    matrices = [p for p in rest if p.ndim > 1 and min(p.shape[:2]) > 1]
    others = [p for p in rest if not (p.ndim > 1 and min(p.shape[:2]) > 1)]
    groups = [{"params": matrices, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
    muon = Muon(inside, lr=peak, weight_decay=0.03, momentum=0.95)
    return [muon, torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)]


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


def keep_still(model: Yasa) -> None:
    """From now on tower, projector and all that answers for the tower stay as they are: only the decoder learns."""
    learning = ("model.language_model.", "lm_head.", "namer.", "rememberer.", "counters.", "describer.", "tallier.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(learning))


def begin(folder: Path, model: Yasa, tokenizer: str) -> None:
    """Makes a folder with a run that is about to begin with a model's weights."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tokenizer)
    run = Run(folder, model.shape, seed=0, peak=0.0)  # whoever goes on sets the rate anew at every step
    run.model.load_state_dict(model.state_dict())
    run.slow = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.save()


def mean(first: Batch, second: Batch, share: float) -> Batch:
    """The state of a run as Run.save writes it: `second` with the mean of both's slow weights, of which it has `share`.

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
        if index >= data.telling:
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
