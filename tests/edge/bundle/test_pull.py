"""A bundle comes from a hub whole, resumed and verified, or not at all; what it fails with says what to do."""

import dataclasses
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from huggingface_hub import constants

from edge.bundle import hub as talking
from edge.bundle import store
from edge.bundle.bundle import verify
from edge.bundle.install import install
from edge.bundle.manifest import CERTIFICATE, MANIFEST, dump_manifest
from edge.bundle.pull import pull
from edge.errors import BundleError, HubError, ParameterError
from tests.edge.bundle.hubs import hub
from tests.edge.bundle.test_store import CONTENT, find, folder, made, manifest, visible
from tests.hub import Commit, Hub, Repo

__all__ = ["folder", "hub", "made"]  # fixtures

ROOT = Path(__file__).parents[3]
LARGE = bytes(range(256)) * 2048  # 512 KiB, eight blocks


@pytest.fixture
def repository(hub: Hub, made: Path) -> str:
    (made / CERTIFICATE).write_text("{}\n")
    extra = {"README.md": b"# A bundle", "modeling.py": b"raise SystemExit", "extra/decoder.onnx": b"x"}
    hub.add("org/bundle", made, **extra)
    return "org/bundle"


@pytest.fixture
def large(hub: Hub, made: Path) -> str:
    """A repository whose decoder.bin comes in several blocks."""
    (made / "decoder.bin").write_bytes(LARGE)
    entry = dataclasses.replace(
        manifest("large").files["decoder.bin"], bytes=len(LARGE), sha256=talking._digest(made / "decoder.bin", sha())
    )
    files = {**manifest("large").files, "decoder.bin": entry}
    (made / MANIFEST).write_bytes(dump_manifest(dataclasses.replace(manifest("large"), files=files)))
    hub.add("org/large", made)
    return "org/large"


def sha() -> "talking.hashlib._Hash":
    return talking.hashlib.sha256()


def environment(hub: Hub, tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), **more}


def edge(hub: Hub, tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment(hub, tmp_path, **more), timeout=240)


def test_a_bundle_is_installed_with_its_certificate_and_nothing_else(repository: str, hub: Hub, folder: Path) -> None:
    lines: list[str] = []
    stored = pull(repository, tell=lines.append)
    assert (stored.path, find("reka-edge-2603")) == (folder / "reka-edge-2603", "reka-edge-2603")
    assert store.verify(stored) == ([], True)
    assert sorted(path.name for path in stored.path.iterdir()) == sorted([*CONTENT, MANIFEST, CERTIFICATE])
    assert {path.stat().st_mode & 0o777 for path in stored.path.iterdir()} == {0o444}
    assert visible(folder) == ["reka-edge-2603"]
    commit = hub.repos[repository].refs["main"].sha
    assert len(lines) == 1 and commit[:12] in lines[0] and "left" in lines[0]
    assert set(hub.names()) == {*CONTENT, MANIFEST, CERTIFICATE}


def test_it_is_never_on_the_disk_twice(large: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(*_: object) -> None:
        raise AssertionError("copied")

    for name in ("copyfile", "copy2", "copyfileobj"):
        monkeypatch.setattr(shutil, name, copied)
    pull(large)
    assert not Path(constants.HF_HUB_CACHE).exists() and visible(folder) == ["large"]


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Hub, made: Path) -> None:
    old = hub.add("org/bundle", made, revision="refs/pr/1")
    (made / CERTIFICATE).write_text('{"new": 1}\n')
    hub.add("org/bundle", made)
    for at, name in enumerate(("refs/pr/1", old.sha)):
        stored = pull(f"org/bundle@{name}", id=f"old{at}")
        assert not (stored.path / CERTIFICATE).exists()
    assert (pull("org/bundle").path / CERTIFICATE).exists()


def test_another_id_and_replacing_are_as_with_install(repository: str, hub: Hub, folder: Path) -> None:
    assert pull(repository, id="beside").id == "beside"
    with pytest.raises(BundleError, match="beside is installed already: .*--replace; or --id NAME"):
        pull(repository, id="beside")
    assert "decoder.bin" not in hub.names()[len(CONTENT) + 2 :]  # told before anything large is downloaded
    assert store.verify(pull(repository, id="beside", replaces=True)) == ([], True)
    with pytest.raises(ParameterError, match="id: expected letters"):
        pull(repository, id="../up")
    assert visible(folder) == ["beside"]


@pytest.mark.parametrize("cdn", [False, True])
@pytest.mark.parametrize("has_sizes", [False, True])
def test_sizes_and_redirects_may_be_as_hubs_have_them(cdn: bool, has_sizes: bool, repository: str, hub: Hub) -> None:
    hub.cdn, hub.has_sizes = cdn, has_sizes
    assert store.verify(pull(repository)) == ([], True)


def test_a_connection_that_breaks_is_continued_where_it_broke(large: str, hub: Hub) -> None:
    hub.cut_after["decoder.bin"] = [1 << 17, 1 << 16, 0, 1 << 18]
    stored = pull(large)
    assert (stored.path / "decoder.bin").read_bytes() == LARGE
    assert hub.sent["decoder.bin"] < len(LARGE) + 4 * (1 << 16)  # what was in the block that broke, and no more
    parts = [asked for _, path, _, asked in hub.asked if path.endswith("decoder.bin") and asked]
    assert parts[0] == f"bytes={1 << 17}-"


def test_a_pull_that_gave_up_goes_on_with_the_next(large: str, hub: Hub, folder: Path) -> None:
    hub.cut_after["decoder.bin"] = [len(LARGE) // 2, *[0] * talking.MAX_TRIES]
    with pytest.raises(HubError, match="kept.*run the same command again"):
        pull(large)
    assert store.bundles(None)[0].embedded and verify(folder / "large") != []
    hub.cut_after.clear()
    before = dict(hub.sent)
    lines: list[str] = []
    stored = pull(large, tell=lines.append)
    assert (stored.path / "decoder.bin").read_bytes() == LARGE and visible(folder) == ["large"]
    again = {name: hub.sent[name] - before.get(name, 0) for name in hub.sent}
    assert again["decoder.bin"] == len(LARGE) // 2 and again[MANIFEST] == 0
    assert "of it here already" in lines[0]


def test_files_that_are_finished_are_not_downloaded_again(large: str, hub: Hub) -> None:
    hub.cut_after["tokenizer.json"] = [0] * 10
    with pytest.raises(HubError):
        pull(large)
    hub.cut_after.clear()
    before = hub.sent["decoder.bin"]
    pull(large)
    assert hub.sent["decoder.bin"] == before == len(LARGE)


def test_a_killed_pull_goes_on_with_the_next(large: str, hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.pause_after["decoder.bin"] = 1 << 18
    command = [sys.executable, "-m", "edge", "models", "pull", large]
    child = subprocess.Popen(command, env=environment(hub, tmp_path), stderr=subprocess.DEVNULL)
    assert hub.paused.wait(120)
    partial = folder / ".pull-org--large" / "decoder.bin.incomplete"
    while not partial.is_file() or partial.stat().st_size < 1 << 17:  # what was sent is on its way
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = partial.stat().st_size
    hub.pause_after.clear()
    hub.resume.set()
    hub.asked.clear()
    assert store.verify(pull(large)) == ([], True)
    asked = [asked for method, path, _, asked in hub.asked if path.endswith("decoder.bin") and method == "GET"]
    assert kept > 0 and asked == [f"bytes={kept}-"]


def test_a_hub_that_sends_no_parts_is_read_from_the_start(large: str, hub: Hub) -> None:
    hub.ranges = False
    hub.cut_after["decoder.bin"] = [1 << 18]
    assert (pull(large).path / "decoder.bin").read_bytes() == LARGE


@pytest.mark.parametrize("name", ["decoder.bin", "tokenizer.json", "decoder.onnx"])
def test_a_damaged_file_is_refused_and_not_kept(name: str, repository: str, hub: Hub, folder: Path) -> None:
    right = hub.repos[repository].refs["main"].files[name]
    hub.corrupted[name] = bytes(len(right) - 1) + b"!"
    with pytest.raises(HubError, match=rf"org/bundle: {name} is damaged: its sha256 is .*, expected .*run the same"):
        pull(repository)
    assert [stored.id for stored in store.bundles()] == ["reka-edge-tiny"]
    assert not (folder / ".pull-org--bundle" / name).exists()
    hub.corrupted.clear()
    assert store.verify(pull(repository)) == ([], True)


def test_a_manifest_that_was_damaged_on_the_way_is_refused(repository: str, hub: Hub, folder: Path) -> None:
    right = hub.repos[repository].refs["main"].files[MANIFEST]
    hub.corrupted[MANIFEST] = right.replace(b"reka-edge-2603", b"reka-edge-2604")
    with pytest.raises(HubError, match=r"manifest.json is damaged: its git hash"):
        pull(repository)
    assert list(folder.glob("*")) == []


@pytest.mark.parametrize(("data", "said"), [(bytes(4000), "4000 bytes"), (bytes(4999) + b"x", "the sha256")])
def test_a_file_of_another_manifest_is_told_before_the_download(data: bytes, said: str, hub: Hub, made: Path) -> None:
    (made / "decoder.bin").write_bytes(data)
    hub.add("org/bundle", made)
    with pytest.raises(HubError, match=f"decoder.bin has {said}.* is not the file of the manifest"):
        pull("org/bundle")
    assert hub.names() == [MANIFEST]


def test_more_bytes_than_declared_are_not_taken(large: str, hub: Hub, folder: Path) -> None:
    hub.corrupted["decoder.bin"] = LARGE * 4
    with pytest.raises(HubError, match="decoder.bin"):
        pull(large)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < len(LARGE)


def test_a_bundle_that_cannot_fit_is_refused_with_both_numbers(
    repository: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1234))
    n_bytes = sum(map(len, CONTENT.values())) + 3
    said = rf"reka-edge-2603 needs {n_bytes} bytes, .* has 1234 left: free some, or set EDGE_MODELS"
    with pytest.raises(HubError, match=said):
        pull(repository)
    assert hub.names() == [MANIFEST] and visible(folder) == []


def test_a_disk_that_fills_up_is_told_and_what_came_is_kept(large: str, hub: Hub, tmp_path: Path, folder: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000));"
        " sys.argv[1:] = ['models', 'pull', 'org/large']; from edge.cli import main; main()"
    )
    env = environment(hub, tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=240)
    assert done.returncode == 1
    assert "the disk of" in done.stderr and "is full: free some" in done.stderr and "Traceback" not in done.stderr
    kept = (folder / ".pull-org--large" / "decoder.bin.incomplete").stat().st_size
    assert 1 << 17 <= kept <= 300000
    before = hub.sent["decoder.bin"]
    assert store.verify(pull(large)) == ([], True)
    assert hub.sent["decoder.bin"] - before == len(LARGE) - kept


def test_a_private_repository_needs_its_token(repository: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[repository].token = "hf_secret"
    with pytest.raises(HubError, match=r"no such repository, or it is private: .*HF_TOKEN"):
        pull(repository)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="HF_TOKEN") as refused:
        pull(repository)
    assert "hf_wrong" not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert store.verify(pull(repository)) == ([], True)


def test_a_gated_repository_says_how_to_be_let_in(repository: str, hub: Hub) -> None:
    hub.repos[repository].token, hub.repos[repository].is_gated = "hf_secret", True
    with pytest.raises(HubError, match="is gated: accept its terms on its page at the hub, then set HF_TOKEN"):
        pull(repository)


def test_the_token_is_not_sent_to_where_the_hub_redirects(
    repository: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cdn, hub.repos[repository].token = True, "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull(repository)
    seen = {path.startswith("/cdn/"): token for _, path, token, _ in hub.asked}
    assert seen == {False: "Bearer hf_secret", True: None}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/nothing", "no such repository, or it is private: expected ORG/NAME"),
        ("org/bundle@nothing", "has no revision 'nothing': expected a branch, a tag or a commit"),
        ("org/bundle@" + "0" * 40, "has no revision"),
    ],
)
def test_what_is_not_there_is_told(name: str, said: str, repository: str) -> None:
    with pytest.raises(HubError, match=said):
        pull(name)


@pytest.mark.parametrize(
    "name", ["bundle", "a/b/c", "../up", "org/", "/org/name", "org/na me", "org/a--b", "org/n@", ""]
)
def test_what_names_no_repository_is_refused_without_a_question(name: str, hub: Hub) -> None:
    with pytest.raises(ParameterError, match="expected ORG/NAME or ORG/NAME@REVISION"):
        pull(name)
    assert not hub.asked


def test_a_folder_of_that_name_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org/bundle").mkdir(parents=True)
    with pytest.raises(ParameterError, match="org/bundle is a folder here: edge models install org/bundle"):
        pull("org/bundle")
    assert not hub.asked


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": b"{}", "model.safetensors": b"x"}, "is a checkpoint, not a bundle: edge-export org/other"),
        ({"model.gguf": b"x"}, "is a checkpoint, not a bundle: edge-export"),
        ({"README.md": b"x"}, "has no manifest.json: not a bundle"),
    ],
)
def test_a_repository_without_a_bundle_says_what_it_is(files: dict[str, bytes], said: str, hub: Hub) -> None:
    hub.repos["org/other"] = Repo({"main": Commit(files)})
    with pytest.raises(HubError, match=said):
        pull("org/other")
    assert hub.names() == []


def test_a_bundle_for_a_later_runtime_is_told_before_the_download(hub: Hub, made: Path) -> None:
    path = made / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"min_runtime": "0.1.0"', b'"min_runtime": "999.0.0"'))
    hub.add("org/bundle", made)
    with pytest.raises(BundleError, match="min_runtime"):
        pull("org/bundle")
    assert hub.names() == [MANIFEST]


@pytest.mark.parametrize("status", [403, 404, 418, 429, 500, 503])
def test_a_hub_that_fails_is_told_with_its_status(status: int, hub: Hub) -> None:
    hub.status = status
    with pytest.raises(HubError, match=rf"org/bundle: .*({status}|no such repository)"):
        pull("org/bundle")


def test_what_is_no_hub_is_told(hub: Hub) -> None:
    hub.body = b"<html>hello</html>"
    with pytest.raises(HubError, match="does not answer as a hub does .*: is HF_ENDPOINT right"):
        pull("org/bundle")


def test_a_hub_that_cannot_be_reached_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(HubError, match="cannot be reached .Connection refused.: is there a network"):
        pull("org/bundle")


def test_a_folder_that_cannot_be_written_is_told(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(BundleError, match=os.strerror(errno.ENOTDIR)):
        pull(repository)


def test_the_command_installs_and_answers_under_the_id(repository: str, hub: Hub, folder: Path, tmp_path: Path) -> None:
    done = edge(hub, tmp_path, "models", "pull", repository)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"reka-edge-2603 is installed in {folder / 'reka-edge-2603'}\n"
    assert "org/bundle at" in done.stderr and "Traceback" not in done.stderr
    info = edge(hub, tmp_path, "models", "verify", "reka-edge-2603")
    assert info.returncode == 0, info.stderr


def test_offline_a_bundle_comes_from_the_cache_or_not_at_all(
    repository: str, hub: Hub, folder: Path, tmp_path: Path
) -> None:
    listing = talking.listing(talking.Repository(repository, None))
    refused = edge(hub, tmp_path, "models", "pull", repository, HF_HUB_OFFLINE="1")
    assert refused.returncode == 1 and "HF_HUB_OFFLINE forbids" in refused.stderr and "unset" in refused.stderr
    for name in (*CONTENT, MANIFEST):
        talking.cached(listing, name)
    hub.asked.clear()
    home = str(Path(constants.HF_HUB_CACHE).parent)
    done = edge(hub, tmp_path, "models", "pull", repository, HF_HUB_OFFLINE="1", HF_HOME=home)
    assert done.returncode == 0, done.stderr
    assert not hub.asked and visible(folder) == ["reka-edge-2603"]


def test_two_pulls_of_one_repository_do_not_mix(repository: str, folder: Path) -> None:
    import fcntl

    (folder / ".pull-org--bundle").mkdir(parents=True)
    descriptor = os.open(folder / ".pull-org--bundle", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(HubError, match="is being pulled by another process"):
        pull(repository)
    os.close(descriptor)
    assert store.verify(pull(repository)) == ([], True)


def test_an_install_does_not_disturb_what_is_being_pulled(large: str, hub: Hub, made: Path, folder: Path) -> None:
    hub.cut_after["decoder.bin"] = [1 << 18, *[0] * talking.MAX_TRIES]
    with pytest.raises(HubError):
        pull(large)
    install(made, id="other")
    assert (folder / ".pull-org--large" / "decoder.bin.incomplete").stat().st_size == 1 << 18
    assert [stored.id for stored in store.bundles()] == ["other", "reka-edge-tiny"] and store.broken() == []
