"""A checkpoint comes from a hub by its name: what it needs and no more, told beforehand, resumed, verified."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from huggingface_hub import constants

from edge.bundle import hub as talking
from edge.bundle.bundle import Bundle
from export.build import build
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.hub import Named, Origin, Room, fetch, name_of, origin, read_name
from export.errors import CheckpointError, ConfigError, TokenizerError, UnsupportedError
from export.source import Source, choose
from tests.edge.bundle.hubs import hub
from tests.hub import Commit, Hub, Repo

__all__ = ["hub"]  # fixtures

ROOT = Path(__file__).parents[3]
NAME = "RekaAI/reka-edge-2603"
UNWANTED = {
    "README.md": b"# Reka Edge",
    ".gitattributes": b"x",
    "modeling_yasa2.py": b"raise SystemExit('executed')",
    "configuration_yasa2.py": b"raise SystemExit('executed')",
    "pytorch_model.bin": b"a pickle",
    "training_args.bin": b"a pickle",
    "consolidated.safetensors": b"the weights again",
    "onnx/model.onnx": b"a graph",
    "original/config.json": b"{}",
    "photo.png": b"a picture",
}


@pytest.fixture
def commit(hub: Hub, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commit:
    monkeypatch.chdir(tmp_path)
    return hub.add(NAME, tiny_checkpoint, **UNWANTED)


def fetched(text: str, *, room: Room | None = None, lines: list[str] | None = None) -> Path:
    tell = (lines if lines is not None else []).append
    return fetch(read_name(text, tell=tell), room=room, tell=tell, progress=lambda *_: None)


def changed(hub: Hub, **files: bytes | None) -> None:
    """Have other content for some files, or (None) none."""
    kept = {**hub.repos[NAME].refs["main"].files, **files}
    hub.repos[NAME].refs["main"] = Commit({name: data for name, data in kept.items() if data is not None})


def with_config(hub: Hub, change: Callable[[dict[str, object]], None]) -> None:
    config = json.loads(hub.repos[NAME].refs["main"].files["config.json"])
    change(config)
    changed(hub, **{"config.json": json.dumps(config).encode()})


def shards(hub: Hub) -> list[str]:
    return [name for name in hub.repos[NAME].refs["main"].files if name.startswith("model-")]


def test_a_checkpoint_is_downloaded_without_code_pickles_and_what_is_not_read(
    commit: Commit, hub: Hub, tiny_checkpoint: Path
) -> None:
    folder = fetched(NAME)
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny_checkpoint.iterdir()}
    assert not set(hub.names()) & {name.rpartition("/")[2] for name in UNWANTED} - {"config.json"}
    opened, local = Checkpoint.open(folder), Checkpoint.open(tiny_checkpoint)
    assert (opened.config, opened.files, opened.names) == (local.config, local.files, local.names)


def test_a_bundle_says_where_its_checkpoint_came_from(commit: Commit, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = fetched(NAME)
    made = Bundle.open(build(folder, tmp_path / "out", recipe="int8", certificate="off")).manifest
    local = Bundle.open(build(tiny_checkpoint, tmp_path / "own", recipe="int8", certificate="off")).manifest
    assert (made.id, made.aliases) == ("reka-edge-2603-int8", ("reka-edge",))
    assert (made.source.repository, made.source.revision) == (NAME, commit.sha)
    assert made.source == dataclasses.replace(local.source, repository=NAME, revision=commit.sha)
    assert local.source.repository is None
    assert b"repository" not in (tmp_path / "own" / "manifest.json").read_bytes()
    assert made.files == local.files


def test_the_cache_is_that_of_huggingface_hub(commit: Commit) -> None:
    from huggingface_hub import snapshot_download

    folder = fetched(NAME)
    assert Path(snapshot_download(NAME, local_files_only=True)) == folder
    assert origin(folder) is not None and name_of(folder) == "reka-edge-2603"


def test_what_the_cache_has_is_not_downloaded_again(commit: Commit, hub: Hub) -> None:
    folder = fetched(NAME)
    hub.asked.clear()
    lines: list[str] = []
    assert fetched(NAME, lines=lines) == folder
    assert hub.names() == [] and "of it are here already" in lines[0]


def test_a_file_that_was_damaged_in_the_cache_is_downloaded_again(commit: Commit, hub: Hub) -> None:
    shard = shards(hub)[0]
    path = fetched(NAME) / shard
    right = path.read_bytes()
    path.resolve().write_bytes(bytes(len(right)))
    hub.asked.clear()
    assert (fetched(NAME) / shard).read_bytes() == right
    assert set(hub.names()) == {shard}


def test_a_download_that_gave_up_goes_on_with_the_next(commit: Commit, hub: Hub) -> None:
    first, second, *_ = shards(hub)
    half = 1 << 16
    hub.cut_after[second] = [half, *[0] * talking.MAX_TRIES]
    with pytest.raises(CheckpointError, match=rf"{NAME}: .*kept"):
        fetched(NAME)
    hub.cut_after.clear()
    hub.asked.clear()
    before = dict(hub.sent)
    fetched(NAME)
    assert first not in hub.names() and hub.sent[first] == before[first]
    assert [asked for *_, asked in hub.asked if asked] == [f"bytes={half}-"]


@pytest.mark.parametrize("has_sizes", [True, False])
def test_a_damaged_file_is_refused_and_not_kept(has_sizes: bool, commit: Commit, hub: Hub) -> None:
    hub.has_sizes = has_sizes
    shard = shards(hub)[-1]
    hub.corrupted[shard] = bytes(len(commit.files[shard]))
    with pytest.raises(CheckpointError, match=rf"{NAME}: {shard} is damaged: its sha256 is .*, expected"):
        fetched(NAME)
    cache = Path(constants.HF_HUB_CACHE)
    assert not [
        path for path in cache.rglob("*") if path.name.startswith(commit.etag(shard)) and ".lock" not in path.name
    ]
    hub.corrupted.clear()
    assert (fetched(NAME) / shard).read_bytes() == commit.files[shard]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_small_files_are_refused_too(name: str, commit: Commit, hub: Hub) -> None:
    hub.corrupted[name] = commit.files[name][:-1] + b" "
    with pytest.raises(CheckpointError, match=rf"{name} is damaged: its git hash"):
        fetched(NAME)


def strange(config: dict[str, object]) -> None:
    config["architectures"] = ["Qwen3ForCausalLM"]


def of_experts(config: dict[str, object]) -> None:
    config["num_moe_experts"] = 8


def quantized(config: dict[str, object]) -> None:
    config["quantization_config"] = {"quant_method": "awq"}


def without_layers(config: dict[str, object]) -> None:
    del config["text_config"]["num_hidden_layers"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (strange, ConfigError, "architectures.0. is 'Qwen3ForCausalLM'.*expected one of"),
        (of_experts, UnsupportedError, "num_moe_experts is 8"),
        (quantized, UnsupportedError, "quantization_config"),
        (without_layers, ConfigError, "num_hidden_layers"),
    ],
)
def test_what_the_configuration_rules_out_is_told_before_the_weights(
    change: Callable[[dict[str, object]], None], kind: type[Exception], said: str, commit: Commit, hub: Hub
) -> None:
    with_config(hub, change)
    with pytest.raises(kind, match=rf"^{NAME}: .*{said}.*its weights were not downloaded"):
        fetched(NAME)
    assert set(hub.names()) == {"config.json"}


def test_heads_that_only_the_weights_settle_are_no_reason_to_refuse(commit: Commit, hub: Hub) -> None:
    def doubled(config: dict[str, object]) -> None:
        config["text_config"] |= {"num_query_groups": 1, "num_key_value_heads": 2}  # type: ignore[operator]

    with_config(hub, doubled)
    assert fetched(NAME).is_dir()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "pytorch_model.bin is a pickle, which can run code"),
        ({"model-Q4_0.gguf": b"x", "README.md": b"x"}, f"it has GGUF files: edge-export {NAME}:model-Q4_0.gguf"),
        ({"manifest.json": b"{}"}, f"it holds a bundle: edge models pull {NAME}"),
        ({"README.md": b"x"}, "expected a checkpoint: config.json and safetensors"),
    ],
)
def test_a_repository_without_safetensors_says_what_helps(
    files: dict[str, bytes], said: str, hub: Hub, commit: Commit
) -> None:
    if "config.json" in files:
        files = {**files, "config.json": commit.files["config.json"]}
    hub.repos[NAME] = Repo({"main": Commit(files)})
    with pytest.raises(CheckpointError, match=said):
        fetched(NAME)
    assert set(hub.names()) <= {"config.json"}


@pytest.mark.parametrize("shard", ["../../config.json", "model.bin", "missing.safetensors"])
def test_shards_that_are_no_safetensors_of_the_repository_are_refused(shard: str, commit: Commit, hub: Hub) -> None:
    changed(hub, **{"model.safetensors.index.json": json.dumps({"weight_map": {"x": shard}}).encode()})
    with pytest.raises(CheckpointError, match="no such safetensors file|expected an object of file names"):
        fetched(NAME)


def test_a_small_file_that_is_large_is_refused(commit: Commit, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.checkpoint.hub.MAX_SMALL_BYTES", 10_000)
    changed(hub, **{"vocab.json": bytes(10_001)})
    with pytest.raises(CheckpointError, match=r"json: \d+ bytes, expected at most 10000"):
        fetched(NAME)


def test_what_cannot_fit_is_refused_before_the_weights_with_both_numbers(
    commit: Commit, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    n_bytes = sum(len(commit.files[name]) for name in shards(hub))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(n_bytes + 999))
    room = Room(tmp_path / "out", lambda folder, config: 1000 * config.text.n_layers)
    with pytest.raises(CheckpointError, match=rf"{n_bytes} bytes to download and \d+ for the bundle, needs \d+ bytes"):
        fetched(NAME, room=room)
    assert not set(hub.names()) & set(shards(hub))
    lines: list[str] = []
    fetched(NAME, lines=lines)
    assert commit.sha[:12] in lines[0] and "free:" in lines[0]


def chosen(**options: object) -> Source:
    none = dict.fromkeys(("mmproj", "recipe", "id", "out", "ranks", "prompt_format"))
    given = {**none, "aliases": (), "certificate": "off", "tell": print, "progress": lambda *_: None, **options}
    return choose(NAME, **given)  # type: ignore[arg-type]


def test_a_name_chooses_recipe_id_and_folder_of_the_bundle(commit: Commit) -> None:
    source = chosen()
    assert (source.recipe, source.id, source.out) == ("int8", "reka-edge-2603-int8", Path("reka-edge-2603-int8"))
    source = chosen(recipe="int4-mixed", id="mine", out=Path("out"))
    assert (source.recipe, source.id, source.out) == ("int4-mixed", "mine", Path("out"))
    assert origin(source.path) == Origin(NAME, commit.sha)


def test_a_tokenizer_that_is_not_supported_is_told_before_the_weights(commit: Commit, hub: Hub) -> None:
    changed(hub, **{"tokenizer.json": b'{"model": {"type": "WordPiece"}}'})
    with pytest.raises(TokenizerError, match=rf"{NAME}: tokenizer.json: .*its weights were not downloaded"):
        chosen()
    with pytest.raises(UnsupportedError, match="--prompt-format chatml: only for Llama-format models"):
        changed(hub, **{"tokenizer.json": commit.files["tokenizer.json"]})
        chosen(prompt_format="chatml")
    assert not set(hub.names()) & set(shards(hub))


@pytest.mark.parametrize("text", ["RekaAI", "no/such/folder", "./RekaAI/reka", "a/b:c.bin", "a/b:/etc/x.gguf", "a b/c"])
def test_what_is_neither_here_nor_a_repository_says_what_is_expected(text: str, commit: Commit, hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"not here; expected a checkpoint's folder, a .gguf file, or a hub's"):
        fetched(text)
    assert not hub.asked


def test_what_exists_here_wins_and_that_is_said(commit: Commit, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    lines: list[str] = []
    assert fetched(NAME, lines=lines) == Path(NAME)
    assert lines == [f"{NAME} exists here, and is read; the repository of that name is {NAME}@main"]
    assert not hub.asked
    assert origin(fetched(f"{NAME}@main")) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RekaAI/nothing", "no such repository, or it is private.*; nor is there a folder RekaAI/nothing here"),
        (f"{NAME}@v9", "has no revision 'v9': expected a branch, a tag or a commit"),
        (f"{NAME}:none.gguf", "has no none.gguf; its GGUF files: none"),
    ],
)
def test_what_is_not_at_the_hub_is_told(text: str, said: str, commit: Commit) -> None:
    with pytest.raises(CheckpointError, match=said):
        fetched(text)


def test_a_gguf_file_is_downloaded_alone_and_names_the_bundle(hub: Hub, tmp_path: Path) -> None:
    parts = {f"flash-Q8_0-0000{at}-of-00002.gguf": b"GGUF" + bytes([at]) for at in (1, 2)}
    hub.repos["org/flash"] = Repo({"main": Commit({"a-Q4_0.gguf": b"GGUF", "b.gguf": b"GGUF", **parts})})
    path = fetched("org/flash:a-Q4_0.gguf")
    assert (path.name, path.read_bytes(), name_of(path)) == ("a-Q4_0.gguf", b"GGUF", "a-Q4_0")
    assert set(hub.names()) == {"a-Q4_0.gguf"}
    assert read_name("org/flash@main:a-Q4_0.gguf", tell=print) == Named(
        None, talking.Repository("org/flash", "main"), "a-Q4_0.gguf"
    )
    first = fetched("org/flash:flash-Q8_0-00001-of-00002.gguf")
    assert [path.name for path in sorted(first.parent.glob("flash*"))] == list(parts)


def command(hub: Hub, tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    known = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "EDGE_MODELS": str(tmp_path / "models")}
    environment = {**kept, **known, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=280
    )


def test_from_an_empty_folder_and_a_name_to_an_answer(commit: Commit, hub: Hub, tmp_path: Path) -> None:
    """The commands of the README."""
    done = command(hub, tmp_path, "edge", "chat", "Hello", "--model", NAME)
    assert done.returncode == 1
    said = f"edge-export {NAME} --out reka-edge-2603, then edge models install reka-edge-2603"
    assert said in done.stderr and f"edge models pull {NAME}" in done.stderr
    done = command(hub, tmp_path, "export.cli", NAME, "--recipe", "int4-mixed", "--certificate", "off")
    assert done.returncode == 0, done.stderr
    assert f"{NAME} at {commit.sha[:12]}: 0." in done.stderr and "free:" in done.stderr
    assert f"{NAME} at {commit.sha[:12]}: Yasa2ForConditionalGeneration" in " ".join(done.stderr.split())
    assert (tmp_path / "reka-edge-2603-int4-mixed" / "manifest.json").is_file()
    done = command(hub, tmp_path, "edge", "models", "install", "reka-edge-2603-int4-mixed")
    assert done.returncode == 0, done.stderr
    for model in ("reka-edge", "reka-edge-2603-int4-mixed", NAME, f"{NAME}@{commit.sha}"):
        done = command(hub, tmp_path, "edge", "chat", "Hello", "--model", model, "--max-tokens", "2", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["responses"][0]["finish_reason"] in ("length", "stop")


def test_offline_the_cache_is_used_or_the_error_says_how(commit: Commit, hub: Hub, tmp_path: Path) -> None:
    words = ("export.cli", NAME, "--certificate", "off", "--out", "out")
    done = command(hub, tmp_path, *words, HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and not hub.asked
    assert "HF_HUB_OFFLINE forbids to download it: unset HF_HUB_OFFLINE" in done.stderr
    folder = fetched(NAME)
    hub.asked.clear()
    done = command(hub, tmp_path, *words, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert not hub.asked and (tmp_path / "out" / "manifest.json").is_file()
    shard = folder / shards(hub)[0]
    shard.resolve().write_bytes(bytes(shard.stat().st_size))
    done = command(hub, tmp_path, *words[:-1], "again", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and f"{shard.name}: its sha256 is" in done.stderr


def test_a_destination_that_is_taken_is_told_before_the_download(commit: Commit, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "reka-edge-2603-int8").mkdir()
    done = command(hub, tmp_path, "export.cli", NAME, "--certificate", "off")
    assert done.returncode == 1 and "reka-edge-2603-int8: exists" in done.stderr
    assert not hub.asked
