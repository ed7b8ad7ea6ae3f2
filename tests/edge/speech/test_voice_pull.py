"""A voice comes from a hub with what it needs and what states its licence, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bundle import store
from edge.bundle.manifest import VoiceManifest
from edge.bundle.pull import pull as pull_bundle
from edge.bundle.store import Stored
from edge.errors import BundleError, HubError, ParameterError
from edge.speech.neural_voice import open_named
from edge.speech.voice_pull import pull
from tests.edge.bundle.hubs import hub
from tests.edge.speech.made_voices import write_kokoro, write_piper
from tests.hub import Commit, Hub

__all__ = ["hub"]  # a fixture


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def voices(hub: Hub, tmp_path: Path) -> str:
    """A repository of many voices, as Piper's is."""
    for place in ("en/en_US/eva/low", "de/de_DE/eva/low"):
        write_piper(tmp_path / "repo" / place, f"{place.split('/')[1]}-eva-low", card="* License: CC0\n")
    hub.add("org/voices", tmp_path / "repo", **{"README.md": b"# Voices", "en/en_US/eva/low/samples/one.mp3": b"x"})
    return "org/voices"


def pulled(repository: str, voice: str, **options: bool) -> Stored:
    return pull(repository, voice, tell=lambda _line: None, **options)


def test_a_voice_of_many_is_downloaded_alone(voices: str, hub: Hub, models: Path) -> None:
    told: list[str] = []
    stored = pull(voices, "de_DE-eva-low", tell=told.append)
    assert isinstance(stored.manifest, VoiceManifest)
    assert (stored.id, stored.manifest.license.name) == ("de_DE-eva-low", "CC0")
    assert (stored.manifest.source.repository, stored.manifest.source.revision) == (
        "org/voices",
        hub.repos[voices].refs["main"].sha,
    )
    assert hub.names() == ["de_DE-eva-low.onnx", "de_DE-eva-low.onnx.json", "MODEL_CARD"]
    assert told[0].startswith("org/voices at ")
    assert [path.name for path in models.iterdir() if not path.name.startswith(".")] == ["de_DE-eva-low"]
    assert not [path for path in models.iterdir() if path.name.startswith((".pull", ".bundle"))]
    assert len(open_named("de_DE-eva-low", language=None).say("hello"))


def test_a_voice_is_named_by_its_place_too(voices: str) -> None:
    assert pulled(voices, "en/en_US/eva/low/en_US-eva-low.onnx").id == "en_US-eva-low"
    with pytest.raises(BundleError, match="installed already"):
        pulled(voices, "en_US-eva-low")
    assert pulled(voices, "en_US-eva-low", replaces=True).id == "en_US-eva-low"


def test_a_voice_that_is_not_there_says_which_are(voices: str) -> None:
    with pytest.raises(HubError, match=r"has no voice 'fr_FR-x'; it has de_DE-eva-low, en_US-eva-low"):
        pulled(voices, "fr_FR-x")
    with pytest.raises(HubError, match=r"has voices of Piper \(de_DE-eva-low, en_US-eva-low\): name one with --voice"):
        pull_bundle(voices)


def test_kokoro_comes_with_the_speakers_that_are_supported(hub: Hub, tmp_path: Path) -> None:
    folder = write_kokoro(tmp_path / "k", ("af_heart", "jf_alpha"))
    (folder / "onnx").mkdir()
    (folder / "kokoro-made.onnx").rename(folder / "onnx/model.onnx")
    (folder / "onnx/model_q4.onnx").write_bytes(b"other")
    hub.add("org/kokoro", folder, **{"README.md": b"---\nlicense: apache-2.0\n---\n", "samples/a.wav": b"x"})
    stored = pulled("org/kokoro", "onnx/model.onnx")
    assert isinstance(stored.manifest, VoiceManifest)
    assert [speaker.name for speaker in stored.manifest.voice.speakers] == ["af_heart"]
    assert (stored.id, stored.manifest.license.name) == ("kokoro", "apache-2.0")
    assert sorted(hub.names()) == ["LICENSE", "README.md", "af_heart.bin", "model.onnx"]


def test_an_interrupted_download_goes_on(voices: str, hub: Hub) -> None:
    hub.cut_after["en/en_US/eva/low/en_US-eva-low.onnx"] = [100]
    assert pulled(voices, "en_US-eva-low").id == "en_US-eva-low"


def test_a_damaged_graph_is_refused(voices: str, hub: Hub, models: Path) -> None:
    data = bytearray(hub.repos[voices].refs["main"].files["en/en_US/eva/low/en_US-eva-low.onnx"])
    data[50] ^= 1
    hub.corrupted["en/en_US/eva/low/en_US-eva-low.onnx"] = bytes(data)
    with pytest.raises(HubError, match=r"en_US-eva-low\.onnx is damaged"):
        pulled(voices, "en_US-eva-low")
    assert store.bundles("voice") == []


def test_a_name_that_leads_out_of_the_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    graph = write_piper(tmp_path / "p", "eva")
    files = {f"../../{path.name}": path.read_bytes() for path in graph.parent.iterdir()}
    hub.add("org/escape", tmp_path / "nothing", **{"README.md": b""})
    hub.repos["org/escape"].refs["main"] = Commit(files)
    with pytest.raises(HubError, match="is no file inside the repository"):
        pulled("org/escape", "eva")
    assert not (tmp_path / "eva.onnx").exists()


def test_what_is_no_repository_is_refused(hub: Hub) -> None:
    with pytest.raises(ParameterError, match="expected ORG/NAME"):
        pulled("nobody", "eva")
    assert hub.asked == []


def test_offline_a_voice_comes_from_the_cache(voices: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from edge.bundle import hub as talking

    listing = talking.listing(talking.Repository("org/voices", None))
    for name in ("en_US-eva-low.onnx", "en_US-eva-low.onnx.json", "MODEL_CARD"):
        talking.cached(listing, f"en/en_US/eva/low/{name}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    stored = pulled(voices, "en_US-eva-low")
    assert stored.manifest.source.revision == listing.commit
    with pytest.raises(HubError, match="has no voice 'de_DE-eva-low'"):
        pulled(voices, "de_DE-eva-low")
