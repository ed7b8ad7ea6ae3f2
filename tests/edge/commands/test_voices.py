"""`edge models` and voices: installed as they are published, tried, their licence shown, one of them the default."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import cli
from edge.bundle import store
from edge.speech.voice_files import stage
from tests.edge.speech.made_voices import write_kokoro, write_piper

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(store, "_PACKAGE", tmp_path / "package")
    return tmp_path / "models"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        done = capsys.readouterr()
        return int(caught.value.code or 0), done.out, done.err

    return call


def test_a_voice_is_installed_tried_and_its_licence_shown(run: Run, tmp_path: Path, models: Path) -> None:
    graph = write_piper(tmp_path / "p", "en_US-eva-low", card="* License: CC0\n* URL: eva.example\n")
    status, out, err = run("models", "install", str(graph))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [
        f"en_US-eva-low is installed in {models}/en_US-eva-low",
        "licence of en_US-eva-low: CC0 (eva.example)",
    ]
    assert lines[2].startswith("en_US-eva-low speaks: ")


@pytest.mark.parametrize(
    ("card", "shown", "warned"),
    [
        (None, "licence of eva: unknown\n", "edge: eva: nothing says under which licence its weights are"),
        ("* License: CC BY-NC-SA 4.0\n", ", no commercial use\n", "CC BY-NC-SA 4.0, allows no commercial use"),
        ("* License: See URL\n", "See URL, read it before use\n", "edge: eva: read its licence, 'See URL', before"),
        ("* License: CC0\nFinetuned from X\n", "licence of eva: CC0\n", "trained from another voice"),
    ],
)
def test_a_licence_that_is_not_free_is_told(
    run: Run, tmp_path: Path, card: str | None, shown: str, warned: str
) -> None:
    status, out, err = run("models", "install", str(write_piper(tmp_path / "p", "eva", card=card)))
    assert status == 0
    assert shown in out
    assert warned in err


def test_a_licence_is_given_by_hand(run: Run, tmp_path: Path) -> None:
    graph = write_piper(tmp_path / "p", "eva", card=None)
    assert "licence of eva: MIT\n" in run("models", "install", str(graph), "--license", "MIT")[1]
    (tmp_path / "out").mkdir()
    stage(graph, tmp_path / "out")
    status, _, err = run("models", "install", str(tmp_path / "out"), "--license", "MIT", "--replace")
    assert status != 0
    assert "is a bundle, whose manifest has its licence" in err


def test_a_voice_that_is_silent_is_not_kept(run: Run, tmp_path: Path, models: Path) -> None:
    status, _, err = run("models", "install", str(write_piper(tmp_path / "p", "eva", loudness=0.0)))
    assert status == 1
    assert "edge: eva is removed again: it does not speak" in err
    assert "at most 0.000 loud" in err
    assert not (models / "eva").exists()


def test_a_voice_without_espeak_ng_is_installed_and_not_tried(
    run: Run, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = write_piper(tmp_path / "p", "eva", alphabet="espeak")
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = run("models", "install", str(graph))
    assert status == 0
    assert "edge: eva is installed and not tried: espeak-ng is not installed" in err
    assert (models / "eva").exists()


def test_a_bundle_of_a_voice_is_installed_as_any_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stage(write_piper(tmp_path / "p", "eva"), tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "bundle")  # as a hub has it: files, no links
    status, out, _ = run("models", "install", str(tmp_path / "bundle"), "--id", "other")
    assert (status, "licence of other: CC0\n" in out, "other speaks: " in out) == (0, True, True)


def test_voices_are_listed_described_and_removed(run: Run, tmp_path: Path) -> None:
    run("models", "install", str(write_piper(tmp_path / "p", "eva", speakers=("anna", "bert"))))
    listed = json.loads(run("models", "list", "--json")[1])
    assert [(each["id"], each["kind"], each["speakers"]) for each in listed] == [("eva", "voice", ["anna", "bert"])]
    assert "speaks en-us" in run("models", "list")[1]
    shown = run("models", "info", "eva")[1]
    assert "license:               CC0\n" in shown
    assert "certificate" not in shown
    assert run("models", "verify", "eva")[1].startswith("eva: 1 files, ")
    assert "eva speaks: " in run("models", "verify", "--deep", "eva")[1]
    assert run("models", "remove", "eva")[1] == "eva is removed\n"
    assert store.bundles("voice") == []


def test_the_default_voice_is_none_of_the_chat_bundles(run: Run, tmp_path: Path) -> None:
    run("models", "install", str(write_piper(tmp_path / "p", "anna")))
    run("models", "install", str(write_piper(tmp_path / "q", "bert")))
    assert run("models", "default")[1] == "no bundle is installed\nanna (voice)\n"
    assert run("models", "default", "bert")[1] == "bert is the default voice\n"
    assert run("models", "default")[1] == "no bundle is installed\nbert (voice)\n"
    assert "bert (default)" in run("models", "list")[1]
    run("models", "remove", "bert")
    assert store.default_voice_id() is None
    assert run("models", "default")[1] == "no bundle is installed\nanna (voice)\n"


def test_a_voice_asked_to_chat_says_what_it_is(run: Run, tmp_path: Path) -> None:
    run("models", "install", str(write_piper(tmp_path / "p", "eva")))
    status, _, err = run("chat", "--model", "eva", "hello")
    assert status != 0
    assert "is a voice, which speaks and does not chat: edge say --voice eva" in err


def test_a_voice_has_nothing_to_pack(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_PACKED", raising=False)
    run("models", "install", str(write_piper(tmp_path / "p", "eva")))
    assert run("models", "pack", "eva")[1:] == ("eva gains nothing from packing: it is loaded as it is\n", "")


def test_kokoro_is_installed_under_another_id(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("models", "install", str(write_kokoro(tmp_path / "k")), "--id", "kokoro")
    assert status == 0
    assert "licence of kokoro: Apache-2.0\n" in out


def test_commands_for_other_bundles_say_that_it_is_a_voice(run: Run, tmp_path: Path, models: Path) -> None:
    run("models", "install", str(write_piper(tmp_path / "p", "eva")))
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"RIFF")
    assert "eva turns text into audio" in run("plan", "eva")[2]
    assert (
        "expected a speech bundle, got a voice bundle"
        in run("transcribe", "--model", str(models / "eva"), str(audio))[2]
    )
    assert "expected a chat bundle, got a voice bundle" in run("chat", "--model", str(models / "eva"), "hello")[2]
