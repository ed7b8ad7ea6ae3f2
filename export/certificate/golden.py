"""The golden part of a certificate: fixed prompts, the bundle's greedy answers, and the largest logits of every step.

They are made as a device replays them: by an engine with one slot.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.arrays import F32
from edge.bundle.bundle import Bundle
from edge.bundle.certificate import (
    GOLDEN_FORMAT,
    Golden,
    GoldenImage,
    GoldenPiece,
    GoldenPrompt,
    GoldenStep,
    Noise,
    Spread,
)
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.engine.engine import Engine
from edge.engine.golden import divergence, step_of, test_image
from edge.engine.kv import kvs_of
from edge.engine.pieces import Control, Media, Piece, Text
from edge.errors import ContextLengthError, TextError
from edge.media.image import digest
from export.arrays import F64
from export.certificate.compare import Scores
from export.errors import CertificateError

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)

MAX_TOKENS: Final = 24  # of an answer
CONTEXT: Final = 2048  # positions: enough for each prompt

_CONVERSATIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("Name three colours, and say what each of them makes you think of.",),
    ('How much is 3 × 17? Then spell the word "naïve" backwards; keep the quotes.',),
    ("Where do rivers end?", "Most rivers end in the sea.", "And where do they begin?"),
)
_ABOUT_IMAGE: Final = "Describe the picture."


@dataclass(frozen=True)
class Recorded:
    """The prompts with their answers; kls: of their steps, by reading the answers in place of steps."""

    prompts: tuple[GoldenPrompt, ...]
    kls: tuple[float, ...]


def record(bundle: Bundle, report: Report) -> Recorded:
    """Have a bundle answer the fixed prompts that fit in its context.

    Raises: CertificateError for a logit that is not finite; EdgeError.
    """
    made, kls = [], list[float]()
    asked = list(_asked(bundle))
    context, kv = min(bundle.manifest.text.context, CONTEXT), kvs_of(bundle.manifest)[0]
    with Engine.open(bundle.path, context=context, kv=kv, providers="cpu") as engine:
        for n, turns in enumerate(asked):
            prompt = pieces(turns, engine.manifest)
            # A model may have next to no context, or no tokens for a character.
            with contextlib.suppress(ContextLengthError, TextError):
                made.append(_answer(engine, prompt))
                kls += reread(made[-1].steps, engine.score(prompt, [step.token for step in made[-1].steps]))
            report("golden", n + 1, len(asked))
    return Recorded(tuple(made), tuple(kls))


def golden(recorded: Recorded, prefill_decode: Scores) -> Golden | None:
    """The golden part; prefill_decode: what rounding alone does in this bundle. None where no prompt fits."""
    if not recorded.prompts or not len(prefill_decode.kl):
        return None
    noise = Noise(_spread(np.array(recorded.kls or [0.0])), _spread(prefill_decode.kl))
    return Golden(GOLDEN_FORMAT, recorded.prompts, noise)


def reread(steps: Sequence[GoldenStep], rows: F32) -> list[float]:
    """The KL of some steps against the same by reading, (n, V), but for the first, which was read both times."""
    return [divergence(step, row) for step, row in zip(steps[1:], rows[1:], strict=True)]


def _spread(kl: F64) -> Spread:
    mean, std, largest = (float(f"{value:.6g}") for value in (kl.mean(), kl.std(), kl.max()))
    return Spread(mean, std, largest, len(kl))


def _asked(bundle: Bundle) -> Iterator[list[Turn]]:
    for texts in _CONVERSATIONS:
        yield [Turn("assistant" if n % 2 else "user", (text,)) for n, text in enumerate(texts)]
    vision = bundle.manifest.vision
    if vision is not None:
        image = test_image(vision.tile_px, vision.tile_px)
        yield [Turn("user", (DecodedImage(image, digest(image)), _ABOUT_IMAGE))]


def _answer(engine: Engine, prompt: Sequence[Piece]) -> GoldenPrompt:
    stops, rows, ids = engine.manifest.prompt.stop_ids, list[F32](), list[int]()

    def sample(logits: F32) -> int:
        if not np.isfinite(logits).all():
            raise CertificateError("an answer of the bundle has a logit that is not finite")
        rows.append(logits.copy())
        ids.append(int(logits.argmax()))
        return ids[-1]

    for _ in engine.generate(prompt, max_tokens=MAX_TOKENS, sample=sample, stop_ids=stops):
        pass
    steps = tuple(step_of(row, token) for row, token in zip(rows, ids, strict=True))
    return GoldenPrompt(tuple(_piece(each, engine) for each in prompt), steps)


def _piece(piece: Piece, engine: Engine) -> GoldenPiece:
    if isinstance(piece, Control):
        return GoldenPiece(piece.ids, None, None)
    if isinstance(piece, Text):
        return GoldenPiece(tuple(engine.tokenizer.encode(piece.text)), piece.text, None)
    if isinstance(piece, Media) and isinstance(piece.rgb, np.ndarray):
        height, width = piece.rgb.shape[:2]
        return GoldenPiece((), None, GoldenImage(width, height, piece.n_tokens))
    raise TypeError(f"expected control ids, text or an image, got {type(piece).__name__}")
