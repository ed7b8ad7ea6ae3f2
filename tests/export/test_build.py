"""Exports from end to end: what is in a bundle, the same bytes twice, and kills at any moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle.bundle import Bundle, verify
from edge.chat import next_logits
from edge.engine.engine import Engine
from export import build as building
from export import pack
from export.build import Step, build
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import expected
from export.checkpoint.random_shapes import TINY_TEXT
from export.errors import CheckpointError, OutputError, RecipeError
from export.plan import plan, recipe_path
from export.quantize import Linears
from export.recipe import load
from export.target import Target
from tests.conftest import BundleOf, CheckpointOf

ROOT = Path(__file__).parents[2]
N_KILLS = 20

# Forks once per export, before any thread exists, so that twenty exports cost less than twenty interpreters.
# argv: checkpoint, out, seeds of the moments. Kills an export at each moment, looks at what it left, exports again.
KILLER = """
import hashlib, json, os, random, shutil, signal, sys, time
from pathlib import Path
from edge.bundle.bundle import verify
from export.build import build
from export.pack import PREFIX
import export.reference.model, onnx

checkpoint, out, n_kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def start():
    child = os.fork()
    if child == 0:
        try:
            build(checkpoint, out, recipe="int8", certificate="off")
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child

def finish():
    return os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1])

def traces():
    return [entry.name for entry in out.parent.iterdir() if entry.name.startswith(PREFIX)]

def contents():
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}

started = time.monotonic()
assert finish() == 0
whole_s, wanted = time.monotonic() - started, contents()
shutil.rmtree(out)
moments, found = random.Random(int(sys.argv[4])), []
for _ in range(n_kills):
    child = start()
    time.sleep(moments.uniform(0, 1.1) * whole_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = {"there": out.exists(), "traces": len(traces()), "problems": verify(out) if out.exists() else []}
    if out.exists():
        shutil.rmtree(out)
    state["next"] = finish()
    state["problems"] += verify(out)
    state["same"] = contents() == wanted
    state["traces_after"] = len(traces())
    shutil.rmtree(out)
    found.append(state)
print(json.dumps(found))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def command(checkpoint: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "export.cli", str(checkpoint), "--out", str(out), *options]


@pytest.mark.parametrize("recipe", ["fp32", "int8", "int4", "int4-mixed"])
def test_bundle_is_sound_and_answers(recipe: str, tiny_checkpoint: Path, bundle_of: BundleOf) -> None:
    path = bundle_of(tiny_checkpoint, recipe)
    assert verify(path) == []
    with Engine.open(path) as engine:
        logits = next_logits(engine, [{"role": "user", "content": "Who are you?"}])
    assert logits.shape == (engine.manifest.text.vocab_size,)


def test_manifest_says_what_was_done(int8_bundle: Path, tiny_checkpoint: Path) -> None:
    manifest = Bundle.open(int8_bundle).manifest
    assert (manifest.id, manifest.aliases, manifest.family) == ("reka-edge-random", ("reka-edge",), "yasa2")
    assert set(manifest.source.files) == {path.name for path in tiny_checkpoint.iterdir()} - {"tokenizer_config.json"}
    assert "rotary_pct" in " ".join(manifest.source.notes)
    assert any("initializer_range" in key for key in manifest.source.ignored)
    assert manifest.recipe.name == "int8"
    assert manifest.recipe.tensors["decoder.layers.0.qkv"].scheme == "int8-block32"
    assert 0 < manifest.recipe.tensors["decoder.layers.0.qkv"].error < 0.02
    assert manifest.vision is not None
    assert (manifest.vision.order, manifest.vision.frames) == ("cells-first", 6)
    assert manifest.memory.cache_bytes_per_token == 2 * 3 * 2 * 16 * 4
    weights = sum((int8_bundle / name).stat().st_size for name in ("decoder.bin", "embedding.bin", "vision.bin"))
    assert manifest.memory.weights_bytes == weights


def test_every_planned_tensor_is_in_the_manifest(int8_bundle: Path, tiny_checkpoint: Path) -> None:
    stored = Bundle.open(int8_bundle).manifest.recipe.tensors
    config = Checkpoint.open(tiny_checkpoint).config
    assert set(stored) == {path for role, _ in expected(config) if (path := recipe_path(role))}


@pytest.mark.parametrize("recipe", ["fp32", "int8", "int4", "int4-mixed"])
def test_plan_is_never_too_small(recipe: str, tiny_checkpoint: Path, bundle_of: BundleOf) -> None:
    path = bundle_of(tiny_checkpoint, recipe)
    config = Checkpoint.open(tiny_checkpoint).config
    planned = plan(config, load(recipe), tokenizer_bytes=(path / "tokenizer.json").stat().st_size)
    written = sum(entry.stat().st_size for entry in path.iterdir())
    assert written <= planned.n_bytes <= 1.2 * written + (5 << 20)


def test_room_for_the_certificate_s_logits_is_asked_for(
    text_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}
    for level in ("off", "quick", "full"):
        monkeypatch.setattr(pack, "check_space", stop(asked, level))
        with pytest.raises(RecursionError):
            build(text_checkpoint, tmp_path / "out", certificate=level)
    vocab_size = TINY_TEXT.vocab_size
    assert asked["quick"] - asked["off"] >= 2000 * vocab_size * 4
    assert asked["full"] - asked["off"] >= 8000 * vocab_size * 4


def stop(asked: dict[str, int], level: str) -> Callable[[pack.Workspace, int], None]:
    def check(_work: pack.Workspace, needed_bytes: int) -> None:
        asked[level] = needed_bytes
        raise RecursionError

    return check


def test_text_only_bundle_has_no_vision(text_bundle: Path) -> None:
    assert left(text_bundle) == [
        "decoder-kv8.onnx",
        "decoder.bin",
        "decoder.onnx",
        "embedding.bin",
        "manifest.json",
        "tokenizer.json",
    ]
    assert Bundle.open(text_bundle).manifest.family == "yasa"


def test_id_and_aliases_are_taken(text_checkpoint: Path, tmp_path: Path) -> None:
    path = build(text_checkpoint, tmp_path / "out", id="mine", aliases=("b", "a", "mine"), certificate="off")
    manifest = Bundle.open(path).manifest
    assert (manifest.id, manifest.aliases) == ("mine", ("a", "b"))


def test_without_an_id_the_folder_and_the_recipe_name_it(text_checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[[rules]]\ntensors = "*"\nscheme = "fp32"\n')
    named = tmp_path / "reka-edge-2603-fp32"
    named.symlink_to(text_checkpoint)  # a link is followed: the folder's own name counts
    assert text_checkpoint.name.startswith("reka-edge")
    for recipe, ending in (("int8", "int8"), (str(mine), "mine")):
        manifest = Bundle.open(build(named, tmp_path / ending, recipe=recipe, certificate="off")).manifest
        assert (manifest.id, manifest.aliases) == (f"{text_checkpoint.name}-{ending}", ("reka-edge",))


def test_a_folder_that_is_named_after_the_recipe_is_not_named_twice(text_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(text_checkpoint, tmp_path / "1b-fp32")
    assert Bundle.open(build(checkpoint, tmp_path / "o", recipe="fp32", certificate="off")).manifest.id == "1b-fp32"


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "x" * 101, "é"])
def test_bad_id_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="id or alias"):
        build(tmp_path / "no-checkpoint", tmp_path / "out", id=name)


def test_progress_reaches_its_total(text_checkpoint: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    build(text_checkpoint, tmp_path / "out", certificate="off", progress=steps.append)
    for stage in ("weights", "source"):
        done = [step for step in steps if step.stage == stage]
        assert done[-1].done == done[-1].total
        assert [step.done for step in done] == sorted(step.done for step in done)


@pytest.mark.parametrize(
    ("template", "wording"),
    [(None, "B"), ("{{ other }}", "B"), ("Return calls inside <tool_call></tool_call>:\n", "A"),
     ("with function name and arguments within <tool_call></tool_call> XML tags:", "B")],
)  # fmt: skip
def test_tools_wording_is_the_template_s(
    template: str | None, wording: str, text_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(text_checkpoint, checkpoint)
    if template is not None:
        (checkpoint / "chat_template.jinja").write_text(template)
    manifest = Bundle.open(build(checkpoint, tmp_path / "out", certificate="off")).manifest
    assert manifest.prompt.tools == wording
    assert ("chat_template.jinja" in manifest.source.files) == (template is not None)


def test_nothing_is_left_after_a_bad_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        build(tmp_path / "empty", tmp_path / "out", certificate="off")
    with pytest.raises(RecipeError):
        build(tmp_path / "empty", tmp_path / "out", recipe="int7", certificate="off")
    assert left(tmp_path) == ["empty"]


def test_rows_that_a_scheme_does_not_fit_are_refused_before_anything_is_written(
    checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[[rules]]\ntensors = "*"\nscheme = "int8"\n[[rules]]\ntensors = "*.down"\nscheme = "int4-block32-min"\n'
    )
    steps: list[Step] = []
    checkpoint = checkpoint_of(replace(TINY_TEXT, intermediate_size=168))
    with pytest.raises(RecipeError, match=r"decoder.layers.0.down has rows of 168 weights, int4-block32-min expects"):
        build(checkpoint, tmp_path / "out", recipe=str(recipe), certificate="off", progress=steps.append)
    assert steps == []


def test_full_disk_while_writing_leaves_nothing(
    text_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(building, "write_decoder", full)
    with pytest.raises(OutputError, match="the disk is full"):
        build(text_checkpoint, tmp_path / "out", certificate="off")
    assert left(tmp_path) == []


@pytest.mark.parametrize("recipe", ["fp32", "int8", "int4"])
def test_two_exports_give_the_same_bytes(
    recipe: str, tiny_checkpoint: Path, bundle_of: BundleOf, tmp_path: Path
) -> None:
    # Another process, place, hash seed, time zone and number of threads.
    moved = tmp_path / "elsewhere" / tiny_checkpoint.name
    shutil.copytree(tiny_checkpoint, moved)
    options = ("--recipe", recipe, "--id", tiny_checkpoint.name, "--certificate", "off")
    env = environment(PYTHONHASHSEED="7", TZ="Asia/Tokyo", OMP_NUM_THREADS="3", LC_ALL="C")
    subprocess.run(command(moved, tmp_path / "out", *options), check=True, env=env, capture_output=True)
    assert contents(tmp_path / "out") == contents(bundle_of(tiny_checkpoint, recipe))


def test_names_of_tensors_do_not_change_the_weights(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    split = bundle_of(checkpoint_of(TINY_TEXT), "int8")
    fused = bundle_of(checkpoint_of(replace(TINY_TEXT, form="fused")), "int8")
    for name in ("decoder.onnx", "decoder.bin", "embedding.bin"):
        assert (split / name).read_bytes() == (fused / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_leaves_no_half_bundle(text_checkpoint: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(text_checkpoint), str(tmp_path / "out"), str(N_KILLS), "1"],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)
    assert len(states) == N_KILLS
    for state in states:
        assert state["problems"] == []
        assert state["next"] == 0, done.stderr
        assert state["traces_after"] == 0
        assert state["same"], "what was gone on with is not what an undisturbed export writes"
    # The moments are worth something only if they hit the export at work.
    assert sum(state["traces"] for state in states) >= N_KILLS // 4


def test_signal_during_an_export_leaves_what_the_next_one_uses(text_checkpoint: Path, tmp_path: Path) -> None:
    moments = random.Random(3)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        folder = tmp_path / number.name
        folder.mkdir()
        process = subprocess.Popen(
            command(text_checkpoint, folder / "out", "--certificate", "quick", "--calibrate", "off"),
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not left(folder) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert ("the same command goes on from here" in said) == bool(left(folder))
        assert not (folder / "out").exists()
        again = command(text_checkpoint, folder / "out", "--certificate", "off", "--calibrate", "off")
        subprocess.run(again, env=environment(), check=True, capture_output=True)
        assert left(folder) == ["out"] and verify(folder / "out") == []


class Stopped(KeyboardInterrupt):
    """A kill amid an export."""


def stopped_after(share: float, checkpoint: Path, out: Path, **how: str) -> None:
    """Export until this share of the weights is written."""

    def stop(step: Step) -> None:
        if step.stage == "weights" and step.done >= share * step.total:
            raise Stopped

    with pytest.raises(Stopped):
        build(checkpoint, out, certificate="off", progress=stop, **how)


def quantized(checkpoint: Path, out: Path, **how: str) -> tuple[list[Step], int]:
    """Export; returns the steps, and how many tensors were rounded."""
    steps: list[Step] = []
    with pytest.MonkeyPatch.context() as patch:
        calls: list[object] = []
        add = Linears._add
        patch.setattr(Linears, "_add", lambda self, *given: calls.append(1) or add(self, *given))
        build(checkpoint, out, certificate="off", progress=steps.append, **how)
    return steps, len(calls)


@pytest.mark.parametrize("recipe", ["fp32", "int8", "w8a8", "int4-mixed"])
def test_export_that_was_killed_goes_on_without_rounding_again(
    recipe: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    how = {"recipe": recipe, "id": "same", "calibrate": "off"}
    _, n_all = quantized(tiny_checkpoint, tmp_path / "whole", **how)
    for share in (0.3, 0.9):
        stopped_after(share, tiny_checkpoint, tmp_path / "out", **how)
    steps, n_again = quantized(tiny_checkpoint, tmp_path / "out", **how)
    assert [step for step in steps if step.stage == "resumed"] and n_again < n_all / 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert left(tmp_path) == ["out", "whole"]


@pytest.mark.parametrize("harm", ["byte", "torn", "short", "other recipe", "other checkpoint"])
def test_what_was_left_is_checked_before_it_is_used(harm: str, text_checkpoint: Path, tmp_path: Path) -> None:
    how = {"recipe": "int8", "id": "same"}
    checkpoint = Path(shutil.copytree(text_checkpoint, tmp_path / "checkpoint"))
    stopped_after(0.7, checkpoint, tmp_path / "out", **how)
    (root,) = tmp_path.glob(".edge-export-*")
    data = root / "bundle" / "decoder.bin"
    if harm == "byte":
        with data.open("r+b") as file:
            file.seek(5000)
            file.write(b"\x55\xaa")
    elif harm == "torn":
        journal = (root / "journal").read_bytes()
        (root / "journal").write_bytes(journal[:-40])
    elif harm == "short":
        os.truncate(data, data.stat().st_size // 2)
    elif harm == "other recipe":
        how["recipe"] = "w8a8"
    else:
        shard = next(checkpoint.glob("*.safetensors"))
        os.utime(shard, (1, 1))
    build(checkpoint, tmp_path / "out", certificate="off", **how)
    build(checkpoint, tmp_path / "whole", certificate="off", **how)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert left(tmp_path) == ["checkpoint", "out", "whole"]


@pytest.mark.slow
def test_certificate_ends_with_a_killed_export(text_checkpoint: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(text_checkpoint, tmp_path / "out", "--certificate", "full"),
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (children := running_children(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children
    finally:
        process.kill()
        process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not (tmp_path / "out").exists()


def running_children(pid: int) -> list[int]:
    listed = [Path(f"/proc/{pid}/task/{task.name}/children") for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for path in listed if path.exists() for child in path.read_text().split()]


def test_one_of_two_exports_to_a_name_wins(text_checkpoint: Path, tmp_path: Path) -> None:
    arguments = command(text_checkpoint, tmp_path / "out", "--certificate", "off")
    pair = [subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 1]
    loser = next(error for process, error in zip(pair, errors, strict=True) if process.returncode)
    assert "exists" in loser or "another export to it is running" in loser
    assert left(tmp_path) == ["out"]
    assert verify(tmp_path / "out") == []


def test_command_line_reports_and_names_errors(text_checkpoint: Path, tmp_path: Path) -> None:
    options = ("--recipe", "int8", "--certificate", "off", "--id", "my-edge", "--alias", "other")
    done = subprocess.run(
        command(text_checkpoint, tmp_path / "out", *options), env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "my-edge, other" in done.stdout
    assert "peak memory" in done.stdout
    assert "quantizing and writing" in done.stderr
    again = subprocess.run(
        command(text_checkpoint, tmp_path / "out", *options), env=environment(), capture_output=True, text=True
    )
    assert again.returncode == 1
    assert again.stderr.startswith("edge-export: ")
    assert "exists" in again.stderr
    assert again.stdout == ""


def test_workspace_stands_beside_the_destination(text_checkpoint: Path, tmp_path: Path) -> None:
    seen: set[str] = set()
    build(text_checkpoint, tmp_path / "out", certificate="off", progress=lambda _: seen.update(left(tmp_path)))
    assert len(seen) == 1
    assert seen.pop().startswith(pack.PREFIX)


@pytest.mark.parametrize(
    ("options", "found"),
    [({"calibrate": "off"}, "got --calibrate off"), ({"recipe": "carry"}, "got recipe carry")],
)
def test_a_search_goes_with_nothing_that_leaves_no_choice(
    options: dict[str, str], found: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=f"calibrates and chooses anew, {found}"):
        build(tiny_checkpoint, tmp_path / "out", target=Target(kl=0.1), **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_search_keeps_within_its_size_and_its_recipe_gives_the_same_bytes(
    text_checkpoint: Path, tmp_path: Path
) -> None:
    sizes = []
    for recipe in ("int4", "int8"):
        out = build(text_checkpoint, tmp_path / recipe, recipe=recipe, calibrate="off", certificate="off")
        sizes.append(sum(path.stat().st_size for path in out.iterdir()))
    # What is planned is a little too much: the graphs' room and the alignment of every tensor.
    limit = (sizes[0] + sizes[1]) // 2 + (5 << 20)
    found = build(
        text_checkpoint, tmp_path / "found", target=Target(n_bytes=limit), certificate="off", id="same",
        save_recipe=tmp_path / "int4-mixed.toml",
    )  # fmt: skip
    assert sum(path.stat().st_size for path in found.iterdir()) <= limit
    recipe = str(tmp_path / "int4-mixed.toml")
    again = build(text_checkpoint, tmp_path / "again", recipe=recipe, certificate="off", id="same")
    assert (found / "decoder.bin").read_bytes() == (again / "decoder.bin").read_bytes()
    assert (found / "manifest.json").read_bytes() == (again / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "calibrated", "rotated"), [("int8", False, False), ("w8a8", False, True), ("int4", True, False)]
)
def test_manifest_says_what_was_calibrated_and_rotated(
    recipe: str, calibrated: bool, rotated: bool, text_checkpoint: Path, bundle_of: BundleOf
) -> None:
    path = bundle_of(text_checkpoint, recipe)
    record = Bundle.open(path).manifest.recipe
    assert (record.calibrated, record.rotated) == (calibrated, rotated)
    keys = json.loads((path / "manifest.json").read_bytes())["recipe"]
    assert set(keys) - {"name", "tensors"} == {key for key in ("calibrated", "rotated") if getattr(record, key)}


def test_files_of_one_size_and_time_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(name)
        os.utime(tmp_path / name / "model.safetensors", (1, 1))
    one, two = (building._seen(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one[2:] == two[2:]
    assert one != two
