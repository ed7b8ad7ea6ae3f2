"""The choice of Whisper's next token, rule by rule: what was spoken -> what may follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bundle.manifest import SpeechSpec
from edge.speech.rules import Rules, sampled

END, START, SILENT, FIRST, N_TOKENS = 300, 301, 309, 311, 1812
SPEC = SpeechSpec(
    n_mels=80, n_frames=3000, n_positions=1500, hidden_size=64, n_layers=2, n_heads=4, head_dim=16, vocab_size=N_TOKENS,
    context=448, start=START, end=END, no_timestamps=FIRST - 1, languages={"en": 302, "de": 303},
    tasks={"transcribe": 306}, suppress=(1, 2, SILENT), begin_suppress=(32, END), max_first_timestamp=50,
)  # fmt: skip
RULES = Rules(SPEC)


def may_follow(token: int, *spoken: int, rules: Rules = RULES) -> bool:
    """Whether a token is chosen when it is by far the most likely."""
    logits = np.zeros(N_TOKENS, np.float32)
    logits[token] = 50
    return rules.choose(logits, spoken) == token


def test_first_is_a_timestamp_that_is_not_late() -> None:
    assert may_follow(FIRST) and may_follow(FIRST + 50)
    assert not any(may_follow(token) for token in (65, END, START, FIRST + 51))


def test_first_may_be_any_timestamp_without_a_limit() -> None:
    assert may_follow(FIRST + 1500, rules=Rules(replace(SPEC, max_first_timestamp=None)))


def test_text_or_the_end_follows_the_first_timestamp() -> None:
    assert may_follow(65, FIRST) and may_follow(END, FIRST)
    assert not may_follow(FIRST + 5, FIRST)


@pytest.mark.parametrize("token", [1, 2, SILENT, FIRST - 1])
def test_suppressed_tokens_are_never_chosen(token: int) -> None:
    assert not may_follow(token, FIRST) and not may_follow(token, FIRST, 65)


def test_timestamp_after_text_is_later_than_the_last() -> None:
    assert may_follow(66, FIRST + 10, 65) and may_follow(FIRST + 11, FIRST + 10, 65)
    assert not may_follow(FIRST + 10, FIRST + 10, 65)


def test_one_timestamp_is_answered_by_another_or_the_end() -> None:
    spoken = (FIRST, 65, FIRST + 10)
    assert may_follow(FIRST + 10, *spoken) and may_follow(FIRST + 400, *spoken) and may_follow(END, *spoken)
    assert not may_follow(65, *spoken) and not may_follow(FIRST + 9, *spoken)


def test_pair_of_timestamps_is_followed_by_text() -> None:
    spoken = (FIRST, 65, FIRST + 10, FIRST + 10)
    assert may_follow(65, *spoken)
    assert not may_follow(FIRST + 11, *spoken)


@pytest.mark.parametrize(("logit", "is_word"), [(7.2, False), (7.4, True)])
def test_timestamps_together_outweigh_a_word(logit: float, is_word: bool) -> None:
    logits = np.zeros(N_TOKENS, np.float32)
    logits[65] = logit  # log(1500) is 7.31
    assert (RULES.choose(logits, [FIRST, 65]) == 65) == is_word


def test_language_is_the_most_likely_of_those_it_knows() -> None:
    logits = np.zeros(N_TOKENS, np.float32)
    logits[65], logits[303] = 9, 1
    assert RULES.language(logits) == 303


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-300, 1e-6, 1e-5])
def test_low_temperatures_choose_the_most_likely_token(temperature: float) -> None:
    scores = np.full(50, -np.inf, np.float32)
    scores[[3, 7, 9]] = 80.0, 81.0, -80.0
    assert {sampled(scores, temperature, np.random.default_rng(seed)) for seed in range(20)} == {7}


def test_tokens_come_as_often_as_they_are_likely() -> None:
    scores = np.full(50, -np.inf, np.float32)
    scores[[3, 7]] = np.log([0.2, 0.8])
    luck = np.random.default_rng(0)
    found = [sampled(scores, 1.0, luck) for _ in range(2000)]
    assert set(found) == {3, 7} and found.count(7) == pytest.approx(1600, abs=80)
