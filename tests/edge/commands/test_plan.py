"""edge plan: what it counts, for which machine, and that nothing is loaded or downloaded for it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.bundle import install, store
from edge.engine import probe
from edge.engine.boards import BOARDS, board, rates_of
from edge.engine.rates import Rates
from tests.edge.bundle.hubs import hub
from tests.edge.bundle.test_shape import EDGE_7B
from tests.hub import Commit, Hub, Repo

__all__ = ["hub"]  # a fixture

Run = Callable[..., tuple[int, str, str]]
EMBEDDED = "reka-edge-tiny"


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Have this machine measured as a Raspberry Pi 5; returns what was asked for."""
    asked: list[object] = []

    def measure(*, threads: int | None, kinds: tuple[str, ...]) -> Rates:
        asked.append((threads, kinds))
        return rates_of(board("pi5-8gb"))

    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(probe, "measure", measure)
    return asked


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "edge-7b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(EDGE_7B))
    return folder


def test_bundle_is_planned_for_this_machine(run: Run, measured: list[object]) -> None:
    status, out, _ = run("plan", EMBEDDED, "--json", "--threads", "3")
    told = json.loads(out)
    assert (status, told["fits"], told["model"]) == (0, True, EMBEDDED)
    assert measured == [(3, ("fp32", "int8"))]
    assert told["anonymous_bytes"] == sum(part["bytes"] for part in told["memory"] if not part["mapped"])
    assert {"256", "1024", "4096"} == set(told["decode_tokens_per_s"])


def test_first_bundle_is_planned_for_without_a_name(run: Run) -> None:
    assert json.loads(run("plan", "--json")[1])["model"] == EMBEDDED


def test_checkpoint_is_planned_for_by_its_configuration_alone(run: Run, checkpoint: Path) -> None:
    status, out, _ = run("plan", str(checkpoint), "--board", "pi5-16gb", "--json")
    told = json.loads(out)
    assert (status, told["model"], told["recipe"]) == (0, "edge-7b-int4-mixed", "int4-mixed")
    assert "not measured by this project" in told["figures"]
    assert told["seconds_per_image"] == pytest.approx(5 * told["seconds_per_tile"])
    assert told["first_token_with_image_s"] > told["seconds_per_image"]
    assert [path.name for path in checkpoint.iterdir()] == ["config.json"]


def test_what_does_not_fit_is_status_1_with_what_would(run: Run, checkpoint: Path) -> None:
    options = ("--recipe", "int4", "--board", "pi5-16gb", "--context", "16384", "--slots", "4")
    status, out, _ = run("plan", str(checkpoint), *options)
    assert status == 1
    assert "does not fit" in out
    assert "--slots 4 --kv int8" in out
    told = json.loads(run("plan", str(checkpoint), *options, "--json")[1])
    assert not told["fits"]
    for each in told["would_fit"]:
        load = ["--context", str(each["context"]), "--slots", str(each["slots"]), "--kv", each["kv"]]
        load += ["--packed"] if each["packed"] else []
        assert run("plan", str(checkpoint), "--recipe", "int4", "--board", "pi5-16gb", *load)[0] == 0


def test_recipes_that_fit_are_named(run: Run, checkpoint: Path) -> None:
    out = run("plan", str(checkpoint), "--recipe", "fp32", "--board", "pi5-16gb", "--context", "4096")[1]
    assert "recipes that fit with these options: int4, int4-mixed, int8, w8a8" in out


def test_memory_and_bandwidth_of_another_machine(run: Run, checkpoint: Path) -> None:
    slow = json.loads(run("plan", str(checkpoint), "--memory", "12G", "--bandwidth", "5G", "--json")[1])
    fast = json.loads(run("plan", str(checkpoint), "--memory", "12G", "--bandwidth", "10GB/s", "--json")[1])
    assert slow["machine_bytes"] == 12 << 30
    assert fast["bandwidth_GB_per_s"] == 10
    ratio = fast["decode_tokens_per_s"]["256"] / slow["decode_tokens_per_s"]["256"]
    assert 1.8 < ratio <= 2
    assert fast["seconds_per_tile"] > 0.5 * slow["seconds_per_tile"]  # it is bound by products


def test_context_is_the_largest_that_fits(run: Run, checkpoint: Path) -> None:
    told = json.loads(run("plan", str(checkpoint), "--memory", "11G", "--json")[1])
    assert 2048 <= told["context"] < 16384
    assert told["fits"]
    more = str(told["context"] + 64)
    assert run("plan", str(checkpoint), "--memory", "11G", "--context", more)[0] == 1


def test_eight_bit_keys_and_values_fit_four_times_the_context(run: Run, checkpoint: Path) -> None:
    found = {
        kv: json.loads(run("plan", str(checkpoint), "--memory", "8900M", "--kv", kv, "--json")[1])["context"]
        for kv in ("fp32", "int8")
    }
    assert found["int8"] == pytest.approx(4 * found["fp32"], rel=0.02)


def test_packed_weights_are_mapped_and_said_to_fit(run: Run, checkpoint: Path) -> None:
    options = ("plan", str(checkpoint), "--board", "pi5-8gb", "--context", "4096")
    status, out, _ = run(*options)
    assert status == 1
    assert "--context 4096 --slots 1 --kv int8 --packed" in out
    told = json.loads(run(*options, "--kv", "int8", "--packed", "--json")[1])
    assert told["fits"]
    assert told["anonymous_bytes"] < 2e9
    assert {part["part"] for part in told["memory"] if part["mapped"]} >= {"decoder", "vision tower"}


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_a_plan(run: Run, name: str) -> None:
    status, out, _ = run("plan", EMBEDDED, "--board", name)
    assert status == 0
    assert "published figures, not measured by this project" in out


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--board", "pi9"), "pi5-8gb"),
        (("--memory", "lots"), "--memory 'lots'"),
        (("--bandwidth", "-1G"), "--bandwidth"),
        (("--kv", "q8_0"), "fp32, int8"),
        (("--recipe", "int8"), "is a bundle"),
        (("--kv", "int8"), "was exported without an int8 cache"),
    ],
)
def test_option_that_is_wrong_is_named(run: Run, arguments: tuple[str, ...], wanted: str) -> None:
    status, out, err = run("plan", EMBEDDED, *arguments)
    assert (status, out) == (1, "")
    assert wanted in err


def test_gguf_and_unknown_names_say_what_is_supported(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "edge plan reads manifest.json and config.json" in run("plan", str(tmp_path / "model.gguf"))[2]
    assert run("plan", "nothing-of-that-name")[0] == 1


def test_of_a_repository_the_configuration_alone_is_downloaded(run: Run, hub: Hub) -> None:
    files = {"config.json": json.dumps(EDGE_7B).encode(), "model.safetensors": bytes(5000), "README.md": b"x"}
    hub.repos["org/edge"] = Repo({"main": Commit(files)})
    told = json.loads(run("plan", "org/edge", "--board", "pi5-16gb", "--json")[1])
    assert (told["model"], told["from"]) == ("edge-int4-mixed", "org/edge")
    assert set(hub.names()) == {"config.json"}


def test_of_a_bundles_repository_the_manifest_alone_is_downloaded(run: Run, hub: Hub) -> None:
    hub.add("org/tiny", store.named(EMBEDDED).path)
    told = json.loads(run("plan", "org/tiny", "--board", "pi4-4gb", "--json")[1])
    assert told["model"] == EMBEDDED
    assert set(hub.names()) == {"manifest.json"}


def test_repository_without_either_file_is_an_error(run: Run, hub: Hub) -> None:
    hub.repos["org/data"] = Repo({"main": Commit({"README.md": b"x"})})
    assert "has neither manifest.json nor config.json" in run("plan", "org/data")[2]


def test_installed_bundle_is_found_by_its_id(run: Run) -> None:
    install.install(store.named(EMBEDDED).path, id="mine")
    assert json.loads(run("plan", "mine", "--json")[1])["model"] == "mine"


def test_shells_complete_boards_and_recipes() -> None:
    script = "import sys; sys.argv = ['edge']; from edge import cli; cli.app(prog_name='edge')"
    for option, wanted in (("--board", "pi5-8gb"), ("--recipe", "int4-mixed"), ("--kv", "int8")):
        environment = {
            **os.environ, "_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": f"edge plan {option} ", "COMP_CWORD": "3"
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
        )
        assert wanted in done.stdout.split()
