"""What the tower saw in the latest images, kept to be talked about several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scripts.tiny.lessons import labels
from scripts.tiny.lessons.batches import AGAIN, DOUBLED, GAP, IMAGES, SOUGHT, Batches, Shown
from scripts.tiny.pictures.colours import Rng
from scripts.tiny.pictures.scenes import Thing
from scripts.tiny.training.losses import Batch, exactness, labelled
from scripts.tiny.training.model import Yasa

ROUNDED = 0.02  # noise on the tower's features, a share of their spread; eight bits move embeddings about as much
Encoded = tuple[
    Sequence[Thing], Tensor
]  # a picture's shapes, and the map (4 * G * G, C) that the last stage begins with


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
        self.doubled: dict[int, list[Encoded]] = {}

    @torch.no_grad()
    def look(self, tiles: Tensor, shown: Shown) -> None:
        with exactness():
            _, _, third, last = self.model.look(tiles)
            found = self.model.detector(last).float().numpy()
        told, grid = len(tiles) - self.data.of(SOUGHT), self.model.shape.grid
        if shown.number not in self.known:
            self.known[shown.number] = [i for i, there in enumerate(found) if labels.doubled(there, grid)]
        self.doubled[shown.number] = [(shown.things[i], third[i].clone()) for i in self.known[shown.number]]
        self.seen[shown.number] = replace(shown, things=shown.things[:told]), third[:told].clone()
        for kept in (self.seen, self.doubled, self.known):
            kept.pop(shown.number - (AGAIN - 1) * GAP - 1, None)

    def told(self, index: int) -> Batch:
        """Batch `index`, whose images have been looked at, a few of them replaced by some seen double; all
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
        """The images that batch `index` talks about, and what the last stage begins with in them."""
        shown, third = self.seen[self.data.topic(index)]
        things, third = list(shown.things), third.clone()
        doubled = [only_image for number in sorted(self.doubled) for only_image in self.doubled[number]]
        with_video = {frame for frames in shown.videos for frame in frames}
        places = [i for i in range(self.data.of(IMAGES)) if i not in with_video]
        picked = rng.permutation(len(doubled))[: self.data.of(DOUBLED)]
        for place, which in zip(rng.permutation(places), picked, strict=False):
            things[place], third[place] = doubled[which]
        return replace(shown, things=things), third
