"""Seconds of decoding: at most so many in any window, for each client, in little memory."""

import random

import pytest

from edge.media import budget as budget_module
from edge.media.budget import Budget


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_spent_is_left_no_more_until_the_window_is_over() -> None:
    clock = Clock()
    budget = Budget(60, 600, clock=clock)
    assert budget.left_s("a") == 60 and budget.wait_s("a") == 0
    budget.spend("a", 20)
    assert (budget.left_s("a"), budget.left_s("b"), budget.spent_s("a")) == (40, 60, 20)
    clock.now_s += 100
    budget.spend("a", 40)
    assert (budget.left_s("a"), budget.wait_s("a")) == (0, 500)
    clock.now_s += 499
    assert budget.left_s("a") == 0
    clock.now_s += 1
    assert (budget.left_s("a"), budget.spent_s("a"), budget.wait_s("a")) == (20, 40, 0)


@pytest.mark.parametrize(("spent_s", "left_s"), [(58.9, 1.1), (59, 1), (59.1, 0), (61, 0)])
def test_with_less_than_a_sixtieth_nothing_is_begun(spent_s: float, left_s: float) -> None:
    budget = Budget(60, 600, clock=Clock())
    budget.spend("a", spent_s)
    assert budget.left_s("a") == pytest.approx(left_s)
    assert (budget.wait_s("a") == 0) == (left_s > 0)


def test_who_waits_as_long_as_told_has_time_again() -> None:
    rng, clock = random.Random(0), Clock()
    budget = Budget(60, 600, clock=clock)
    for _ in range(2000):
        clock.now_s += rng.random() * 20
        left_s = budget.left_s("a")
        if left_s > 0:
            budget.spend("a", min(left_s, rng.random() * 30))
            continue
        clock.now_s += budget.wait_s("a") + 1e-6
        assert budget.left_s("a") >= 1


def test_no_window_has_more() -> None:
    rng, clock = random.Random(1), Clock()
    budget, spent = Budget(60, 600, clock=clock), []
    for _ in range(3000):
        clock.now_s += rng.random() * 10
        seconds = min(budget.left_s("a"), rng.random() * 5)
        budget.spend("a", seconds)
        spent.append((clock.now_s, seconds))
        assert sum(s for at_s, s in spent if at_s > clock.now_s - 600) <= 60 + 1e-6


def test_nothing_is_left_of_no_seconds() -> None:
    budget = Budget(0, 600, clock=Clock())
    assert (budget.left_s("a"), budget.wait_s("a")) == (0, 600)


def test_many_clients_and_many_jobs_cost_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "_N_CLIENTS", 10)
    clock = Clock()
    budget = Budget(60, 600, clock=clock)
    for _ in range(5000):
        clock.now_s += 0.5
        budget.spend("a", 0.01)
    assert len(budget._spent["a"]) <= 101
    for n in range(100):
        budget.spend(str(n), 0.001)
    assert len(budget._spent) == 10 and budget.spent_s("a") > 5
    clock.now_s += 601
    budget.spend("new", 1)
    budget._forget()
    assert list(budget._spent) == ["new"]
