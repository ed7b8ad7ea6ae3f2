"""What is asked after a run: what has no answer yet, and nothing that has one."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from edge.batch.lines import Record, Settled, answered, identity, read_line
from edge.batch.results import Plan, Results
from edge.batch.sources import Entry, LinesFile
from edge.errors import ParameterError
from edge.limits import Limits
from tests.edge.batch.batches import SETTLED, ids, line, records, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


class Run:
    """Runs over one folder: each reads the input and writes what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.source = LinesFile(str(folder / "in.jsonl"), Limits())
        self.out, self.errors = folder / "out.jsonl", folder / "err.jsonl"
        self.folder = folder

    def __call__(
        self, statuses: Iterable[int] = (), *, most: int | None = None, retry: bool = False, settled: Settled = SETTLED
    ) -> Plan:
        """Answer as many lines as there are statuses."""
        with Results(self.out, self.errors) as results:
            plan = results.plan(self.source.entries(settled), self.identify, most=most, retry=retry)
            for entry, status in zip(plan.todo, statuses, strict=False):
                results.write(self.record(entry, status))
        return plan

    def identify(self, entry: Entry) -> str:
        return identity(read_line(self.source.read(entry), Limits()), SETTLED)

    def record(self, entry: Entry, status: int) -> Record:
        return answered(read_line(self.source.read(entry), Limits()), SETTLED, status, {"status": status})


def todo(plan: Plan) -> list[str | None]:
    return [entry.custom_id for entry in plan.todo]


def test_what_was_answered_is_not_asked_again(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"), line("c"))
    run = Run(folder)
    assert todo(run([200])) == ["a", "b", "c"]
    plan = run([200, 200])
    assert (todo(plan), plan.n_answered, plan.n_lines) == (["b", "c"], 1, 3)
    assert todo(run()) == [] and ids(run.out) == ["a", "b", "c"] and not run.errors.exists()


def test_what_failed_is_asked_again_only_when_it_is_wanted(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"), line("c"))
    run = Run(folder)
    run([400, 200, 503])
    assert (ids(run.out), ids(run.errors)) == (["b"], ["a", "c"])
    plan = run()
    assert (todo(plan), plan.n_failed) == ([], 2) and ids(run.errors) == ["a", "c"]
    plan = run([200, 500], retry=True)
    assert (todo(plan), plan.n_failed) == (["a", "c"], 0)
    assert ids(run.out) == ["b", "a"]
    assert [r["response"]["status_code"] for r in records(run.errors)] == [500]  # type: ignore[index]
    run([200], retry=True)
    assert ids(run.out) == ["b", "a", "c"] and not run.errors.exists()


def test_a_failure_outlasts_a_retry_that_is_killed(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"))
    run = Run(folder)
    run([400, 400])
    results = Results(run.out, run.errors)  # never closed in order
    plan = results.plan(run.source.entries(SETTLED), run.identify, most=None, retry=True)
    results.write(run.record(plan.todo[0], 200))
    results._answers.close()
    assert ids(run.errors) == ["a", "b"]
    assert todo(run()) == [] and ids(run.out) == ["a"] and ids(run.errors) == ["b"]


def test_a_line_that_was_mended_is_asked(folder: Path) -> None:
    write(folder / "in.jsonl", line("a", "worng"), line("b"))
    run = Run(folder)
    run([400, 200])
    write(folder / "in.jsonl", line("a", "right"), line("b"))
    assert todo(run([200])) == ["a"] and ids(run.out) == ["b", "a"] and not run.errors.exists()


def test_an_answer_to_another_question_ends_the_run_before_it_begins(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"))
    run = Run(folder)
    run([200])
    before = run.out.read_bytes()
    write(folder / "in.jsonl", line("a", "another"), line("b"))
    with pytest.raises(ParameterError, match="has an answer for 'a', but to another question"):
        run([200])
    write(folder / "in.jsonl", line("a"), line("b"))
    with pytest.raises(ParameterError, match="--model or --seed has changed"):
        run([200], settled=Settled(seed=1))
    assert run.out.read_bytes() == before and todo(run()) == ["b"]


def test_lines_may_come_and_go_between_runs(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"))
    run = Run(folder)
    run([200, 400])
    write(folder / "in.jsonl", line("c"), line("d"))
    plan = run([200])
    assert (todo(plan), plan.n_answered, plan.n_others) == (["c", "d"], 0, 1)
    assert ids(run.out) == ["a", "c"] and ids(run.errors) == ["b"]
    write(folder / "in.jsonl", line("d"), line("b"), line("a"))
    assert todo(run()) == ["d"] and ids(run.errors) == ["b"]


def test_what_cannot_be_asked_is_written_once(folder: Path) -> None:
    write(folder / "in.jsonl", b"{", line("a"), line("a", "twice"), line("b"))
    run = Run(folder)
    for _ in range(3):
        plan = run([200])
        assert plan.n_refused == 2
        assert [r["error"]["code"] for r in records(run.errors)] == [  # type: ignore[index]
            "invalid_json_line", "duplicate_custom_id",
        ]  # fmt: skip
    assert ids(run.out) == ["a", "b"]
    write(folder / "in.jsonl", line("a"), line("b"))
    run()
    assert not run.errors.exists()


def test_the_first_lines_alone_are_asked(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"), line("c"), b"{", line("d"))
    run = Run(folder)
    run([200, 400, 400])
    plan = run(most=2)
    assert (todo(plan), plan.n_lines, plan.n_answered, plan.n_failed, plan.n_refused) == ([], 2, 1, 1, 0)
    assert ids(run.errors) == ["b", "c"]  # what failed further on is still known
    assert todo(run(most=5)) == ["d"]


def test_a_line_of_an_image_is_known_once_it_is_read(folder: Path) -> None:
    write(folder / "in.jsonl", line("a"), line("b"))
    run = Run(folder)
    run([200])
    with Results(run.out, run.errors) as results:
        entries = (replace(entry, id=None) for entry in run.source.entries(SETTLED))
        assert todo(results.plan(entries, run.identify, most=None, retry=False)) == ["b"]
