"""The optimizers: Muon for the decoder's matrices, AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scripts.tiny.training.model import Yasa


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
        parameters: list[Tensor] = list(matrices)
        gradients = [p.grad for p in matrices if p.grad is not None]
        kept = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in matrices]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, kept, momentum)
        turned = orthogonal(torch.stack(list(ahead)))
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        length = 0.2 * math.sqrt(max(matrices[0].shape))
        torch._foreach_add_(parameters, list(turned.unbind()), alpha=-lr * length)


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
