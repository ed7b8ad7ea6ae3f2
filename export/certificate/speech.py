"""What a speech bundle's quantization cost: its encoder and its choices, compared with transformers' on made sounds."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge.bundle.manifest import SpeechManifest
from edge.errors import EdgeError
from edge.media.mel import FRAME_SAMPLES, SAMPLE_RATE_HZ, log_mel
from edge.speech.transcriber import Speech
from edge.version import RUNTIME_VERSION
from export.arrays import F32, F64
from export.certificate.compare import Agreement, Comparison, row_cosines
from export.errors import CertificateError
from export.recipe import Recipe

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

Level = Literal["quick", "full"]
Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)

SOUNDS: Final[Mapping[Level, int]] = {"quick": 4, "full": 24}
SEED: Final = 0
MAX_TOKENS: Final = 48  # of each sound's text that are compared

_LIBRARIES = ("onnxruntime", "torch", "transformers")
_N_WORST = 5


def measure(
    folder: Path,
    manifest: SpeechManifest,
    model: "WhisperForConditionalGeneration",
    recipe: Recipe,
    level: Level,
    report: Report,
) -> bytes:
    """Measure a bundle against the model it was made from; returns the certificate.

    Raises: CertificateError when a threshold of the recipe is missed (by how much), or when it cannot be measured.
    """
    started = time.monotonic()
    try:
        speech = Speech.open(folder)
        cosines, agreement = _compare(speech, model, SOUNDS[level], report)
    except EdgeError as error:
        raise CertificateError(f"the certificate could not be made: {error}") from error
    missed = _missed(agreement, recipe)
    if missed:
        raise CertificateError(f"recipe {recipe.name}: " + "; ".join(missed))
    return _document(manifest, level, cosines, agreement, time.monotonic() - started)


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


def _compare(speech: Speech, model: "WhisperForConditionalGeneration", n: int, report: Report) -> tuple[F64, Agreement]:
    """The cosine of every encoder row, and how far the choices lie apart where both read the bundle's own text."""
    import torch

    spec, cosines, found_rows, expected_rows = speech.spec, [], [], []
    for number, samples in enumerate(sounds(n, seconds=spec.n_frames * FRAME_SAMPLES / SAMPLE_RATE_HZ)):
        mel = log_mel(samples, n_mels=spec.n_mels)
        sound = speech.encode(mel)
        prompt = [spec.start, *list(spec.languages.values())[:1], *list(spec.tasks.values())[:1]]
        spoken = [token for segment in speech.transcribe(samples).segments for token in segment.tokens][:MAX_TOKENS]
        tokens = [*prompt, *spoken][: spec.context]
        logits, _ = speech.logits(tokens, speech.empty_past(), sound)
        with torch.no_grad():
            features = torch.from_numpy(mel[None])
            hidden = model.model.encoder(features).last_hidden_state[0].numpy()
            expected = model(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits[0].numpy()
        cosines.append(row_cosines(hidden, sound["hidden"][0]))
        found_rows.append(logits[len(prompt) - 1 :])
        expected_rows.append(expected[len(prompt) - 1 :])
        report("comparison", number + 1, n)
    rows = np.concatenate(expected_rows)
    comparison = Comparison(len(rows))
    comparison.add(rows, np.concatenate(found_rows))
    return np.concatenate(cosines), comparison.result()


def _missed(agreement: Agreement, recipe: Recipe) -> list[str]:
    """Each threshold that is missed, and by how much; the one for pictures does not speak of sound."""
    thresholds, missed = recipe.thresholds, []
    if thresholds.max_mean_kl is not None and agreement.kl_mean > thresholds.max_mean_kl:
        missed.append(f"max_mean_kl is {thresholds.max_mean_kl}, measured {agreement.kl_mean:.6g}")
    if thresholds.min_top1 is not None and agreement.top1 < thresholds.min_top1:
        missed.append(f"min_top1 is {thresholds.min_top1}, measured {agreement.top1:.6g}")
    return missed


def _document(manifest: SpeechManifest, level: Level, cosines: F64, agreement: Agreement, wall_s: float) -> bytes:
    worst = sorted(manifest.recipe.tensors.items(), key=lambda item: (-item[1].error, item[0]))[:_N_WORST]
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
        "worst_tensors": [{"tensor": name, **asdict(record)} for name, record in worst],
        "wall_s": round(wall_s, 1),
        "versions": {"edge": RUNTIME_VERSION, **{name: version(name) for name in _LIBRARIES}},
    }
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
