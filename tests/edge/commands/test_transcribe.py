"""edge transcribe and edge models speech, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge import cli
from edge.bundle import store
from edge.bundle.install import install, remove
from edge.errors import UnknownModelError
from edge.limits import AudioLimits
from edge.media.audio import open_audio
from edge.speech.transcriber import Speech
from tests.edge.media.tones import contained, file, tone


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line; returns its status."""
    monkeypatch.setattr("sys.argv", ["edge", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv("EDGE_MODELS", str(folder))
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "said: it.wav"  # a colon is no scheme
    path.write_bytes(file(tone(1.5, rate_hz=22_050), rate_hz=22_050))
    return path


def test_prints_what_the_bundle_encodes(
    speech_bundle: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = Speech.open(speech_bundle).transcribe(open_audio(recording.read_bytes(), AudioLimits()))
    assert typed(monkeypatch, "transcribe", str(recording), "--model", str(speech_bundle)) == 0
    assert capsys.readouterr().out == expected.text + "\n"
    typed(monkeypatch, "transcribe", str(recording), "--model", str(speech_bundle), "--format", "srt")
    assert capsys.readouterr().out == expected.written("srt") + "\n"
    words = ("--format", "json", "--language", "de", "--translate")
    assert typed(monkeypatch, "transcribe", str(recording), "--model", str(speech_bundle), *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["language"] == "de" and found["duration"] == pytest.approx(1.5, abs=0.01)


def test_writes_down_a_video(
    speech_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "video.mkv"
    video.write_bytes(contained(tone(1, rate_hz=48_000), "mkv", image=True))
    words = ("--format", "json", "--model", str(speech_bundle))
    assert typed(monkeypatch, "transcribe", str(video), *words) == 0
    assert json.loads(capsys.readouterr().out)["duration"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "ass"), "expected one of text, srt, vtt, json"),
        (("--language", "xx"), "expected one of de, en, fr; got 'xx'"),
        (("--seconds", "1"), "at most 1 s, got 1.5 s"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...],
    said: str,
    speech_bundle: Path,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert typed(monkeypatch, "transcribe", str(recording), "--model", str(speech_bundle), *words) == 1
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


def test_file_that_is_no_audio_is_told(
    speech_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    assert typed(monkeypatch, "transcribe", str(tmp_path / "notes.txt"), "--model", str(speech_bundle)) == 1
    assert "expected WAV, FLAC, OGG" in capsys.readouterr().err


def test_long_audio_are_taken_when_that_is_asked_for(
    speech_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.flac"
    path.write_bytes(file(np.zeros((700 * 8_000, 1), np.float32), "flac", rate_hz=8_000))
    monkeypatch.setattr(Speech, "transcribe", lambda self, samples, **how: _Said(len(samples)))
    assert typed(monkeypatch, "transcribe", str(path), "--model", str(speech_bundle)) == 1
    assert "at most 600 s" in capsys.readouterr().err
    assert typed(monkeypatch, "transcribe", str(path), "--model", str(speech_bundle), "--seconds", "700") == 0
    assert capsys.readouterr().out == f"{700 * 16_000}\n"


class _Said:
    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples

    def written(self, _form: str) -> str:
        return str(self._n_samples)


def test_without_a_speech_bundle_it_says_how_to_get_one(
    models: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "transcribe", str(recording)) == 1
    assert "no speech bundle is installed: edge models install DIR" in capsys.readouterr().err


def test_speech_bundle_is_installed_listed_and_named_like_any_other(
    models: Path,
    speech_bundle: Path,
    text_bundle: Path,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ears, chat = install(speech_bundle).id, install(text_bundle).id
    assert typed(monkeypatch, "models", "list") == 0
    listed = capsys.readouterr().out
    assert ears in listed and "speech" in listed
    assert typed(monkeypatch, "models", "info", ears) == 0
    assert "WhisperForConditionalGeneration" in capsys.readouterr().out
    assert typed(monkeypatch, "models", "verify", ears) == 0
    assert "all as the manifest says" in capsys.readouterr().out
    assert typed(monkeypatch, "transcribe", str(recording)) == 0
    capsys.readouterr()
    assert typed(monkeypatch, "models", "default", ears) == 1
    assert "does not chat: edge models speech CHAT" in capsys.readouterr().err

    assert typed(monkeypatch, "models", "speech", chat) == 0
    assert capsys.readouterr().out == f"{chat} has no speech-to-text model\n"
    assert typed(monkeypatch, "models", "speech", chat, ears) == 0
    assert capsys.readouterr().out == f"{ears} is the speech-to-text model of {chat}\n"
    assert store.speech_model(chat) == ears
    assert typed(monkeypatch, "models", "speech", chat, chat) == 1
    assert "is not installed" in capsys.readouterr().err
    assert typed(monkeypatch, "models", "companion", chat, ears) == 0  # the former name, hidden in the help
    assert typed(monkeypatch, "models", "speech", chat, "--none") == 0
    assert store.speech_model(chat) is None
    store.set_speech_model(chat, ears)
    remove(ears)
    assert store.speech_model(chat) is None
    assert typed(monkeypatch, "models", "speech", chat, ears) == 1


def test_speech_bundles_answer_no_chat(models: Path, speech_bundle: Path) -> None:
    ears = install(speech_bundle)
    assert ears.id not in [stored.id for stored in store.bundles()]
    assert [stored.id for stored in store.bundles("speech")] == [ears.id]
    with pytest.raises(UnknownModelError, match="does not chat"):
        store.named(ears.id)
