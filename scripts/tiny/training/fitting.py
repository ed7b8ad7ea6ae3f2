"""Fits to a model that has learned already what a bundle does not keep, while all that it does keep stands still."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scripts.tiny.lessons.batches import TOWER_IMAGES, USES, Batches
from scripts.tiny.lessons.drawings import Drawings
from scripts.tiny.training.gallery import Gallery
from scripts.tiny.training.losses import detector_loss, exactness, joint_loss, labelled, projection_loss, seen_loss
from scripts.tiny.training.model import Yasa
from scripts.tiny.training.run import batches

HASTE = 2e-2  # the learning rate of what is fitted: single linear layers, mostly
CAREFUL = 0.2  # of that for the projector, which is deeper, and of that again where it nearly says it already
REPEATS = 8  # how often the detector is shown each picture when it is fitted alone, which needs no tower
SHOWN = 0.5  # how much the cells with shapes count besides all cells


def fit_heads(model: Yasa, data: Batches, steps: int) -> None:
    """All heads of the tower alone, and the projector, which is to say the code: to train the tower further.

    data: batches for the tower.
    """
    answering = nn.ModuleList([model.detector, model.spotters, model.tracers, model.stretchers])
    projector = model.model.language_projection
    shown = batches(data, 0, steps, 0)

    def missed() -> Tensor:
        batch = next(shown)
        with torch.no_grad(), exactness():
            maps = tuple(found.float() for found in model.look(batch["tiles"]))
        batch |= labelled(model.detector(maps[-1]), batch["known"], model.shape.grid)
        apart = projection_loss(model.project(maps[-1]), model.ideal_embeddings(batch["code"]), batch["code"])
        return apart + sum(seen_loss(model, maps, batch).values(), start=torch.zeros(()))

    fit(model, [(HASTE, answering), (HASTE * CAREFUL, projector)], steps, missed)


def fit_detector(model: Yasa, seed: int, count: int) -> None:
    """The detector alone, on so many batches of pictures that are talked about: for a tower that stays as it is."""
    images = Drawings(model.shape, (seed, 4), crowded=False, uses=USES)
    known, features = [], []
    for batch in range(count):
        shots = [images[TOWER_IMAGES * batch + i] for i in range(TOWER_IMAGES)]
        tiles = torch.from_numpy(np.stack([shot.tile for shot in shots]).transpose(0, 3, 1, 2).copy())
        with torch.no_grad(), exactness():
            features.append(model.look(tiles)[-1].float())
        known.append([shot.things for shot in shots])
    order = iter(range(count * REPEATS))

    def missed() -> Tensor:
        batch = next(order) % count
        found = model.detector(features[batch])
        return detector_loss(found, labelled(found, known[batch], model.shape.grid)["marks"])

    fit(model, [(HASTE, model.detector)], count * REPEATS, missed)


def fit_projector(model: Yasa, other: Yasa, seed: int, steps: int) -> None:
    """The projector, which begins as the other's: to say with this tower what the other one says with its own."""
    model.model.language_projection.load_state_dict(other.model.language_projection.state_dict())
    images = Drawings(model.shape, (seed, 4), crowded=False, uses=USES)
    numbers = iter(range(steps))

    def missed() -> Tensor:
        first = TOWER_IMAGES * next(numbers)
        shots = [images[first + i] for i in range(TOWER_IMAGES)]
        tiles = torch.from_numpy(np.stack([shot.tile for shot in shots]).transpose(0, 3, 1, 2).copy())
        with torch.no_grad(), exactness():
            seen, wanted = model.look(tiles)[-1].float(), other.project(other.look(tiles)[-1]).float()
        here = labelled(model.detector(seen), [shot.things for shot in shots], model.shape.grid)["marks"][..., 0]
        off: Tensor = (model.project(seen) - wanted).square().mean(-1)
        lost: Tensor = off.mean() + SHOWN * (off * here).sum() / here.sum().clamp(min=1)
        return lost

    fit(model, [(HASTE * CAREFUL**2, model.model.language_projection)], steps, missed)


def fit_hints(model: Yasa, data: Batches, steps: int) -> None:
    """All heads of the decoder's layers. data: batches that train both."""
    answering = nn.ModuleList([model.namer, model.rememberer, model.counters, model.describer, model.tallier])
    gallery, shown = Gallery(model, data, {}), enumerate(batches(data, 0, steps, 0))

    def missed() -> Tensor:
        index, batch = next(shown)
        if "shown" in batch:
            gallery.look(**batch)
        return joint_loss(model, gallery.told(index), 1.0)[0]

    fit(model, [(HASTE, answering)], steps, missed)


def fit(model: Yasa, parts: Sequence[tuple[float, nn.Module]], steps: int, missed: Callable[[], Tensor]) -> None:
    """So many steps of Adam for some parts of the model, each with its learning rate at its highest."""
    model.requires_grad_(False)
    for _, part in parts:
        part.requires_grad_(True)
    kept = [{"params": list(part.parameters()), "highest": rate} for rate, part in parts]
    optimizer = torch.optim.Adam(kept, betas=(0.9, 0.98))
    for step in range(steps):
        loss = missed()
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * min(1, (step + 1) / 20, 2 * (1 - step / steps))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if sys.stderr.isatty() or (step + 1) % 50 == 0:
            print(f"\r{step + 1} of {steps}, loss {loss.item():.4g} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    model.requires_grad_(True)
