"""Golden tokens: a few fixed prompts, answered greedily when a bundle was certified, and again wherever it runs.

A replay feeds the certified tokens, whatever it would choose itself, so that every step is compared with the same past.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.arrays import F32, U8
from edge.bundle.certificate import Golden, GoldenPiece, GoldenPrompt, GoldenStep, Spread
from edge.engine.engine import Engine
from edge.engine.pieces import Control, Media, Piece, Text
from edge.errors import BundleError
from edge.media.image import digest

TOP: Final = 16  # logits that are kept of a step
DUST: Final = 1e-7  # nats: KL of logits whose last digits in float32 differ, which is no difference
SIGMAS: Final = 3  # standard errors that rounding may be away from its mean

Progress = Callable[[int, int], None]  # prompts done, prompts in all


@dataclass(frozen=True)
class Replay:
    """What a replay found. kl_mean: over the steps, in nats, at least: of the largest logits, and all others as one.

    first_other: the number of the prompt and of the step, from 1, whose most likely token is another first; texts:
    the numbers of the prompts whose text has other ids now, which are not computed; rounding: the mean KL that rounding
    explains; tolerated: what other kernels may come to beside it, None where the same ones compute: they give the same
    logits.
    """

    n_prompts: int
    n_steps: int
    n_same_tokens: int
    is_identical: bool
    kl_mean: float
    largest_difference: float
    first_other: tuple[int, int] | None
    texts: tuple[int, ...]
    rounding: float
    tolerated: float | None

    @property
    def is_certified(self) -> bool:
        """Whether what was computed is what was certified, but for rounding, or for what other kernels do."""
        return not self.texts and self.kl_mean <= max(self.rounding, self.tolerated or 0.0)

    @property
    def words(self) -> str:
        """What was found, in one sentence."""
        if self.texts:
            which = ", ".join(map(str, self.texts))
            return f"the tokenizer makes other ids of the text of golden prompt {which} than those that were certified"
        told = f"{self.n_steps} golden tokens of {self.n_prompts} prompt{'s' if self.n_prompts != 1 else ''}"
        if self.is_identical:
            return f"{told}: the same tokens and the same logits as certified"
        far = f"logits are up to {self.largest_difference:.2g} off, KL {self.kl_mean:.2g}"
        return f"{told}: {self._tokens()}; {far}: {self._reason()}"

    def _tokens(self) -> str:
        if self.first_other is None:
            return "the same tokens"
        prompt, step = self.first_other
        return f"{self.n_same_tokens} the same, the first other one is token {step} of prompt {prompt}"

    def _reason(self) -> str:
        if self.tolerated is None:
            least = "only the last digits differ" if self.is_certified else "something is wrong"
            return f"the same kernels compute here, and should give the same logits: {least}"
        if self.kl_mean <= self.rounding:
            return f"other kernels compute here; rounding does as much in this bundle (KL up to {self.rounding:.2g})"
        than = "less" if self.is_certified else "more"
        reason = f"more than rounding does in this bundle (KL up to {self.rounding:.2g})"
        return f"other kernels compute here; it is {reason}, and {than} than a tenth of what quantization cost"


def test_image(width_px: int, height_px: int) -> U8:
    """An image by whole numbers alone, the same everywhere: two gradients and a chessboard. Returns (H, W, 3) RGB."""
    x, y = np.arange(width_px)[None, :], np.arange(height_px)[:, None]
    image = np.empty((height_px, width_px, 3), np.uint8)
    image[..., 0] = x * 255 // max(1, width_px - 1)
    image[..., 1] = y * 255 // max(1, height_px - 1)
    image[..., 2] = np.where((x // 32 + y // 32) % 2, 224, 48)
    return image


def step_of(logits: F32, token: int) -> GoldenStep:
    """What is kept of one step. logits: (V,)."""
    top = np.argsort(-logits, kind="stable")[:TOP]
    # The shortest digits that are this very float32 again.
    shown = tuple(float(str(value)) for value in logits[top])
    return GoldenStep(token, tuple(top.tolist()), shown, log_total(logits))


def log_total(logits: F32) -> float:
    """The logarithm of the sum of exponentials. logits: (V,)."""
    values = logits.astype(np.float64)
    peak = float(values.max())
    return peak + math.log(float(np.exp(values - peak).sum()))


def follow(engine: Engine, prompt: Sequence[Piece], tokens: Sequence[int]) -> list[F32]:
    """The logits (V,) that predict each of some tokens: the first by reading a prompt, the others step by step.

    Raises: as `Engine.generate`.
    """
    rows: list[F32] = []

    def sample(logits: F32) -> int:
        rows.append(logits.copy())
        return tokens[len(rows) - 1]

    for _ in engine.generate(prompt, max_tokens=len(tokens), sample=sample, stop_ids=()):
        pass
    return rows


def replay(
    engine: Engine, golden: Golden, *, tolerated: float | None = None, progress: Progress | None = None
) -> Replay:
    """Compute a bundle's golden tokens again; tolerated: as in `Replay`.

    Raises: BundleError for prompts that are not this bundle's, and as `Engine.generate`.
    """
    rows: list[list[F32] | None] = []
    for prompt in golden.prompts:
        pieces = pieces_of(prompt, engine)
        rows.append(None if pieces is None else follow(engine, pieces, [step.token for step in prompt.steps]))
        if progress is not None:
            progress(len(rows), len(golden.prompts))
    return compare(golden, rows, tolerated=tolerated)


def context(golden: Golden) -> int:
    """The positions that a replay needs."""
    return max(_n_positions(prompt) + len(prompt.steps) for prompt in golden.prompts)


def compare(golden: Golden, rows: Sequence[Sequence[F32] | None], *, tolerated: float | None = None) -> Replay:
    """Golden steps against what was computed now: (V,) for every step of a prompt, None for a prompt of other ids."""
    kls: list[float] = []
    n_same, largest, first_other = 0, 0.0, None
    for number, at, step, logits in _steps(golden, rows):
        kls.append(divergence(step, logits))
        largest = max(largest, _difference(step, logits))
        if int(logits.argmax()) == step.token:
            n_same += 1
        elif first_other is None:
            first_other = (number, at)
    done = sum(found is not None for found in rows)
    spreads = (golden.noise.golden, golden.noise.all)
    explained = max(rounding(spread, n_steps=max(1, len(kls))) for spread in spreads)
    return Replay(
        n_prompts=done,
        n_steps=len(kls),
        n_same_tokens=n_same,
        is_identical=largest == 0 and n_same == len(kls),
        kl_mean=float(np.mean(kls)) if kls else 0.0,
        largest_difference=largest,
        first_other=first_other,
        texts=tuple(n for n, found in enumerate(rows, 1) if found is None),
        rounding=DUST if tolerated is None else explained,
        tolerated=tolerated,
    )


def rounding(spread: Spread, *, n_steps: int) -> float:
    """The mean KL that rounding alone explains, where other kernels compute.

    Another order of additions changes the last digits, as steps do against reading; what is rounded to 8 bits behind
    them then falls to the other side here and there. How much that does was measured when the bundle was certified:
    the mean of so many steps is within SIGMAS standard errors of it.
    """
    return max(DUST, spread.kl_mean + SIGMAS * spread.kl_std / math.sqrt(n_steps))


def _steps(golden: Golden, rows: Sequence[Sequence[F32] | None]) -> Iterator[tuple[int, int, GoldenStep, F32]]:
    """Yield each step that was computed: the numbers of its prompt and of itself, it, and what was computed, (V,)."""
    for number, (prompt, found) in enumerate(zip(golden.prompts, rows, strict=True), 1):
        for at, (step, logits) in enumerate(zip(prompt.steps, found, strict=True) if found is not None else (), 1):
            yield number, at, step, logits


def divergence(step: GoldenStep, logits: F32) -> float:
    """KL(certified || now) with all but the certified largest logits as one token: no more than the whole KL."""
    before = np.exp(np.array(step.logits) - step.log_total)
    now = np.exp(logits[list(step.ids)].astype(np.float64) - log_total(logits))
    rest, rest_now = max(0.0, 1 - float(before.sum())), max(1e-12, 1 - float(now.sum()))
    kl = float((before * np.log(np.maximum(before, 1e-300) / np.maximum(now, 1e-300))).sum())
    if rest > 1e-9:
        kl += rest * math.log(rest / rest_now)
    return max(0.0, kl)


def _difference(step: GoldenStep, logits: F32) -> float:
    return float(np.abs(np.array(step.logits, np.float32) - logits[list(step.ids)]).max())


def pieces_of(prompt: GoldenPrompt, engine: Engine) -> list[Piece] | None:
    """A prompt as the engine takes it; None when its text has other ids now. Raises: BundleError."""
    found: list[Piece] = []
    for piece in prompt.pieces:
        if piece.image is not None:
            found.append(_media(piece, engine))
        elif piece.text is None:
            found.append(Control(piece.ids))
        elif engine.tokenizer.encode(piece.text) != list(piece.ids):
            return None
        else:
            found.append(Text(piece.text))
    return found


def _media(piece: GoldenPiece, engine: Engine) -> Media:
    image = piece.image
    if image is None or engine.manifest.vision is None:
        raise BundleError("certificate.json: golden: an image, but this bundle accepts text only")
    rgb = test_image(image.width_px, image.height_px)
    return Media("image", rgb, image.n_tokens, digest(rgb))


def _n_positions(prompt: GoldenPrompt) -> int:
    return sum(piece.image.n_tokens if piece.image else len(piece.ids) for piece in prompt.pieces)
