"""A bundle that cannot do what is asked is passed by for one that can, or says so before anything is opened."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge import cli
from edge.bundle import store
from edge.bundle.store import Stored
from edge.commands.choosing import chosen, needed, why_not
from edge.errors import BundleError, UnknownModelError
from edge.models import find
from tests.edge.fake_engine import manifest


def stored(name: str, *, vision: bool = True, embedded: bool = False) -> Stored:
    return Stored(Path(name), manifest(name, vision=vision), embedded)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Stored]]:
    """What is installed by kind; a bundle named listening has a speech-to-text model."""
    there: dict[str, list[Stored]] = {"chat": [], "speech": []}
    monkeypatch.setattr(store, "bundles", lambda kind="chat": there[kind or "chat"])
    monkeypatch.setattr(store, "broken", list)
    monkeypatch.setattr(store, "speech_model", lambda name: "whisper" if name == "listening" else None)
    return there


def test_media_need_what_opens_them() -> None:
    assert needed(["pdf", "video", "image"]) == {"images"}
    assert needed(["audio", "image"]) == {"audio", "images"}
    assert needed([]) == set()


def test_the_first_that_can_is_asked_and_the_one_passed_by_is_told(
    installed: dict[str, list[Stored]], capsys: pytest.CaptureFixture[str]
) -> None:
    installed["chat"] = [stored("words", vision=False), stored("tiny", embedded=True), stored("listening")]
    assert chosen(None, []).id == "words"
    assert capsys.readouterr().err == ""
    assert chosen(None, ["images"]).id == "tiny"
    assert capsys.readouterr().err == "edge: words does not accept images, videos or PDFs: using tiny\n"
    assert chosen(None, ["audio", "images"]).id == "listening"
    assert chosen(None, ["images", "boxes"]).id == "listening"


def test_one_that_is_named_is_not_passed_by_and_the_able_are_named(
    installed: dict[str, list[Stored]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed["chat"] = [stored("words", vision=False), stored("seeing")]
    monkeypatch.setattr("edge.models.find", lambda *_, **__: installed["chat"][0])
    with pytest.raises(SystemExit):
        chosen("words", ["images"])
    assert capsys.readouterr().err == (
        "edge: words does not accept images, videos or PDFs; installed bundles that do: seeing: --model seeing\n"
    )


def test_the_way_out_is_a_command(installed: dict[str, list[Stored]]) -> None:
    words = stored("words", vision=False)
    installed["chat"] = [words]
    assert why_not(words, ["images"]).endswith("and no other installed bundle does: edge models install DIR")
    assert why_not(words, ["audio"]).endswith("edge models install DIR, then edge models speech words SPEECH-BUNDLE")
    installed["speech"] = [stored("whisper")]
    assert why_not(words, ["audio"]).endswith("to transcribe it with whisper: edge models speech words whisper")
    assert why_not(stored("listening"), ["audio"]) == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "x", "--camera", "0"),
        ("chat", "x", "--mic"),
        ("chat", "x", "--image", "a.png"),
        ("detect", "a.png", "x"),
        ("watch", "x", "--camera", "0"),
    ],
)
def test_nothing_is_opened_for_a_bundle_that_cannot(
    arguments: tuple[str, ...], installed: dict[str, list[Stored]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("edge.devices.camera.Camera.__init__", opened)
    monkeypatch.setattr("edge.devices.microphone.Microphone.__init__", opened)
    monkeypatch.setattr("edge.media.fetch.read_url", opened)
    installed["chat"] = [stored("words", vision=False)]
    done = CliRunner().invoke(cli.app, arguments, input="")
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "words does not accept" in done.stderr


def test_a_speech_bundle_that_cannot_translate_is_passed_by(
    installed: dict[str, list[Stored]], speech_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge.bundle.manifest import SpeechManifest
    from edge.commands.transcribe import _chosen

    able = store.at(speech_bundle)
    assert isinstance(able.manifest, SpeechManifest)
    spec = dataclasses.replace(
        able.manifest.speech, languages={"en": 1, "de": 4}, tasks={"transcribe": 2, "translate": 3}
    )
    able = dataclasses.replace(able, manifest=dataclasses.replace(able.manifest, id="able", speech=spec))
    spec = dataclasses.replace(spec, languages={}, tasks={})
    unable = dataclasses.replace(able, manifest=dataclasses.replace(able.manifest, id="english", speech=spec))
    installed["speech"] = [unable, able]
    assert _chosen(None, None, "transcribe").id == "english"
    assert _chosen(None, None, "translate").id == "able"
    assert _chosen(None, "en", "transcribe").id == "english"
    assert _chosen(None, "de", "transcribe").id == "able"
    assert "english: language: expected one of" in capsys.readouterr().err
    installed["speech"] = [unable]
    with pytest.raises(SystemExit):
        _chosen(None, None, "translate")
    assert "english: task: expected one of transcribe; got 'translate'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "term", "framed"), [("80", "xterm", True), ("40", "xterm", False), ("80", "dumb", False)]
)
def test_help_is_whole_on_narrow_and_plain_terminals(columns: str, term: str, framed: bool) -> None:
    environment = {**os.environ, "COLUMNS": columns, "TERM": term}
    command = [sys.executable, "-m", "edge", "chat", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert ("╭" in shown) == framed
    assert framed or ("repeatable" in shown and "…" not in shown)


def test_a_folder_that_is_a_checkpoint_is_told_by_its_plain_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="is a checkpoint, not a bundle: edge-export"):
        find("mine", {})


def test_a_folder_wins_over_a_repository_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError, match="nor is there a folder of that name"):
        find("org/mine", {})
    (tmp_path / "org" / "mine").mkdir(parents=True)
    (tmp_path / "org" / "mine" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="is a checkpoint, not a bundle: edge-export"):
        find("org/mine", {})


def test_a_choice_that_cannot_be_written_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(BundleError, match="cannot be stored in .*/file/models: Not a directory; EDGE_MODELS names"):
        store.set_aliases({"a": "reka-edge"})
