"""Golden tokens of a speech bundle: what it makes of one fixed sound, when it was certified and on this device."""

from collections.abc import Sequence

import numpy as np

from edge.arrays import F32
from edge.bundle.certificate import Golden
from edge.bundle.manifest import SpeechSpec
from edge.engine.golden import Replay, compare
from edge.errors import BundleError
from edge.media.mel import FRAME_SAMPLES, log_mel
from edge.speech.transcriber import Speech, Values


def test_sound(spec: SpeechSpec) -> F32:
    """A sound by whole numbers alone, the same everywhere: a saw that changes its pitch, with pauses.

    Returns a window: (n,) float32, mono, 16 kHz.
    """
    t = np.arange(spec.n_frames * FRAME_SAMPLES, dtype=np.int64)
    pitch_hz = 90 + 23 * (t // 3200 % 5)
    saw = t * pitch_hz % 16_000 - 8000
    spoken = t // 1600 % 4 != 3
    samples: F32 = (saw * spoken).astype(np.float32) / np.float32(32_768)
    return samples


def encoded(speech: Speech) -> Values:
    """The test sound as the decoder looks it up."""
    return speech.encode(log_mel(test_sound(speech.spec), n_mels=speech.spec.n_mels))


def prompt(spec: SpeechSpec) -> tuple[int, ...]:
    """The tokens that a text begins with: start, the first language and the first task, where the model has them."""
    return (spec.start, *list(spec.languages.values())[:1], *list(spec.tasks.values())[:1])


def follow(speech: Speech, sound: Values, begin: Sequence[int], tokens: Sequence[int]) -> list[F32]:
    """The logits (V,) that predict each of some tokens: the first by reading the beginning, the others step by step."""
    logits, past = speech.logits(begin, speech.empty_past(), sound)
    rows = [logits[-1]]
    for token in tokens[:-1]:
        logits, past = speech.logits([token], past, sound)
        rows.append(logits[-1])
    return rows


def replay(speech: Speech, golden: Golden, *, tolerated: float | None = None) -> Replay:
    """Compute a speech bundle's golden tokens again; tolerated: as in `Replay`.

    Raises: BundleError for prompts that are not this bundle's.
    """
    sound, rows = encoded(speech), []
    for each in golden.prompts:
        if any(piece.image is not None or piece.text is not None for piece in each.pieces):
            raise BundleError("certificate.json: golden: expected control ids alone, as a speech bundle has them")
        begin = [token for piece in each.pieces for token in piece.ids]
        if len(begin) + len(each.steps) > speech.spec.context + 1:
            raise BundleError(f"certificate.json: golden: expected at most {speech.spec.context} positions")
        rows.append(follow(speech, sound, begin, [step.token for step in each.steps]))
    return compare(golden, rows, tolerated=tolerated)
