"""Speech bundles: token for token what transformers' Whisper generates, timestamps included."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tokenizers
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from edge.bundle.bundle import Bundle
from edge.errors import BundleChanged, BundleError, EngineClosed, NonFiniteError, ParameterError
from edge.media.mel import log_mel
from edge.speech.rules import Rules
from edge.speech.transcriber import Heard, How, Speech, _Said
from edge.speech.transcript import Segment
from export.certificate.speech import sounds
from tests.export.checkpoint.whisper_checkpoint import (
    END,
    LANGUAGES,
    MAX_LENGTH,
    NO_TIMESTAMPS,
    RULES,
    START,
    TASKS,
)  # fmt: skip
from tests.export.checkpoint.whisper_checkpoint import tokenizer as tokenizer_json

F32 = npt.NDArray[np.float32]

RATE = 16_000
FIRST = NO_TIMESTAMPS + 1
PREVIOUS = RULES["prev_sot_token_id"]
LENGTHS_S = (1, 1.7, 2.5, 4, 6, 9, 12.3, 17, 22, 28, 29.99, 30, 30.005, 30.02, 33, 38, 45, 52.5, 61, 75)


@pytest.fixture(scope="module")
def speech(speech_bundle: Path) -> Speech:
    return Speech.open(speech_bundle, threads=1)


@pytest.fixture(scope="module")
def reference(whisper_checkpoint: Path) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(whisper_checkpoint, local_files_only=True).eval()


@cache
def clip(number: int) -> F32:
    """One of twenty sounds: voices that glide, with pauses; one is noise, one falls silent, one is silence."""
    samples = sounds(number + 1, seconds=LENGTHS_S[number])[-1]
    if number % 7 == 3:
        samples[len(samples) // 2 :] = 0
    if number == 9:
        samples[:] = 0
    if number == 14:
        samples = 0.2 * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    return samples


def generated(model: WhisperForConditionalGeneration, samples: F32, **how: object) -> list[dict[str, object]]:
    """The segments of transformers' own long-form generation."""
    more = {} if len(samples) <= 30 * RATE else {"truncation": False, "padding": "longest"}
    features = WhisperFeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt", **more).input_features
    with torch.no_grad():
        found = model.generate(
            features, return_timestamps=True, return_segments=True, temperature=0.0, condition_on_prev_tokens=False,
            **{"task": "transcribe", **how},
        )  # fmt: skip
    segments: list[dict[str, object]] = found["segments"][0]
    return segments


@pytest.mark.parametrize("number", range(len(LENGTHS_S)))
def test_tokens_and_times_are_those_of_transformers(
    number: int, speech: Speech, reference: WhisperForConditionalGeneration
) -> None:
    expected = generated(reference, clip(number))
    found = speech.transcribe(clip(number))
    assert [list(segment.tokens) for segment in found.segments] == [s["tokens"].tolist() for s in expected]
    assert [s.start_s for s in found.segments] == pytest.approx([float(s["start"]) for s in expected])
    assert [s.end_s for s in found.segments] == pytest.approx([float(s["end"]) for s in expected], abs=0.021)


def test_clips_hold_what_there_is_to_get_wrong(speech: Speech) -> None:
    found = [speech.transcribe(clip(number)) for number in (0, 6, 13, 19)]
    tokens = [segment.tokens for transcript in found for segment in transcript.segments]
    assert any(t >= FIRST for ts in tokens for t in ts) and any(t < END for ts in tokens for t in ts)
    assert len({transcript.language for transcript in found}) > 1
    assert len({transcript.text for transcript in found}) == len(found)


@pytest.mark.parametrize(("language", "task"), [("de", "transcribe"), ("en", "translate"), (None, "translate")])
def test_language_and_task_are_those_asked_for(
    language: str | None, task: str, speech: Speech, reference: WhisperForConditionalGeneration
) -> None:
    expected = generated(reference, clip(4), language=language, task=task)
    found = speech.transcribe(clip(4), how=How(language, task))
    assert [list(segment.tokens) for segment in found.segments] == [s["tokens"].tolist() for s in expected]
    assert language is None or found.language == language


@pytest.mark.parametrize("number", [1, 4, 10, 14, 17])
def test_a_prompt_comes_before_each_window_as_in_transformers(
    number: int, whisper_checkpoint: Path, speech: Speech, reference: WhisperForConditionalGeneration
) -> None:
    words = "<|en|> babe, cafe. " * 3
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(tokenizer_json()), "added_tokens": []}))
    prompt = [PREVIOUS, *tokenizer.encode(f" {words.strip()}").ids]
    assert len(prompt) > MAX_LENGTH // 2  # the end of it counts
    prompt[1:] = prompt[-(MAX_LENGTH // 2 - 1) :]
    expected = generated(reference, clip(number), prompt_ids=torch.tensor(prompt))
    found = speech.transcribe(clip(number), how=How(prompt=words))
    tokens = [list(segment.tokens) for segment in found.segments]
    assert tokens == [s["tokens"].tolist() for s in expected]
    assert tokens != [list(segment.tokens) for segment in speech.transcribe(clip(number)).segments]


@pytest.mark.parametrize("number", [3, 9, 13, 19])
def test_what_is_heard_on_the_way_is_the_beginning_of_what_is_said(number: int, speech: Speech) -> None:
    heard: list[Heard] = []
    found = speech.transcribe(clip(number), heard=heard.append)
    tokens = tuple(token for segment in found.segments for token in segment.tokens)
    for one, other in zip(heard, [*heard[1:], heard[-1]], strict=True):
        assert other.text.startswith(one.text) and other.tokens[: len(one.tokens)] == one.tokens
        assert len(one.scores) == len(one.tokens)
    assert (heard[-1].text, heard[-1].tokens) == (found.text, tokens)


def test_pieces_of_a_window_are_heard_before_its_end(speech: Speech) -> None:
    heard: list[Heard] = []
    found = speech.transcribe(clip(6), heard=heard.append)
    assert len(heard) > len({id(segment.window) for segment in found.segments})
    assert len({one.text for one in heard}) == 3


@pytest.mark.parametrize("number", [2, 9, 13])
def test_scores_are_those_of_every_token_decoded_at_once(number: int, speech: Speech) -> None:
    found = speech.transcribe(clip(number))
    window = found.segments[0].window
    ours = [s for s in found.segments if s.window is window]
    assert window is not None and window.seek == 0
    tokens = [token for segment in ours for token in segment.tokens]
    scores = [score for segment in ours for score in segment.scores]
    samples = np.pad(clip(number), (0, max(0, 30 * RATE - len(clip(number)))))
    audio = speech.encode(log_mel(samples, n_mels=80)[:, :3000])
    begin = [START, LANGUAGES[f"<|{found.language}|>"], TASKS["transcribe"]]
    rows, _ = speech.logits([*begin, *tokens], speech.empty_past(), audio)
    for i, (token, score) in enumerate(zip(tokens, scores, strict=True)):
        allowed = torch.tensor(Rules(speech.spec).allowed(rows[len(begin) - 1 + i], tokens[:i]))
        assert score == pytest.approx(float(allowed.log_softmax(0)[token]), abs=1e-3)
    silence = float(torch.tensor(rows[0]).softmax(0)[NO_TIMESTAMPS - 1])
    assert window.no_speech == pytest.approx(silence, abs=1e-5)


def test_a_window_has_the_mean_of_its_scores_its_end_included(speech: Speech) -> None:
    said = _Said(30, 0, 0.5, np.random.default_rng(0), [FIRST, 65, 65, FIRST + 9], [-1.0, -2.0, -3.0, -4.0], -5.0)
    (segment,) = speech._scored([Segment(0.0, 1.0, "", (FIRST, 65, 65))], said)
    assert segment.scores == (-1.0, -2.0, -3.0) and segment.window is not None
    assert (segment.window.log_probability, segment.window.seek, segment.window.temperature) == (-3.0, 30, 0.5)
    assert segment.window.compression_ratio == pytest.approx(2 / 10)


def test_a_temperature_chooses_otherwise_and_a_seed_again_the_same(speech: Speech) -> None:
    def said(temperature: float, seed: int) -> str:
        return speech.transcribe(clip(4), how=How(temperature=temperature, seed=seed)).text

    assert said(1.0, 1) == said(1.0, 1) != said(1.0, 2)
    assert said(0.0, 1) == said(0.0, 2) == speech.transcribe(clip(4)).text


def test_int8_encoder_says_nearly_the_same(speech: Speech, int8_speech_bundle: Path) -> None:
    quantized = Speech.open(int8_speech_bundle, threads=1)
    for number in (1, 9, 11, 14):
        mel = log_mel(np.pad(clip(number), (0, 30 * RATE))[: 30 * RATE], n_mels=80)
        a, b = (each.encode(mel)["hidden"].ravel().astype(np.float64) for each in (speech, quantized))
        assert a @ b / np.sqrt((a @ a) * (b @ b)) >= 0.999


def test_decoding_with_a_past_is_decoding_at_once(speech: Speech) -> None:
    audio = speech.encode(log_mel(clip(11), n_mels=80))
    tokens = [START, LANGUAGES["<|en|>"], TASKS["transcribe"], FIRST, 65, 66, FIRST + 20]
    whole, _ = speech.logits(tokens, speech.empty_past(), audio)
    past, rows = speech.empty_past(), []
    for token in tokens:
        row, past = speech.logits([token], past, audio)
        rows.append(row)
    assert np.abs(np.concatenate(rows) - whole).max() < 1e-4


def test_same_audio_gives_the_same_text(int8_speech_bundle: Path) -> None:
    texts = {Speech.open(int8_speech_bundle, threads=threads).transcribe(clip(3)).text for threads in (1, 2)}
    assert len(texts) == 1


def test_empty_audio_is_silence(speech: Speech) -> None:
    transcript = speech.transcribe(np.zeros(0, np.float32))
    assert transcript.duration_s == 0


def test_progress_ends_with_the_audio(speech: Speech) -> None:
    told: list[tuple[float, float]] = []
    speech.transcribe(clip(17), progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == pytest.approx((52.5, 52.5))


def test_stopping_ends_within_a_token(speech: Speech) -> None:
    asked = iter([False, False, True])
    with pytest.raises(EngineClosed, match="stopped"):
        speech.transcribe(clip(19), stopped=lambda: next(asked))


REFUSED = [({"language": "xx"}, "de, en, fr"), ({"task": "sing"}, "transcribe, translate")]


@pytest.mark.parametrize(("how", "words"), REFUSED)
def test_what_it_cannot_do_is_refused(how: dict[str, str], words: str, speech: Speech) -> None:
    with pytest.raises(ParameterError, match=words):
        speech.transcribe(clip(0), how=How(**how))


def test_chat_bundle_does_not_listen(text_bundle: Path) -> None:
    with pytest.raises(BundleError, match="expected a speech bundle"):
        Speech.open(text_bundle)


def test_speech_bundle_does_not_chat(speech_bundle: Path) -> None:
    with pytest.raises(BundleError, match="expected a chat bundle"):
        Bundle.open(speech_bundle)


def test_values_that_are_not_finite_are_an_error(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = speech.logits

    def spoiled(*arguments: object) -> object:
        rows, past = logits(*arguments)  # type: ignore[arg-type]
        return np.full_like(rows, np.nan), past

    monkeypatch.setattr(speech, "logits", spoiled)
    with pytest.raises(NonFiniteError, match="window of speech"):
        speech.transcribe(clip(0))


@pytest.mark.parametrize("spoken", [[FIRST, 65, FIRST, FIRST], [FIRST] * 4, [65, 66], [], [FIRST + 1500] * 2])
def test_window_of_any_tokens_moves_on(spoken: list[int], speech: Speech) -> None:
    segments, n_done = speech._cut(spoken, 0.0, 3000)
    assert n_done >= 1 and segments


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts what this system tells")
def test_nothing_is_kept_of_audio(speech: Speech) -> None:
    def anonymous_kb() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

    speech.transcribe(clip(19))
    before = anonymous_kb()
    for _ in range(3):
        speech.transcribe(clip(19))
    assert anonymous_kb() - before < 40_000


def test_weights_that_are_cut_are_refused_before_they_are_read(int8_speech_bundle: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(int8_speech_bundle, tmp_path / "own"))
    speech = Speech.open(own, threads=1)
    (own / "decoder.bin").chmod(0o644)
    os.truncate(own / "decoder.bin", 16)
    with pytest.raises(BundleChanged, match=r"decoder\.bin of own has 16 bytes"):
        speech.transcribe(clip(3))
