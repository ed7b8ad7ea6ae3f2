"""The sampler against a plain oracle, and at the edges of every parameter."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engine.sampling import Sampler, make_sampler
from edge.errors import NonFiniteError, ParameterError

F32 = npt.NDArray[np.float32]


def sampler(
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 1 << 20,
    frequency: float = 0.0,
    presence: float = 0.0,
    seed: int | None = 0,
) -> Sampler:
    return make_sampler(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        frequency_penalty=frequency,
        presence_penalty=presence,
        seed=seed,
    )


def oracle(logits: list[float], temperature: float, top_p: float, top_k: int) -> dict[int, float]:
    """The distribution by the textbook: sort, softmax, cut by rank, cut by mass, renormalize."""
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:top_k]
    weights = [np.exp((np.float64(logits[i]) - logits[ranked[0]]) / temperature) for i in ranked]
    shares = [weight / sum(weights) for weight in weights]
    kept, mass = [], 0.0
    for token, share in zip(ranked, shares, strict=True):
        kept.append((token, share))
        mass += share
        if mass >= top_p - 1e-12:
            break
    return {token: share / mass for token, share in kept}


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"), [(1.0, 1.0, 99), (0.4, 0.95, 99), (2.0, 0.5, 99), (1.5, 1.0, 3), (1.0, 0.8, 5)]
)
def test_frequencies_follow_the_textbook(temperature: float, top_p: float, top_k: int) -> None:
    logits = np.array([1.0, 3.0, 2.0, 2.0, -1.0, 0.5, 2.5, -9.0], np.float32)
    sample, n = sampler(temperature, top_p, top_k), 20_000
    counts = Counter(sample(logits) for _ in range(n))
    wanted = oracle(logits.tolist(), temperature, top_p, top_k)
    assert counts.keys() <= wanted.keys()
    for token, share in wanted.items():
        assert counts[token] / n == pytest.approx(share, abs=0.015)


def test_top_k_keeps_the_smaller_ids_among_equals() -> None:
    sample = sampler(top_k=3)
    assert {sample(np.zeros(100, np.float32)) for _ in range(200)} == {0, 1, 2}


def test_top_p_keeps_the_token_that_crosses_the_border() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    for top_p, kept in ((0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2})):
        sample = sampler(top_p=top_p)
        assert {sample(logits) for _ in range(300)} == kept


def test_greedy_takes_the_first_of_the_largest() -> None:
    assert sampler(0.0)(np.array([1, 5, 5, 2], np.float32)) == 1
    assert sampler(9e-6, seed=None)(np.array([1, 5, 5, 2], np.float32)) == 1


@pytest.mark.parametrize(("frequency", "presence"), [(0.5, 0.0), (0.0, 1.5), (2.0, 2.0), (-2.0, -2.0), (0.3, -0.7)])
def test_penalties_follow_the_textbook(frequency: float, presence: float) -> None:
    rng = np.random.default_rng(1)
    sample, seen = sampler(0.0, frequency=frequency, presence=presence), Counter[int]()
    for _ in range(100):
        logits = rng.normal(size=12).astype(np.float32)
        penalty = np.array([seen[i] * frequency + presence * (seen[i] > 0) for i in range(12)], np.float32)
        wanted = int(np.argmax(logits - penalty))
        assert sample(logits) == wanted
        seen[wanted] += 1


def test_sampler_leaves_the_logits_as_they_are() -> None:
    logits = np.arange(5, dtype=np.float32)
    logits.flags.writeable = False
    sample = sampler(0.7, frequency=1.0)
    for _ in range(10):
        sample(logits)


def test_seed_reproduces_and_another_seed_differs() -> None:
    logits = np.zeros(1000, np.float32)

    def draw(seed: int | None) -> list[int]:
        sample = sampler(seed=seed)
        return [sample(logits) for _ in range(20)]

    assert draw(7) == draw(7)
    assert len({tuple(draw(seed)) for seed in (0, 1, -1, 2, 2**70, -(2**70), None, None)}) == 8


def test_draws_of_a_seed_never_change() -> None:
    sample = sampler(seed=0)
    assert [sample(np.zeros(1000, np.float32)) for _ in range(4)] == [844, 757, 420, 258]


extreme = st.sampled_from([0.0, -np.inf, 3e38, -3e38, 1.0, 1e-30])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(extreme | st.floats(-100, 100, width=32), min_size=1, max_size=40),
    st.sampled_from([0.0, 1e-8, 1e-5, 3e-4, 0.4, 2.0, 1e30]),
    st.sampled_from([1e-12, 0.5, 0.95, 1.0]),
    st.sampled_from([1, 2, 1024, 2**63]),
    st.sampled_from([-2.0, 0.0, 2.0]),
)
def test_extremes_give_a_valid_id(
    values: list[float], temperature: float, top_p: float, top_k: int, penalty: float
) -> None:
    logits = np.array(values, np.float32)
    sample = sampler(temperature, top_p, top_k, penalty, penalty)
    for _ in range(3):
        if np.isneginf(logits).all():
            with pytest.raises(NonFiniteError):
                sample(logits)
        else:
            assert np.isfinite(logits[sample(logits)])


@pytest.mark.parametrize("top_k", [1, 1024])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_an_error(temperature: float, top_k: int) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(NonFiniteError, match="sampling"):
            sampler(temperature, top_k=top_k)(np.full(4, bad, np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("temperature", bad) for bad in (-1e-9, np.nan, np.inf)),
        *(("top_p", bad) for bad in (0.0, -1.0, 1.0001, np.nan)),
        *(("top_k", bad) for bad in (0, -1)),
        *(("frequency_penalty", bad) for bad in (-2.01, 2.01, np.nan)),
        *(("presence_penalty", bad) for bad in (-2.01, 2.01, np.nan)),
    ],
)
def test_parameters_out_of_range_are_named(field: str, value: float) -> None:
    good = {"temperature": 1.0, "top_p": 1.0, "top_k": 5, "frequency_penalty": 0.0, "presence_penalty": 0.0}
    with pytest.raises(ParameterError, match=field) as caught:
        make_sampler(**{**good, field: value}, seed=0)  # type: ignore[arg-type]
    assert caught.value.field == field
