"""A batch on a Ray cluster: answers as without one, and a node that is lost takes no line with it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge.batch.asker import Settings
from edge.batch.cluster import Answering, Reading
from edge.batch.lines import parsed
from edge.batch.sources import Images, LinesFile
from edge.limits import Limits
from edge.version import RUNTIME_VERSION
from tests.edge.batch.batches import SETTLED, continuation, ids, line, records, write

ROOT = Path(__file__).parents[3]
LEAVES_S = 240.0
N_LINES = 160


# Starts the nodes, and kills the second one when it is told to.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
print("said", cluster.address, node.all_processes["raylet"][0].process.pid, flush=True)
for _ in sys.stdin:
    cluster.remove_node(node, allow_graceful=False)
    print("said lost", flush=True)
cluster.shutdown()
"""


def rows(source: LinesFile | Images) -> dict[str, list[Any]]:
    """The lines of a source as Ray hands them to a reader."""
    entries = list(source.entries(SETTLED))
    columns: dict[str, list[Any]] = {"index": list(range(len(entries)))}
    return columns | {n: [getattr(e, n) for e in entries] for n in ("number", "custom_id", "path", "offset", "n_bytes")}


def answered(answering: Answering, source: LinesFile | Images) -> dict[str, Any]:
    return dict(answering(Reading(source)(rows(source))))


def test_an_actor_answers_what_a_reader_reads(tmp_path: Path) -> None:
    source = LinesFile(str(write(tmp_path / "in.jsonl", line("a", max_tokens=2), line("b", temperature=-1))), Limits())
    answers = answered(Answering(Settings(slots=1), SETTLED, None, RUNTIME_VERSION), source)
    assert answers["index"] == [0, 1] and answers["is_answer"] == [True, False] and answers["is_asked"] == [True, True]
    assert answers["custom_id"] == ["a", "b"]
    assert answers["id"] == [entry.id for entry in source.entries(SETTLED)]
    first = parsed(answers["data"][0])
    assert first is not None and first.custom_id == "a"


def test_an_image_that_cannot_be_read_is_a_failure_of_its_line(tmp_path: Path) -> None:
    source = Images(("gone.png",), str(tmp_path), "What?")
    answers = answered(Answering(Settings(slots=1), SETTLED, None, RUNTIME_VERSION), source)
    assert answers["index"] == [0] and answers["is_asked"] == [False]
    assert json.loads(answers["data"][0])["error"]["code"] == "invalid_image"


@pytest.mark.parametrize(
    ("settings", "expected", "version", "words"),
    [
        (Settings(model="gone"), None, RUNTIME_VERSION, "gone"),
        (Settings(), "0" * 64, RUNTIME_VERSION, "expected the bundle that this machine has, got another"),
        (Settings(model="gone"), "0" * 64, RUNTIME_VERSION, "gone: expected the bundle that this machine has"),
        (Settings(), None, "0.0.1", "expected version 0.0.1 of the runtime, as here"),
    ],
)  # fmt: skip
def test_a_node_that_would_answer_otherwise_says_so(
    tmp_path: Path, settings: Settings, expected: str | None, version: str, words: str
) -> None:
    source = LinesFile(str(write(tmp_path / "in.jsonl", line("a"))), Limits())
    answers = answered(Answering(settings, SETTLED, expected, version), source)
    assert answers["index"] == [-1]
    assert answers["data"][0].decode().startswith("node ") and words in answers["data"][0].decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return tmp_path


class Cluster:
    """Two nodes with a CPU each on this machine, in processes of their own."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", CLUSTER]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address, raylet = self._said().split()
        self._raylet = psutil.Process(int(raylet))

    def second_answers(self) -> bool:
        """Whether an actor of the second node is answering a line, told by the title of its process."""
        titles = []
        for process in self._raylet.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                titles.append(" ".join(process.cmdline()))
        return any("Answering" in title and "submit" in title for title in titles)

    def lose_second(self) -> None:
        """Kill every process of the second node."""
        print("lose", file=self._process.stdin, flush=True)
        assert self._said() == "lost"

    def close(self) -> None:
        self._process.communicate(timeout=LEAVES_S)

    def _said(self) -> str:
        assert self._process.stdout is not None
        return next(line.strip() for line in self._process.stdout if line.startswith("said "))[5:]


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def edge(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge", "batch", "in.jsonl", *arguments, "--seed", "5", "--threads", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def n_written(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def texts(name: str) -> dict[object, object]:
    return {r["custom_id"]: r["response"]["body"]["choices"] for r in records(Path(name))}  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that Ray leaves to the collector
def test_a_node_that_is_lost_half_way_loses_no_line(cluster: Cluster) -> None:
    questions = (continuation(f"r{i}", f"There are {i} red", max_tokens=64) for i in range(N_LINES))
    write(Path("in.jsonl"), *questions, b"{")
    process = edge("out.jsonl", "--ray", cluster.address, "--slots", "2")
    give_up_s = time.monotonic() + LEAVES_S
    out = Path("out.jsonl")
    while n_written(out) < 10 or not cluster.second_answers():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    n_before = len(ids(out))
    cluster.lose_second()
    _, said = process.communicate(timeout=LEAVES_S)
    assert process.returncode == 3 and f"{N_LINES} of {N_LINES + 1} lines answered, 1 failed" in said, said
    assert n_before < N_LINES  # it was lost half way
    assert sorted(map(str, ids(out))) == sorted(f"r{i}" for i in range(N_LINES))
    alone = edge("alone.jsonl", "--slots", "2")
    alone.communicate(timeout=LEAVES_S)
    assert alone.returncode == 3 and texts("alone.jsonl") == texts("out.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that Ray leaves to the collector
def test_a_run_on_a_cluster_that_is_killed_goes_on_without_it(cluster: Cluster) -> None:
    questions = (continuation(f"r{i}", f"There are {i} red", max_tokens=64) for i in range(60))
    write(Path("in.jsonl"), *questions)
    process = edge("out.jsonl", "--ray", cluster.address)
    out = Path("out.jsonl")
    give_up_s = time.monotonic() + LEAVES_S
    while n_written(out) < 5:
        assert process.poll() is None and time.monotonic() < give_up_s, process.communicate()[1]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    n_before = out.read_bytes().count(b"\n")
    local = edge("out.jsonl")
    _, said = local.communicate(timeout=LEAVES_S)
    assert local.returncode == 0 and f"edge: {n_before} of 60 lines were answered before" in said
    assert sorted(map(str, ids(out))) == sorted(f"r{i}" for i in range(60))


def test_usage_statistics_are_off() -> None:
    code = (
        "import os, sys\n"
        "import ray\n"
        "ray.init = lambda **options: sys.exit(os.environ['RAY_USAGE_STATS_ENABLED'])\n"
        "from edge.batch.cluster import _connect\n"
        "_connect('local')\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "RAY_USAGE_STATS_ENABLED"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr.strip() == "0" and done.returncode == 1
