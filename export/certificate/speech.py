"""What a speech bundle's quantization cost: its encoder and its choices, compared with transformers' on made sounds."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.bundle.certificate import GoldenPiece, GoldenPrompt
from edge.bundle.manifest import SpeechManifest
from edge.engine.golden import step_of
from edge.errors import EdgeError
from edge.media.mel import FRAME_SAMPLES, SAMPLE_RATE_HZ, log_mel
from edge.speech import golden as replaying
from edge.speech.transcriber import Speech, Values
from export.arrays import F32, F64
from export.certificate import golden
from export.certificate.compare import Comparison, Scores, row_cosines
from export.certificate.document import dumped, machine, missed_by, prefill_decode, versions
from export.certificate.extent import Level
from export.errors import CertificateError
from export.recipe import Recipe

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)

SOUNDS: Final[Mapping[Level, int]] = {"quick": 4, "full": 24}
SEED: Final = 0
MAX_TOKENS: Final = 48  # of each sound's text that are compared

_N_WORST = 5


@dataclass(frozen=True, eq=False)
class _Compared:
    """cosines: of every encoder row; scores: where both read the bundle's own text; prefill_decode: of the bundle."""

    cosines: F64
    scores: Scores
    prefill_decode: Scores


def measure(
    folder: Path,
    manifest: SpeechManifest,
    model: "WhisperForConditionalGeneration",
    recipe: Recipe,
    level: Level,
    report: Report,
) -> bytes:
    """Measure a bundle against the model it was made from; returns the certificate.

    Raises: CertificateError when it cannot be measured.
    """
    started = time.monotonic()
    try:
        speech = Speech.open(folder, providers="cpu")
        made = _golden(speech)
        compared = _compare(speech, model, SOUNDS[level], report)
    except EdgeError as error:
        raise CertificateError(f"the certificate could not be made: {error}") from error
    return _document(manifest, recipe, level, compared, made, time.monotonic() - started)


def sounds(n: int, *, seconds: float) -> list[F32]:
    """Made sounds, (seconds * 16 000,) float32 each: gliding voices with pauses, and noise, another for each number."""
    made = []
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    for number in range(n):
        random = np.random.default_rng([SEED, number])
        pitch_hz = random.uniform(80, 250) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.3, 2) * t))
        phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
        voice = sum(random.uniform(0.2, 1) / k * np.sin(k * phase) for k in range(1, 12))
        syllables = np.clip(np.sin(2 * np.pi * random.uniform(1, 4) * t + random.uniform(0, 6)) * 2, 0, 1)
        noise = random.uniform(0.001, 0.05) * random.standard_normal(len(t))
        made.append((0.2 * voice * syllables + noise).astype(np.float32))
    return made


def _compare(speech: Speech, model: "WhisperForConditionalGeneration", n: int, report: Report) -> _Compared:
    """Compare encoder rows, and what follows the bundle's own text; the same text by steps, too."""
    import torch

    spec, cosines, found, expected, steps = speech.spec, [], [], [], []
    for number, samples in enumerate(sounds(n, seconds=spec.n_frames * FRAME_SAMPLES / SAMPLE_RATE_HZ)):
        mel = log_mel(samples, n_mels=spec.n_mels)
        sound = speech.encode(mel)
        prompt = replaying.prompt(spec)
        spoken = [token for segment in speech.transcribe(samples).segments for token in segment.tokens][:MAX_TOKENS]
        tokens = [*prompt, *spoken][: spec.context]
        logits, _ = speech.logits(tokens, speech.empty_past(), sound)
        with torch.no_grad():
            features = torch.from_numpy(mel[None])
            hidden = model.model.encoder(features).last_hidden_state[0].numpy()
            theirs = model(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits[0].numpy()
        cosines.append(row_cosines(hidden, sound["hidden"][0]))
        found.append(logits[len(prompt) - 1 :])
        expected.append(theirs[len(prompt) - 1 :])
        steps.append(_prefill_decode(speech, sound, tokens, found[-1]))
        report("comparison", number + 1, n)
    scores = _scores(np.concatenate(expected), np.concatenate(found))
    return _Compared(np.concatenate(cosines), scores, Scores.joined(steps))


def _prefill_decode(speech: Speech, sound: Values, tokens: list[int], prefilled: F32) -> Scores:
    """A text read at once against the same by steps. prefilled: (n, V), from the prompt's last position on."""
    begin = tokens[: len(tokens) - len(prefilled) + 1]
    rows = replaying.follow(speech, sound, begin, [*tokens[len(begin) :], speech.spec.end])
    return _scores(prefilled[1:], np.stack(rows)[1:])


def _scores(one: F32, other: F32) -> Scores:
    comparison = Comparison(len(one))
    comparison.add(one, other)
    return comparison.scores()


def _golden(speech: Speech) -> golden.Recorded:
    """What the bundle makes of the test sound: the most likely token each time, whatever the rules of a transcript."""
    spec, sound = speech.spec, replaying.encoded(speech)
    begin, ids = replaying.prompt(spec), list[int]()
    n_most = min(golden.MAX_TOKENS, spec.context - len(begin) + 1)
    logits, past = speech.logits(begin, speech.empty_past(), sound)
    steps = []
    while True:
        ids.append(int(logits[-1].argmax()))
        steps.append(step_of(logits[-1], ids[-1]))
        if ids[-1] == spec.end or len(ids) == n_most:
            break
        logits, past = speech.logits(ids[-1:], past, sound)
    read, _ = speech.logits([*begin, *ids[:-1]], speech.empty_past(), sound)
    made = GoldenPrompt((GoldenPiece(begin, None, None),), tuple(steps))
    return golden.Recorded((made,), tuple(golden.reread(steps, read[len(begin) - 1 :])))


def _document(
    manifest: SpeechManifest, recipe: Recipe, level: Level, compared: _Compared, made: golden.Recorded, wall_s: float
) -> bytes:
    worst = sorted(manifest.recipe.tensors.items(), key=lambda item: (-item[1].error, item[0]))[:_N_WORST]
    agreement, cosines = compared.scores.agreement(), compared.cosines
    kept = golden.golden(made, compared.prefill_decode)
    document = {
        "format": 1,
        "bundle": manifest.id,
        "recipe": manifest.recipe.name,
        "level": level,
        "sounds": {"seed": SEED, "sounds": SOUNDS[level], "text": "greedy, by the bundle; both read the same text"},
        "positions": agreement.positions,
        "encoder_cosine": {"mean": float(cosines.mean()), "min": float(cosines.min())},
        "kl": {"mean": agreement.kl_mean, "p99": agreement.kl_p99, "max": agreement.kl_max},
        "top1_agreement": agreement.top1,
        "largest_logit_difference": agreement.largest_difference,
        "prefill_decode": prefill_decode(compared.scores, compared.prefill_decode),
        "worst_tensors": [{"tensor": name, **asdict(record)} for name, record in worst],
        "thresholds": asdict(recipe.thresholds),
        "missed": list(missed_by(agreement, recipe.thresholds)),  # the one for pictures does not speak of sound
        "golden": None if kept is None else asdict(kept),
        "wall_s": round(wall_s, 1),
        "machine": machine(),
        "versions": versions("torch", "transformers"),
    }
    return dumped(document)
