"""The phases of a training run, and how fast each learns."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Steps of each phase: the tower learns to see, the decoder to talk of what it is told, then both of what is seen.

    trained_tower: the tower has learned before.
    """

    tower_steps: int
    decoder_steps: int
    joint_steps: int
    trained_tower: bool = False

    @property
    def starts(self) -> tuple[int, int, int]:
        return 0, self.tower_steps, self.tower_steps + self.decoder_steps

    @property
    def lengths(self) -> tuple[int, int, int]:
        return self.tower_steps, self.decoder_steps, self.joint_steps

    @property
    def heights(self) -> tuple[float, float, float]:
        """How fast each phase learns at most: a new tower fast, one that can see already with care."""
        return 0.5 if self.trained_tower else 1.5, 1.0, 0.5

    @property
    def steps(self) -> int:
        return sum(self.lengths)

    def phase(self, step: int) -> int:
        return max(i for i, start in enumerate(self.starts) if start <= step)


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
